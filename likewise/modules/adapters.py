"""Adapters (LoRA and the like) on a transformers model, by peft: add, load, switch, save and merge them.

peft is called directly: transformers' own methods ask for the newest peft, whichever that may be.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from likewise.modules.base import read_settings

ADAPTER_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
IMPORTING = ("megatron_config", "adapters")  # of LoRA for Megatron and X-LoRA
PREFIX = "base_model.model."  # of the names in peft's files


def base_of_adapter(folder: str | Path) -> str | None:
    """The model that the adapter in a folder is for; None where there is no adapter.

    Raises:
        ValueError: The adapter does not say, or would import code that it names.
    """
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
    """Whether there are adapters on the model."""
    return bool(getattr(auto_model, "peft_config", None))


def add_adapter(auto_model: Any, config: Any, name: str = "default") -> None:
    """Put a fresh adapter on a model and use it; the model's own weights are frozen.

    Raises:
        ImportError: peft is not installed.
        ValueError: There is an adapter of this name.
    """
    peft = _peft()
    if has_adapters(auto_model) and name in auto_model.peft_config:
        raise ValueError(f"There is an adapter {name!r} already. Choose another name, or delete it first.")
    config.base_model_name_or_path = auto_model.name_or_path or None
    with warnings.catch_warnings():  # that there are several adapters is meant
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        peft.inject_adapter_in_model(config, auto_model, name)
    set_adapter(auto_model, name)


def load_adapter(auto_model: Any, folder: str | Path, name: str = "default", trainable: bool = False) -> None:
    """Put the adapter in a folder on a model and use it.

    Raises:
        ImportError: peft is not installed.
        ValueError: The adapter is damaged, or for another model.
    """
    peft = _peft()
    from peft.utils import load_peft_weights

    base_of_adapter(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = not trainable
        weights = load_peft_weights(str(folder), device="cpu")
        add_adapter(auto_model, config, name)
        own = {key.removeprefix(PREFIX): value for key, value in weights.items()}
        missing = set(peft.get_peft_model_state_dict(auto_model, adapter_name=name)) ^ set(own)
        if missing:
            raise ValueError(f"weights do not fit, e.g. {min(missing)}")
        peft.set_peft_model_state_dict(auto_model, own, adapter_name=name)
    except Exception as error:  # peft and safetensors raise what they happen to stumble over
        raise ValueError(
            f"The adapter in {folder} cannot be put on {type(auto_model).__name__} ({error}). It may be cut short, or for "
            "another model: copy or download it again."
        ) from error
    for key, parameter in auto_model.named_parameters():
        if f".{name}." in key:
            parameter.requires_grad_(trainable)


def save_adapter(auto_model: Any, folder: str | Path) -> None:
    """Write the adapter in use to a folder, as peft does."""
    from safetensors.torch import save_file

    name = active_adapters(auto_model)[0]
    weights = adapter_state(auto_model, name)
    auto_model.peft_config[name].save_pretrained(str(folder))
    save_file(
        {PREFIX + key: value.contiguous().cpu() for key, value in weights.items()},
        Path(folder) / WEIGHTS_FILE,
        metadata={"format": "pt"},
    )


def set_adapter(auto_model: Any, names: str | list[str]) -> None:
    """Use these adapters and no others.

    Raises:
        ValueError: There is no such adapter.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    known = list(getattr(auto_model, "peft_config", {}))
    for name in wanted:
        if name not in known:
            raise ValueError(f"There is no adapter {name!r}. The model has: {', '.join(known) or 'none'}.")
    for _, layer in _layers(auto_model):
        layer.set_adapter(wanted)


def enable_adapters(auto_model: Any, enabled: bool) -> None:
    """Compute with the adapters, or without them."""
    for _, layer in _layers(auto_model):
        layer.enable_adapters(enabled)


def active_adapters(auto_model: Any) -> list[str]:
    """The names of the adapters in use.

    Raises:
        ValueError: There are none on the model.
    """
    for _, layer in _layers(auto_model):
        return list(layer.active_adapters)
    raise ValueError("The model has no adapters. Load or add one first: `model.load_adapter(folder)`.")


def adapter_state(auto_model: Any, name: str | None = None) -> dict[str, Tensor]:
    """The weights of an adapter, by default of the first in use."""
    chosen = active_adapters(auto_model)[0] if name is None else name
    return dict(_peft().get_peft_model_state_dict(auto_model, adapter_name=chosen))


def delete_adapter(auto_model: Any, names: str | list[str]) -> None:
    """Take adapters off.

    Raises:
        ValueError: There is no such adapter.
    """
    for name in [names] if isinstance(names, str) else names:
        if name not in getattr(auto_model, "peft_config", {}):
            raise ValueError(f"There is no adapter {name!r} to delete.")
        for _, layer in _layers(auto_model):
            layer.delete_adapter(name)
        del auto_model.peft_config[name]


def merge_adapters(auto_model: Any) -> None:
    """Add the weights of the adapters in use to the model's own, and take all adapters off.

    Raises:
        ValueError: There are no adapters, or weights that are not numbers would come of it.
    """
    active_adapters(auto_model)
    for name, layer in list(_layers(auto_model)):
        layer.merge(safe_merge=True)
        parent, _, attribute = name.rpartition(".")
        setattr(auto_model.get_submodule(parent), attribute, layer.get_base_layer())
    for name, kept in list(_whole_modules(auto_model)):
        parent, _, attribute = name.rpartition(".")
        setattr(auto_model.get_submodule(parent), attribute, kept)
    del auto_model.peft_config
    for parameter in auto_model.parameters():
        parameter.requires_grad_(True)  # adding an adapter had frozen them


def _layers(auto_model: nn.Module) -> Iterator[tuple[str, Any]]:
    if not has_adapters(auto_model):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    yield from (
        (name, module) for name, module in auto_model.named_modules() if isinstance(module, BaseTunerLayer)
    )


def _whole_modules(auto_model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that were trained whole, beside the adapters (peft's `modules_to_save`), by the names that they replace."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in auto_model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            active: Any = module.active_adapter
            yield name, module.modules_to_save[active]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError('Adapters need peft. Install it: pip install "likewise[peft]".') from error
    return peft
