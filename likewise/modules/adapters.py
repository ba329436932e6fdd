"""Adapters (LoRA and the like) on a model's transformers model, by peft: add, load, switch, save and merge them.

Functions whose first argument is `self` are methods of every model, and take a bare transformers model as well. peft is called
directly: transformers' own methods ask for the newest peft, whichever that may be.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from likewise.checked import needed
from likewise.modules.base import read_settings

ADAPTER_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
IMPORTING = ("megatron_config", "adapters")  # of LoRA for Megatron and X-LoRA
PREFIX = "base_model.model."  # of the names in peft's files


def base_of_adapter(folder: str | Path) -> str | None:
    """The model that the adapter in a folder is for; None where there is no adapter. One that would import code is refused."""
    if not (Path(folder) / ADAPTER_FILE).is_file():
        return None
    settings = read_settings(folder, ADAPTER_FILE)
    for key in IMPORTING:
        if settings.get(key) is not None:
            raise ValueError(
                f"{Path(folder) / ADAPTER_FILE} has `{key}`, by which peft would load code or adapters that the file names. "
                "That is not followed: take it out there."
            )
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{Path(folder) / ADAPTER_FILE} does not name the model that it adapts: `base_model_name_or_path` is "
            f"{base!r}. Write its name or folder there."
        )
    return base


def has_adapters(auto_model: Any) -> bool:
    """Whether there are adapters on the transformers model."""
    return bool(getattr(auto_model, "peft_config", None))


def has_peft_compatible_model(self: Any) -> bool:
    """Whether a model can have adapters: its first module is a Transformer or the like."""
    return not isinstance(self, nn.Sequential) or getattr(self[0], "auto_model", None) is not None


def check_peft_compatible_model(self: Any) -> None:
    """Refuse, by a ValueError, a model that cannot have adapters."""
    _adaptable(self)


def add_adapter(self: Any, adapter_config: Any, adapter_name: str = "default") -> None:
    """Add a fresh adapter (a `peft.LoraConfig`, say) and use it; only adapters are trained from then on.

    Raises:
        ImportError: peft is not installed.
        ValueError: There is an adapter of this name.
    """
    peft, auto_model = _peft(), _adaptable(self)
    if has_adapters(auto_model) and adapter_name in auto_model.peft_config:
        raise ValueError(
            f"There is an adapter {adapter_name!r} already. Choose another name, or delete it first."
        )
    adapter_config.base_model_name_or_path = auto_model.name_or_path or None
    with warnings.catch_warnings():  # that there are several adapters is meant
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        peft.inject_adapter_in_model(adapter_config, auto_model, adapter_name)
    set_adapter(auto_model, adapter_name)


def load_adapter(
    self: Any, folder: str | Path, adapter_name: str = "default", is_trainable: bool = False
) -> None:
    """Load an adapter from a folder, and use it.

    Raises:
        ImportError: peft is not installed.
        ValueError: The adapter is damaged, or for another model.
    """
    peft, auto_model = _peft(), _adaptable(self)
    from peft.utils import load_peft_weights

    base_of_adapter(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = not is_trainable
        weights = load_peft_weights(str(folder), device="cpu")
        add_adapter(auto_model, config, adapter_name)
        own = {key.removeprefix(PREFIX): value for key, value in weights.items()}
        missing = set(peft.get_peft_model_state_dict(auto_model, adapter_name=adapter_name)) ^ set(own)
        if missing:
            raise ValueError(f"weights do not fit, e.g. {min(missing)}")
        peft.set_peft_model_state_dict(auto_model, own, adapter_name=adapter_name)
    except Exception as error:  # peft and safetensors raise what they happen to stumble over
        raise ValueError(
            f"The adapter in {folder} cannot be put on {type(auto_model).__name__} ({error}). It may be cut short, or for "
            "another model: copy or download it again."
        ) from error
    for key, parameter in auto_model.named_parameters():
        if f".{adapter_name}." in key:
            parameter.requires_grad_(is_trainable)


def save_adapter(auto_model: Any, folder: str | Path) -> None:
    """Write the adapter in use to a folder, as peft does."""
    from safetensors.torch import save_file

    name = active_adapter(auto_model)
    weights = get_adapter_state_dict(auto_model, name)
    auto_model.peft_config[name].save_pretrained(str(folder))
    save_file(
        {PREFIX + key: value.contiguous().cpu() for key, value in weights.items()},
        Path(folder) / WEIGHTS_FILE,
        metadata={"format": "pt"},
    )


def set_adapter(self: Any, adapter_name: str | list[str]) -> None:
    """Use this adapter, or these, and no others.

    Raises:
        ValueError: There is no such adapter.
    """
    auto_model = _adaptable(self)
    wanted = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
    known = list(getattr(auto_model, "peft_config", {}))
    for name in wanted:
        if name not in known:
            raise ValueError(f"There is no adapter {name!r}. The model has: {', '.join(known) or 'none'}.")
    for _, layer in _layers(auto_model):
        layer.set_adapter(wanted)


def disable_adapters(self: Any) -> None:
    """Compute without adapters."""
    for _, layer in _layers(_adaptable(self)):
        layer.enable_adapters(False)


def enable_adapters(self: Any) -> None:
    """Compute with the adapters again."""
    for _, layer in _layers(_adaptable(self)):
        layer.enable_adapters(True)


def active_adapters(self: Any) -> list[str]:
    """The names of the adapters in use.

    Raises:
        ValueError: There are none on the model.
    """
    for _, layer in _layers(_adaptable(self)):
        return list(layer.active_adapters)
    raise ValueError("The model has no adapters. Load or add one first: `model.load_adapter(folder)`.")


def active_adapter(self: Any) -> str:
    """The name of the first adapter in use."""
    return active_adapters(self)[0]


def get_adapter_state_dict(self: Any, adapter_name: str | None = None) -> dict[str, Tensor]:
    """The weights of an adapter, by default of the one in use."""
    chosen = active_adapter(self) if adapter_name is None else adapter_name
    return dict(_peft().get_peft_model_state_dict(_adaptable(self), adapter_name=chosen))


def delete_adapter(self: Any, adapter_names: str | list[str]) -> None:
    """Take adapters off.

    Raises:
        ValueError: There is no such adapter.
    """
    auto_model = _adaptable(self)
    for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
        if name not in getattr(auto_model, "peft_config", {}):
            raise ValueError(f"There is no adapter {name!r} to delete.")
        for _, layer in _layers(auto_model):
            layer.delete_adapter(name)
        del auto_model.peft_config[name]


def merge_adapters(self: Any) -> None:
    """Add the active adapters' weights to the model's own and take the adapters off; embeddings stay the same.

    Raises:
        ValueError: There are no adapters, or weights that are not numbers would come of it.
    """
    auto_model = _adaptable(self)
    active_adapters(auto_model)
    for name, layer in list(_layers(auto_model)):
        layer.merge(safe_merge=True)
        auto_model.set_submodule(name, layer.get_base_layer())
    for name, kept in list(_whole_modules(auto_model)):
        auto_model.set_submodule(name, kept)
    del auto_model.peft_config
    for parameter in auto_model.parameters():
        parameter.requires_grad_(True)  # adding an adapter had frozen them


def _adaptable(model: Any) -> Any:
    """The transformers model of a model, which does the work with adapters; itself, if it is one."""
    if not has_peft_compatible_model(model):
        raise ValueError(
            f"Adapters are for models with a Transformer module, but the first is {type(model[0]).__name__}."
        )
    return model[0].auto_model if isinstance(model, nn.Sequential) else model


def _layers(auto_model: nn.Module) -> Iterator[tuple[str, Any]]:
    if has_adapters(auto_model):
        from peft.tuners.tuners_utils import BaseTunerLayer

        yield from (item for item in auto_model.named_modules() if isinstance(item[1], BaseTunerLayer))


def _whole_modules(auto_model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that were trained whole, beside the adapters (peft's `modules_to_save`), by the names that they replace."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in auto_model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            active: Any = module.active_adapter
            yield name, module.modules_to_save[active]


def _peft() -> Any:
    return needed("peft", "Adapters need peft", "peft")
