"""Rows of tables in files: the one place that knows the forms they come in.

`read_rows` gives a file's rows one by one, cells of csv and tsv as the texts that they are; `load_table` gives a whole
table with types, memory-mapped, as `datasets` makes it.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Row = Mapping[str, Any]

# What `datasets` calls the form of a file.
FORMATS = {
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.suffix.lower() in FORMATS


def open_text(path: str | Path, newline: str | None = None) -> TextIO:
    """A file of UTF-8 text, unpacked where its name ends in .gz; a byte order mark is no part of the text.

    `newline` is as for `open`; csv, which has line ends inside of cells, wants "".
    """
    path = _existing(path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def read_columns(path: Path, column: str | None = None) -> dict[str, list[Any]]:
    """The cells of a file of one of `FORMATS` by column; refused where it is not there, of another form, or damaged.

    Args:
        path: The file.
        column: The column that is wanted; None for all that may hold texts. Of .parquet and .arrow others stay unread:
            they are listed, without cells.
    """
    if _form(_existing(path)) in (".parquet", ".arrow"):
        return _arrow_columns(path, column)
    with _opened(path) as (header, lazy_rows):
        rows = list(lazy_rows)
    names = dict.fromkeys([*header, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file of text, perhaps packed with gzip: .txt, .jsonl, .json, .csv or .tsv.

    A line of a .txt file, and a row of JSON that is no object, is the cell of a column `text`. Refused are files that are not there or
    of another form, and damaged rows, which are named.
    """
    with _opened(path) as (_, rows):
        yield from rows


def column_of(names: Sequence[str], name: str, source: object) -> str:
    """The name, if it is among the names of a source's columns; refused where it is not, with the nearest that is."""
    if name in names:
        return name
    raise ValueError(f"{source} has no column {name!r}, only {listed(names)}.{nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence to put behind a message: which of these may have been meant; "" where none is near."""
    near = get_close_matches(name, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str]) -> str:
    """Names of columns, as messages have them."""
    return ", ".join(map(repr, names)) or "none"


def load_table(files: Sequence[Path]) -> Dataset:
    """One table of files of one form, with types, kept in the cache of `datasets`; a damaged file is refused."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import ArrowInvalid

    form = _form(files[0])
    options: dict[str, Any] = {}
    if FORMATS[form] == "csv":  # words such as "NA" and "null" are texts; only an empty cell has no value
        options = {"sep": "\t" if form == ".tsv" else ",", "keep_default_na": False, "na_values": [""]}
    try:
        return load_dataset(FORMATS[form], data_files=[*map(str, files)], split="train", **options)
    except (DatasetGenerationError, ArrowInvalid, ValueError, StopIteration) as error:
        name = files[0] if len(files) == 1 else files[0].parent
        if isinstance(error, StopIteration) or "corresponds to no data" in str(error):
            raise ValueError(f"{name} has no rows.") from error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"{name} cannot be read: {reason}. Is it complete?") from error


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """`datasets` without its progress bars, and without log records of errors that it raises as well."""
    import datasets

    had_bars, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if had_bars:
            datasets.enable_progress_bars()


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Check the path.")
    return path


def _form(path: Path) -> str:
    """The end of a file's name that says what form it has."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if not is_table(name):
        raise ValueError(
            f"{path} must be one of {', '.join(FORMATS)}. Convert it, or rename it if it is one of these."
        )
    return name.suffix.lower()


Rows = tuple[Sequence[str], Iterator[Row]]
"""The columns that a file names before its rows, and its rows."""


@contextmanager
def _opened(path: Path) -> Iterator[Rows]:
    form = _form(_existing(path))
    if form not in TEXT_FORMS:
        raise ValueError(f"{path} must be one of {', '.join(TEXT_FORMS)}, which are text. Convert it.")
    with open_text(path, newline="" if FORMATS[form] == "csv" else None) as file:
        try:
            yield TEXT_FORMS[form](file, path)
        except UnicodeDecodeError as error:  # of whoever reads the rows
            raise ValueError(f"{path} is not in UTF-8: {error}. Save it as UTF-8 anew.") from None


def _json(file: TextIO, path: Path) -> Rows:
    """A list of rows, or a row per line."""
    try:
        rows = json.load(file)
    except json.JSONDecodeError:
        file.seek(0)
        return _json_lines(file, path)
    return [], map(_as_row, rows if isinstance(rows, list) else [rows])


def _json_lines(file: TextIO, path: Path) -> Rows:
    def rows() -> Iterator[Row]:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield _as_row(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"Line {number} of {path} is not JSON: {error}. Write one object per line."
                    ) from None

    return [], rows()


def _as_row(value: Any) -> Row:
    return value if isinstance(value, dict) else {"text": value}


def _separated(file: TextIO, path: Path) -> Rows:
    lines = csv.reader(file, delimiter="\t" if _form(path) == ".tsv" else ",")
    header = next(lines, [])

    def rows() -> Iterator[Row]:
        for number, cells in enumerate(lines):
            if not cells and len(header) > 1:
                continue  # in a table of one column an empty line may be a row
            if len(cells) != len(header):
                raise ValueError(
                    f"Row {number} of {path} has {len(cells)} cells, but the header has {len(header)}. Quote cells with "
                    "commas."
                )
            yield dict(zip(header, cells, strict=True))

    return header, rows()


TEXT_FORMS: Mapping[str, Callable[[TextIO, Path], Rows]] = {
    ".txt": lambda file, path: (["text"], ({"text": line.removesuffix("\n")} for line in file)),
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _separated,
    ".tsv": _separated,
}


def _arrow_columns(path: Path, column: str | None) -> dict[str, list[Any]]:
    import pyarrow as pa

    try:
        names, read = _parquet(path) if _form(path) == ".parquet" else _arrow(path)
    except pa.ArrowInvalid as error:
        form = "a parquet" if _form(path) == ".parquet" else "an arrow"
        raise ValueError(f"{path} is not {form} file ({error}). Is it complete?") from None
    kinds = (pa.string(), pa.large_string())
    texts = [field.name for field in names if field.type in kinds]
    cells = read(texts if column not in names.names else [str(column)]).to_pydict()
    return {name: cells.get(name, []) for name in names.names}


def _parquet(path: Path) -> tuple[pa.Schema, Callable[[list[str]], pa.Table]]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    return file.schema_arrow, lambda columns: file.read(columns=columns)


def _arrow(path: Path) -> tuple[pa.Schema, Callable[[list[str]], pa.Table]]:
    """Both forms there are: with an index of its blocks, and, as `datasets` writes it, without."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        table = pa.ipc.open_stream(source).read_all()
    return table.schema, table.select
