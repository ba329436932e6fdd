"""Faster forms of a transformers model's linear, GELU and dropout layers on the CPU, in float32.

On processors with AVX-512, linear layers go through oneDNN, which adds the bias while the product is in registers; torch's
own path copies the bias into the output first, and is the faster one on others. GELU works in place where no gradient is
wanted. Dropout draws its masks sixteen bits at a time. Elsewhere the layers are torch's own; weights, names and results
stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, gelu

from likewise.engine.random import keep_mask


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
        if type(module) is nn.Linear and one_dnn:
            module.__class__ = FastLinear
        elif type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(getattr(module, "intermediate_act_fn", None)).__name__ == "GELUActivation":
            module.intermediate_act_fn = FastGELU()


class FastLinear(nn.Linear):
    """A linear layer by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not _is_fast(input) or self.weight.dtype != torch.float32 or input.numel() == 0:
            return super().forward(input)
        if torch.is_grad_enabled():
            output: Tensor = _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return output
        return _one_dnn_linear(input, self.weight, self.bias)


class FastGELU(nn.Module):
    """The GELU behind a linear layer. Where no gradient is wanted, it overwrites that layer's output."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if torch.is_grad_enabled() or input.device.type != "cpu":
            return gelu(input)
        overwritten: Tensor = torch.ops.aten.gelu_(input)
        return overwritten


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
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(input, weight)
        return _one_dnn_linear(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad_output.reshape(-1, weight.shape[0])
        grad_input = _one_dnn_linear(rows, weight.t(), None).view(input.shape) if needs_input else None
        grad_weight = rows.t() @ input.reshape(-1, weight.shape[1]) if needs_weight else None
        return grad_input, grad_weight, rows.sum(0) if needs_bias else None


def _one_dnn_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


def _is_fast(input: Tensor) -> bool:
    return (
        input.dtype == torch.float32 and input.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    )
