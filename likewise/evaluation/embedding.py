"""Embedding for evaluation: a text that repeats is embedded once, also across the evaluators of one evaluation."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor, nn

from likewise.model.fingerprint import quick_key
from likewise.retrieval.finite import are_finite
from likewise.similarity import QUANTISED, Embeddings, to_float_tensor, to_tensor
from likewise.types import Encoder

Task = Literal["query", "document"]
SHARED_BYTES = 2**30  # at most this much is kept for other evaluators
# What `encode` may be given without the embeddings being others.
WITHOUT_EFFECT = frozenset({
    "batch_size", "show_progress_bar", "device", "pool", "chunk_size", "convert_to_numpy", "convert_to_tensor",
})  # fmt: skip
_shared: ContextVar[_SharedEmbeddings | None] = ContextVar("_shared", default=None)


def embed(
    model: Encoder,
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
        found = shared.embed(texts, task, truncate_dim, encode_kwargs)
    else:
        found = _embed(model, texts, task, truncate_dim=truncate_dim, **encode_kwargs)
    return checked_embeddings(found, texts)


def checked_embeddings(embeddings: Embeddings, texts: Sequence[Any], maker: str = "The model") -> Tensor:
    """The embeddings of texts as (N, D): at least float32, or quantised as they are.

    Args:
        embeddings: One for each text.
        texts: N texts.
        maker: Who embedded them, for the message.

    Raises:
        ValueError: There are more or fewer than texts, or one of them has an entry that is no finite number.
    """
    found = to_tensor(embeddings)
    found = found if found.dtype in QUANTISED else to_float_tensor(found)
    if len(found) != len(texts):
        raise ValueError(f"{maker} gave {len(found)} embeddings for {len(texts)} texts. Return one for each.")
    is_finite = are_finite(found)
    if not is_finite.all():
        bad = int(is_finite.logical_not().nonzero()[0])
        text = repr(texts[bad])
        raise ValueError(
            f"{maker} embeds {len(texts) - int(is_finite.sum())} of {len(texts)} texts with NaN or infinite entries, first of "
            f"all row {bad}, {text[:80]}{'...' if len(text) > 80 else ''}. Look at that text, or at the model's weights."
        )
    return found


@contextmanager
def sharing_embeddings(model: Encoder) -> Iterator[None]:
    """Within this context, evaluators share the embeddings of this model, whose weights must not change meanwhile.

    Embeddings are kept whole, so that evaluators at several `truncate_dim`s embed once. Nothing is shared of somebody
    else's encoder, which cannot say what tells its ways of embedding apart.
    """
    current = _shared.get()
    if current is None or current.model is not model:
        current = _SharedEmbeddings(model) if hasattr(model, "way_of_embedding") else None
    token = _shared.set(current)
    try:
        yield
    finally:
        _shared.reset(token)


class _SharedEmbeddings:
    """Embeddings of one model by text, for each way of embedding."""

    def __init__(self, model: Encoder) -> None:
        self.model: Any = model
        self.kept: dict[tuple[Any, ...], tuple[dict[Any, int], Tensor]] = {}
        self.num_bytes = 0

    def embed(
        self, texts: Sequence[Any], task: Task | None, truncate_dim: int | None, encode_kwargs: dict[str, Any]
    ) -> Tensor:
        size = self.model.truncate_dim if truncate_dim is None else truncate_dim
        options = {name: value for name, value in encode_kwargs.items() if name not in WITHOUT_EFFECT}
        prompt_name, prompt = options.pop("prompt_name", None), options.pop("prompt", None)
        if not _are_hashable(texts) or not all(isinstance(value, Hashable) for value in options.values()):
            return _embed(self.model, texts, task, truncate_dim=size, **encode_kwargs)
        # What is done to embeddings after they are cut (scaling, quantising) cannot be done before: then the size is a
        # part of the way, and only plain embeddings are kept whole.
        made_at = size if options else None
        way = self.model.way_of_embedding(task, prompt_name, prompt)
        own_task = task if task is not None and _was_replaced(self.model, f"encode_{task}") else None
        settings = quick_key(self.model) if isinstance(self.model, nn.Module) else None
        key = (way, own_task, made_at, frozenset(options.items()), settings)
        places, embeddings = self.kept.get(key, ({}, None))
        missing = [text for text in dict.fromkeys(texts) if text not in places]
        if missing:
            with self.model.truncate_embeddings(made_at):
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


def _was_replaced(model: Any, method: str) -> bool:
    """Whether a subclass of the class that has `way_of_embedding` replaces a method, of which that cannot know."""
    classes = type(model).__mro__
    places = [
        next(i for i, one in enumerate(classes) if name in vars(one)) for name in (method, "way_of_embedding")
    ]
    return method in vars(model) or places[0] < places[1]


def _embed(model: Encoder, texts: Sequence[Any], task: Task | None, **encode_kwargs: Any) -> Tensor:
    encode = {"query": model.encode_query, "document": model.encode_document, None: model.encode}[task]
    distinct, places = once_each(texts)
    embeddings = to_float_tensor(encode(distinct, convert_to_tensor=True, **encode_kwargs))
    if len(distinct) == len(texts):
        return embeddings
    return embeddings.index_select(0, torch.tensor(places, device=embeddings.device))


def once_each(texts: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The distinct ones of texts, and each text's place among them; of inputs that cannot be compared, all are distinct."""
    if not _are_hashable(texts):
        return list(texts), list(range(len(texts)))
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), [places[text] for text in texts]


def _are_hashable(texts: Sequence[Any]) -> bool:
    """Whether equal inputs can be found: texts and pairs of texts; not images or dicts."""
    return all(isinstance(text, str | tuple) for text in texts)
