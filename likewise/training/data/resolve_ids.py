"""Ids in a data set's columns, resolved into texts (or images) as its rows are read."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from likewise.checked import one_of, positive
from likewise.training.data.columns import LABEL_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

    Lookup: TypeAlias = Dataset | tuple[Dataset, str] | tuple[Dataset, str, str]

logger = logging.getLogger(__name__)

ROWS_AT_A_TIME = 50_000


def resolve_ids(
    lookups: Mapping[str, Lookup],
    keep_columns: Sequence[str] = LABEL_COLUMNS,
    max_list_length: int | None = None,
    output_format: Literal["columns", "lists"] = "columns",
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A transformation of rows with ids into rows with what the ids stand for.

        train.set_transform(resolve_ids({"query_id": queries, "document_ids": documents}))

    turns rows of `query_id` (one id) and `document_ids` (a list of n ids) into rows of `query`, `document_1` ... `document_n`.
    Also for `train.map(..., batched=True, remove_columns=[...])`, which does it all at once.

    Args:
        lookups: For each column with ids, in the order in which the results should stand: the data set that they are
            found in; or that with the name of its id column; or that with the name of its value column too. By default
            the id column is the only one named `id` or `..._id`, and the value column the only other one. Of rows with
            the same id the last counts. Columns not named here are left out, but for:
        keep_columns: Columns that stay as they are; by default those that hold labels.
        max_list_length: Of a list of ids, and of a list in a column that stays, the first so many; None for all.
        output_format: "columns" for a column for each place of a list, which must be of one length in a batch; "lists" for
            lists, under a plural name.

    Returns:
        Columns of a batch -> columns of a batch. It can be pickled. It raises KeyError where an id is not found.

    Raises:
        ValueError: A column of a lookup does not exist or cannot be told, or an option has no such value.
        TypeError: A lookup is not a data set, or `keep_columns` is one text.
    """
    if isinstance(keep_columns, str):
        raise TypeError(f"`keep_columns` is a list of names. Pass [{keep_columns!r}].")
    if max_list_length is not None:
        positive(max_list_length, "max_list_length", "None takes whole lists.")
    one_of(output_format, ("columns", "lists"), "output_format")
    indices: dict[tuple[int, str], dict[Hashable, int]] = {}
    tables = {column: _Table.of(column, lookup, indices) for column, lookup in lookups.items()}
    return _Resolve(tables, tuple(keep_columns), max_list_length, output_format == "lists")


@dataclass(frozen=True)
class _Table:
    """The data set of a value column alone, and the row of each id."""

    values: Dataset
    rows: dict[Hashable, int]

    @classmethod
    def of(cls, column: str, lookup: Any, indices: dict[tuple[int, str], dict[Hashable, int]]) -> _Table:
        from datasets import Dataset

        dataset, *names = lookup if isinstance(lookup, tuple) else (lookup,)
        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"lookups[{column!r}] must be a data set, but is a {type(dataset).__name__}. Pass one split, in memory: "
                "`load_dataset(..., split='train')`."
            )
        if len(names) > 2:
            raise ValueError(
                f"lookups[{column!r}] is a data set, the name of its id column and that of its value column, but has "
                f"{1 + len(names)} parts."
            )
        for name in names:
            if name not in dataset.column_names:
                raise ValueError(
                    f"lookups[{column!r}] has no column {name!r}; it has {', '.join(dataset.column_names)}."
                )
        if not names:
            ids = [name for name in dataset.column_names if name == "id" or name.endswith("_id")]
            names = [_only(ids, column, "id")]
        if len(names) == 1:
            names.append(_only([n for n in dataset.column_names if n != names[0]], column, "value"))
        plain = dataset.with_format(None)
        key = (id(dataset), names[0])  # several columns may be found in one data set
        if key not in indices:
            # In batches, which is faster than reading the column whole.
            parts = plain.select_columns([names[0]]).iter(batch_size=ROWS_AT_A_TIME)
            values = (value for part in parts for value in part[names[0]])
            indices[key] = {value: row for row, value in enumerate(values)}
            if hidden := len(plain) - len(indices[key]):
                logger.warning(
                    "lookups[%r]: %d rows have an id that a later row has too; the last counts.",
                    column,
                    hidden,
                )
        return cls(plain.select_columns([names[1]]), indices[key])

    def find(self, column: str, ids: Sequence[Hashable]) -> list[Any]:
        """What these ids stand for."""
        try:
            rows = [self.rows[key] for key in ids]
        except KeyError as error:
            raise KeyError(f"There is no id {error.args[0]!r} in lookups[{column!r}].") from None
        return list(self.values[rows][self.values.column_names[0]]) if rows else []


@dataclass(frozen=True)
class _Resolve:
    """The transformation that `resolve_ids` returns."""

    tables: Mapping[str, _Table]
    keep_columns: tuple[str, ...]
    max_list_length: int | None
    keeps_lists: bool

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        resolved: dict[str, Any] = {}
        for column, table in self.tables.items():
            ids = _values(batch, column)
            if not (ids and isinstance(ids[0], list | tuple)):
                _add(resolved, _name(column), table.find(column, ids))
                continue
            lists = [row[: self.max_list_length] for row in ids]
            lengths = {len(row) for row in lists}
            if not self.keeps_lists and (len(lengths) > 1 or lengths == {0}):
                raise ValueError(
                    f"The lists of ids in {column!r} have {', '.join(map(str, sorted(lengths)))} entries, but become a column "
                    "for each place. Pass `max_list_length` to cut them to one length, or `output_format='lists'`."
                )
            values = iter(table.find(column, [key for row in lists for key in row]))
            found = [[next(values) for _ in row] for row in lists]
            if self.keeps_lists:
                _add(resolved, _plural(column), found)
                continue
            for place, of_place in enumerate(zip(*found, strict=True), start=1):
                _add(resolved, f"{_name(column)}_{place}", list(of_place))
        for column in self.keep_columns:
            if column in batch:
                kept = _values(batch, column)
                is_list = bool(kept) and hasattr(kept[0], "__len__") and not isinstance(kept[0], str)
                _add(resolved, column, [row[: self.max_list_length] for row in kept] if is_list else kept)
        return resolved


def _only(names: Sequence[str], column: str, kind: str) -> str:
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise ValueError(
            f"Which column of lookups[{column!r}] is the {kind} column cannot be told: it may be {found}. "
            "Pass `(data set, id column, value column)`."
        )
    return names[0]


def _values(batch: Mapping[str, Any], column: str) -> list[Any]:
    """A column's values; of lists that were saved as texts, the lists."""
    values = batch[column]
    if hasattr(values, "tolist"):  # of a data set that is formatted as tensors, arrays or a data frame
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise TypeError(
            f"The column {column!r} comes as {type(values).__name__}. Call `dataset.with_format(None)` first."
        )
    # Lists of several lengths come as a list of tensors or arrays.
    values = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    if values and isinstance(values[0], str) and values[0].lstrip().startswith("["):
        try:
            values = [list(ast.literal_eval(value)) for value in values]
        except (ValueError, SyntaxError, TypeError) as error:
            raise ValueError(f"A text in {column!r} starts like a list, but is none: {error}.") from None
    return values


def _name(column: str) -> str:
    return re.sub(r"_(ids?|idx)$", "", column)


def _plural(column: str) -> str:
    name = _name(column)
    plural = f"{name.removesuffix('y')}ies" if name.endswith("y") else f"{name}s"
    return plural if column.endswith("_ids") else name


def _add(resolved: dict[str, Any], name: str, values: list[Any]) -> None:
    if name in resolved:
        raise ValueError(f"Two columns would be named {name!r}. Rename one of the columns with ids.")
    resolved[name] = values
