"""Embedding for evaluation: a text that repeats is embedded once, also across the evaluators of one evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from likewise.model.fingerprint import quick_key
from likewise.similarity import to_float_tensor

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

Task = Literal["query", "document"]
SHARED_BYTES = 2**30  # at most this much is kept for other evaluators
WITHOUT_EFFECT = {"batch_size", "show_progress_bar"}  # on embeddings
_shared: ContextVar[_SharedEmbeddings | None] = ContextVar("_shared", default=None)


def embed(
    model: SentenceTransformer,
    texts: Sequence[Any],
    task: Task | None = None,
    truncate_dim: int | None = None,
    **encode_kwargs: Any,
) -> Tensor:
    """The embeddings of texts, (N, D) of at least float32; each distinct text is embedded once.

    Args:
        model: The model.
        texts: N texts.
        task: Whether to embed with `encode_query`, `encode_document`, or, for None, with `encode`.
        truncate_dim: Cut to this many entries; None for the model's own setting.
        **encode_kwargs: For `encode`.
    """
    shared = _shared.get()
    if shared is not None and shared.model is model:
        return shared.embed(texts, task, truncate_dim, encode_kwargs)
    return _embed(model, texts, task, truncate_dim=truncate_dim, **encode_kwargs)


@contextmanager
def sharing_embeddings(model: SentenceTransformer) -> Iterator[None]:
    """Within this context, evaluators share the embeddings of this model, whose weights must not change meanwhile.

    Embeddings are kept whole, so that evaluators at several `truncate_dim`s embed once.
    """
    current = _shared.get()
    token = _shared.set(
        current if current is not None and current.model is model else _SharedEmbeddings(model)
    )
    try:
        yield
    finally:
        _shared.reset(token)


class _SharedEmbeddings:
    """Embeddings of one model by text, for each way of embedding."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.kept: dict[tuple[Any, ...], tuple[dict[Any, int], Tensor]] = {}
        self.num_bytes = 0

    def embed(
        self, texts: Sequence[Any], task: Task | None, truncate_dim: int | None, encode_kwargs: dict[str, Any]
    ) -> Tensor:
        size = self.model.truncate_dim if truncate_dim is None else truncate_dim
        # What else is asked for may change embeddings in ways that are not known here, so these are not shared.
        if not _are_hashable(texts) or encode_kwargs.keys() - WITHOUT_EFFECT - {"prompt_name", "prompt"}:
            return _embed(self.model, texts, task, truncate_dim=size, **encode_kwargs)
        way = self.model.way_of_embedding(task, encode_kwargs.get("prompt_name"), encode_kwargs.get("prompt"))
        key = (way, quick_key(self.model) if isinstance(self.model, nn.Module) else None)
        places, embeddings = self.kept.get(key, ({}, None))
        missing = [text for text in dict.fromkeys(texts) if text not in places]
        if missing:
            with self.model.truncate_embeddings(None):
                new = _embed(self.model, missing, task, **encode_kwargs)
            embeddings = new if embeddings is None else torch.cat([embeddings, new])
            places = places | {text: len(places) + i for i, text in enumerate(missing)}
            self._keep(key, places, embeddings, new)
        assert embeddings is not None
        rows = torch.tensor([places[text] for text in texts], device=embeddings.device)
        return embeddings[:, :size].index_select(0, rows)

    def _keep(self, key: tuple[Any, ...], places: dict[Any, int], embeddings: Tensor, new: Tensor) -> None:
        num_bytes = new.numel() * new.element_size()
        if self.num_bytes + num_bytes <= SHARED_BYTES:
            self.num_bytes += num_bytes
            self.kept[key] = places, embeddings


def _embed(
    model: SentenceTransformer, texts: Sequence[Any], task: Task | None, **encode_kwargs: Any
) -> Tensor:
    encode = {"query": model.encode_query, "document": model.encode_document, None: model.encode}[task]
    distinct = list(dict.fromkeys(texts)) if _are_hashable(texts) else list(texts)
    embeddings = to_float_tensor(encode(distinct, convert_to_tensor=True, **encode_kwargs))
    if len(distinct) == len(texts):
        return embeddings
    places = {text: i for i, text in enumerate(distinct)}
    return embeddings.index_select(
        0, torch.tensor([places[text] for text in texts], device=embeddings.device)
    )


def _are_hashable(texts: Sequence[Any]) -> bool:
    """Whether equal inputs can be found: texts and pairs of texts; not images or dicts."""
    return all(isinstance(text, str | tuple) for text in texts)
