"""Names of classes, old names of arguments, and single switches and files."""

from __future__ import annotations

import csv
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from likewise.losses.base import full_name as fullname
from likewise.losses.base import function_name as similarity_fct_name
from likewise.losses.score_distill import check_teacher_targets
from likewise.modules.classes import ModuleReader
from likewise.modules.find_folder import find_folder
from likewise.util.logging import disable_logging

Function = TypeVar("Function", bound=Callable[..., Any])
logger = logging.getLogger(__name__)

__all__ = [
    "append_to_last_row",
    "check_teacher_targets",
    "deprecated_kwargs",
    "disable_datasets_caching",
    "disable_logging",
    "fullname",
    "import_from_string",
    "import_module_class",
    "similarity_fct_name",
]


def import_from_string(dotted_path: str) -> Any:
    """What a name such as "torch.nn.Linear" stands for.

    Raises:
        ImportError: There is no such thing.
    """
    module, _, name = dotted_path.rpartition(".")
    if not module:
        raise ImportError(f"{dotted_path!r} names no module. Pass a name such as 'torch.nn.Linear'.")
    found = import_module(module)
    try:
        return getattr(found, name)
    except AttributeError:
        raise ImportError(f"The module {module} has no {name!r}.") from None


def import_module_class(
    class_ref: str,
    model_name_or_path: str | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    code_revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """The class of a module that a model's modules.json names.

    Args:
        class_ref: The name there: of a module of this library, under any of the reference's names for it; of a class in a
            file of the model; or of any installed class.
        model_name_or_path: The model, a folder or a name on the Hub; None for no model: any class is imported then.
        trust_remote_code: Whether a class that is not of this library may be imported for a model.
        revision: A branch, tag or commit of the model.
        code_revision: Another one for its code.
        token: The access token for the Hub.
        cache_folder: Where downloads are kept; None for Hugging Face's usual place.
        local_files_only: Whether only what was downloaded before may be used.

    Raises:
        ValueError: The class is not trusted, or not known.
        ImportError: It cannot be imported.
        FileNotFoundError: There is no such model.
    """
    folder = Path()
    if model_name_or_path is not None:
        version = code_revision or revision
        folder = find_folder(model_name_or_path, cache_folder, version, local_files_only, token)
    trusted = trust_remote_code or model_name_or_path is None
    return ModuleReader(folder, folder / "modules.json", trusted).find_class(class_ref)


@contextmanager
def disable_datasets_caching() -> Iterator[None]:
    """Within this context `datasets` keeps no results of `map` and the like."""
    from datasets import disable_caching, enable_caching, is_caching_enabled

    before = is_caching_enabled()
    disable_caching()
    try:
        yield
    finally:
        if before:
            enable_caching()


def append_to_last_row(csv_path: str | Path, additional_data: Sequence[Any]) -> bool:
    """Add values to the last row of a csv file; returns whether it has one, under its header."""
    path = Path(csv_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[list[Any]] = list(csv.reader(file))
    if len(rows) < 2:
        return False
    rows[-1] += additional_data
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return True


def deprecated_kwargs(**renames: str) -> Callable[[Function], Function]:
    """A decorator: a function takes its keyword arguments under their old names too, with a warning.

    Args:
        renames: The new name of each old one. Where both are passed, the new one counts.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            for old in renames.keys() & kwargs.keys():
                logger.warning("The argument `%s` is called `%s` now.", old, renames[old])
                kwargs.setdefault(renames[old], kwargs.pop(old))
            return function(*args, **kwargs)

        return renamed  # type: ignore[return-value]

    return decorate
