"""Programs that import `sentence_transformers` by name, and cannot be changed, get this library after `install()`.

The reference's paths of every release are found below this package too (`likewise.losses.CoSENTLoss`,
`likewise.base.modules`): see `likewise.compat.paths`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from likewise.compat.names import API_VERSION as API_VERSION
from likewise.compat.naming import name_as_the_reference_does
from likewise.compat.paths import ALIAS, PassedOn, find_paths_of

__all__ = ["install", "with_alias"]

CHILDREN = Path(__file__).parent / "path"  # holds a sitecustomize.py, which Python runs when it starts


def install() -> None:
    """Let `import sentence_transformers` give this package, for code that imports it by name.

    The public classes are then named as the reference's are (`sentence_transformers.sentence_transformer.model`), for
    programs that go by that; what is pickled loads with and without the alias. Processes that re-run the main script
    (multiprocessing's) have the alias if this is called at the script's top level; `likewise run SCRIPT` gives it to
    every Python that the script starts.

    Raises:
        RuntimeError: The reference itself was imported before.
    """
    if not isinstance(sys.modules.get(ALIAS), PassedOn | None):
        raise RuntimeError(
            "sentence_transformers was imported already. Call `likewise.compat.install()` before the first import of it."
        )
    find_paths_of(ALIAS, 0)
    name_as_the_reference_does()


def with_alias(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment in which each Python process, and all that it starts, has the alias from its start."""
    paths = [str(CHILDREN), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    return {**environment, "PYTHONPATH": os.pathsep.join(path for path in dict.fromkeys(paths) if path)}
