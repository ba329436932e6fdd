"""Data collators: which columns are labels, and how rows become a batch for those who change that."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from likewise.training.data.batch import Batch
from likewise.training.data.checks import warn_of_order
from likewise.training.data.collation import label_tensor
from likewise.training.data.columns import LABEL_COLUMNS, label_column
from likewise.training.data.texts import prompt_of, routes_of

__all__ = ["BaseDataCollator", "SentenceTransformerDataCollator"]


@dataclass
class BaseDataCollator(ABC):
    """Makes a batch of rows, for those who change how.

    The trainer has a faster way of its own. Given a family's own collator it takes label columns, prompts and routes from
    it, and no more.

    Args:
        preprocess_fn: Padded features of the model's inputs, `model.preprocess`.
        valid_label_columns: Names that a label column may have; the first found counts.
        router_mapping: The route of each column, or of each column by data set.
        prompts: What is put in front of the inputs.
    """

    preprocess_fn: Callable[..., Mapping[str, Any]] | None = None
    valid_label_columns: Sequence[str] = field(default_factory=lambda: list(LABEL_COLUMNS))
    router_mapping: Mapping[str, Any] | None = field(default_factory=dict, repr=False)
    prompts: Any = field(default_factory=dict, repr=False)

    @abstractmethod
    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows -> a batch."""


@dataclass
class SentenceTransformerDataCollator(BaseDataCollator):
    """Makes a batch of rows: `{column}_input_ids` and so on for each column of texts, and `label`.

    The trainer has a faster way of its own. Given one of these it takes label columns, prompts and routes from it, and no
    more, unless it is of a subclass or has a `preprocess_fn` that is not the model's: then it makes the batches.

    Args:
        preprocess_fn: Padded features of texts, `model.preprocess`.
        valid_label_columns: Names that a label column may have; the first found counts.
        router_mapping: The route of each column, or of each column by data set.
        prompts: One for all columns, by column, by data set, or by data set and column.
        max_length: None: the model has a limit of its own, `max_seq_length`.
        tokenize_fn: The older name of `preprocess_fn`.

    Raises:
        TypeError: There is no `preprocess_fn`.
        ValueError: There is a `max_length`.
    """

    max_length: int | Mapping[str, int] | None = field(default=None, repr=False)
    tokenize_fn: Callable[..., Mapping[str, Any]] | None = field(default=None, repr=False)
    _warned_columns: set[tuple[str, ...]] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        self.preprocess_fn = self.preprocess_fn or self.tokenize_fn
        if self.preprocess_fn is None:
            raise TypeError("A data collator needs `preprocess_fn`, which is usually `model.preprocess`.")
        if self.max_length is not None:
            raise ValueError(
                f"`max_length={self.max_length}` has no effect on texts of one vector. Set `model.max_seq_length`, and drop it."
            )

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows -> a batch."""
        if not features:
            return {}
        names = [name for name in features[0] if name != "dataset_name"]
        data_set = str(features[0].get("dataset_name", ""))
        batch = Batch({"dataset_name": data_set} if data_set else {})
        if tuple(names) not in self._warned_columns:
            self._warned_columns.add(tuple(names))
            self.maybe_warn_about_column_order(names)
        label = label_column(names, self.valid_label_columns)
        if label is not None:
            batch["label"] = label_tensor([row[label] for row in features])
            names.remove(label)
        routes: Sequence[str | None] = [None] * len(names)
        if self.router_mapping:
            routes = routes_of(self.router_mapping, data_set, names, f"the data set {data_set!r}")
        for name, route in zip(names, routes, strict=True):
            options = {"prompt": prompt_of(self.prompts, data_set, name) or None, "task": route}
            given = {key: value for key, value in options.items() if value is not None}
            made = self.preprocess_fn([row[name] for row in features], **given)  # type: ignore[misc]
            batch |= {f"{name}_{key}": value for key, value in made.items()}
            if route is not None:
                batch[f"{name}_task"] = route
        return batch

    def maybe_warn_about_column_order(self, column_names: Sequence[str]) -> None:
        """Warn where names of columns hint at another order; called once for each list of them."""
        warn_of_order([name for name in column_names if name not in self.valid_label_columns], "the rows")


def agree(collator: Any, args: Any, agreed: Mapping[str, Any]) -> dict[str, Any]:
    """Have the prompts and routes of a data collator those of the training arguments, and the other way round.

    One that is no BaseDataCollator has none. `agreed` is what this returned before: of two that differ the one that was changed
    since counts; where both were set, and differ, they are refused.
    """
    if not isinstance(collator, BaseDataCollator):
        return {}
    settled = {}
    for name in ("prompts", "router_mapping"):
        here, there = getattr(collator, name) or {}, getattr(args, name) or {}
        before = agreed.get(name, {})
        if here != before and there != before and here != there:
            raise ValueError(
                f"`{name}` is {here!r} in the data collator, but {there!r} in the training arguments. Set it in one of them."
            )
        value = here if here != before else there
        if here != value:
            setattr(collator, name, value)
        if there != value:
            setattr(args, name, value)
        settled[name] = copy.deepcopy(value)
    return settled
