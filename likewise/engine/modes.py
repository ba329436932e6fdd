"""What a pass through a model must know of it: who else looks or reaches inside, and which modules are in training mode."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import methodcaller
from typing import Any

from torch import nn
from torch.nn.modules import module as registry

# Whose hooks are part of how a model runs (offloading, sharding, capturing hidden states), and fit packed rows too.
PLUMBING = ("torch", "transformers", "accelerate", "peft", "likewise")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
CAPTURES = "_output_capturing_hooks_installed"  # what transformers notes of a model whose layers' outputs it has captured
HOOKS_EVERYWHERE = tuple(f"_global{name}" for name in HOOKS)


def leave_training(model: nn.Module) -> None:
    """`model.eval()` where anything inside is in training mode; which it says to each module, every time."""
    if any(map(methodcaller("get", "training", True), states_of(model))):
        model.eval()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Dropout and the like off, and each module back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def is_watched(module: nn.Module) -> bool:
    """Whether somebody else has registered a hook on this very module, or put another `forward` in its place."""
    return _is_watched(vars(module))


def is_watched_inside(model: nn.Module) -> bool:
    """Whether somebody else has registered a hook on this module, on one inside it, or on all modules there are."""
    if any(map(_is_watched, states_of(model))):
        return True
    everywhere = (getattr(registry, name, None) or {} for name in HOOKS_EVERYWHERE)
    return any(is_foreign(hook) for hooks in everywhere for hook in hooks.values())


def is_hooked_everywhere() -> bool:
    """Whether anybody has registered a hook on all modules there are."""
    return any(getattr(registry, name, None) for name in HOOKS_EVERYWHERE)


def states_of(model: nn.Module) -> list[dict[str, Any]]:
    """What a module and those inside it hold; by hand, since it comes with every batch: a third of the time of `modules()`."""
    states = [vars(model)]
    for own in states:  # grows as it goes
        if inner := own["_modules"]:
            states += [module.__dict__ for module in inner.values() if module is not None]
    return states


def _is_watched(own: dict[str, Any]) -> bool:
    if "forward" in own and "_hf_hook" not in own and is_foreign(own["forward"]):
        return True
    # One by one, since nearly no module has any, and all are asked before each batch.
    if not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    ):
        return False
    return any(is_foreign(hook) for name in HOOKS for hook in own[name].values())


def captures(hook: Any) -> bool:
    """Whether it is one of those that transformers leaves in a model once all layers were asked for; they do nothing until they are again."""
    return getattr(hook, "__module__", None) == "transformers.utils.output_capturing"


def has_captures(own: Mapping[str, Any]) -> bool:
    """Whether a module, by what it holds, has such hooks, or stands for having them on its layers."""
    return own.get(CAPTURES, False) or any(map(captures, own["_forward_hooks"].values()))


def without_captures(own: Mapping[str, Any]) -> dict[str, Any]:
    """What a module holds, but for these hooks; transformers puts them on again where it needs them."""
    hooks = {key: hook for key, hook in own["_forward_hooks"].items() if not captures(hook)}
    kept = {name: value for name, value in own.items() if name != CAPTURES}
    return kept | {"_forward_hooks": OrderedDict(hooks)}


def is_foreign(hook: Any) -> bool:
    """Whether a hook is of none of the libraries that a model runs on."""
    while isinstance(hook, partial):
        hook = hook.func
    hook = getattr(hook, "__func__", hook)
    origin = getattr(hook, "__module__", None) or type(hook).__module__
    return origin.partition(".")[0] not in PLUMBING
