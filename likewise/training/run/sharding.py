"""FSDP2: model and losses in shards, one on each process, by torch's `fully_shard`, as accelerate's settings say.

Between two steps a process holds its shard of the weights, and of what the optimiser keeps for them. In a step the weights are
gathered layer by layer; where batches are recomputed in chunks, of which processes may have unequal numbers, once for the step.
Who evaluates or saves sees whole weights, and checkpoints are those of any other run: the one goes on from the other's.

Reference: Zhao et al. 2023, PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, https://arxiv.org/abs/2304.11277.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import Trainer

from likewise.processes import get_rank, get_world_size
from likewise.training.run.objective import Objective

logger = logging.getLogger(__name__)

MARKS = ("__composable_api", "_is_fsdp_managed_module", "_fsdp_use_orig_params", "in_one_pass")
"""What `fully_shard` and `shard` write into modules."""


def settle(trainer: Any) -> Any:
    """accelerate's settings of a sharded run, taken over from it and transformers, which know of no losses beside the model.

    None where nothing is sharded; a setting that cannot take effect is refused.
    """
    trainer.is_fsdp_enabled = False
    if not trainer.args.is_sharded or trainer.args.world_size == 1:
        return None
    from accelerate import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(**(trainer.args.fsdp_plugin_args or {}))
    for setting, is_set, instead in (
        ("fsdp_offload_params", type(plugin.cpu_offload).__name__ == "CPUOffloadPolicy", "Drop it."),
        ("fsdp_activation_checkpointing", plugin.activation_checkpointing, "Use `gradient_checkpointing=True`."),
        ("fsdp_ignored_modules", plugin.ignored_modules is not None, "Drop it."),
        ("SIZE_BASED_WRAP", plugin.min_num_params is not None, "Use TRANSFORMER_BASED_WRAP."),
        ("fp16", trainer.args.fp16, "Use `bf16=True`."),
        ("torch_compile", trainer.args.torch_compile, "Drop it."),
        ("transformers before 5.3", not hasattr(Trainer, "_finalize_training"), "Upgrade it."),
        ("auto_find_batch_size", trainer.args.auto_find_batch_size, "Use `micro_batch_tokens`."),
    ):  # fmt: skip
        if is_set:
            raise ValueError(f"`{setting}` is not supported with FSDP. {instead}")
    if plugin.state_dict_type.name == "SHARDED_STATE_DICT":
        logger.warning(
            "`fsdp_state_dict_type` is without effect: checkpoints are whole, for any number of processes."
        )
    # The objective is sharded before there is an optimiser, so that accelerate need not exchange the optimiser's weights.
    trainer.accelerator.prepare = trainer.accelerator.prepare_optimizer
    return plugin


def is_sharded(trained: nn.Module) -> bool:
    """Whether the weights lie in shards now."""
    return "_is_fsdp_managed_module" in vars(trained)


def shard(trained: Objective, plugin: Any, device: torch.device) -> None:
    """Leave this process its shard of the weights; refused are layers by name that cannot be gathered one by one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if is_sharded(trained):
        return
    layers = _layers_of(trained, plugin)
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=plugin.reshard_after_forward)
    fully_shard(trained, mesh=mesh)
    for module in trained.modules():
        # Processes that gather each other's shards in every pass must go through as many: see `Embed`.
        cast(Any, module).in_one_pass = True


def _layers_of(trained: Objective, plugin: Any) -> list[nn.Module]:
    """The layers whose weights are gathered one by one, inner ones first; those that share weights are left to the whole."""
    named = set(plugin.transformer_cls_names_to_wrap or ())
    sizes = [getattr(loss, "mini_batch_size", None) for loss in trained.losses.modules()]
    in_chunks = trained.embed is not None or any(sizes)
    # MPNet's layers are computed by their parts, which calls no hook.
    cannot = named if in_chunks else named & {"MPNetLayer"}
    cannot |= named - {type(module).__name__ for module in trained.modules()}
    if cannot:
        raise ValueError(
            f"`fsdp_transformer_layer_cls_to_wrap` names {', '.join(sorted(cannot))}, but the model has no such layers, or "
            "they cannot be gathered one by one (MPNet's; any layers with `micro_batch_tokens` or a Cached loss). Drop it."
        )
    if in_chunks or plugin.auto_wrap_policy is None:
        return []
    if not named:
        split = [getattr(module, "_no_split_modules", None) or () for module in trained.modules()]
        named = {name for names in split for name in names}
    owners = Counter(id(p) for module in trained.modules() for p in module._parameters.values())
    return [
        module
        for module in reversed(list(trained.modules()))
        if type(module).__name__ in named and all(owners[id(p)] == 1 for p in module.parameters())
    ]


@contextmanager
def whole(trained: nn.Module, first: bool = False) -> Iterator[None]:
    """Within this context the weights are whole, and the modules know of no shards. All processes must come here.

    With `first`, only the first process has them, on the CPU, to be saved.
    """
    with _make_whole(trained, first) if is_sharded(trained) else nullcontext():
        yield


def join(trained: nn.Module) -> None:
    """Give every process all weights for good, as after a run that is not sharded. All processes must come here."""
    if not is_sharded(trained):
        return
    from torch.distributed._composable_state import _module_state_mapping

    _make_whole(trained)
    for module in trained.modules():
        for name in [name for name in vars(module) if name.startswith(MARKS)]:
            del vars(module)[name]
        _module_state_mapping.pop(module, None)


@torch.no_grad()
def _make_whole(trained: nn.Module, first: bool = False) -> ExitStack:
    """Put whole weights in the place of shards, and take away the hooks that gather them; what brings both back."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    put_back = ExitStack()
    modules = list(trained.modules())
    for module in modules:
        if isinstance(module, FSDPModule):
            module.reshard()
    gathered: dict[int, nn.Parameter] = {}  # weights that are shared stay so
    for module in modules:
        weights = module._parameters
        for name, parameter in weights.items():
            if isinstance(parameter, DTensor):
                if id(parameter) not in gathered:
                    gathered[id(parameter)] = nn.Parameter(_full(parameter, first), parameter.requires_grad)
                weights[name] = gathered[id(parameter)]
                put_back.callback(weights.__setitem__, name, parameter)
        if isinstance(module, FSDPModule):
            put_back.callback(setattr, module, "__class__", type(module))
            # Its own class: torch put one in its place that derives from FSDPModule and that.
            module.__class__ = type(module).__bases__[-1]
        for hooks in [own for own in vars(module).values() if isinstance(own, OrderedDict)]:
            others = [(key, hook) for key, hook in hooks.items() if not _is_of_torch(hook)]
            if len(others) < len(hooks):
                put_back.callback(hooks.update, hooks.copy())
                put_back.callback(hooks.clear)
                hooks.clear()
                hooks.update(others)
    return put_back


def _is_of_torch(hook: Any) -> bool:
    return str(getattr(getattr(hook, "hook", hook), "__module__", "")).startswith("torch.distributed.fsdp")


def _full(tensor: Any, first: bool) -> Tensor:
    """The whole of a tensor that lies in shards; with `first`, on the first process's CPU, and nothing on the others."""
    found: Tensor = tensor.full_tensor()
    if first:
        found = found.cpu() if get_rank() == 0 else found.new_empty(0, device="cpu")
    return found


def gather_states(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state, whole on the first process; a hook behind its `state_dict`, which all processes must call."""
    from torch.distributed.tensor import DTensor

    whole_of = tree_map(lambda x: _full(x, True) if isinstance(x, DTensor) else x, state["state"])
    return {**state, "state": whole_of}


def share_states(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """This process's shards of a whole state; a hook before an optimiser's `load_state_dict`."""
    from torch.distributed.tensor import distribute_tensor

    parameters: list[Any] = [p for group in optimizer.param_groups for p in group["params"]]

    def shared(value: Any, parameter: Any) -> Any:
        is_like_it = isinstance(value, Tensor) and value.shape == parameter.shape
        return distribute_tensor(value, parameter.device_mesh, parameter.placements) if is_like_it else value

    states = {
        number: {name: shared(value, parameters[number]) for name, value in own.items()}
        for number, own in state["state"].items()
    }
    return {**state, "state": states}
