"""Do the rows of a data set fit a loss over pairs? Lists of documents, lists of labels, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from likewise.training.data import checks
from likewise.training.data.columns import is_list, is_number, is_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

DOCUMENTS = "list of documents"
"""The role of a column of lists."""


def holds_lists(rows: Dataset, column: str, where: str) -> bool:
    """Whether the cells of a column are lists."""
    return any(is_list(chunk.type) for _, chunk in checks.chunks(rows, column, where))


def check_documents(rows: Dataset, column: str, loss: nn.Module, where: str) -> None:
    """Refuse a column whose cells are no lists of texts, or hold an empty list.

    Raises:
        ValueError: There is one.
    """
    import pyarrow.compute as pc

    for start, chunk in checks.chunks(rows, column, where, "no list of documents"):
        if not is_list(chunk.type):
            raise ValueError(
                f"Column {column!r} of {where} holds {chunk.type}, but {type(loss).__name__} takes a list of documents for each "
                f"query (row {start}: {chunk[0].as_py()!r}). Put the documents of a query into one list, and their labels too."
            )
        lengths = pc.list_value_length(chunk)
        empty = pc.indices_nonzero(pc.equal(lengths, 0))
        if len(empty):
            raise ValueError(
                f"Column {column!r} of {where} has an empty list of documents in row {start + int(empty[0].as_py())}. Drop such "
                f"rows with `dataset.filter(lambda row: row[{column!r}])`."
            )
        values = chunk.flatten()
        if not is_text(values.type):
            raise ValueError(
                f"Column {column!r} of {where} holds {chunk.type}, but documents are texts (row {start}: {chunk[0].as_py()!r}). "
                f"Remove it with `dataset.remove_columns({column!r})` if it is no input."
            )
        if values.null_count:
            place = int(pc.indices_nonzero(values.is_null())[0].as_py())
            row = start + int(
                np.searchsorted(np.cumsum(lengths.to_numpy(zero_copy_only=False)), place, "right")
            )
            raise ValueError(
                f"Column {column!r} of {where} has a document without text (None) in row {row}. Drop it, and its label."
            )


def list_in_place_of_text(column: str, loss: nn.Module, where: str) -> ValueError:
    """What is raised where a loss takes a text, but a column holds lists."""
    takes: Any = loss.takes
    return ValueError(
        f"Column {column!r} of {where} holds lists, but {type(loss).__name__} takes {takes[0].describe()}. Put each text into a "
        "row of its own, or choose a loss that takes lists of documents, such as LambdaLoss."
    )


def check_labels_of_documents(rows: Dataset, label: str, documents: str, loss: nn.Module, where: str) -> None:
    """Refuse labels that are not a list of numbers for each row, with one for each document.

    Raises:
        ValueError: There is one.
    """
    import pyarrow.compute as pc

    name = type(loss).__name__
    both = zip(
        checks.chunks(rows, label, where, "no labels"), checks.chunks(rows, documents, where), strict=True
    )
    for (start, chunk), (_, lists) in both:
        if not is_list(chunk.type):
            raise ValueError(
                f"Label column {label!r} of {where} holds {chunk.type}, but {name} takes a list with one number for each "
                f"document (row {start}: {chunk[0].as_py()!r}). Make it a column of lists."
            )
        counts, wanted = (
            pc.list_value_length(each).to_numpy(zero_copy_only=False) for each in (chunk, lists)
        )
        if (counts != wanted).any():
            row = int((counts != wanted).argmax())
            raise ValueError(
                f"Row {start + row} of {where} has {wanted[row]} documents in {documents!r}, but {counts[row]} labels in "
                f"{label!r}. {name} takes a label for each document: correct the row, or drop it."
            )
        _refuse_no_numbers(chunk, label, name, where, start)


def check_probabilities(rows: Dataset, label: str, loss: nn.Module, where: str) -> None:
    """Refuse labels that are no list of a probability for each class.

    Raises:
        ValueError: There is one.
    """
    import pyarrow.compute as pc

    model: Any = loss.model
    for start, chunk in checks.chunks(rows, label, where, "no label"):
        counts = pc.list_value_length(chunk).to_numpy(zero_copy_only=False)
        if (counts != model.num_labels).any():
            row = int((counts != model.num_labels).argmax())
            raise ValueError(
                f"Label column {label!r} of {where} holds {counts[row]} numbers in row {start + row}, but {type(loss).__name__} "
                f"takes a class, or a probability for each of the model's {model.num_labels} labels. Correct the labels."
            )
        _refuse_no_numbers(chunk, label, type(loss).__name__, where, start, between=(0.0, 1.0))


def _refuse_no_numbers(
    lists: pa.Array, label: str, loss: str, where: str, start: int, between: tuple[float, float] | None = None
) -> None:
    values = lists.flatten()
    if not is_number(values.type):
        raise ValueError(
            f"Label column {label!r} of {where} holds {lists.type}, not numbers (row {start}: {lists[0].as_py()!r}). {loss} "
            "takes numbers: turn them into some with `dataset.map(...)`."
        )
    found = values.to_numpy(zero_copy_only=False).astype(float)
    low, high = between or (-np.inf, np.inf)
    wrong = ~np.isfinite(found) | (found < low) | (found > high)
    if wrong.any():
        place = int(wrong.argmax())
        ends = np.cumsum([len(each) for each in lists])
        expected = "finite numbers" if between is None else f"numbers from {low:g} to {high:g}"
        raise ValueError(
            f"Label column {label!r} of {where} holds {found[place]:g} in row "
            f"{start + int(np.searchsorted(ends, place, 'right'))}, but {loss} takes {expected}. Correct or scale the labels."
        )


def check_prompts(prompts: Any, data: Mapping[str, Any]) -> None:
    """Refuse prompts that are neither one text nor texts by data set.

    Raises:
        ValueError: They are something else.
    """
    if prompts is None or isinstance(prompts, str):
        return
    names = [name for name in data if name]
    for name, prompt in prompts.items():
        if name not in names or not isinstance(prompt, str):
            known = (
                f"the names of data sets ({', '.join(map(repr, names))})"
                if names
                else "no names: the data is one data set"
            )
            raise ValueError(
                f"`prompts` has {prompt!r} for {name!r}, but a prompt stands in front of a pair's first text: pass one text for all "
                f"data, or texts by data set. Here there are {known}."
            )
