"""Pieces of Markdown, so escaped that data shows as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any

from likewise.modules.classes import OWN_PACKAGES
from likewise.modules.images import is_picture

MAX_SAMPLE_CHARACTERS = 1000
MAX_SAMPLE_ITEMS = 5
# Markdown is read inside of <code> as well; entities are not.
ENTITIES = str.maketrans({c: f"&#{ord(c)};" for c in "&<>|*_`[]~$\\"} | {"\n": "<br>", "\r": None})

NAMES = str.maketrans({c: f"&#{ord(c)};" for c in "<>|"} | {"\n": " "})  # of columns, which may be anything


def table(header: Sequence[str], rows: Sequence[Sequence[str]], centred: bool = False) -> str:
    """A table; every row has a cell for each column of the header, whose names show as they are."""
    header = [name.translate(NAMES) for name in header]
    every = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    rule = [":" + "-" * width + (":" if centred else "-") for width in widths]
    first, *cells = [[f" {cell:<{width}} " for cell, width in zip(row, widths, strict=True)] for row in every]
    return "\n".join("|" + "|".join(line) + "|" for line in (first, rule, *cells))


def code(text: Any) -> str:
    """A value set as code, on one line, cut where it is very long."""
    return f"<code>{_short(text).translate(ENTITIES)}</code>"


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > MAX_SAMPLE_ITEMS:
        return f"{str(value[:MAX_SAMPLE_ITEMS])[:-1]}, ...]"
    text = f"<image {value.width}x{value.height}>" if is_picture(value) else str(value)
    return text if len(text) <= MAX_SAMPLE_CHARACTERS else f"{text[:MAX_SAMPLE_CHARACTERS]}..."


def fenced(text: str, language: str = "") -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


def bold(cells: Sequence[str]) -> list[str]:
    """A row's cells, set in bold."""
    return [f"**{cell}**" for cell in cells]


def parameters(settings: Mapping[str, Any] | None) -> str:
    """Settings, as the end of a list's item: as JSON, or as Python writes them where JSON cannot; "" for none."""
    if not settings:
        return ""
    try:
        text = json.dumps(settings, indent=4, ensure_ascii=False)
    except TypeError:
        text = pformat(dict(settings), indent=4)
    return f" with these parameters:\n{indented(fenced(text, 'json'))}"


def indented(text: str) -> str:
    """The text two spaces in, which keeps it within a list's item."""
    return "\n".join(f"  {line}" if line else line for line in text.splitlines())


def folded(text: str, summary: str = "Click to expand") -> str:
    """Text that shows only when it is asked for."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plural(word: str, number: int) -> str:
    """The word, with an s unless there is one of it."""
    return word if number == 1 else f"{word}s"


def class_name(kind: type) -> str:
    """What a class is called: in full where it is somebody else's."""
    is_ours = kind.__module__.partition(".")[0] in OWN_PACKAGES
    return kind.__name__ if is_ours else f"{kind.__module__}.{kind.__qualname__}"
