"""From pairs to their scores: all in one tensor, or window by window in a file that a later call goes on with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from likewise.cross_encoder.activations import Activation
from likewise.cross_encoder.calibration import Calibration
from likewise.cross_encoder.given_pairs import check_pair
from likewise.model import fingerprint, inference
from likewise.model.encoding import encode_to_file
from likewise.model.output_file import OutputFile

Progress = Callable[[int], object]


def scores_of(
    model: Any,
    pairs: Sequence[Any],
    request: inference.Request,
    activation: Activation,
    apply_softmax: bool,
    progress: Progress,
) -> Tensor:
    """Scores of the pairs in their order, (N,) or (N, labels).

    Args:
        model: The CrossEncoder.
        pairs: N pairs of texts.
        request: Where and how it computes.
        activation: Applied to the model's scores.
        apply_softmax: Whether those of several labels are made to sum to 1.
        progress: Told how many pairs are done, batch by batch.
    """
    scores: Tensor | None = None
    for rows, features in inference.run_batches(cast(Any, model), pairs, request):
        batch: Tensor = features["scores"]
        if batch.is_floating_point() and torch.finfo(batch.dtype).bits < 32:
            batch = batch.float()  # in half precision many scores would be equal
        batch = activation(batch)
        if model.num_labels == 1 and batch.ndim > 1:
            batch = batch.squeeze(-1)
        if apply_softmax and batch.ndim > 1:
            batch = batch.softmax(dim=1)
        if scores is None:
            target = torch.device("cpu") if request.to_cpu else batch.device
            scores = torch.empty(len(pairs), *batch.shape[1:], dtype=batch.dtype, device=target)
        scores[torch.from_numpy(rows).to(scores.device)] = batch.to(scores.device)
        progress(len(rows))
    return torch.tensor([], device="cpu" if request.to_cpu else request.device) if scores is None else scores


def scores_in_file(
    out: str | os.PathLike[str],
    model: Any,
    pairs: Sequence[Any],
    request: inference.Request,
    activation: Activation,
    apply_softmax: bool,
    progress: Progress,
) -> Any:
    """The scores in a .npy file, mapped into memory; what it lacks is computed, a few thousand pairs at a time.

    The arguments are those of `scores_of`, behind the path of the file.

    Raises:
        ValueError: The file is made of something else, or nobody could tell a later activation from this one.
    """
    name = getattr(activation, "__qualname__", "")
    if "<" in name:
        raise ValueError(
            f"`out` is for scores that a later call can recognise, but `activation_fn` is the function {name}, which goes by "
            "no name. Write it as a torch.nn.Module, or drop it and apply it to the result."
        )
    made_of = fingerprint.embedding_parts(model) | request.settings
    named = activation.settings() if isinstance(activation, Calibration) else activation
    made_of |= {"activation_fn": fingerprint.plain(named), "apply_softmax": apply_softmax}
    output = OutputFile(out, pairs, made_of)
    progress(output.done)
    if not len(pairs):
        output.write(np.empty(0, np.float32))

    def score(part: Sequence[Any]) -> Tensor:
        return scores_of(model, part, request, activation, apply_softmax, progress)

    return encode_to_file(output, pairs, score, "float32", inference.WINDOW)


def check_pairs(pairs: Sequence[Any]) -> None:
    """Refuse what is no pair of texts before the first is scored.

    Raises:
        TypeError: Something is neither a string nor a pair of strings.
        ValueError: A pair has more or less than two texts.
    """
    for row, pair in enumerate(pairs):
        check_pair(row, pair)
