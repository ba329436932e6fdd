"""Models in folders: found on disk or on the Hub, loaded from every saved form, saved in the one all readers know.

Nothing in a folder is run or followed outside of it: classes from elsewhere and code in the folder need
`trust_remote_code=True`, paths must stay inside, and pickled weights are read without running code.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from torch import nn

from likewise.compat.paths import aliased
from likewise.modules import CLIPModel, Pooling, Transformer
from likewise.modules.base import read_json, read_settings, write_json
from likewise.modules.classes import ModuleReader, checked_name, save_module
from likewise.modules.find_folder import find_folder as find_folder
from likewise.modules.pretrained import joined
from likewise.similarity import OF_WHOLE_TEXTS
from likewise.version import __version__

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
RERANKER, MULTI_VECTOR = "CrossEncoder", "MultiVectorEncoder"
OTHER_FAMILIES = ("SparseEncoder", MULTI_VECTOR)
OTHER_NAMES = {"pytorch": "torch"}  # by which a model's requirements may call packages
FORMAT_VERSION = "3.0.0"  # the oldest release of the reference that reads what is written of embedding models


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

    @classmethod
    def of(cls, modules: Sequence[nn.Module] | Mapping[str, nn.Module] | None) -> StoredModel:
        """A model made of modules, by their names, which are their numbers where they have none."""
        if isinstance(modules, nn.Module) and not isinstance(modules, nn.Sequential | nn.ModuleList):
            raise TypeError(
                f"`modules` must be a list, but is one {type(modules).__name__}. Pass `modules=[...]`."
            )
        if not modules:
            raise ValueError("`modules` is empty; a model needs at least one module, e.g. a Transformer.")
        named = dict(modules if isinstance(modules, Mapping) else {str(i): m for i, m in enumerate(modules)})
        for name, module in named.items():
            if not isinstance(module, nn.Module):
                made = f" Make one of it: `{module.__name__}(...)`." if isinstance(module, type) else ""
                raise TypeError(f"`modules` must hold modules, but {name!r} is {module!r}.{made}")
        return cls(named)


def load(
    folder: Path,
    trust_remote_code: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    backend: str = "torch",
) -> StoredModel:
    """Load a model's modules from a folder: a saved SentenceTransformer, or a plain transformers model plus pooling.

    Arguments as of SentenceTransformer.

    Raises:
        FileNotFoundError: The folder holds no model, or a file is missing.
        ValueError: A file is damaged, names a class that is not trusted, or a path outside of the folder.
        ImportError: The model needs other versions of packages.
    """
    options = options_of(trust_remote_code, model_kwargs, tokenizer_kwargs, config_kwargs, backend)
    reader = ModuleReader(folder, folder / MODULES_FILE, trust_remote_code, options)
    card = text_of(folder / "README.md"), text_of(folder / "training_log.svg")
    with aliased() if trust_remote_code else nullcontext():  # the folder's code imports the reference by name
        if (folder / MODULES_FILE).exists():
            saved = settings_in(folder)
            if _is_reranker(saved, folder):
                return StoredModel(_with_pooling(Transformer(str(folder), **options)))
            settings = read_model_settings(folder, saved, {"truncate_dim": ("a whole number", is_a(int))})
            return StoredModel(*listed_modules(reader), settings, *card)
        refuse_no_transformers(folder, f"{MODULES_FILE} (a saved SentenceTransformer)")
        return StoredModel(_with_pooling(reader.load(Transformer, folder)), {}, {}, *card)


def options_of(
    trust_remote_code: bool,
    model_kwargs: Mapping[str, Any] | None,
    tokenizer_kwargs: Mapping[str, Any] | None,
    config_kwargs: Mapping[str, Any] | None,
    backend: str,
) -> dict[str, Any]:
    """What the modules of a folder are loaded with, by what takes it; arguments as of `load`.

    Raises:
        TypeError: One of them is no dict.
    """
    for given in (model_kwargs, tokenizer_kwargs, config_kwargs):
        if not isinstance(given or {}, Mapping):
            raise TypeError(
                f"`model_kwargs`, `processor_kwargs` and `config_kwargs` are dicts of arguments, but one is {given!r}. Pass e.g. "
                "`model_kwargs={'dtype': 'bfloat16'}`."
            )
    trust = {"trust_remote_code": True} if trust_remote_code else {}
    given = {
        "model_kwargs": model_kwargs,
        "tokenizer_kwargs": tokenizer_kwargs,
        "config_kwargs": config_kwargs,
    }
    return {**{name: joined(trust, part) for name, part in given.items()}, "backend": backend}


def settings_in(folder: Path, file: str = SETTINGS_FILE) -> dict[str, Any]:
    """What config_sentence_transformers.json, or another file, says; empty where there is none."""
    return read_settings(folder, file) if (folder / file).exists() else {}


def refuse_no_transformers(folder: Path, or_else: str, what: str = "model") -> None:
    """Raise unless a folder holds a transformers model, or an adapter of one; it might have held something `or_else`."""
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    raise FileNotFoundError(
        f"{folder} holds no {what}: expected {or_else} or config.json (a transformers model), found {found}. Check the path."
    )


def text_of(path: Path) -> str | None:
    """The text of a file, if there is one."""
    return path.read_text(encoding="utf8", errors="replace") if path.is_file() else None


def _is_reranker(saved: Mapping[str, Any], folder: Path) -> bool:
    """Whether a folder holds a reranker, whose transformers model embeds texts after all, with mean pooling.

    Models of families whose outputs are no single vector a text are refused.
    """
    family = saved.get("model_type")
    if family == RERANKER:
        logger.warning(
            "%s holds a %s. Its transformers model is loaded without the head and with mean pooling, as an embedding model that "
            "was never trained as one.",
            folder,
            RERANKER,
        )
        return True
    if family in OTHER_FAMILIES or str(saved.get("similarity_fn_name")).lower() == "maxsim":
        name = family if family in OTHER_FAMILIES else MULTI_VECTOR
        raise ValueError(
            f"{folder} holds a {name}, which gives something else than one dense vector for each text: load it as a {name}, "
            "not as a SentenceTransformer."
        )
    return False


def is_a(kind: type) -> Callable[[Any], bool]:
    """Whether a value is of this type, for `read_model_settings`."""
    return lambda value: isinstance(value, kind)


def _is_prompts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str | None) for text in value.values())


Kinds: TypeAlias = Mapping[str, tuple[str, Callable[[Any], bool]]]
"""Settings by name: what each should be, in words, and whether a value is."""
KINDS: Kinds = {
    "prompts": ("an object of texts", _is_prompts),
    "default_prompt_name": ("a text", is_a(str)),
    "similarity_fn_name": (f"one of {', '.join(OF_WHOLE_TEXTS)}", OF_WHOLE_TEXTS.__contains__),
}


def read_model_settings(folder: Path, settings: Mapping[str, Any], others: Kinds) -> dict[str, Any]:
    """What config_sentence_transformers.json says, as far as it is known here, each setting checked to be of its type.

    Args:
        folder: The model's folder.
        settings: The file's content.
        others: Settings that the family has besides, or otherwise.
    """
    check_version_requirements(settings.get("requirements"), str(folder))
    kinds = {**KINDS, **others}
    given = {name: settings[name] for name in kinds if settings.get(name) is not None}
    for name, value in given.items():
        expected, fits = kinds[name]
        if not fits(value):
            raise ValueError(
                f"`{name}` in {folder / SETTINGS_FILE} should be {expected}, but is {value!r}. Correct it there."
            )
    return given


def listed_modules(reader: ModuleReader) -> tuple[dict[str, nn.Module], dict[str, list[str]]]:
    """The modules that modules.json lists, and the keyword arguments each takes."""
    path = reader.named_in
    listing = read_json(path)
    if not (isinstance(listing, list) and listing and all(isinstance(entry, dict) for entry in listing)):
        raise ValueError(
            f"{path} should list the model's modules, one JSON object each. Save the model again."
        )
    modules: dict[str, nn.Module] = {}
    kwargs: dict[str, list[str]] = {}
    for index, entry in enumerate(listing):
        name = checked_name(str(entry.get("name", index)), modules, path)
        if not isinstance(entry.get("type"), str):
            raise ValueError(f"Module {name!r} in {path} has no `type`. Save the model again.")
        modules[name] = reader.read(entry["type"], str(entry.get("path", "")))
        kwargs[name] = list(entry.get("kwargs", []))
    return modules, kwargs


def _with_pooling(transformer: Any) -> dict[str, nn.Module]:
    """A plain transformers model: mean pooling is added, or last-token pooling for a causal language model.

    A model that gives one vector for each text already, as a CLIP does, stays as it is.
    """
    if isinstance(transformer, CLIPModel) or transformer.module_output_name == "sentence_embedding":
        return {"0": transformer}
    config = transformer.config
    architectures = getattr(config, "architectures", None) or [""]
    causal = architectures[0].endswith("ForCausalLM") and getattr(config, "is_causal", True)
    pooling = Pooling(transformer.get_word_embedding_dimension(), "lasttoken" if causal else "mean")
    return {"0": transformer, "1": pooling}


def save(model: Any, settings: Mapping[str, Any], folder: Path, safe_serialization: bool) -> None:
    """Write a Model's modules, and its settings, to a folder, in the form that every reader understands."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    versions = {
        "sentence_transformers": model.readable_since,
        "likewise": __version__,
        "transformers": transformers.__version__,
        "pytorch": torch.__version__,
    }
    write_json(folder / SETTINGS_FILE, {"__version__": versions, **settings})
    listing = []
    for index, (name, module) in enumerate(model.named_children()):
        in_root = index == 0 and getattr(module, "save_in_root", False)
        path = "" if in_root else f"{index}_{type(module).__name__}"
        type_name = save_module(module, folder / path, safe_serialization)
        type_name = model.type_names.get(type(module), type_name)
        entry: dict[str, Any] = {"idx": index, "name": name, "path": path, "type": type_name}
        if model.module_kwargs.get(name):
            entry["kwargs"] = model.module_kwargs[name]
        listing.append(entry)
    write_json(folder / MODULES_FILE, listing)


def check_version_requirements(requirements: Mapping[str, Any] | None, source: str | None = None) -> None:
    """Check a model's `requirements`; one that cannot be understood is warned about and left out.

    Args:
        requirements: Version specifiers by package (or "python"), `{"transformers": ">=5.15"}`; or, with a reason, `{"peft":
            {"specifier": ">=0.18,<0.20", "reason": "..."}}`.
        source: The model, for messages.

    Raises:
        ImportError: A package is missing or of another version.
    """
    if requirements is not None and not isinstance(requirements, Mapping):
        logger.warning("The `requirements` of %s are no object of versions by package: not checked.", source)
        requirements = None
    unmet = {}
    for name, wanted in (requirements or {}).items():
        name = OTHER_NAMES.get(name, name)
        specifier, reason = wanted, ""
        if isinstance(wanted, Mapping):
            specifier, reason = wanted.get("specifier", ""), wanted.get("reason", "")
        found = _installed(name)
        try:
            fits = found is not None and Version(found) in SpecifierSet(specifier, prereleases=True)
        except (InvalidSpecifier, InvalidVersion, TypeError, AttributeError):
            logger.warning("The requirement %s %r of %s cannot be checked.", name, specifier, source)
            continue
        if not fits:
            unmet[f"{name}{specifier}"] = f"{found or 'it is not'} installed. {reason}".strip()
    if unmet:
        lines = "".join(f"\n- {wanted}: {found}" for wanted, found in unmet.items())
        install = " ".join(f'"{wanted}"' for wanted in unmet if not wanted.startswith("python"))
        advice = f"\nInstall with: pip install {install}" if install else ""
        raise ImportError(f"{source or 'This model'} needs other versions of packages:{lines}{advice}")


def _installed(name: str) -> str | None:
    """The version of a package that is imported or installed; None where it is not."""
    if name == "python":
        return platform.python_version()
    imported = getattr(sys.modules.get(name.replace("-", "_")), "__version__", None)
    if isinstance(imported, str):
        return imported
    try:
        return version(name)
    except PackageNotFoundError:
        return None
