"""Does a data set fit its loss? Asked before training, with an answer that names the column, the row and the fix."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from likewise.losses.base import Columns, Label, described
from likewise.modules.images import is_picture
from likewise.tables import listed, nearest
from likewise.training.data.columns import (
    arrow_chunks,
    column_names,
    is_list,
    is_number,
    is_text,
    is_transformed,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)

RESERVED_COLUMNS = ("return_loss", "dataset_name")
USUAL_PLACES = {
    "anchor": 0, "query": 0, "question": 0, "premise": 0,
    "positive": 1, "answer": 1, "response": 1, "hypothesis": 1,
    "negative": 2,
}  # fmt: skip
SAMPLE_ROWS = 1000  # looked at where rows are made when they are read, or come as a stream
IMAGE_SAMPLE_ROWS = 32  # the same where they hold images


def in_words(name: str, split: str) -> str:
    """A data set, as messages call it: by its name, which is "" for an only one, and by its split, "training" or "evaluation"."""
    return f"the {split} data set {name!r}" if name else f"the {split} data"


def checked_shape(loss: nn.Module, texts: Sequence[str], label: str | None, where: str) -> Columns | None:
    """Which of the loss's shapes of data the columns have; None for a loss that declares none. Refused where it is none of them."""
    takes: tuple[Columns, ...] | None = getattr(loss, "takes", None)
    if not takes:
        return None
    name = type(loss).__name__
    by_number = [shape for shape in takes if shape.takes(len(texts))]
    if not by_number:
        raise ValueError(
            f"{name} takes {described(takes)}; but {where} has {len(texts)} text columns: {listed(texts)}. Choose them "
            "with `dataset.select_columns([...])` (the label column too), or choose another loss."
        )
    for shape in by_number:
        if (shape.label is Label.NONE) == (label is None):
            return shape
    if label is None:
        raise ValueError(
            f"{name} takes {described(by_number)}; but {where} has no label column. Name it 'label' or 'score': "
            f"`dataset.rename_column(..., 'label')`; it has {listed(texts)}. Or choose a loss without labels."
        )
    return by_number[0]


def roles_of(loss: nn.Module, number: int) -> tuple[str, ...] | None:
    """What a loss takes each of so many text columns for; None where it declares nothing, or takes no such number."""
    shapes = [shape for shape in getattr(loss, "takes", None) or () if shape.takes(number)]
    return roles_in(shapes[0], number) if shapes else None


def roles_in(shape: Columns, number: int) -> tuple[str, ...]:
    """The roles of so many text columns in a shape of data."""
    known = shape.roles.count(str(shape.more))
    numbers = range(known + 1, known + 1 + number - len(shape.roles))
    return (*shape.roles, *(f"{shape.more} {n}" if n > 1 else str(shape.more) for n in numbers))


def check_names(texts: Sequence[str], label: str | None, where: str) -> None:
    """Refuse reserved column names, and no texts at all; warn where names hint at another order, or at ids in place of texts."""
    check_reserved((*texts, *([label] if label else [])), where)
    if not texts:
        raise ValueError(f"{where} has no text column, only {listed([label] if label else [])}. Add one.")
    warn_of_order(texts, where)
    for column in texts:
        if column == "id" or column.endswith(("_id", "_ids", "_idx")):
            logger.warning(
                "Column %r of %s looks like ids, but is embedded as text. Remove it with "
                "`dataset.remove_columns(%r)` if it is not text; put what it stands for in its place with "
                "`likewise.util.resolve_ids`; or name it in `id_columns` if equal values mean that rows belong together.",
                column, where, column,
            )  # fmt: skip


def warn_of_order(texts: Sequence[str], where: str) -> None:
    """Warn where the names of text columns hint at another order."""
    for place, column in enumerate(texts):
        expected = USUAL_PLACES.get(column.lower(), place)
        if place != expected and expected < len(texts):
            logger.warning(
                "Column %r of %s is text number %d, where one expects number %d: the order of the columns counts, not "
                "their names. Put them in order with `dataset.select_columns([...])`.",
                column, where, place + 1, expected + 1,
            )  # fmt: skip


def check_reserved(columns: Iterable[str], where: str) -> None:
    """Refuse names that batches use for something else."""
    for column in columns:
        if column in RESERVED_COLUMNS:
            raise ValueError(
                f"Column {column!r} of {where} has a reserved name. Rename it: "
                f"`dataset.rename_column({column!r}, ...)`."
            )


def first_rows(dataset: Dataset | IterableDataset) -> Dataset:
    """What can be checked: the data set itself, or its first rows where reading all would mean making them."""
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        return Dataset.from_list(list(dataset.take(_sample_rows(next(iter(dataset), {})))))
    if not (is_transformed(dataset) and len(dataset)):
        return dataset
    return dataset.select(range(min(_sample_rows(dataset[0]), len(dataset))))


def _sample_rows(row: Mapping[str, Any]) -> int:
    return IMAGE_SAMPLE_ROWS if any(map(is_picture, row.values())) else SAMPLE_ROWS


def check_texts(dataset: Dataset, column: str, where: str) -> None:
    """Refuse a column with cells that are neither texts nor pairs of them."""
    for start, chunk in chunks(dataset, column, where, "no text"):
        if is_list(chunk.type):
            _check_pairs(chunk, start, column, where)
        elif not is_text(chunk.type):
            raise ValueError(
                f"Column {column!r} of {where} holds {chunk.type}, not text (row {start}: {chunk[0].as_py()!r}). If it is the "
                f"label, rename it with `dataset.rename_column({column!r}, 'label')`; if it is neither, remove it with "
                f"`dataset.remove_columns({column!r})`."
            )


def chunks(
    dataset: Dataset, column: str, where: str, missing: str | None = None
) -> Iterator[tuple[int, pa.Array]]:
    """A column's chunks, each with the number of its first row; `missing` is what an empty cell is refused as, e.g. "no text"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    start = 0
    try:
        for chunk in arrow_chunks(dataset, column):
            if missing is not None and chunk.null_count:
                row = start + int(pc.indices_nonzero(chunk.is_null())[0].as_py())
                raise ValueError(
                    f"Column {column!r} of {where} has {missing} (None) in row {row}. Drop such rows with "
                    f"`dataset.filter(lambda row: row[{column!r}] is not None)`, or fill them in."
                )
            yield start, chunk
            start += len(chunk)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"Column {column!r} of {where} mixes types: {error}. Make its cells alike."
        ) from error


def refuse_missing(dataset: Dataset, column: str, where: str, what: str) -> None:
    """Refuse a column with an empty cell, naming its row, e.g. as "no image"; what is in the others is not looked at."""
    for _ in chunks(dataset, column, where, what):
        pass


def _check_pairs(chunk: pa.Array, start: int, column: str, where: str) -> None:
    import pyarrow.compute as pc

    if not is_text(chunk.type.value_type):
        raise ValueError(
            f"Column {column!r} of {where} holds {chunk.type}; expected texts, or pairs of texts. Remove it with "
            f"`dataset.remove_columns({column!r})`, or name it 'label' if it is the label."
        )
    wrong = pc.indices_nonzero(pc.not_equal(pc.list_value_length(chunk), 2))
    if len(wrong):
        row = int(wrong[0].as_py())
        raise ValueError(
            f"Column {column!r} of {where} holds a list of {len(chunk[row])} in row {start + row}; expected a text, or a "
            "pair of texts. Put each text in a column of its own."
        )


def check_id_columns(id_columns: Sequence[str], data_sets: dict[str, Any]) -> None:
    """Refuse id columns that no data set has."""
    known = {name for dataset in data_sets.values() for name in column_names(dataset)} if id_columns else ()
    for column in id_columns:
        if column not in known:
            raise ValueError(
                f"`id_columns` names {column!r}, but the columns are {listed(sorted(known))}.{nearest(column, known)}"
            )


def check_labels(
    dataset: Dataset, column: str, loss: nn.Module, shape: Columns, num_texts: int, where: str
) -> None:
    """Refuse labels that are missing, of a kind that the loss does not take with so many text columns, or out of range."""
    if shape.label is Label.NONE:
        _check_unused(dataset, column, loss, shape, where)
        return
    takes = f"{type(loss).__name__} takes {shape.label.value}"
    holds = f"Label column {column!r} of {where} holds"
    first_width: int | None = None
    for start, chunk in chunks(dataset, column, where, "no label"):
        numbers = chunk
        while is_list(numbers.type):
            _refuse_uneven(numbers, column, holds, start if numbers is chunk else None)
            numbers = numbers.flatten()
        if not is_number(numbers.type):
            by_words = f"with `dataset.class_encode_column({column!r})`"
            fix = by_words if is_text(numbers.type) else "by parsing or mapping it"
            raise ValueError(
                f"{holds} {numbers.type}, not numbers (row {start}: {chunk[0].as_py()!r}), but {takes}. Turn it into numbers, "
                f"e.g. {fix}."
            )
        width = 0 if numbers is chunk else max(len(numbers) // len(chunk), 1)  # 0: they are no lists
        first_width = width if first_width is None else first_width
        if width != first_width:
            raise ValueError(
                f"{holds} lists of unequal length, {first_width} and {width} (rows 0 and {start}). Make them alike."
            )
        _check_width(width, shape, num_texts, takes, column, holds)
        if width and shape.label in (Label.NUMBER, Label.BINARY, Label.CLASS):
            raise ValueError(f"{holds} {chunk.type}, but {takes}. Put one number in each row.")
        values = numbers.to_numpy(zero_copy_only=False)
        values = values if values.dtype.kind == "f" else values.astype(float)
        wrong, expected = _out_of_range(values, shape)
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"{holds} {values[place]:g} in row {start + place // max(width, 1)}, but {takes}: {expected}. Correct or scale "
                f"the labels, e.g. with `dataset.map(lambda row: {{{column!r}: ...}})`, or choose another loss."
            )


def _refuse_uneven(lists: pa.Array, column: str, holds: str, start: int | None) -> None:
    """Refuse lists of unequal length; `start` is the number of the first row, or None for lists within lists."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    other = lengths != lengths[0] if len(lengths) else lengths
    if other.any():
        place = int(other.argmax())
        rows = "" if start is None else f" (rows {start} and {start + place})"
        raise ValueError(
            f"{holds} lists of unequal length, {lengths[0]:g} and {lengths[place]:g}{rows}. Make them alike, e.g. with "
            f"`dataset.filter(lambda row: len(row[{column!r}]) == {lengths[0]:g})`."
        )


def _check_width(width: int, shape: Columns, num_texts: int, takes: str, column: str, holds: str) -> None:
    """Refuse lists of a length that the loss does not take; `width` is 0 where labels are no lists."""
    if shape.label is Label.EMBEDDING and not width:
        raise ValueError(
            f"{holds} single numbers, but {takes}. Put a list into each row, e.g. with "
            f"`dataset.add_column({column!r}, list(teacher.encode(texts)))`."
        )
    lengths = sorted(num_texts - fewer for fewer in shape.fewer_numbers)
    if lengths and max(width, 1) not in lengths:
        raise ValueError(
            f"{holds} {f'{width} numbers in a list' if width else 'one number'}, but {takes}: "
            f"{' or '.join(map(str, lengths))} for {num_texts} text columns. Correct the labels, or choose the columns with "
            "`dataset.select_columns([...])`."
        )


def _out_of_range(values: Any, shape: Columns) -> tuple[Any, str]:
    """Which values the labels of a shape cannot have, and what is expected of them."""
    lowest, highest = shape.label_range or (-np.inf, np.inf)
    wrong, expected = ~np.isfinite(values), "finite numbers"
    if not wrong.any() and shape.label is Label.BINARY:
        wrong, expected = (values != 0) & (values != 1), "0 or 1"
    if not wrong.any() and shape.label is Label.CLASS:
        wrong, expected = (values != np.floor(values)) | (values < 0), "whole numbers from 0"
    if not wrong.any():
        wrong, expected = (values < lowest) | (values > highest), f"from {lowest:g} to {highest:g}"
    return wrong, expected


def _check_unused(dataset: Dataset, column: str, loss: nn.Module, shape: Columns, where: str) -> None:
    """A label that the loss leaves aside must at least say the same of every row."""
    import pyarrow.compute as pc

    name, seen = type(loss).__name__, None
    for _, chunk in chunks(dataset, column, where):
        for value in pc.unique(chunk) if not chunk.type.num_fields else chunk:
            seen = value if seen is None else seen
            if value != seen:
                raise ValueError(
                    f"{name} takes {shape.describe()}; but column {column!r} of {where} is a label that varies "
                    f"({seen.as_py()!r}, {value.as_py()!r}), and every row would count the same. Keep the rows that fit "
                    f"and `dataset.remove_columns({column!r})`, or choose a loss that takes labels."
                )
    logger.warning("%s takes no label: column %r of %s is left aside.", name, column, where)


def check_prompt_names(prompts: Any, data_sets: dict[str, Any]) -> None:
    """Refuse prompts for columns and data sets that are not there; "" is the name of an only data set."""
    if not isinstance(prompts, dict):
        return
    columns = {column for dataset in data_sets.values() for column in column_names(dataset)}
    names = {name for name in data_sets if name}
    for key, value in prompts.items():
        known = {*names} if isinstance(value, dict) else columns | names
        if key not in known:
            raise ValueError(_unknown("prompts", key, known))
        if isinstance(value, dict):
            for column in value:
                if column not in column_names(data_sets[key]):
                    raise ValueError(_unknown(f"prompts[{key!r}]", column, column_names(data_sets[key])))


def _unknown(argument: str, key: str, known: Iterable[str]) -> str:
    return (
        f"`{argument}` has a prompt for {key!r}, but the columns and data sets are {listed(sorted(known))}."
        f"{nearest(key, known)} Prompts are given by the names of columns, or of data sets in a dict of them."
    )
