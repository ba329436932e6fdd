"""Where a model is: on one device, or spread over several by accelerate, as `device_map` asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only


def spread_over(transformers_model: Any) -> torch.device | None:
    """Where a model that accelerate spread over devices, or partly left on disk, takes its inputs; None for any other."""
    hook = getattr(transformers_model, "_hf_hook", None)
    for each in (hook, *getattr(hook, "hooks", ())):
        if (device := getattr(each, "execution_device", None)) is not None:
            return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return None


def refuse_spread(model: nn.Module, what: str) -> None:
    """Refuse what a model that is spread over devices cannot do."""
    if any(spread_over(module) is not None for module in model.modules()):
        raise RuntimeError(
            f"This model is spread over devices by `device_map`, so that it cannot {what}. Load it without `device_map`."
        )


def on_cpu(result: Any) -> Any:
    """The same with the tensors in it on the CPU, from where they can be sent to other processes."""
    return tree_map_only(torch.Tensor, torch.Tensor.cpu, result)
