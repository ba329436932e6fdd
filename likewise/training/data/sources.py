"""Data sets from files or from the Hub, with the columns and rows that are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.checked import positive
from likewise.tables import FORMATS, column_of, is_table, load_table, quiet_datasets

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Source:
    """Where rows come from, and which of them."""

    # A file of one of `FORMATS`, a folder of .parquet files, or the name of a data set on the Hub.
    source: str
    subset: str | None = None  # of a data set on the Hub with several
    split: str = "train"  # of a data set on the Hub
    # The columns to keep, in this order; or their new names with the old ones. None for all.
    columns: Sequence[str] | Mapping[str, str] | None = None
    # Rows are kept where each of these columns has this value, or one of these values.
    where: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int | None = None  # keep the first so many of these rows; None for all
    # For columns of words the words in order: a word becomes its place, from 0.
    classes: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The file, or None where the source is on the Hub."""
        path = Path(self.source).expanduser()
        return path if is_table(path) else None

    def check(self) -> None:
        """Refuse a file that is not there, and `max_rows` below 1."""
        if self.file is not None and not self.file.is_file():
            raise FileNotFoundError(f"There is no file {self.source}. Check the path.")
        if self.max_rows is not None:
            positive(self.max_rows, "max_rows", "Drop it to keep all rows.")

    def load(self) -> Dataset:
        """Read the rows; refused where there is no such file or data set, it is damaged, a column is not there, or no row is left."""
        self.check()
        with quiet_datasets():
            rows = self._read()
        old_names = self.columns.values() if isinstance(self.columns, Mapping) else self.columns or ()
        for column in (*old_names, *self.where, *self.classes):
            column_of(rows.column_names, column, self.source)
        for column, wanted in self.where.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            rows = rows.select([row for row, value in enumerate(rows[column]) if value in values])
        if self.max_rows is not None:
            rows = rows.select(range(min(self.max_rows, len(rows))))
        if not len(rows):
            raise ValueError(
                f"{self.source} has no rows" + (f" where {dict(self.where)}." if self.where else ".")
            )
        for column, names in self.classes.items():
            rows = rows.remove_columns(column).add_column(column, self._places(rows, column, names))
        if isinstance(self.columns, Mapping):
            return self._renamed(rows, self.columns)
        return rows if self.columns is None else rows.select_columns(list(self.columns))

    def _places(self, rows: Dataset, column: str, names: Sequence[Any]) -> list[int]:
        """Each word's place among the names."""
        for row, value in enumerate(rows[column]):
            if value not in names:
                raise ValueError(
                    f"Row {row} of {self.source} has {value!r} in `{column}`, which is none of its `classes` "
                    f"({', '.join(map(str, names))}). Add it, or leave such rows out with `where`."
                )
        return [names.index(value) for value in rows[column]]

    def _renamed(self, rows: Dataset, columns: Mapping[str, str]) -> Dataset:
        """The columns under their new names; one that is wanted under several, several times."""
        chosen, renamed = rows.select_columns(list(dict.fromkeys(columns.values()))), {}
        for new, old in columns.items():
            if old in renamed:
                chosen = chosen.add_column(new, rows[old][:])
            else:
                renamed[old] = new
        chosen = chosen.rename_columns({old: new for old, new in renamed.items() if old != new})
        return chosen.select_columns(list(columns))

    def _read(self) -> Dataset:
        from datasets import load_dataset
        from datasets.exceptions import DatasetGenerationError

        shards = sorted(Path(self.source).expanduser().glob("*.parquet"))
        if files := [self.file] if self.file is not None else shards:
            return load_table(files)
        try:
            return load_dataset(self.source, self.subset, split=self.split)
        except (ConnectionError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"There is no file {self.source}, and no such data set could be had from the Hub ({error}). Check the "
                f"spelling; files end in {', '.join(FORMATS)}."
            ) from error
        except DatasetGenerationError as error:
            raise ValueError(
                f"{self.source} holds no rows that can be read: is it the folder of a model? Name a table."
            ) from error
