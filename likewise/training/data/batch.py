"""Batch: what a data loader gives, with all columns packed in one or with `{column}_input_ids` and so on, as the reference has it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from likewise.engine import ColumnBatch
from likewise.engine.embed import packed
from likewise.engine.pair_batch import PairBatch
from likewise.types import Encoder

FEATURES = (
    "input_ids", "sentence_embedding", "pixel_values", "input_features", "input_values", "pixel_values_videos",
)  # fmt: skip
"""A column of a batch is known by one of these after its name."""
ROW_IDS = "row_ids"
PACKED = (ColumnBatch, PairBatch)
"""All columns of a batch in one."""


class Batch(dict[str, Any]):
    """One batch: `columns`, `label` if there is one, and `dataset_name`; or the features of each column by their names.

    `columns` is a ColumnBatch, or one dict of padded features a column. The trainer makes batches by name where a method of
    a subclass is handed them.
    """

    def __missing__(self, key: str) -> Any:
        raise KeyError(
            f"This batch has {', '.join(map(repr, self))}, but no {key!r}. "
            "`features, labels = trainer.collect_features(batch)` gives the padded features of each column."
        )


@dataclass(frozen=True)
class RawColumns:
    """The columns of a batch as they were read, for losses that run the model by themselves."""

    columns: list[list[Any]]  # a list with an entry for each row, by column
    prompt: str | None = None  # what is to be put in front of the first column's texts; None for nothing
    task: str | None = None  # the route through a Router; None without one


def by_column(batch: Batch, names: Sequence[str]) -> Batch:
    """The same batch with `{column}_input_ids` and so on; as it is where a column has no features of a known kind."""
    columns = batch["columns"]
    if not all(set(FEATURES) & set(features) for features in columns):
        return batch
    kept = (key for key, value in batch.items() if key == "label" or (key != "columns" and value))
    made = Batch({key: batch[key] for key in kept})
    for name, features in zip(names, columns, strict=True):
        made |= {f"{name}_{key}": value for key, value in features.items() if value is not None}
    if getattr(columns, "ids", None) is not None:
        made[ROW_IDS] = columns.ids.T  # rows first, as all else
    return made


def features_of(batch: Mapping[str, Any], names: Collection[str] = ()) -> Any:
    """The features of each column of a batch, in order: a ColumnBatch, or a list of dicts; refused where it has none.

    Features of one's own kind are known by the columns' `names`.
    """
    if "columns" in batch:
        return batch["columns"]
    starts: dict[str, None] = {}
    for key in batch:
        ending = next((ending for ending in FEATURES if key.endswith(f"_{ending}")), None)
        if ending is not None:
            starts[key[: -len(ending)]] = None
    own = [f"{name}_" for name in names]
    starts = starts or {start: None for start in own if any(key.startswith(start) for key in batch)}
    if not starts:
        raise ValueError(
            f"The batch has {', '.join(map(repr, batch))}, but no features: a `data_collator` calls them "
            "'{column}_input_ids' and so on. Where a loss reads something else, override `collect_features` too."
        )
    columns: dict[str, dict[str, Any]] = {start: {} for start in starts}
    for key, value in batch.items():
        # The longest start is the column's: `a_b_input_ids` is not of column `a`.
        start = max((start for start in starts if key.startswith(start)), key=len, default=None)
        if start is not None:
            columns[start][key.removeprefix(start)] = value
    return list(columns.values())


def with_ids(model: Encoder, features: Any, batch: Mapping[str, Any]) -> Any:
    """The features, with the values of the id columns that the batch has for its rows."""
    if ROW_IDS not in batch or isinstance(features, Mapping):
        return features
    columns = packed(model, features)
    return replace(columns, ids=batch[ROW_IDS].T) if isinstance(columns, ColumnBatch) else columns


def num_rows(batch: Mapping[str, Any]) -> int:
    """How many rows a batch has: as many as the first tensor or list in it."""
    columns = batch.get("columns")
    if isinstance(columns, PACKED):
        return columns.num_rows
    values = [*columns[0].values()] if columns else [*batch.values()]
    kinds = (Tensor, list, tuple)
    sizes = [len(value) for value in values if isinstance(value, kinds) and getattr(value, "ndim", 1) > 0]
    if not sizes and values and isinstance(values[0], Mapping):
        return num_rows(values[0])
    return sizes[0] if sizes else 1


def num_tokens(batch: Any) -> int:
    """The tokens of a batch or of its features, padding left aside; 0 where they have none."""
    if isinstance(batch, PACKED):
        return batch.tokens.num_tokens
    if isinstance(batch, RawColumns):
        return 0
    if isinstance(batch, Mapping) and "columns" not in batch:
        masks = [value for key, value in batch.items() if str(key).endswith("attention_mask")]
        return sum(int(mask.sum()) for mask in masks if isinstance(mask, Tensor))
    columns = batch["columns"] if isinstance(batch, Mapping) else batch
    return num_tokens(columns) if isinstance(columns, PACKED) else sum(map(num_tokens, columns))
