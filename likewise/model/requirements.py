"""The versions of packages that a model says it needs."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

logger = logging.getLogger(__name__)

OTHER_NAMES = {"pytorch": "torch"}


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
