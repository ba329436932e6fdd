"""SentenceTransformerDataCollator: which columns are labels, and how rows become a batch for those who change that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from likewise.training.data.collation import label_tensor
from likewise.training.data.columns import LABEL_COLUMNS
from likewise.training.data.plan import prompt_of, routes_of

__all__ = ["SentenceTransformerDataCollator"]


@dataclass
class SentenceTransformerDataCollator:
    """Makes a batch of rows: `{column}_input_ids` and so on for each column of texts, and `label`.

    The trainer has a faster way of its own. Given one of these it takes label columns, prompts and routes from it, and no
    more, unless it is of a subclass or has a `preprocess_fn` that is not the model's: then it makes the batches.

    Args:
        preprocess_fn: Padded features of texts, `model.preprocess`.
        valid_label_columns: Names that a label column may have; the first found counts.
        router_mapping: The route of each column, or of each column by data set.
        prompts: One for all columns, by column, by data set, or by data set and column.
        tokenize_fn: The older name of `preprocess_fn`.
    """

    preprocess_fn: Callable[..., Mapping[str, Any]] | None = None
    valid_label_columns: Sequence[str] = field(default_factory=lambda: list(LABEL_COLUMNS))
    router_mapping: Mapping[str, Any] | None = field(default_factory=dict, repr=False)
    prompts: Any = field(default_factory=dict, repr=False)
    tokenize_fn: Callable[..., Mapping[str, Any]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.preprocess_fn = self.preprocess_fn or self.tokenize_fn
        if self.preprocess_fn is None:
            raise TypeError("A data collator needs `preprocess_fn`, which is usually `model.preprocess`.")

    def agree_with(self, args: Any) -> None:
        """Have the prompts and routes of the training arguments, and they those that are set here.

        Raises:
            ValueError: They differ.
        """
        for name in ("prompts", "router_mapping"):
            here, there = getattr(self, name), getattr(args, name)
            if here and there and here != there:
                raise ValueError(
                    f"`{name}` is {here!r} in the data collator, but {there!r} in the training arguments. Set it in one of them."
                )
            setattr(self, name, here or there)
            setattr(args, name, here or there)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows -> a batch."""
        names = [name for name in features[0] if name != "dataset_name"]
        data_set = str(features[0].get("dataset_name", ""))
        batch: dict[str, Any] = {"dataset_name": data_set} if data_set else {}
        label = next((name for name in self.valid_label_columns if name in names), None)
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
        return batch


def makes_batches(collator: Any, model: Any) -> bool:
    """Whether a collator makes other batches than the trainer's own way."""
    is_plain = type(collator) is SentenceTransformerDataCollator
    return not (is_plain and getattr(collator.preprocess_fn, "__self__", None) is model)
