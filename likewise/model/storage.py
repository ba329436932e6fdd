"""Models in folders: found on disk or on the Hub, loaded from every saved form, saved in the one all readers know.

Nothing in a folder is run or followed outside of it: classes from elsewhere and code in the folder need
`trust_remote_code=True`, paths must stay inside, and pickled weights are read without running code.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from likewise import modules as own_modules
from likewise.modules import Module, Pooling, Transformer
from likewise.modules.base import read_json, read_settings, write_json
from likewise.modules.find_folder import find_folder as find_folder
from likewise.similarity import SimilarityFunction

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
FORMAT_VERSION = "3.0.0"  # the oldest release of the reference that reads what is written here


@dataclass
class StoredModel:
    """What a folder holds.

    Attributes:
        modules: The modules by name, in order.
        module_kwargs: For each module, the names of keyword arguments of `encode` that it takes.
        settings: What config_sentence_transformers.json says; empty for a plain transformers model.
        card: The text of README.md, if there is one.
        card_plot: The plot of the training log that belongs to the card, as SVG, if there is one.
    """

    modules: dict[str, nn.Module]
    module_kwargs: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    card: str | None = None
    card_plot: str | None = None


def load(
    folder: Path,
    trust_remote_code: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
) -> StoredModel:
    """Load a model's modules from a folder: a saved SentenceTransformer, or a plain transformers model plus pooling.

    Args:
        folder: The folder.
        trust_remote_code: Whether code in the folder, and classes from elsewhere, may run.
        model_kwargs: For `AutoModel.from_pretrained`.
        tokenizer_kwargs: For `AutoTokenizer.from_pretrained`.
        config_kwargs: For `AutoConfig.from_pretrained`.

    Raises:
        FileNotFoundError: The folder holds no model, or a file is missing.
        ValueError: A file is damaged, names a class that is not trusted, or a path outside of the folder.
    """
    loading = _Loading(folder, trust_remote_code, model_kwargs, tokenizer_kwargs, config_kwargs)
    card = _text(folder / "README.md"), _text(folder / "training_log.svg")
    if (folder / MODULES_FILE).exists():
        return StoredModel(*loading.listed(), _read_model_settings(folder), *card)
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return StoredModel(loading.with_pooling(), {}, {}, *card)
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    raise FileNotFoundError(
        f"{folder} holds no model: expected {MODULES_FILE} (a saved SentenceTransformer) or config.json (a transformers "
        f"model), found {found}. Check the path."
    )


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf8", errors="replace") if path.is_file() else None


def _read_model_settings(folder: Path) -> dict[str, Any]:
    """What config_sentence_transformers.json says, as far as it is known here.

    Raises:
        ValueError: A setting is not of its type.
    """
    settings = read_settings(folder, SETTINGS_FILE) if (folder / SETTINGS_FILE).exists() else {}
    prompts = settings.get("prompts")
    kinds: dict[str, tuple[str, bool]] = {
        "prompts": (
            "an object of texts",
            isinstance(prompts, dict) and all(isinstance(text, str | None) for text in prompts.values()),
        ),
        "default_prompt_name": ("a text", isinstance(settings.get("default_prompt_name"), str)),
        "similarity_fn_name": (
            f"one of {', '.join(SimilarityFunction.possible_values())}",
            settings.get("similarity_fn_name") in SimilarityFunction.possible_values(),
        ),
        "truncate_dim": ("a whole number", isinstance(settings.get("truncate_dim"), int)),
    }
    for name, (expected, fits) in kinds.items():
        if settings.get(name) is not None and not fits:
            raise ValueError(
                f"`{name}` in {folder / SETTINGS_FILE} should be {expected}, but is {settings[name]!r}. Correct it there."
            )
    return {name: settings[name] for name in kinds if settings.get(name) is not None}


@dataclass
class _Loading:
    """One run of `load`."""

    folder: Path
    trust_remote_code: bool
    model_kwargs: Mapping[str, Any] | None
    tokenizer_kwargs: Mapping[str, Any] | None
    config_kwargs: Mapping[str, Any] | None

    def listed(self) -> tuple[dict[str, nn.Module], dict[str, list[str]]]:
        """The modules that modules.json lists, and the keyword arguments each takes."""
        path = self.folder / MODULES_FILE
        listing = read_json(path)
        if not (isinstance(listing, list) and listing and all(isinstance(entry, dict) for entry in listing)):
            raise ValueError(
                f"{path} should list the model's modules, one JSON object each. Save the model again."
            )
        modules: dict[str, nn.Module] = {}
        kwargs: dict[str, list[str]] = {}
        for index, entry in enumerate(listing):
            name = str(entry.get("name", index))
            if not isinstance(entry.get("type"), str):
                raise ValueError(f"Module {name!r} in {path} has no `type`. Save the model again.")
            modules[name] = self._module(entry["type"], self._inside(str(entry.get("path", ""))))
            kwargs[name] = list(entry.get("kwargs", []))
        return modules, kwargs

    def with_pooling(self) -> dict[str, nn.Module]:
        """A plain transformers model: mean pooling is added, or last-token pooling for a causal language model."""
        transformer = self._load_module(Transformer, self.folder)
        config = transformer.config
        architectures = getattr(config, "architectures", None) or [""]
        causal = architectures[0].endswith("ForCausalLM") and getattr(config, "is_causal", True)
        pooling = Pooling(transformer.get_word_embedding_dimension(), "lasttoken" if causal else "mean")
        return {"0": transformer, "1": pooling}

    def _inside(self, path: str) -> Path:
        """A module's folder, which must lie in the model's."""
        resolved = (self.folder / path).resolve()
        if not resolved.is_relative_to(self.folder.resolve()):
            raise ValueError(
                f"{self.folder / MODULES_FILE} points to {path!r}, outside of the model's folder. "
                "Such a path is not followed: move the module's files into the folder and correct the path."
            )
        return self.folder / path

    def _module(self, type_name: str, folder: Path) -> nn.Module:
        package, _, class_name = type_name.rpartition(".")
        if package.split(".")[0] in ("sentence_transformers", "likewise"):
            if class_name not in own_modules.__all__:
                raise ValueError(
                    f"{self.folder / MODULES_FILE} names the class {type_name}, which is not known here. "
                    "Update with `pip install -U likewise`, or check the name."
                )
            module_class = getattr(own_modules, class_name)
        elif self.trust_remote_code:
            module_class = _foreign_class(package, class_name, self.folder)
        else:
            raise ValueError(
                f"{self.folder / MODULES_FILE} names the class {type_name}, which is not part of the library. "
                "Loading it runs its author's code: pass `trust_remote_code=True` if you trust it."
            )
        module: nn.Module = self._load_module(module_class, folder)
        return module

    def _load_module(self, module_class: Any, folder: Path) -> Any:
        if not issubclass(module_class, Module):
            return _load_foreign(module_class, folder)
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        try:
            return module_class.load(
                folder,
                trust_remote_code=self.trust_remote_code,
                model_kwargs={**trust, **(self.model_kwargs or {})},
                tokenizer_kwargs={**trust, **(self.tokenizer_kwargs or {})},
                config_kwargs={**trust, **(self.config_kwargs or {})},
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The {module_class.__name__} in {folder} lacks a file: {error}. Copy or download the folder again."
            ) from error
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"The settings of the {module_class.__name__} in {folder} are not what it takes: {error}. "
                "Restore its configuration file or save the model again."
            ) from error


def _foreign_class(package: str, class_name: str, folder: Path) -> Any:
    """A class that somebody else wrote, from a file in the model's folder or from an installed package."""
    if (folder / f"{package}.py").exists():
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        return get_class_from_dynamic_module(f"{package}.{class_name}", str(folder))
    try:
        return getattr(import_module(package), class_name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"The class {package}.{class_name}, which {folder / MODULES_FILE} names, cannot be imported ({error}). "
            "Install the package it comes from."
        ) from error


def _load_foreign(module_class: Any, folder: Path) -> Any:
    """Load a module written for the reference, whose `load` takes a folder and perhaps more."""
    parameters = inspect.signature(module_class.load).parameters
    return module_class.load(str(folder), **({"subfolder": ""} if "subfolder" in parameters else {}))


def save(
    modules: Mapping[str, nn.Module],
    module_kwargs: Mapping[str, list[str]],
    settings: Mapping[str, Any],
    folder: Path,
    safe_serialization: bool = True,
) -> None:
    """Write a model's modules and settings to a folder, in the form that every reader understands.

    Args:
        modules: The modules by name, in order.
        module_kwargs: For each module, the names of keyword arguments of `encode` that it takes.
        settings: Prompts, similarity function and so on.
        folder: Made if it does not exist.
        safe_serialization: Whether weights are written as safetensors (else as pytorch_model.bin).
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS_FILE, {"__version__": _versions(), **settings})
    listing = []
    for index, (name, module) in enumerate(modules.items()):
        in_root = index == 0 and getattr(module, "save_in_root", False)
        path = "" if in_root else f"{index}_{type(module).__name__}"
        (folder / path).mkdir(exist_ok=True)
        _save_module(module, folder / path, safe_serialization)
        entry: dict[str, Any] = {
            "idx": index,
            "name": name,
            "path": path,
            "type": _type_name(module, folder / path),
        }
        if module_kwargs.get(name):
            entry["kwargs"] = module_kwargs[name]
        listing.append(entry)
    write_json(folder / MODULES_FILE, listing)


def _versions() -> dict[str, str]:
    import transformers

    from likewise.version import __version__

    return {
        "sentence_transformers": FORMAT_VERSION,
        "likewise": __version__,
        "transformers": transformers.__version__,
        "pytorch": torch.__version__,
    }


def _save_module(module: Any, folder: Path, safe_serialization: bool) -> None:
    parameters = inspect.signature(module.save).parameters
    takes = "safe_serialization" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    module.save(str(folder), **({"safe_serialization": safe_serialization} if takes else {}))


def _type_name(module: nn.Module, folder: Path) -> str:
    """The class path that modules.json gets; code that came from a folder is copied along."""
    module_class = type(module)
    if getattr(own_modules, module_class.__name__, None) is module_class:
        return f"sentence_transformers.models.{module_class.__name__}"
    if module_class.__module__.startswith("transformers_modules."):
        from transformers.dynamic_module_utils import get_relative_import_files

        source = sys.modules[module_class.__module__].__file__
        assert source is not None
        for file in (source, *get_relative_import_files(source)):
            shutil.copy(file, folder / Path(file).name)
        return f"{module_class.__module__.rpartition('.')[2]}.{module_class.__name__}"
    return f"{module_class.__module__}.{module_class.__name__}"
