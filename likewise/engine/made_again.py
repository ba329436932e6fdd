"""What is cheap to make again is not kept for the backward pass: a GELU's output, a norm's, pieces put together.

What such a step was given is kept anyway, for its own gradients. A linear layer behind it needs what the step gave, as large again, for
its weight's gradient alone, and makes it anew then.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Recipe = tuple[Callable[..., Tensor], tuple[Tensor | None, ...]]
"""A function, and what it was given."""

# Beside the tensors, not on them: whoever saves one would save its recipe too.
_recipes: MutableMapping[Tensor, Recipe] = WeakTensorKeyDictionary()


def made_of(output: Tensor, make: Callable[..., Tensor], *given: Tensor | None) -> Tensor:
    """The same output, of which is known now that `make` made it of what it was given, where gradients are wanted."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        _recipes[output] = make, tuple(one if one is None else one.detach() for one in given)
    return output


def recipe_of(input: Tensor) -> Recipe:
    """How to have this tensor again: by itself, or by what made it, of which it may be a view."""
    whole = input if input._base is None else input._base
    is_all = whole.numel() == input.numel() and whole.is_contiguous() and input.is_contiguous()
    recipe = _recipes.get(whole)
    # Whoever wrote into it since has another.
    return (_itself, (input,)) if recipe is None or input._version or not is_all else recipe


def _itself(input: Tensor) -> Tensor:
    return input
