"""Faster forms of a transformers model's linear, GELU and dropout layers on the CPU, in float32.

On processors with AVX-512, linear layers of many rows go through oneDNN, which adds the bias while the product is in
registers; torch's own path copies the bias into the output first, and is the faster one on others and for few rows. GELU works in
place where no gradient is wanted; where one is, its output, the largest of a layer, is not kept for the linear layer behind it, but made
again. Dropout draws its masks sixteen bits at a time. Elsewhere the layers are torch's own; weights, names and results stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, gelu, linear

from likewise.engine.modes import is_watched_inside
from likewise.engine.random import keep_mask

FEW_ROWS = 127  # for so few, oneDNN takes longer than torch's own path


def has_fast_one_dnn() -> bool:
    """Whether oneDNN multiplies matrices faster than torch's own path on this processor."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def use_fast_layers(model: nn.Module, one_dnn: bool | None = None) -> None:
    """Give every linear and dropout layer, and the GELU of BERT's kind of feed-forward block, the faster form.

    Args:
        model: The model.
        one_dnn: Whether linear layers go through oneDNN; None for what is faster on this processor.
    """
    one_dnn = has_fast_one_dnn() if one_dnn is None else one_dnn
    for module in model.modules():
        if type(module) is nn.Linear and one_dnn and "forward" not in vars(module):
            # Whoever put a `forward` there does more in it: accelerate's fetches weights that lie elsewhere. Not by a class of
            # its own, as for dropout: who looks for linear layers (torch's quantisation, say) asks for this very type.
            module.forward = partial(fast_linear, module)  # type: ignore[method-assign]
        elif type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(getattr(module, "intermediate_act_fn", None)).__name__ == "GELUActivation":
            module.intermediate_act_fn = FastGELU(module)


def fast_linear(layer: nn.Linear, input: Tensor) -> Tensor:
    """What a linear layer makes of (..., in_features), by oneDNN: (..., out_features)."""
    is_float = input.dtype == layer.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not is_float or input.device.type != "cpu" or input.numel() <= FEW_ROWS * input.shape[-1]:
        return linear(input, layer.weight, layer.bias)
    if not torch.is_grad_enabled():
        return _one_dnn_linear(input, layer.weight, layer.bias)
    # Whoever wrote into a GELU's output since has another input. A compiler has values of its own, which tell of neither.
    is_other = torch.compiler.is_compiling() or input._version
    before = None if is_other else getattr(input, "before_gelu", None)
    output: Tensor = _Linear.apply(input, layer.weight, layer.bias, before)  # type: ignore[no-untyped-call]
    return output


class FastGELU(nn.Module):
    """The GELU behind a linear layer. Where no gradient is wanted, it overwrites that layer's output; else its own tells of it.

    Args:
        block: The feed-forward block that it stands in; it overwrites nothing that a hook on the block's `dense` may keep.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.__dict__["block"] = block  # not by attribute, which would make a circle in torch's registry

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if torch.is_grad_enabled() or input.device.type != "cpu" or self._is_kept():
            output = gelu(input)
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                output.before_gelu = input.detach()  # type: ignore[attr-defined]
            return output
        overwritten: Tensor = torch.ops.aten.gelu_(input)
        return overwritten

    def _is_kept(self) -> bool:
        dense = getattr(self.__dict__["block"], "dense", None)
        return dense is None or is_watched_inside(dense)


class FastDropout(nn.Dropout):
    """Dropout with masks from `keep_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (...)."""
        if not self.training or self.p in (0, 1) or input.device.type != "cpu":
            return dropout(input, self.p, self.training, self.inplace)
        return input * keep_mask(input.shape, self.p, input)


class _Linear(torch.autograd.Function):
    """x W' + b. oneDNN is the faster one for the output and the input's gradient, torch's own for the weight's."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, before_gelu: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(input if before_gelu is None else before_gelu, weight)
        ctx.is_before_gelu = before_gelu is not None
        return _one_dnn_linear(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
        rows = grad_output.reshape(-1, weight.shape[0])
        grad_input = _one_dnn_linear(rows, weight.t(), None).view(input.shape) if needs_input else None
        input = gelu(input) if ctx.is_before_gelu and needs_weight else input
        grad_weight = rows.t() @ input.reshape(-1, weight.shape[1]) if needs_weight else None
        return grad_input, grad_weight, rows.sum(0) if needs_bias else None, None


def _one_dnn_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output
