"""Faster and leaner forms of a transformers model's linear, GELU, norm and dropout layers on the CPU, in float32.

On processors with AVX-512 but without AMX, linear layers of many rows go through oneDNN, which adds the bias while the product is in
registers; torch's own path copies the bias into the output first, and is the faster one on others and for few rows. A linear layer
keeps no input that can be made again: see `made_again`. GELU works in place where no gradient is wanted. Dropout draws
its masks sixteen bits at a time, and keeps a byte of each. Elsewhere the layers are torch's own; weights, names and results stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, gelu, layer_norm, linear

from likewise.engine.made_again import Recipe, made_of, makes_again, recipe_of
from likewise.engine.modes import is_watched_inside
from likewise.engine.random import keep_mask


def _one_dnn_is_fast() -> bool:
    """Whether oneDNN multiplies matrices faster than torch's own path on this processor."""
    # Those with AMX are Intel's, for which torch's own library is made: as fast, and a tenth faster for the input's gradient.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()  # a private name, which may go
    is_wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.backends.mkldnn.is_available() and is_wide and not has_amx


ONE_DNN_IS_FAST = _one_dnn_is_fast()
FEW_ROWS = 127  # for so few, it takes longer


def use_fast_layers(model: nn.Module) -> None:
    """Give every linear, norm and dropout layer, and the GELU of BERT's kind of feed-forward block, the faster form."""
    for module in model.modules():
        if type(module) is nn.Linear and "forward" not in vars(module):
            # Whoever put a `forward` there does more in it: accelerate's fetches weights that lie elsewhere. Not by a class of
            # its own, as for dropout: who looks for linear layers (torch's quantisation, say) asks for this very type.
            module.forward = partial(fast_linear, module)  # type: ignore[method-assign]
        elif type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(module) is nn.LayerNorm:
            module.__class__ = FastLayerNorm
        elif type(getattr(module, "intermediate_act_fn", None)).__name__ == "GELUActivation":
            module.intermediate_act_fn = FastGELU(module)


def fast_linear(layer: nn.Linear, input: Tensor) -> Tensor:
    """What a linear layer makes of (..., in_features): (..., out_features)."""
    is_float = input.dtype == layer.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if (
        not is_float
        or _is_transformed()
        or input.device.type != "cpu"
        or input.numel() <= FEW_ROWS * input.shape[-1]
    ):
        return linear(input, layer.weight, layer.bias)
    if not torch.is_grad_enabled():
        return _product(input, layer.weight, layer.bias)
    output: Tensor = _Linear.apply(input, layer.weight, layer.bias, recipe_of(input))  # type: ignore[no-untyped-call]
    return output


class FastGELU(nn.Module):
    """The GELU behind a linear layer. Where no gradient is wanted, it overwrites that layer's output.

    Args:
        block: The feed-forward block that it stands in; it overwrites nothing that a hook on the block's `dense` may keep.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.__dict__["block"] = block  # not by attribute, which would make a circle in torch's registry

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if torch.is_grad_enabled() or input.device.type != "cpu" or self._is_kept():
            return made_of(gelu(input), gelu, input)
        overwritten: Tensor = torch.ops.aten.gelu_(input)
        return overwritten

    def _is_kept(self) -> bool:
        dense = getattr(self.__dict__["block"], "dense", None)
        return dense is None or is_watched_inside(dense)


class FastLayerNorm(nn.LayerNorm):
    """A norm whose output can be made again."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        output = super().forward(input)
        if not makes_again(output):
            return output
        # Copies: when the next layer's gradients are made, this one's weights may lie in other processes.
        scale, shift = (None if own is None else own.detach().clone() for own in (self.weight, self.bias))
        shape, eps = self.normalized_shape, self.eps
        return made_of(output, lambda x, w, b: layer_norm(x, shape, w, b, eps), input, scale, shift)


class FastDropout(nn.Dropout):
    """Dropout with masks from `keep_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (...)."""
        if not self.training or self.p in (0, 1) or _is_transformed() or input.device.type != "cpu":
            return dropout(input, self.p, self.training, self.inplace)
        kept, factor = keep_mask(input.shape, self.p, input)
        output: Tensor = _Kept.apply(input, kept, factor)  # type: ignore[no-untyped-call]
        return output


def _is_transformed() -> bool:
    """Whether torch.compile or torch.func runs the layers, which have better ways of their own, and know none of ours."""
    transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
    return torch.compiler.is_compiling() or transforms()


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not ONE_DNN_IS_FAST:
        return linear(input, weight, bias)
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


class _Kept(torch.autograd.Function):
    """Dropout by a mask of bytes."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, kept: Tensor, factor: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(kept)
        ctx.factor = factor
        return (input * kept).mul_(factor)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        return grad_output * kept * ctx.factor, None, None


class _Linear(torch.autograd.Function):
    """x W' + b. Where oneDNN is fast, it is so for the output and the input's gradient, and torch's own for the weight's."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, recipe: Recipe
    ) -> Tensor:
        ctx.make = recipe.make if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(weight, *(recipe.given if ctx.make else ()))
        ctx.shape = input.shape
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        weight, *given = ctx.saved_tensors
        rows = grad_output.reshape(-1, weight.shape[0])
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = _product(rows, weight.t(), None).view(ctx.shape)
        if ctx.make:
            grad_weight = rows.t() @ ctx.make(*given).reshape(-1, weight.shape[1])
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        return grad_input, grad_weight, grad_bias, None
