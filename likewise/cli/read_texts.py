"""The texts that a command is given: a file's lines, or a column of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from likewise.tables import column_of, listed, read_columns

Column = Annotated[str | None, Option(help="Column with the texts, if the file has several.")]
Columns = Annotated[
    str | None, Option(help="Columns of the table to use, in order, with commas: question,answer")
]
USUAL_NAMES = ("text", "sentence", "document", "content")


def read_texts(path: Path, column: str | None = None) -> list[str]:
    """The texts of a file, in order: .txt (one text per line), .jsonl or .json (strings or objects), .csv, .tsv, .parquet or .arrow.

    They stand in `column`; None for the only column of text, or the one with a usual name. Refused is a file that is not there, of
    another form or damaged, a column that is not there, and a cell that is no text.
    """
    columns = read_columns(path, column)
    name = _text_column(columns, path) if column is None else column_of(list(columns), column, path)
    for row, cell in enumerate(columns[name]):
        if not isinstance(cell, str):
            raise ValueError(
                f"Column {name!r} of {path} has {cell!r} in row {row}, which is no text. Correct or remove that row."
            )
    return list(columns[name])


def split_names(names: str | None) -> list[str] | None:
    """The names in `a, b`; None for None."""
    return None if names is None else [name.strip() for name in names.split(",")]


def _text_column(columns: Mapping[str, Sequence[Any]], path: Path) -> str:
    texts = [name for name, cells in columns.items() if any(isinstance(cell, str) for cell in cells[:100])]
    usual = [name for name in USUAL_NAMES if name in texts]
    if not texts and len(columns) == 1:
        return next(iter(columns))
    if not usual and len(texts) != 1:
        raise ValueError(
            f"Which column of {path} has the texts? Pass `--column` with one of {listed(columns)}."
        )
    return usual[0] if usual else texts[0]
