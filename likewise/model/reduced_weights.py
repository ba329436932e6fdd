"""Weights in fewer bits on the CPU: tried on the user's own texts or pairs, and used only where they are faster and close enough."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from likewise.engine.layers import fast_linear
from likewise.engine.reduced_linear import ReducedLinear, multiply_in
from likewise.similarity import pairwise_cos_sim

logger = logging.getLogger(__name__)

PROBE_TEXTS = 256
ROUNDS = 3  # of each kind, in turns
SMALLEST = 64 * 64  # weights; smaller layers cost more to round than they save


@dataclass(frozen=True)
class WeightsProbe:
    """What a trial of weights in fewer bits found.

    Attributes:
        used: Whether the model computes with them now.
        speedup: How much faster the sample went through the model than with the weights as they were.
        cosine: The smallest cosine between what was computed with them and without.
        reason: Why they are used or not, in a sentence.
    """

    used: bool
    speedup: float
    cosine: float
    reason: str


def use_int8_weights(
    self: Any, texts: Sequence[Any], min_cosine: float = 0.98, min_speedup: float = 1.1
) -> WeightsProbe:
    """Compute with int8 weights on the CPU, if that proves faster here and close enough on these texts.

    What is saved and what is trained are the float weights; whoever writes to their `.data`, which nothing tells, calls this
    again. int8 weights are faster on processors with int8 instructions (AVX-512
    VNNI), and finer there. `use_bfloat16_weights` is finer still, and faster where the processor has AMX.

    Args:
        texts: Some hundred texts like those to be embedded, of a CrossEncoder pairs; 256 of them are tried.
        min_cosine: The least cosine between any text's embeddings with int8 weights and without: of a MultiVectorEncoder those of
            all of its tokens as one, of a CrossEncoder all logits for a label, less their mean (their correlation).
        min_speedup: The least gain in speed.

    Returns:
        What was measured, and whether int8 weights are used.

    Raises:
        TypeError: `texts` is one text.
        ValueError: There are no texts.
    """
    return _use(self, "int8", texts, min_cosine, min_speedup)


def use_bfloat16_weights(
    self: Any, texts: Sequence[Any], min_cosine: float = 0.99, min_speedup: float = 1.1
) -> WeightsProbe:
    """Compute with bfloat16 weights on the CPU, if that proves faster here and close enough on these texts.

    As `use_int8_weights`, and with its arguments, for processors that multiply bfloat16 (AMX, AVX-512 BF16). Sums, norms and
    embeddings stay float32, which a model that is loaded in bfloat16 has not; what is saved and trained are the float weights.
    """
    return _use(self, "bfloat16", texts, min_cosine, min_speedup)


def _use(model: Any, kind: str, texts: Sequence[Any], min_cosine: float, min_speedup: float) -> WeightsProbe:
    if model.device.type != "cpu" or model.dtype != torch.float32:
        reason = (
            f"{kind} weights are for float32 models on the CPU; this one is {model.dtype} on {model.device}"
        )
        return WeightsProbe(False, 1.0, 1.0, reason)
    if isinstance(texts, str):
        raise TypeError(
            "`texts` is one text. Pass a list of some hundred texts, or pairs, like those to come."
        )
    if not len(texts):
        raise ValueError("`texts` is empty. Pass some hundred texts, or pairs, like those to come.")
    sample = list(texts[:PROBE_TEXTS])
    layers = [
        layer
        for layer in model.modules()
        if (type(layer) is nn.Linear or isinstance(layer, ReducedLinear)) and layer.weight.numel() >= SMALLEST
        if not _does_more(layer)
    ]

    def switch(reduced: bool) -> None:
        for layer in layers:
            multiply_in(layer, kind if reduced else None)

    if not layers:
        return WeightsProbe(False, 1.0, 1.0, "the model has no large linear layers")
    times: dict[bool, float] = {False: float("inf"), True: float("inf")}
    rows: dict[bool, Tensor] = {}
    try:
        for reduced in (False, True) * ROUNDS:
            switch(reduced)
            model._compared(sample[:8])  # rounds the weights
            start = time.perf_counter()
            rows[reduced] = model._compared(sample)
            times[reduced] = min(times[reduced], time.perf_counter() - start)
    except BaseException as error:
        switch(False)
        if not isinstance(error, RuntimeError | NotImplementedError | AttributeError):
            raise
        return WeightsProbe(
            False, 1.0, 1.0, f"this torch cannot multiply in {kind} on this processor ({error})"
        )
    speedup = times[False] / times[True]
    cosine = float(pairwise_cos_sim(rows[False], rows[True]).min())
    if cosine < min_cosine:
        reason = f"what the model gives would change too much: cosine {cosine:.4f}, wanted {min_cosine}"
    elif speedup < min_speedup:
        reason = f"they are no gain on this processor: {speedup:.2f} times as fast, wanted {min_speedup}"
    else:
        reason = f"{speedup:.2f} times as fast, cosine {cosine:.4f} or more on {len(sample)} texts"
    used = cosine >= min_cosine and speedup >= min_speedup
    switch(used)
    logger.info("Weights in %s are %s: %s.", kind, "used" if used else "not used", reason)
    return WeightsProbe(used, speedup, cosine, reason)


def _does_more(layer: nn.Module) -> bool:
    """Whether somebody has put a `forward` of their own in the place of a linear layer's."""
    forward = vars(layer).get("forward")
    return forward is not None and getattr(forward, "func", None) is not fast_linear
