"""Columns that hold no texts to train on, but say something about a row: where it comes from, when, its id, its language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLE_ROWS = 1000
FEWEST_ROWS = 8  # of fewer, values that repeat say nothing
MOST = 0.95  # of the cells have to look alike, since files have gaps
ROWS_TO_A_VALUE = 5  # few values: each stands in at least so many rows, on average
MOST_VALUES = 20

# A cell of these kinds is no text in any language. Each is matched as a whole.
PATTERNS = (
    ("dates", re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")),
    ("dates", re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( \d{1,2}:\d{2}(:\d{2})?)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")),
    ("addresses", re.compile(r"(https?|ftp|s3|gs|file)://\S+|www\.\S+|[\w.+-]+@[\w-]+\.[\w.-]+")),
    ("numbers", re.compile(r"[-+]?\d+([.,]\d+)*(e[-+]?\d+)?%?", re.IGNORECASE)),
    ("ids", re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16,}", re.IGNORECASE)),
    ("ids", re.compile(r"[A-Za-z]{0,12}[-_:#./]?[A-Za-z]{0,4}\d{1,20}([-_:./]\w{1,12})*")),
)  # fmt: skip
CODE = re.compile(r"[a-z]{2,3}([-_]([A-Z]{2}|[A-Z][a-z]{3}))?|[A-Z]{2,3}")


FIX = (
    "drop it with `dataset.remove_columns({0!r})`, or name it in `id_columns=[{0!r}]` if equal values mean that rows belong "
    "together."
)


def metadata_warnings(dataset: Dataset, columns: Sequence[str], where: str, fix: str = FIX) -> list[str]:
    """A sentence for each text column that looks like metadata, with the fix to type.

    At most 1,000 rows are looked at, from all over the data set; `{0!r}` in `fix` stands for the column.
    """
    step = max(1, len(dataset) // SAMPLE_ROWS)
    cells = (dataset.select(range(0, len(dataset), step)) if step > 1 else dataset)[:]
    warnings = []
    for place, column in enumerate(columns):
        reason = looks_like_metadata(cells[column], place)
        if reason is not None:
            warnings.append(
                f"Column {column!r} of {where} {reason}, but is embedded as text number {place + 1}. If it says something "
                f"about the row, {fix.format(column)}"
            )
    return warnings


def looks_like_metadata(values: Sequence[Any], place: int) -> str | None:
    """Why the values of a text column are taken for metadata; None for texts.

    Few different values mean something from the third text column on only, whose `place` is 2: an anchor or a positive may well be
    the name of a class.
    """
    texts = [value.strip() for value in values if isinstance(value, str)]
    texts = [text for text in texts if text]
    if not texts or len(texts) < MOST * len(values):
        return None
    for what, pattern in PATTERNS:
        if _share(texts, pattern) >= MOST:
            return f"holds {what} ({_some(texts)})"
    if len(texts) < FEWEST_ROWS:
        return None
    different = set(texts)
    is_few = len(different) <= min(MOST_VALUES, len(texts) // ROWS_TO_A_VALUE)
    if is_few and _share(texts, CODE) >= MOST:
        return f"holds codes ({_some(texts)})"
    if place == 0:
        return None
    commonest = max(Counter(texts).values())
    if commonest >= MOST * len(texts):
        return f"says the same in {commonest:,} of {len(texts):,} rows ({_some(texts)})"
    if place > 1 and is_few:
        return f"has {len(different)} different values in {len(texts):,} rows ({_some(texts)})"
    return None


def _share(texts: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(text) is not None for text in texts) / len(texts)


def _some(texts: Sequence[str]) -> str:
    return ", ".join(repr(text[:40]) for text in list(dict.fromkeys(texts))[:3])
