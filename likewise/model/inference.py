"""The engine behind `encode`: texts to embeddings, in batches of about equal numbers of tokens.

Texts are tokenised a window at a time, by a thread that runs ahead of the model where there are several. Within a window they are sorted by
length and cut into batches by a budget of tokens, and every embedding is written to its place in one array that was
allocated at the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.engine import TokenSequences
from likewise.engine.token_batch import chunked_lengths
from likewise.engine.token_sequences import IntArray
from likewise.model.fingerprint import plain
from likewise.model.shared_batches import SharedBatches
from likewise.modules.base import Features, padding_of, to_packed, to_padded

if TYPE_CHECKING:
    from likewise.types import Encoder

logger = logging.getLogger(__name__)

WINDOW = 8192  # texts that are tokenised and sorted together
# Tokens per text of `batch_size`. On the CPU small batches stay in its caches; on a GPU large ones fill it.
TOKENS_PER_TEXT = {"cpu": 32}
TOKENS_PER_TEXT_ON_DEVICES = 512


@dataclass(frozen=True)
class Request:
    """What `encode` was asked for, resolved.

    Attributes:
        prompt: Put in front of every text.
        token_budget: Tokens per batch.
        device: Where the model is.
        to_cpu: Whether results are moved to the CPU.
        forward_kwargs: Keyword arguments for the modules.
        truncate_dim: Embeddings are cut to this many entries; None for all.
        normalize: Whether embeddings are scaled to length 1.
        reading: Keyword arguments for what reads the texts: `processing_kwargs`, if there are any.
    """

    prompt: str | None
    token_budget: int
    device: torch.device
    to_cpu: bool
    forward_kwargs: dict[str, Any]
    truncate_dim: int | None = None
    normalize: bool = False
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str | None:
        """What the texts are for, which a Router goes by."""
        return self.forward_kwargs.get("task")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the embeddings, beside the model and the texts."""
        return {
            "prompt": self.prompt or "",
            "truncate_dim": self.truncate_dim,
            "normalize_embeddings": self.normalize,
            **{name: plain(value) for name, value in (self.forward_kwargs | self.reading).items()},
        }


def token_budget(batch_size: int, first_module: Any, device: torch.device) -> int:
    """Tokens per batch for a `batch_size` in texts, as the reference counts it; the first module may know better."""
    usual = TOKENS_PER_TEXT.get(device.type, TOKENS_PER_TEXT_ON_DEVICES)
    return batch_size * int(getattr(first_module, "tokens_per_text", usual))


def sentence_embeddings(
    model: Encoder, texts: Sequence[Any], request: Request, progress: Callable[[int], object]
) -> Tensor:
    """The embeddings of the texts, (N, D), in their order. `progress` is told how many are done, batch by batch."""

    def of_batch(features: Features) -> Tensor:
        if "sentence_embedding" not in features:
            raise ValueError(
                f"The modules of this model ({', '.join(type(module).__name__ for module in model)}) give no "
                "`sentence_embedding`. Add one that makes it, e.g. `models.Pooling`, or ask for "
                "`output_value='token_embeddings'`."
            )
        batch: Tensor = features["sentence_embedding"][..., : request.truncate_dim]
        return torch.nn.functional.normalize(batch, dim=-1) if request.normalize else batch

    return gathered(model, texts, request, progress, of_batch)


def gathered(
    model: Encoder,
    inputs: Sequence[Any],
    request: Request,
    progress: Callable[[int], object],
    of_batch: Callable[[Features], Tensor],
) -> Tensor:
    """What `of_batch` makes of each batch's features, (N, ...) in the order of the inputs; empty where there are none."""
    result: Tensor | None = None
    for rows, features in run_batches(model, inputs, request, progress, by_row=True):
        batch = of_batch(features)
        if result is None:
            device = torch.device("cpu") if request.to_cpu else batch.device
            result = torch.empty(len(inputs), *batch.shape[1:], dtype=batch.dtype, device=device)
        result[torch.from_numpy(rows).to(result.device)] = batch.to(result.device)
    if result is None:
        return torch.empty(0, device="cpu" if request.to_cpu else request.device)
    return result


def all_features(
    model: Encoder, texts: Sequence[Any], request: Request, progress: Callable[[int], object]
) -> list[dict[str, Any]]:
    """Every feature of each text, as a dict; those by token in padded form, padding cut off at the end."""
    results: list[dict[str, Any]] = [{}] * len(texts)
    first: Any = model[0]
    for rows, features in run_batches(model, texts, request, progress):
        padded = to_padded(features, padding_of(first, request.task))
        if request.truncate_dim is not None:
            padded["sentence_embedding"] = padded["sentence_embedding"][..., : request.truncate_dim]
        for i, row in enumerate(rows.tolist()):
            results[row] = {
                name: value[i] if isinstance(value, Tensor) and len(value) == len(rows) else value
                for name, value in padded.items()
            }
            if hasattr(first, "rows"):  # inputs of several kinds: each has the features of its own
                of_text = first.rows(padded, i, i + 1)
                results[row] = {name: value[0] for name, value in of_text.items()} | {
                    "sentence_embedding": padded["sentence_embedding"][i]
                }
    return results


def token_embeddings(
    model: Encoder, texts: Sequence[Any], request: Request, progress: Callable[[int], object]
) -> list[Tensor]:
    """The embeddings of each text's tokens, (its tokens, D)."""
    results: list[Tensor] = [torch.empty(0)] * len(texts)
    for rows, features in run_batches(model, texts, request, progress):
        if "token_embeddings" not in features:
            raise ValueError(
                "`output_value='token_embeddings'` is for models whose first module embeds tokens, but this one's is "
                f"{type(model[0]).__name__}. Drop it."
            )
        tokens, values = to_packed(features)
        pieces = values.split(tokens.lengths.tolist())
        for row, place in zip(rows.tolist(), tokens.place.tolist(), strict=True):
            results[row] = pieces[place].clone()  # not a view that would keep the whole batch alive
    return results


RUNS: dict[str | None, Callable[..., Any]] = {
    "sentence_embedding": sentence_embeddings,
    "token_embeddings": token_embeddings,
    None: all_features,
}
"""How `encode` runs for each `output_value`."""


class _Budget:
    """Tokens per batch; halved when memory runs out."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self, num_texts: int, error: Exception) -> None:
        """Go on with half the batch after an out-of-memory error."""
        self.tokens = max(1, self.tokens // 2)
        logger.warning(
            "Memory ran out on a batch of %d texts (%s). Going on with batches of half the size, %d tokens; pass a "
            "smaller `batch_size` to start with them.",
            num_texts,
            str(error).split(". ")[0],
            self.tokens,
        )


Compute = Callable[[IntArray], Features]
"""The features, behind the model, of some of a window's texts, by their numbers in it."""


def run_batches(
    model: Encoder,
    texts: Sequence[Any],
    request: Request,
    progress: Callable[[int], object],
    by_row: bool = False,
) -> Iterator[tuple[IntArray, Features]]:
    """Run the model over all texts: (which texts, their features) batch by batch. `progress` is told how many are done.

    With `by_row` only features with a row for each text are asked for: texts that are a batch together may then share it with
    those of other threads.
    """
    budget = _Budget(request.token_budget)
    if model.takes_tokens:
        batches = _packed_batches(model, texts, request, budget, by_row)
    else:
        batches = _padded_batches(model, texts, request, budget)
    with torch.inference_mode():
        for start, rows, compute in batches:
            for of_window, features in _run(rows, compute, request, budget):
                yield start + of_window, features
                progress(len(of_window))


def _run(
    rows: IntArray, compute: Compute, request: Request, budget: _Budget
) -> Iterator[tuple[IntArray, Features]]:
    """Run a batch, in halves if memory does not suffice for the whole."""
    try:
        features = compute(rows)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if len(rows) == 1 or not is_memory:
            raise
        budget.halve(len(rows), error)
        features = None
    if features is not None:
        yield rows, features
        return
    if request.device.type == "cuda":
        torch.cuda.empty_cache()
    for half in np.array_split(rows, 2):
        yield from _run(half, compute, request, budget)


def _packed_batches(
    model: Encoder, texts: Sequence[Any], request: Request, budget: _Budget, by_row: bool
) -> Iterator[tuple[int, IntArray, Compute]]:
    def run(sequences: TokenSequences) -> Features:
        tokens = sequences.pack().to(request.device, non_blocking=True)
        features: Features = model({"tokens": tokens}, **request.forward_kwargs)
        return features

    def tokenize(start: int) -> Any:
        window = texts[start : start + WINDOW]
        return model.token_sequences(window, request.prompt, request.task, **request.reading)

    shared, way = _shared_batches(model, request) if by_row else (None, ())

    for start, sequences in _ahead(tokenize, range(0, len(texts), WINDOW)):

        def compute(rows: IntArray, sequences: TokenSequences = sequences) -> Features:
            chosen = sequences.select(rows)
            if shared is None or len(rows) < len(texts):
                return run(chosen)
            return shared.features(chosen, way, budget.tokens, run, request.device)

        # Longest first: if memory does not suffice, that shows at once.
        order = np.argsort(-sequences.lengths, kind="stable")
        for batch in chunked_lengths(sequences.lengths[order].tolist(), lambda: budget.tokens):
            yield start, order[batch], compute


def _shared_batches(model: Encoder, request: Request) -> tuple[SharedBatches | None, tuple[Any, ...]]:
    """Where a model's calls meet, if this one's can be compared with others; and by what."""
    kind, kwargs = request.device.type, request.forward_kwargs
    if kind == "meta" or not all(isinstance(each, str | int | float | None) for each in kwargs.values()):
        return None, ()
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    stream = torch.cuda.current_stream(request.device) if kind == "cuda" else None
    return getattr(model, "shared_batches", None), (kwargs, autocast, stream)


def _ahead(
    tokenize: Callable[[int], TokenSequences], starts: Sequence[int]
) -> Iterator[tuple[int, TokenSequences]]:
    """The windows, each tokenised by a thread while the model has the one before; a single one without a thread."""
    if len(starts) < 2:  # starting a thread and waiting for it takes longer than the tokens of a query
        yield from ((start, tokenize(start)) for start in starts)
        return
    with ThreadPoolExecutor(1, "likewise-tokenize") as ahead:
        pending = ahead.submit(tokenize, starts[0])
        for start, following in zip_longest(starts, starts[1:]):
            sequences = pending.result()
            if following is not None:
                pending = ahead.submit(tokenize, following)
            yield start, sequences


def _padded_batches(
    model: Encoder, texts: Sequence[Any], request: Request, budget: _Budget
) -> Iterator[tuple[int, IntArray, Compute]]:
    """For a first module that takes no tokens: batches of the size asked for, sorted by length in characters."""

    def compute(rows: IntArray) -> Features:
        inputs = model.padded_inputs(
            [texts[row] for row in rows], request.prompt, request.task, **request.reading
        )
        inputs = {k: v.to(request.device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        features: Features = model(inputs, **request.forward_kwargs)
        return features

    per_text = TOKENS_PER_TEXT.get(request.device.type, TOKENS_PER_TEXT_ON_DEVICES)
    order = np.argsort([-len(text) if hasattr(text, "__len__") else 0 for text in texts], kind="stable")
    for batch in chunked_lengths([per_text] * len(texts), lambda: budget.tokens):
        yield 0, order[batch], compute
