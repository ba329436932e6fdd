"""Linear layers that multiply in fewer bits on the CPU, in int8 or bfloat16, where no gradient is wanted.

The float weight stays as it is: it is what gradients and other devices take, and what is saved. Beside it lies a copy in fewer bits, made
anew when the weight has changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Product = Callable[[Tensor, bool], Tensor]
"""(..., in) -> (..., out), in float32 or in fewer bits; if told so, with a GELU behind it."""

FEW_ROWS = 63  # for so few, one pass more costs less than one call more
TINY = torch.tensor(1e-10, device="cpu")  # the scale of rows of zeros
MIDDLE = 128  # stands for 0 in a product's input: without a sign, as processors with VNNI multiply it


def has_int8_instructions() -> bool:
    """Whether this processor has instructions for products of int8 (AVX-512 VNNI)."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())  # a private name, which may go


class ReducedLinear(nn.Linear):
    """A linear layer that multiplies in fewer bits; one of the classes in `REDUCED`."""

    @staticmethod
    def make_product(weight: Tensor, bias: Tensor | None) -> Product:
        """From a weight (out, in) and a bias (out,) of float32."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        # In training mode what is computed without gradients may be made again with them, and must be the same.
        if is_reducible(input) and not self.training and not torch.is_grad_enabled():
            return multiplied((self,), input).float()
        return super().forward(input)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_reduced"}


def is_reducible(input: Tensor) -> bool:
    """Whether this may go through products in fewer bits: float32 on the CPU. Other types and devices take the float weight."""
    return input.device.type == "cpu" and input.dtype == torch.float32 and input.numel() > 0


def multiplied(layers: Sequence[ReducedLinear], input: Tensor, gelu: bool = False) -> Tensor:
    """What layers of one class make of one reducible input, in inference, side by side, in the type that the product has.

    (..., in_features) -> (..., out_features of all), with `gelu` behind a GELU. The copy of all their weights is kept by the first.
    """
    first = layers[0]
    # By hand, since it comes with every product: as attributes they are looked for in three places each.
    key = [
        (each.data_ptr(), each._version)
        for layer in layers
        for each in layer._parameters.values()
        if each is not None
    ]
    known = first.__dict__.get("_reduced")
    if known is None or known[0] != key:
        for layer in layers:  # theirs alone, if they had any
            layer.__dict__.pop("_reduced", None)
        weights: list[Tensor] = [layer.weight for layer in layers]
        biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        whole = [
            each[0].detach() if len(each) == 1 else torch.cat(each).detach()
            for each in (weights, biases)
            if each
        ]
        known = key, type(first).make_product(whole[0], whole[1] if biases else None)
        first.__dict__["_reduced"] = known
    output: Tensor = known[1](input, gelu)
    return output


class Int8Linear(ReducedLinear):
    """In int8: a scale for each row of the weight, and one for each token.

    So a text's embedding does not depend on the texts beside it. Processors without int8 instructions (VNNI) share one scale,
    in seven bits, among all tokens of a batch: that is what is fast on them.
    """

    @staticmethod
    def make_product(weight: Tensor, bias: Tensor | None) -> Product:
        """See the base class."""
        return Int8Product.of(weight, bias) if has_int8_instructions() else _with_one_scale(weight, bias)


@dataclass(frozen=True)
class Int8Product:
    """A product with a weight in int8."""

    ordered: Tensor  # (out, in) int8, in the order in which oneDNN multiplies
    scales: Tensor  # (out,): what a row of values is to be multiplied with
    zeros: Tensor  # (out,) int64: which value stands for 0
    bias: Tensor  # (out,)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Int8Product:
        """From a weight (out, in) and a bias (out,) of float32."""
        values, scales = _scaled(weight)
        ordered = torch.ops.onednn.qlinear_prepack(values.round_().to(torch.int8), None)
        zeros = weight.new_zeros(len(weight), dtype=torch.long)
        return cls(ordered, scales.squeeze(1), zeros, weight.new_zeros(len(weight)) if bias is None else bias)

    def __call__(self, input: Tensor, gelu: bool = False) -> Tensor:
        """(..., in) -> (..., out)."""
        values, scales = _scaled(input.reshape(-1, input.shape[-1]))
        values = values.add_(MIDDLE + 0.5).to(torch.uint8)  # it cuts off, which rounds what is positive
        # The scale of its input is said to be 1: oneDNN knows one for all tokens, and each has its own.
        output = torch.ops.onednn.qlinear_pointwise(
            values, 1.0, MIDDLE, self.ordered, self.scales, self.zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        torch.addcmul(self.bias, output, scales, out=output)
        return _activated(output, gelu).view(*input.shape[:-1], -1)


def _activated(output: Tensor, gelu: bool) -> Tensor:
    """A product's output (...), or what a GELU has overwritten it with."""
    activated: Tensor = torch.ops.aten.gelu_(output) if gelu else output
    return activated


def _scaled(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) divided, so that they lie in [-127, 127], and what each is to be multiplied with, (N, 1)."""
    if rows.shape[0] <= FEW_ROWS:
        largest = rows.abs().amax(1, keepdim=True)
    else:
        largest = torch.maximum(rows.amax(1, keepdim=True), rows.amin(1, keepdim=True).neg_())
    scales = torch.add(TINY, largest, alpha=1 / 127)
    return rows / scales, scales


def _with_one_scale(weight: Tensor, bias: Tensor | None) -> Product:
    """A product by `linear_dynamic`."""
    scales = weight.abs().amax(dim=1).clamp(min=1e-8).double() / 127
    with warnings.catch_warnings():  # torch moves these elsewhere, but has no others for the CPU yet
        warnings.simplefilter("ignore")
        zeros = torch.zeros(len(weight), dtype=torch.long)
        quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantised, bias)
    linear_dynamic = torch.ops.quantized.linear_dynamic
    return lambda input, gelu: _activated(linear_dynamic(input, packed, True), gelu)


class Bfloat16Linear(ReducedLinear):
    """In bfloat16, added up in float32, by oneDNN: the weight lies in the order in which it multiplies."""

    @staticmethod
    def make_product(weight: Tensor, bias: Tensor | None) -> Product:
        """See the base class."""
        ordered = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), None)
        narrow_bias = None if bias is None else bias.bfloat16()

        def product(input: Tensor, gelu: bool) -> Tensor:
            # The last word says which GELU: not the approximate one.
            behind: tuple[str, list[Any], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            output: Tensor = torch.ops.mkldnn._linear_pointwise(
                input.bfloat16(), ordered, narrow_bias, *behind
            )
            return output

        return product


REDUCED: dict[str, type[ReducedLinear]] = {"bfloat16": Bfloat16Linear, "int8": Int8Linear}
"""By the type in which they multiply."""


def multiply_in(layer: nn.Module, kind: str | None) -> None:
    """Let a linear layer multiply in this type, a key of `REDUCED`; None for that of its weight."""
    own = vars(layer)
    if isinstance(layer, ReducedLinear):
        own.pop("_reduced", None)
        if (forward := own.pop("_float_forward", None)) is not None:
            own["forward"] = forward
        layer.__class__ = nn.Linear  # type: ignore[assignment]
    if kind is not None:
        own["_float_forward"] = own.pop("forward", None)  # the faster form in float32, on some processors
        layer.__class__ = REDUCED[kind]
