"""What a pass through a model must know of it: who else looks or reaches inside, and which modules are in training mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as registry

# Whose hooks are part of how a model runs (offloading, sharding, capturing hidden states), and fit packed rows too.
PLUMBING = ("torch", "transformers", "accelerate", "peft", "likewise")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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
    own = vars(module)
    if "forward" in own and "_hf_hook" not in own and _is_foreign(own["forward"]):
        return True
    return any(_is_foreign(hook) for name in HOOKS if own.get(name) for hook in own[name].values())


def is_watched_inside(model: nn.Module) -> bool:
    """Whether somebody else has registered a hook on this module, on one inside it, or on all modules there are."""
    rows: list[nn.Module | None] = [model]
    while rows:  # by hand, since it comes with every batch: a third of the time of `modules()`
        module = rows.pop()
        if module is None:
            continue
        own = vars(module)
        has_any = own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own
        if (has_any or own["_backward_hooks"] or own["_backward_pre_hooks"]) and is_watched(module):
            return True
        rows.extend(own["_modules"].values())
    everywhere = (getattr(registry, f"_global{name}", None) or {} for name in HOOKS)
    return any(_is_foreign(hook) for hooks in everywhere for hook in hooks.values())


def _is_foreign(hook: Any) -> bool:
    while isinstance(hook, partial):
        hook = hook.func
    hook = getattr(hook, "__func__", hook)
    origin = getattr(hook, "__module__", None) or type(hook).__module__
    return origin.partition(".")[0] not in PLUMBING
