"""What is cheap to make again is not kept for the backward pass: a GELU's output, a norm's, pieces put together.

What such a step was given is kept anyway, for its own gradients. A linear layer behind it needs what the step gave, as large again, for
its weight's gradient alone, and makes it anew then.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True)
class Recipe:
    """A function, and what it was given; as it was then, which whoever wrote into it since has changed."""

    make: Callable[..., Tensor]
    given: tuple[Tensor | None, ...]
    versions: tuple[int, ...] = ()


# Beside the tensors, not on them: whoever saves one would save its recipe too.
_recipes: MutableMapping[Tensor, Recipe] = WeakTensorKeyDictionary()


def makes_again(output: Tensor) -> bool:
    """Whether a layer will ask how an output was made: in float32 on the CPU, where gradients are wanted.

    Not within torch's checkpoints, which keep outputs as they are, and would keep what they were made of as well.
    """
    usual = output.dtype == torch.float32 and output.device.type == "cpu" and torch.is_grad_enabled()
    return usual and not torch.compiler.is_compiling() and not _is_checkpointed()


def made_of(output: Tensor, make: Callable[..., Tensor], *given: Tensor | None) -> Tensor:
    """The same output, of which is known now that `make` made it of what it was given."""
    if makes_again(output):
        parts = tuple(one if one is None else one.detach() for one in given)
        _recipes[output] = Recipe(make, parts, _versions(parts))
    return output


def recipe_of(input: Tensor) -> Recipe:
    """How to have this tensor again: by itself, or by what made it, of which it may be a view."""
    whole = input if input._base is None else input._base
    is_all = whole.numel() == input.numel() and whole.is_contiguous() and input.is_contiguous()
    recipe = _recipes.get(whole)
    if recipe is None or not is_all or input._version or _versions(recipe.given) != recipe.versions:
        return Recipe(torch.detach, (input,))
    return recipe


def _versions(tensors: tuple[Tensor | None, ...]) -> tuple[int, ...]:
    return tuple(0 if one is None or one.is_inference() else one._version for one in tensors)


def _is_checkpointed() -> bool:
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)(False)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"
