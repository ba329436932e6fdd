"""TrainingPlan: what a run will do, settled and checked before the first step."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from likewise.losses.base import Label, Loss
from likewise.modules import Router
from likewise.training.data import checks
from likewise.training.data.columns import LABEL_COLUMNS, column_names, holds_images
from likewise.training.run.arguments import BatchSamplers

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSetPlan:
    """What the columns of a data set are, and the loss they go to.

    Attributes:
        name: The data set's key in a dict of them; "" for an only one.
        texts: The text columns, in order.
        label: The label column, or None.
        prompts: What is put in front of each text column's texts; "" for nothing.
        roles: What the loss takes each text column for; the column's own name where the loss does not say.
        uses_label: Whether the loss takes the label.
        loss: The loss's name.
        num_rows: How many rows there are; None where that is not known.
        ids: The id columns.
        routes: The route of each text column through a Router; None for a model without one.
    """

    name: str
    texts: tuple[str, ...]
    label: str | None
    prompts: tuple[str, ...]
    roles: tuple[str, ...]
    uses_label: bool
    loss: str
    num_rows: int | None
    ids: tuple[str, ...] = ()
    routes: tuple[str | None, ...] | None = None

    def describe(self) -> str:
        """One line: rows, columns with their roles, and the loss."""
        rows = "stream" if self.num_rows is None else f"{self.num_rows:,} rows"
        columns = [
            (role if role == text else f"{role}={text}") + (f" (prompt {prompt!r})" if prompt else "")
            for role, text, prompt in zip(self.roles, self.texts, self.prompts, strict=True)
        ]
        if self.uses_label:
            columns.append(f"label={self.label}" if self.label != "label" else "label")
        columns += [f"id={column}" for column in self.ids]
        return f"{rows}: {', '.join(columns)} -> {self.loss}"


@dataclass(frozen=True)
class TrainingPlan:
    """A run, as it is printed before the first step.

    Attributes:
        train: The training data sets.
        evaluation: The evaluation data sets.
        settings: Further lines, by title.
    """

    train: tuple[DataSetPlan, ...]
    evaluation: tuple[DataSetPlan, ...]
    settings: Mapping[str, str]

    def __str__(self) -> str:
        lines = [(f"train {data.name}".strip(), data.describe()) for data in self.train]
        lines += [(f"evaluate {data.name}".strip(), data.describe()) for data in self.evaluation]
        lines += list(self.settings.items())
        width = max(len(title) for title, _ in lines)
        return "\n".join(["Training plan", *(f"  {title:<{width}}  {text}" for title, text in lines)])


def plan_data_set(
    dataset: Dataset | IterableDataset,
    name: str,
    split: str,
    loss: nn.Module,
    prompts: Any = None,
    batch_size: int | None = None,
    label_columns: Sequence[str] = LABEL_COLUMNS,
    modalities: Collection[str] = ("text",),
    id_columns: Sequence[str] = (),
    router_mapping: Any = None,
) -> DataSetPlan:
    """Settle what a data set's columns are, and check that they fit the loss.

    Args:
        dataset: The data set.
        name: Its key in a dict of data sets; "" for an only one.
        split: "training" or "evaluation".
        loss: The loss it goes to.
        prompts: The argument `prompts`.
        batch_size: Rows in a batch, over all processes.
        label_columns: Names that a label column may have, the first found counts.
        modalities: What the model takes, so that cells can be looked at: "text", "image"; none where that is not known.
        id_columns: Columns that are ids, where the data set has them.
        router_mapping: The argument `router_mapping`, for a model with a Router; None for others.

    Raises:
        TypeError: It is no data set.
        ValueError: Something does not fit.
    """
    from datasets import Dataset, IterableDataset

    where = f"the {split} data set {name!r}" if name else f"the {split} data"
    if not isinstance(dataset, Dataset | IterableDataset):
        raise TypeError(
            f"{where} is a {type(dataset).__name__}, but should be a `datasets.Dataset` (or a dict of them): "
            "`Dataset.from_list(rows)` makes one of dicts, `Dataset.from_dict(columns)` one of columns."
        )
    num_rows = len(dataset) if isinstance(dataset, Dataset) else None
    if num_rows == 0:
        raise ValueError(f"{where} is empty. Check the filters or files it comes from.".capitalize())
    columns = column_names(dataset)
    ids = tuple(column for column in id_columns if column in columns)
    label = next((column for column in label_columns if column in columns and column not in ids), None)
    texts = tuple(column for column in columns if column != label and column not in ids)
    checks.check_names(texts, label, where)
    rows = checks.first_rows(dataset)
    for column in ids:
        checks.check_ids(rows, column, where)
    for column in texts:
        if "image" in modalities and holds_images(rows, column):
            checks.check_images(rows, column, where)
        elif "text" in modalities:
            checks.check_texts(rows, column, where)
    shape = checks.checked_shape(loss, texts, label, where)
    if shape is not None and label is not None:
        checks.check_labels(rows, label, loss, shape, where)
    if shape is not None and shape.in_batch_negatives and batch_size == 1:
        raise ValueError(
            f"{type(loss).__name__} takes the other rows of a batch as negatives, but the batch size for {where} is 1. "
            f"Set `per_device_{split.removesuffix('ing').removesuffix('uation')}_batch_size` to 2 or more, the more the better."
        )
    roles = texts
    if shape is not None:
        known = shape.roles.count(str(shape.more))
        numbers = range(known + 1, known + 1 + len(texts) - len(shape.roles))
        roles = (*shape.roles, *(f"{shape.more} {n}" if n > 1 else str(shape.more) for n in numbers))
    return DataSetPlan(
        name=name,
        texts=texts,
        label=label,
        prompts=tuple(prompt_of(prompts, name, column) for column in texts),
        roles=roles,
        uses_label=label is not None and (shape is None or shape.label is not Label.NONE),
        loss=type(loss).__name__,
        num_rows=num_rows,
        ids=ids,
        routes=None if router_mapping is None else routes_of(router_mapping, name, texts, where),
    )


def routes_of(
    router_mapping: Mapping[str, Any], data_set: str, columns: Sequence[str], where: str
) -> tuple[str | None, ...]:
    """The route of each column through a Router: by column, or by data set and column.

    Raises:
        ValueError: A column has none.
    """
    inner = router_mapping.get(data_set)
    mapping = inner if isinstance(inner, Mapping) else router_mapping
    missing = [column for column in columns if not isinstance(mapping.get(column), str)]
    if missing:
        raise ValueError(
            f"The model has a Router, but `router_mapping` has no route for the column {missing[0]!r} of {where}. Set "
            f"e.g. `router_mapping={dict.fromkeys(columns, 'document') | {columns[0]: 'query'}}`."
        )
    return tuple(mapping[column] for column in columns)


def prompt_of(prompts: Any, data_set: str, column: str) -> str:
    """The prompt of a column: one for all, or by data set, by column, or by data set and column."""
    if isinstance(prompts, dict) and data_set in prompts:
        prompts = prompts[data_set]
    elif isinstance(prompts, dict):
        prompts = {key: value for key, value in prompts.items() if isinstance(value, str)}
    if isinstance(prompts, dict):
        return prompts.get(column) or ""
    return prompts or ""


def losses_by_data_set(
    loss: nn.Module | Mapping[str, nn.Module], names: Sequence[str], split: str
) -> dict[str, nn.Module]:
    """The loss of each data set.

    Raises:
        ValueError: There are losses by data set, but not for this one.
    """
    if not isinstance(loss, Mapping):
        return dict.fromkeys(names, loss)
    if list(names) == [""]:
        raise ValueError(
            f"`loss` is a dict ({', '.join(map(repr, loss))}), but the {split} data is one data set. Pass a dict of data "
            "sets with the same keys, or one loss."
        )
    missing = [name for name in names if name not in loss]
    if missing:
        raise ValueError(
            f"`loss` has no loss for the {split} data set {missing[0]!r}, only for {', '.join(map(repr, loss))}. "
            "Use the same keys for data sets and losses."
        )
    return {name: loss[name] for name in names}


def plan_data_sets(
    data: Mapping[str, Any],
    loss: nn.Module | Mapping[str, nn.Module],
    args: Any,
    batch_size: int,
    split: str,
    model: Any = None,
    label_columns: Sequence[str] = LABEL_COLUMNS,
) -> list[DataSetPlan]:
    """Settle and check all data sets of a split.

    Args:
        data: The data sets by name; "" for an only one.
        loss: One loss for all, or one for each by name.
        args: The training arguments.
        batch_size: Rows in a batch, over all processes.
        split: "training" or "evaluation".
        model: The model; where it takes other things than texts, cells are not looked at.
        label_columns: Names that a label column may have.
    """
    if data and split == "training":
        checks.check_id_columns(args.id_columns, dict(data))
    if data:
        checks.check_prompt_names(args.prompts, dict(data))
    losses = losses_by_data_set(loss, list(data), split)
    if args.id_columns and split == "training" and not _use_ids(losses.values(), args.batch_sampler):
        logger.warning(
            "`id_columns` is without effect: no loss has `mask_duplicates=True`, and `batch_sampler` is not 'no_duplicates'."
        )
    has_router = model is not None and any(isinstance(module, Router) for module in model.modules())
    if args.router_mapping and not has_router:
        raise ValueError(
            f"`router_mapping={args.router_mapping}` has no effect, since the model has no Router. Drop it."
        )
    known = model is None or model.takes_tokens or "image" in model.modalities
    modalities = () if not known else ("text",) if model is None else model.modalities
    return [
        plan_data_set(
            dataset, name, split, losses[name], args.prompts, batch_size, label_columns, modalities,
            id_columns=args.id_columns, router_mapping=args.router_mapping if has_router else None,
        )
        for name, dataset in data.items()
    ]  # fmt: skip


def _use_ids(losses: Iterable[nn.Module], sampler: Any) -> bool:
    """Whether id columns make a difference, as far as one can tell."""
    plain = (BatchSamplers.BATCH_SAMPLER, BatchSamplers.GROUP_BY_LABEL)
    return sampler not in plain or any(not isinstance(loss, Loss) or loss.mask_duplicates for loss in losses)
