"""Which class a saved name stands for, and how a module gets into a folder and out of it.

Nothing in a folder is run or followed outside of it: classes from elsewhere and code in the folder need
`trust_remote_code=True`, and paths must stay inside.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from likewise.compat.paths import aliased
from likewise.modules.base import MODULES, Module, accepted, is_own, read_settings

OWN_PACKAGES = ("sentence_transformers", "likewise")


@dataclass(frozen=True)
class ModuleReader:
    """Loads the modules that a file in a model's folder names.

    Attributes:
        root: The model's folder; code in it may be loaded, and no path may leave it.
        named_in: The file, for messages.
        trust_remote_code: Whether code in the folder, and classes from elsewhere, may run.
        options: Keyword arguments for the modules' `load`.
    """

    root: Path
    named_in: Path
    trust_remote_code: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, type_name: str, path: str, folder: Path | None = None) -> nn.Module:
        """The module of this class from a path in a folder (by default the model's), which it must not leave."""
        module: nn.Module = self.load(self.find_class(type_name), self._inside(folder or self.root, path))
        return module

    def find_class(self, type_name: str) -> Any:
        """The class that a name in a file stands for, whichever release of the reference wrote it."""
        package, _, class_name = type_name.rpartition(".")
        if package.split(".")[0] in OWN_PACKAGES:
            found = MODULES.get(class_name)
            if found is None or inspect.isabstract(found):
                raise ValueError(
                    f"{self.named_in} names the class {type_name}, which is not known here. "
                    "Update with `pip install -U likewise`, or check the name."
                )
            return found
        if not self.trust_remote_code:
            raise untrusted(type_name, self.named_in)
        return foreign_class(type_name, self.root, self.named_in)

    def load(self, module_class: Any, folder: Path) -> Any:
        """A module of a class from its folder."""
        options = {"trust_remote_code": self.trust_remote_code, **self.options}
        if not (issubclass(module_class, Module) and is_own(module_class, "load")):
            # A `load` that somebody else wrote takes a folder, and perhaps more.
            parameters = inspect.signature(module_class.load).parameters
            named = {"subfolder": ""} if "subfolder" in parameters else {}
            return module_class.load(str(folder), **named, **accepted(module_class.load, options))
        # The reference saves a CLIP as a Transformer too, since 5.4.
        may_be_clip = module_class is MODULES["Transformer"] and (folder / "config.json").exists()
        if may_be_clip and read_settings(folder, "config.json").get("model_type") == "clip":
            module_class = MODULES["CLIPModel"]
        try:
            return module_class.from_folder(folder, reader=self, **options)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The {module_class.__name__} in {folder} lacks a file: {error}. Copy or download the folder again."
            ) from error
        except ValueError as error:
            if str(self.root) in str(error):
                raise
            raise ValueError(f"The {module_class.__name__} in {folder} cannot be loaded: {error}") from error
        except (TypeError, KeyError, AttributeError) as error:
            asked = [
                f"`{name}`"
                for name, given in self.options.items()
                if name.endswith("_kwargs") and set(given) - {"trust_remote_code"}
            ]
            raise ValueError(
                f"The settings of the {module_class.__name__} in {folder} are not what it takes: {error}. "
                + (f"Check what you passed in {', '.join(asked)}; else restore" if asked else "Restore")
                + " its configuration file or save the model again."
            ) from error

    def _inside(self, folder: Path, path: str) -> Path:
        """A module's folder, which must lie in the model's."""
        if not (folder / path).resolve().is_relative_to(self.root.resolve()):
            raise ValueError(
                f"{self.named_in} points to {path!r}, outside of the model's folder. "
                "Such a path is not followed: move the module's files into the folder and correct the path."
            )
        return folder / path


def checked_name(name: str, known: Container[str], named_in: Path) -> str:
    """A module's name, if a model can hold a module by it next to those that are known; others are refused."""
    if not name or "." in name:
        raise ValueError(
            f"{named_in} names a module {name!r}; a name must not be empty and holds no dot. Rename the module there."
        )
    if name in known:
        raise ValueError(f"{named_in} names two modules {name!r}. Rename one of them there.")
    return name


def untrusted(type_name: str, named_in: Path) -> ValueError:
    """The error for a class of somebody else's that is not trusted."""
    return ValueError(
        f"{named_in} names the class {type_name}, which is not part of the library. "
        "Loading it runs its author's code: pass `trust_remote_code=True` if you trust it."
    )


def foreign_class(type_name: str, root: Path, named_in: Path) -> Any:
    """A class that somebody else wrote, from a file in the model's folder or from an installed package."""
    package, _, class_name = type_name.rpartition(".")
    if (root / f"{package}.py").exists():
        return _class_in_folder(f"{package}.{class_name}", root)
    try:
        with aliased():
            return getattr(import_module(package), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(
            f"The class {type_name}, which {named_in} names, cannot be imported ({error}). "
            "Install the package it comes from."
        ) from error


def _class_in_folder(name: str, root: Path) -> Any:
    """A class of a file in the model's folder, built on this library's classes."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    with aliased():
        found = get_class_from_dynamic_module(name, str(root))
        if any(base.__module__.startswith("sentence_transformers.") for base in found.__mro__):
            del sys.modules[found.__module__]  # imported for the reference, which this process has too
            found = get_class_from_dynamic_module(name, str(root))
    return found


def save_module(module: Any, folder: Path, safe_serialization: bool) -> str:
    """Save a module to a folder, which is made if it does not exist, and return the name its class is saved under."""
    if not hasattr(module, "save"):
        kind = type(module).__name__
        raise TypeError(
            f"The module {kind} has no method `save`. Write one, or let it inherit from `models.Module`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    module.save(str(folder), **accepted(module.save, {"safe_serialization": safe_serialization}))
    return _type_name(module, folder)


def _type_name(module: nn.Module, folder: Path) -> str:
    """The class path for the listing; code that came from a folder is copied along."""
    module_class = type(module)
    if MODULES.get(module_class.__name__) is module_class:
        return module_class.saved_as or f"sentence_transformers.models.{module_class.__name__}"
    if module_class.__module__.startswith("transformers_modules."):
        from transformers.dynamic_module_utils import get_relative_import_files

        source = sys.modules[module_class.__module__].__file__
        assert source is not None
        for file in (source, *get_relative_import_files(source)):
            shutil.copy(file, folder / Path(file).name)
        return f"{module_class.__module__.rpartition('.')[2]}.{module_class.__name__}"
    return f"{module_class.__module__}.{module_class.__name__}"
