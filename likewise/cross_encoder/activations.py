"""Activations by name: what a folder says is applied to scores, and what is written of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Activation: TypeAlias = Callable[[Tensor], Tensor]


def default_activation(num_labels: int) -> nn.Module:
    """Sigmoid for one label, so that scores are between 0 and 1; none for several."""
    return nn.Sigmoid() if num_labels == 1 else nn.Identity()


def checked_activation(activation: Any) -> Any:
    """An activation that can be called on scores.

    Raises:
        TypeError: It is a class, a name, or something else.
    """
    if isinstance(activation, type):
        raise TypeError(
            f"`activation_fn` is the class {activation.__name__}. Make one of it: `{activation.__name__}()`."
        )
    if not callable(activation):
        raise TypeError(
            f"`activation_fn` must be a function of scores, but is {activation!r}. Pass e.g. `torch.nn.Sigmoid()`."
        )
    return activation


def names_device(value: Any) -> bool:
    """Whether it is a device or the name of one."""
    with suppress(RuntimeError):
        return isinstance(value, torch.device) or (isinstance(value, str) and bool(torch.device(value).type))
    return False


def named_activation(name: Any, trust_remote_code: bool = False) -> Activation | None:
    """The activation of a dotted name; None, with a warning, where it is none of `torch.nn` and code is not trusted.

    Raises:
        ValueError: There is no such thing.
    """
    if not isinstance(name, str) or not (trust_remote_code or name.startswith("torch.nn.")):
        logger.warning(
            "The activation %r, which the model's folder names, is not part of torch.nn; the default is taken. Pass "
            "`trust_remote_code=True` if you trust its author, or `activation_fn=`.",
            name,
        )
        return None
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
        if not trust_remote_code and not issubclass(found, nn.Module):
            raise TypeError("it is not a torch module")
        activation: Activation = found()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The activation {name!r}, which the model's folder names, cannot be made ({error}). Correct it there, in "
            "config_sentence_transformers.json or config.json."
        ) from error
    return activation


def name_of_activation(activation: Activation) -> str | None:
    """The dotted name by which an activation is found again; None, with a warning, for one that has to be passed again."""
    kind = type(activation)
    if isinstance(activation, nn.Module) and "<locals>" not in kind.__qualname__:
        return f"{kind.__module__}.{kind.__qualname__}"
    logger.warning(
        "The activation %r is no torch module, so that a folder cannot name it. Pass `activation_fn=` again when you load "
        "the model.",
        activation,
    )
    return None
