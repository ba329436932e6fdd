"""Int8 weights on the CPU: tried on the user's own texts or pairs, and used only where they are faster and close enough."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from likewise.similarity import pairwise_cos_sim

logger = logging.getLogger(__name__)

PROBE_TEXTS = 256
ROUNDS = 3  # of each kind, in turns
SMALLEST = 64 * 64  # weights; smaller layers cost more to quantise than they save


@dataclass(frozen=True)
class Int8Probe:
    """What a trial of int8 weights found.

    Attributes:
        used: Whether the model computes with int8 weights now.
        speedup: How much faster the sample went through the model than with the weights as they were.
        cosine: The smallest cosine between what was computed with int8 weights and without.
        reason: Why they are used or not, in a sentence.
    """

    used: bool
    speedup: float
    cosine: float
    reason: str


def has_int8_instructions() -> bool:
    """Whether this processor has instructions for products of int8 (AVX-512 VNNI)."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())  # a private name, which may go


class Int8Linear(nn.Linear):
    """A linear layer that multiplies in int8: a scale for each row of the weight, and one for each token.

    So a text's embedding does not depend on the texts beside it. Processors without int8 instructions (VNNI) share one scale,
    in seven bits, among all tokens of a batch: that is what is fast on them.

    Gradients, and inputs on other devices, take the float weight, which stays as it is.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        is_float = input.device.type != "cpu" or input.dtype != torch.float32 or not input.numel()
        if torch.is_grad_enabled() or is_float:
            return super().forward(input)
        packed = self._packed()
        if isinstance(packed, _Int8Weight):
            return packed.multiply(input)
        output: Tensor = torch.ops.quantized.linear_dynamic(input, packed, True)
        return output

    def _packed(self) -> Any:
        """The weight in int8, made anew when it has changed."""
        key = (self.weight.data_ptr(), self.weight._version)
        known = self.__dict__.get("_int8")
        if known is None or known[0] != key:
            pack = _Int8Weight.of if has_int8_instructions() else _pack
            known = key, pack(self.weight.detach(), None if self.bias is None else self.bias.detach())
            self.__dict__["_int8"] = known
        return known[1]


@dataclass(frozen=True)
class _Int8Weight:
    """A linear layer in int8."""

    values: Tensor  # (out, in) int8
    scales: Tensor  # (out,): what a row of values is to be multiplied with
    bias: Tensor  # (out,)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> _Int8Weight:
        """From a weight (out, in) and a bias (out,) of float32."""
        values, scales = _rounded(weight)
        return cls(values, scales.squeeze(1), weight.new_zeros(len(weight)) if bias is None else bias)

    def multiply(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        values, scales = _rounded(input.reshape(-1, input.shape[-1]))
        products = torch._int_mm(values, self.values.T)
        # In place, number by number, since new memory costs more than the arithmetic.
        output = products.view(torch.float32).copy_(products).mul_(scales)
        return torch.addcmul(self.bias, output, self.scales, out=output).view(*input.shape[:-1], -1)


def _pack(weight: Tensor, bias: Tensor | None) -> Any:
    """The weight as `linear_dynamic` takes it."""
    scales = weight.abs().amax(dim=1).clamp(min=1e-8).double() / 127
    with warnings.catch_warnings():  # torch moves these elsewhere, but has no others for the CPU yet
        warnings.simplefilter("ignore")
        zeros = torch.zeros(len(weight), dtype=torch.long)
        quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(quantised, bias)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) in int8, and what each is to be multiplied with, (N, 1)."""
    scales = rows.abs().amax(dim=1, keepdim=True).clamp_(min=1e-8).div_(127)
    return (rows / scales).round_().to(torch.int8), scales


def use_int8_weights(
    self: Any, texts: Sequence[Any], min_cosine: float = 0.98, min_speedup: float = 1.1
) -> Int8Probe:
    """Compute with int8 weights on the CPU, if that proves faster here and close enough on these texts.

    What is saved and what is trained are the float weights. They are faster on processors with int8 instructions (AVX-512
    VNNI), and finer there.

    Args:
        texts: Some hundred texts like those to be embedded, of a CrossEncoder pairs; 256 of them are tried.
        min_cosine: The least cosine between any text's embeddings with int8 weights and without: of a MultiVectorEncoder those of
            all of its tokens as one, of a CrossEncoder all logits for a label, less their mean (their correlation).
        min_speedup: The least gain in speed.

    Returns:
        What was measured, and whether int8 weights are used.

    Raises:
        ValueError: There are no texts.
    """
    if self.device.type != "cpu" or self.dtype != torch.float32:
        reason = "int8 weights are for float32 models on the CPU; this one is"
        return Int8Probe(False, 1.0, 1.0, f"{reason} {self.dtype} on {self.device}")
    if not len(texts):
        raise ValueError("`texts` is empty. Pass some hundred texts, or pairs, like those to come.")
    sample = list(texts[:PROBE_TEXTS])
    layers = {
        cast(nn.Linear, layer): vars(layer).get("forward")  # the faster form in float32, on some processors
        for layer in self.modules()
        if type(layer) in (nn.Linear, Int8Linear) and cast(nn.Linear, layer).weight.numel() >= SMALLEST
    }
    if not layers:
        return Int8Probe(False, 1.0, 1.0, "the model has no large linear layers")
    times: dict[bool, float] = {False: float("inf"), True: float("inf")}
    rows: dict[bool, Tensor] = {}
    try:
        for int8 in (False, True) * ROUNDS:
            _switch(layers, int8)
            self._compared(sample[:8])  # packs the weights
            start = time.perf_counter()
            rows[int8] = self._compared(sample)
            times[int8] = min(times[int8], time.perf_counter() - start)
    except BaseException as error:
        _switch(layers, False)
        if not isinstance(error, RuntimeError | NotImplementedError | AttributeError):
            raise
        return Int8Probe(False, 1.0, 1.0, f"this torch cannot multiply in int8 on this processor ({error})")
    speedup = times[False] / times[True]
    cosine = float(pairwise_cos_sim(rows[False], rows[True]).min())
    if cosine < min_cosine:
        reason = f"what the model gives would change too much: cosine {cosine:.4f}, wanted {min_cosine}"
    elif speedup < min_speedup:
        reason = f"they are no gain on this processor: {speedup:.2f} times as fast, wanted {min_speedup}"
    else:
        reason = f"{speedup:.2f} times as fast, cosine {cosine:.4f} or more on {len(sample)} texts"
    used = cosine >= min_cosine and speedup >= min_speedup
    _switch(layers, used)
    logger.info("Int8 weights are %s: %s.", "used" if used else "not used", reason)
    return Int8Probe(used, speedup, cosine, reason)


def _switch(layers: Mapping[nn.Linear, Any], int8: bool) -> None:
    for layer, forward in layers.items():
        layer.__class__ = Int8Linear if int8 else nn.Linear
        vars(layer).pop("forward" if int8 else "_int8", None)
        if forward is not None and not int8:
            vars(layer)["forward"] = forward
