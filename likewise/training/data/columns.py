"""Reading the columns of a data set: whole ones chunk by chunk through Arrow, or a few rows of all of them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.modules.images import is_picture

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

LABEL_COLUMNS = ("label", "labels", "score", "scores")
CHUNK_ROWS = 65_536
IMAGE_CHUNK_ROWS = 256


def label_column(names: Container[str], known: Sequence[str] = LABEL_COLUMNS) -> str | None:
    """The column of labels among these: the first that is there of the names that one may have."""
    return next((name for name in known if name in names), None)


def is_text(kind: pa.DataType) -> bool:
    """Whether this is the type of texts."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether this is the type of lists."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether this is a type of numbers, truths among them."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def is_transformed(dataset: Dataset) -> bool:
    """Whether rows are made when they are read (`set_transform`), so that the table does not tell what they hold."""
    return bool(dataset.format["type"] == "custom")


def column_names(dataset: Dataset | IterableDataset) -> list[str]:
    """The columns of the rows that the data set gives."""
    from datasets import Dataset

    if isinstance(dataset, Dataset) and is_transformed(dataset) and len(dataset):
        return list(dataset[:1])
    return list(dataset.column_names or next(iter(dataset), {}))


def holds_images(dataset: Dataset, column: str) -> bool:
    """Whether the cells of a column are images."""
    from datasets import Image

    if is_transformed(dataset):
        return len(dataset) > 0 and is_picture(dataset[0][column])
    return isinstance((dataset.features or {}).get(column), Image)


def arrow_chunks(dataset: Dataset, column: str) -> Iterator[pa.Array]:
    """The values of a column, in order, some ten thousand at a time; fewer of images, which are left encoded."""
    import pyarrow as pa

    size = IMAGE_CHUNK_ROWS if holds_images(dataset, column) else CHUNK_ROWS
    if is_transformed(dataset):
        for start in range(0, len(dataset), size):
            values = dataset[start : start + size][column]
            yield pa.array([value.tobytes() if is_picture(value) else value for value in values])
        return
    rows = dataset.select_columns([column]).with_format("arrow")
    for table in rows.iter(batch_size=size):
        yield table[column].combine_chunks()


def value_ids(
    dataset: Dataset, columns: Sequence[str], fold: bool = False
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(rows, columns): 64-bit ids of the values, equal for equal values, also of different columns.

    With `fold`, texts that differ only in case and white space count as equal.
    """
    ids = np.empty((len(dataset), len(columns)), np.int64)
    for place, column in enumerate(columns):
        start = 0
        for chunk in arrow_chunks(dataset, column):
            ids[start : start + len(chunk), place] = hash_values(chunk, fold)
            start += len(chunk)
    return ids


def hash_values(values: pa.Array, fold: bool = False) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(N,): 64-bit hashes of values; `fold` as in `value_ids`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = pa.array([str(value) for value in values.to_pylist()], pa.large_string())
    else:
        values = values.cast(pa.large_string())
    if fold:
        values = pc.utf8_trim_whitespace(pc.utf8_lower(values))
        values = pc.replace_substring_regex(values, r"\s+", " ")
    return _hash_strings(values)


def _hash_strings(strings: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(N,) 64-bit hashes of large strings, eight bytes at a time over all strings at once."""
    if len(strings) == 0:
        return np.empty(0, np.int64)
    _, offsets_buffer, bytes_buffer = strings.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    raw = np.zeros(last - first + 8, np.uint8)
    if last > first:
        raw[:-8] = np.frombuffer(bytes_buffer, np.uint8)[first:last]
    # Every run of eight bytes, at any address, as one number. It is stirred in by factors whose bits look random (the first is
    # 2**64 over the golden ratio); the high half of a product, which depends on all of its bits, is folded into the low one.
    words = np.lib.stride_tricks.as_strided(raw[:8].view(np.uint64), (len(raw) - 7,), (1,))
    hashes = lengths.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    active, place = np.flatnonzero(lengths > 0), 0
    while len(active):
        left = lengths[active] - place
        word = words[starts[active] + place]
        mask = np.uint64(2**64 - 1) >> ((8 - np.minimum(left, 8)) * 8).astype(np.uint64)
        mixed = (hashes[active] ^ (word & mask)) * np.uint64(0xD6E8FEB86659FD93)
        hashes[active] = mixed ^ (mixed >> np.uint64(32))
        active, place = active[left > 8], place + 8
    return hashes.view(np.int64)
