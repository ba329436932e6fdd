"""Reading texts from files: a line each, or a column of a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

USUAL_NAMES = ("text", "sentence", "document", "content")


def read_texts(path: Path, column: str | None = None) -> list[str]:
    """The texts of a file, in order.

    Args:
        path: .txt (one text per line), .jsonl (one string or object per line), .csv, .tsv or .parquet.
        column: The column with the texts; None for the only column of text, or the one with a usual name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind, or damaged; there is no such column; or a cell is no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(
            f"{path} must be one of {', '.join(READERS)}. Convert it, or rename it if it is one of these."
        )
    columns = read(path, column)
    name = _text_column(columns, path) if column is None else column
    if name not in columns:
        near = get_close_matches(name, columns, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path} has no column {name!r}, only {_listed(columns)}.{hint}")
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
            f"Which column of {path} has the texts? Pass `--column` with one of {_listed(columns)}."
        )
    return usual[0] if usual else texts[0]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _read_lines(path: Path, column: str | None) -> dict[str, list[Any]]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return {"text": lines[:-1] if lines[-1] == "" else lines}


def _read_json_lines(path: Path, column: str | None) -> dict[str, list[Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"Line {number} of {path} is not JSON: {error}. Write one object per line."
                ) from None
            rows.append(row if isinstance(row, dict) else {"text": row})
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_csv(path: Path, column: str | None) -> dict[str, list[Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    header, rows = (lines or [[]])[0], lines[1:]
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"Row {number} of {path} has {len(row)} cells, but the header has {len(header)}. Quote cells with commas."
            )
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _read_parquet(path: Path, column: str | None) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a parquet file ({error}). Is it complete?") from None
    kinds = {field.name: field.type for field in file.schema_arrow}
    texts = [
        name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    columns = file.read(columns=[column] if column in kinds else texts).to_pydict()  # embeddings stay unread
    return {name: columns.get(name, []) for name in kinds}


READERS: dict[str, Callable[[Path, str | None], dict[str, list[Any]]]] = {
    ".txt": _read_lines,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
