"""Linear layers that compute in float32 in a model of another type: a head, whose scores bfloat16 would make equal in twos and threes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from likewise.engine.layers import fast_linear, use_fast_layers
from likewise.engine.reduced_linear import ReducedLinear, multiply_in


class Float32Linear(nn.Linear):
    """A linear layer that computes and returns float32, also under autocast; its weights keep their type."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) of any type -> (..., out_features) float32."""
        with torch.autocast(input.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return linear(input.float(), self.weight.float(), bias)


def keep_in_float32(model: Any, names: Sequence[str]) -> None:
    """Let these linear layers of a CrossEncoder compute in float32, and those that did so far in their own type again.

    See `CrossEncoder.set_keep_in_fp32_modules`.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`keep_in_fp32_modules` must be a list of modules' names, but is {names!r}.")
    if names and model.backend != "torch":
        raise ValueError(f"`keep_in_fp32_modules` is for torch, but this model's backend is {model.backend}.")
    wanted, others = (
        {layer: name for name in own for layer in _layers(model, name)}
        for own in (names, model.keep_in_fp32_modules)
    )
    for layer, name in {**others, **wanted}.items():
        if type(layer) not in (nn.Linear, Float32Linear) and not isinstance(layer, ReducedLinear):
            raise ValueError(
                f"`keep_in_fp32_modules` takes linear layers, but {name} is a {type(layer).__name__}. Name the layer inside."
            )
        forward = vars(layer).get(_forward_name(layer))
        ours = getattr(forward, "func", None) is fast_linear or getattr(forward, "__self__", None) is layer
        if forward is not None and not ours:
            raise ValueError(
                f"`keep_in_fp32_modules` cannot change {name}, which somebody gave a `forward` of its own. Leave it out."
            )
    for layer in {**others, **wanted}:
        multiply_in(layer, None)
        layer.__class__ = Float32Linear if layer in wanted else nn.Linear
        if hasattr(layer, "_hf_hook"):  # accelerate's, which moves weights and then calls this
            vars(layer)["_old_forward"] = type(layer).forward.__get__(layer)
        else:
            vars(layer).pop("forward", None)
            use_fast_layers(layer)
    model.keep_in_fp32_modules = list(dict.fromkeys(names))


def _forward_name(layer: nn.Module) -> str:
    return "_old_forward" if hasattr(layer, "_hf_hook") else "forward"


def _layers(model: nn.Module, name: str) -> list[nn.Module]:
    """The module of this name, or, where peft trains a copy of it beside an adapter, both."""
    module = model.get_submodule(name)
    original, copies = getattr(module, "original_module", None), getattr(module, "modules_to_save", None)
    return [module] if original is None or copies is None else [original, *copies.values()]
