"""What is wrong with data that a loss would take all the same: each symptom in a sentence, with the fix to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.training.data.checks import first_rows
from likewise.training.data.columns import arrow_chunks, value_ids
from likewise.training.data.metadata import FIX, metadata_warnings

if TYPE_CHECKING:
    from datasets import Dataset

MOST_ROWS = 100_000  # looked at, the first ones
COUNTED_TEXTS = 200  # whose tokens are counted
FEWEST_ROWS = 30  # of fewer, shares say nothing
FEW = 0.01  # a share of rows worth a word
SHORT, LONG = 2, 20_000  # characters: at most so many say nothing, more are a book
BINS = 5


def symptoms(
    dataset: Any, columns: Sequence[str], label: str | None, where: str, model: Any = None, fix: str = FIX
) -> list[str]:
    """A sentence for each thing that looks wrong.

    Args:
        dataset: The data set; its first 100,000 rows are looked at, of a stream 1,000.
        columns: Its columns but the label, in order; where one holds other things than texts there is nothing to say.
        label: Its label column, where it is used.
        where: The data set, in words.
        model: Whose limit of tokens counts; None to leave that aside.
        fix: What to do with a column that looks like metadata; `{0!r}` stands for it.
    """
    seen = first_rows(dataset)
    if not len(seen) or not _are_texts(seen, columns):
        return []
    rows = seen.select(range(min(len(seen), MOST_ROWS)))
    is_whole = seen is dataset and len(rows) == len(seen)
    told = where if is_whole else f"the first {len(rows):,} rows of {where}"
    found = metadata_warnings(seen, columns, where, fix)
    ids = value_ids(rows, columns, fold=True)
    for place, column in enumerate(columns):
        found += _of_texts(rows, column, told)
        if place == 0 and len(rows) >= FEWEST_ROWS and len(np.unique(ids[:, 0])) == 1:
            found.append(
                f"Column {column!r} of {told} says the same in every row. Drop it with `dataset.remove_columns({column!r})`, or look "
                "where it came from."
            )
    if label is not None and len(rows) > 1 and len(np.unique(value_ids(rows, [label]))) == 1:
        found.append(
            f"Every label in column {label!r} of {told} is {rows[0][label]!r}, so that there is nothing to tell apart. Add rows with "
            f"others, or `dataset.remove_columns({label!r})` and take a loss without labels."
        )
    if len(rows) < FEWEST_ROWS:
        return found
    for (a, ids_of_a), (b, ids_of_b) in combinations(zip(columns, ids.T, strict=True), 2):
        share = float((ids_of_a == ids_of_b).mean())
        if FEW <= share < 1:  # columns that are alike throughout are meant so, as for SimCSE
            found.append(
                f"Columns {a!r} and {b!r} of {told} say the same in {share:.1%} of the rows, case and white space aside: "
                f"nothing is learnt from a text and itself. Drop them: `dataset.filter(lambda row: row[{a!r}] != row[{b!r}])`."
            )
    repeated = 1 - len(np.unique(ids, axis=0)) / len(ids)
    if repeated >= FEW:
        found.append(
            f"{repeated:.1%} of the rows of {told} are there already. Drop them, e.g. with pandas: "
            f"`Dataset.from_pandas(dataset.to_pandas().drop_duplicates({list(columns)!r}))`."
        )
    return found + (_of_limit(rows, columns, told, model) if model is not None else [])


def overlaps(
    train: Mapping[str, Any], evaluation: Mapping[str, Any], texts: Mapping[str, Sequence[str]]
) -> list[str]:
    """A sentence for each evaluation data set of whose rows some are training data; both by name.

    `texts` has the columns of plain texts of each, by `train` or `eval` and its name.
    """
    of_training = [_row_keys(rows, texts[f"train {name}"]) for name, rows in train.items()]
    known = [keys for keys in of_training if keys is not None]
    found = []
    for name, rows in evaluation.items():
        keys = _row_keys(rows, texts[f"eval {name}"])
        share = float(np.isin(keys, np.concatenate(known)).mean()) if known and keys is not None else 0
        if share >= FEW:
            where = f"the evaluation data {name!r}" if name else "the evaluation data"
            found.append(
                f"{share:.1%} of the rows of {where} are training data as well, so that the loss there says little of new "
                "texts. Drop them from one side: `train.filter(lambda row: row[column] not in set(evaluation[column]))`."
            )
    return found


def _row_keys(dataset: Any, columns: Sequence[str]) -> np.ndarray[Any, Any] | None:
    """(rows,): equal for rows with equal texts, whatever the columns are called; None where they are no texts, or a stream."""
    if not hasattr(dataset, "select") or not _are_texts(dataset, columns):
        return None
    rows = first_rows(dataset)
    ids = value_ids(rows.select(range(min(len(rows), MOST_ROWS))), columns, fold=True)
    return np.asarray((ids * (2 * np.arange(ids.shape[1]) + 1)).sum(axis=1))


def _are_texts(dataset: Any, columns: Sequence[str]) -> bool:
    """Whether the columns are there as texts; not where they are made when they are read, hold images, or pairs of texts."""
    kinds = dataset.features or {}
    return all(getattr(kinds.get(column), "dtype", "") in ("string", "large_string") for column in columns)


def _of_texts(rows: Dataset, column: str, where: str) -> list[str]:
    """Texts that are empty, very short or very long."""
    import pyarrow.compute as pc

    counts = [pc.utf8_length(pc.utf8_trim_whitespace(chunk)) for chunk in arrow_chunks(rows, column)]
    lengths = np.concatenate([count.to_numpy(zero_copy_only=False) for count in counts])
    if len(lengths) < FEWEST_ROWS:
        return []
    row = f"row[{column!r}]"
    found = []
    for what, wrong, kept, least in (
        ("empty", lengths == 0, f"{row}.strip()", 1),
        (f"of at most {SHORT} characters", (lengths > 0) & (lengths <= SHORT), f"len({row}) > {SHORT}", FEW * len(lengths)),
        (f"of more than {LONG:,} characters", lengths > LONG, f"len({row}) <= {LONG}", FEW * len(lengths)),
    ):  # fmt: skip
        if (number := int(wrong.sum())) >= max(1, least):
            found.append(
                f"Column {column!r} of {where} has {number:,} texts {what}, the first in row {int(wrong.argmax())}. If they "
                f"should not be there: `dataset.filter(lambda row: {kept})`."
            )
    return found


def _of_limit(rows: Dataset, columns: Sequence[str], where: str, model: Any) -> list[str]:
    """How many texts are longer than the model reads, of a sample."""
    limit, tokenizer = model.get_max_seq_length(), getattr(model, "tokenizer", None)
    if not isinstance(limit, int) or not callable(tokenizer):
        return []
    sample = rows.select(range(0, len(rows), max(1, len(rows) // COUNTED_TEXTS)))[:]
    found = []
    for column in columns:
        texts = [text for text in sample[column] if isinstance(text, str)]
        if not texts:
            continue
        sequences = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        lengths = np.array([len(ids) for ids in sequences])
        share = float((lengths > limit).mean())
        if share >= FEW:
            found.append(
                f"{share:.0%} of {len(texts)} texts in column {column!r} of {where} are longer than the {limit} tokens that the "
                f"model reads, the longest {lengths.max():,}: the rest of them is cut. Split them, or set "
                "`model.max_seq_length` as far as the model goes."
            )
    return found


def label_histogram(values: Sequence[Any]) -> list[tuple[str, int]]:
    """How often each label is there, or of many different numbers how many lie in each of five ranges; none where they are lists."""
    if not len(values) or isinstance(values[0], list):
        return []
    different, counts = np.unique(np.asarray(values), return_counts=True)
    if len(different) <= 2 * BINS or different.dtype.kind not in "iuf":
        found = [(str(value), int(count)) for value, count in zip(different, counts, strict=True)]
        return found if len(found) <= 2 * BINS else sorted(found, key=lambda row: -row[1])[: 2 * BINS]
    counts, edges = np.histogram(np.asarray(values), BINS)
    return [(f"{a:.3g} to {b:.3g}", int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)]
