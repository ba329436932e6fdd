"""How the commands speak: short aligned lines, notes instead of log records, one clear sentence on errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# What moves the cursor, colours or turns the writing of a terminal, were it in somebody's text: shown, not done.
CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | dict.fromkeys(
    [0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
USER_ERRORS = (ValueError, TypeError, OSError, ImportError)  # how the package refuses what it cannot do


def say(text: str = "", style: str | None = None, to: Console | None = None) -> None:
    """Print a line as it is, without markup and wrapping: to stdout, unless to something else."""
    (to or out).print(text.translate(CONTROLS), style=style, markup=False, soft_wrap=True)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows in aligned columns, numbers to the right; a line ends where the terminal does."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(widths))]
    for number, line in enumerate(lines):
        parts = zip(line, widths, right, strict=True)
        cells = (cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in parts)
        text = "  " + "  ".join(cells).rstrip()
        if out.is_terminal and len(text) > out.width:
            text = text[: out.width - 1] + "…"
        say(text, style="bold" if header and number == 0 else None)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").lstrip("+-").isdigit()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """The libraries underneath keep their progress bars and advice to themselves; Likewise's warnings become notes."""
    from transformers.utils import logging as of_transformers

    own, root = logging.getLogger("likewise"), logging.getLogger()
    notes, silence = _Notes(), logging.NullHandler()
    verbosity, had_bars = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    own.addHandler(notes)
    root.addHandler(silence)  # else records without a handler go to stderr
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        own.removeHandler(notes)
        root.removeHandler(silence)
        of_transformers.set_verbosity(verbosity)
        if had_bars:
            of_transformers.enable_progress_bar()


class _Notes(logging.Handler):
    """Shows warnings of the package as lines of their own, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text: Any = record.getMessage()
        if text not in self._shown:
            self._shown.add(text)
            say(f"Note: {text}", "yellow", err)
