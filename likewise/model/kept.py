"""Results in files that outlive a run: complete or not there, and never taken for results of something else."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name only when it is complete: one that is there can be relied on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(
        f".{path.name}.{os.getpid()}.{threading.get_ident()}"
    )  # several may write the same
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def refuse_other(path: Path, recorded: Mapping[str, Any] | None, made_of: Mapping[str, Any]) -> None:
    """Raise unless a file was made of what it would be made of now.

    Args:
        path: The file, which exists.
        recorded: What it says that it was made of, part by part; None where it says nothing.
        made_of: What decides its content, in values that JSON knows.

    Raises:
        ValueError: It was made of something else.
    """
    others = [name for name, value in made_of.items() if recorded is None or recorded.get(name) != value]
    if others:
        raise ValueError(
            f"{path} exists, but was not made of these texts with this model and these settings"
            + (f": other {', '.join(others)}. " if recorded is not None else ". ")
            + "Delete it, or write to another place."
        )
