"""From pairs to their scores: all in one tensor, or window by window in a file that a later call goes on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from likewise.cross_encoder.activations import Activation
from likewise.cross_encoder.calibration import Calibration
from likewise.cross_encoder.given_pairs import check_pair
from likewise.model import fingerprint, inference
from likewise.model.encoding import converted
from likewise.model.kept import OutputFile
from likewise.model.pool import WorkerPool
from likewise.modules.base import Features

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Way:
    """How pairs are scored.

    Attributes:
        request: Where and how the model computes.
        batch_size: As `predict` takes it, for processes.
        activation: Applied to the model's scores.
        apply_softmax: Whether those of several labels are made to sum to 1.
        pool: The processes that score; None for this one.
        chunk_size: Pairs that a process gets at a time; None for a tenth of its share.
    """

    request: inference.Request
    batch_size: int
    activation: Activation
    apply_softmax: bool
    pool: WorkerPool | None = None
    chunk_size: int | None = None


def scores_of(model: Any, pairs: Sequence[Any], way: Way, progress: Progress) -> Tensor:
    """Scores of the pairs in their order, (N,) or (N, labels).

    Args:
        model: The CrossEncoder.
        pairs: N pairs of texts.
        way: How they are scored.
        progress: Told how many pairs are done, batch by batch.
    """
    request = way.request
    if way.pool is not None:
        options = {
            "prompt": request.prompt or "",
            "batch_size": way.batch_size,
            "activation_fn": way.activation,
            "apply_softmax": way.apply_softmax,
            "convert_to_tensor": True,
        }
        parts = way.pool.map(list(pairs), options, way.chunk_size, progress)
        device = "cpu" if request.to_cpu else request.device
        return torch.cat(parts).to(device) if parts else torch.empty(0, device=device)

    def of_batch(features: Features) -> Tensor:
        batch: Tensor = features["scores"]
        if batch.is_floating_point() and torch.finfo(batch.dtype).bits < 32:
            batch = batch.float()  # in half precision many scores would be equal
        batch = way.activation(batch)
        if model.num_labels == 1 and batch.ndim > 1:
            batch = batch.squeeze(-1)
        return batch.softmax(dim=1) if way.apply_softmax and batch.ndim > 1 else batch

    return inference.gathered(model, pairs, request, progress, of_batch)


def scores_in_file(
    out: str | os.PathLike[str],
    model: Any,
    pairs: Sequence[Any],
    way: Way,
    progress: Progress,
    as_tensor: bool,
) -> Any:
    """The scores in a .npy file, mapped into memory; what it lacks is computed, a few thousand pairs at a time.

    The arguments are those of `scores_of`, behind the path of the file.

    Raises:
        ValueError: The file is made of something else, or nobody could tell a later activation from this one.
    """
    activation = way.activation
    name = getattr(activation, "__qualname__", "")
    if "<" in name:
        raise ValueError(
            f"`out` is for scores that a later call can recognise, but `activation_fn` is the function {name}, which goes by "
            "no name. Write it as a torch.nn.Module, or drop it and apply it to the result."
        )
    made_of = fingerprint.embedding_parts(model) | way.request.settings
    named = activation.settings() if isinstance(activation, Calibration) else activation
    made_of |= {"activation_fn": fingerprint.plain(named), "apply_softmax": way.apply_softmax}
    output = OutputFile(out, pairs, made_of)
    progress(output.done)

    def score(part: Sequence[Any]) -> Any:
        return converted(scores_of(model, part, way, progress), "float32", True, False)

    return output.fill(score, (0,), as_tensor)


def check_pairs(pairs: Sequence[Any]) -> None:
    """Refuse what is no pair of texts before the first is scored.

    Raises:
        TypeError: Something is neither a string nor a pair of strings.
        ValueError: A pair has more or less than two texts.
    """
    for row, pair in enumerate(pairs):
        check_pair(row, pair)
