"""The papers behind the losses, for the model card: entries of citations.bib by their keys."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files


def bibtex(key: str) -> str:
    """The entry with this key, on lines of its own."""
    return _entries()[key]


@cache
def _entries() -> dict[str, str]:
    text = files("likewise.losses").joinpath("citations.bib").read_text(encoding="utf8")
    entries = re.split(r"\n+(?=@)", text.strip())
    return {entry.partition("{")[2].partition(",")[0]: f"\n{entry}\n" for entry in entries}
