"""The training plan: what a run will do, settled and checked before the first step."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from likewise.losses.base import Label, Loss
from likewise.modules import Router
from likewise.modules.query_expansion import DOCUMENT, QUERY
from likewise.tables import listed, nearest
from likewise.training.data import checks
from likewise.training.data.columns import LABEL_COLUMNS, column_names, label_column
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Family
from likewise.training.data.reader import seeded
from likewise.training.data.streams import is_stream, known_length
from likewise.training.data.symptoms import symptoms
from likewise.training.data.texts import TEXTS, routes_of, usual_tasks
from likewise.training.run.arguments import BatchSamplers, Exhausted, MultiDatasetBatchSamplers

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


logger = logging.getLogger(__name__)


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
    is_collated: bool = False,
    family: Family = TEXTS,
) -> DataSetPlan:
    """Settle what a data set's columns are, and check that they fit the loss; refused is what does not, and what is no data set.

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
        is_collated: Whether a data collator of the user's makes the batches: what it returns decides, so that neither the
            columns nor the label are held against the loss.
        family: What the model's family takes.
    """
    from datasets import Dataset, IterableDataset

    where = checks.in_words(name, split)
    if not isinstance(dataset, Dataset | IterableDataset):
        raise TypeError(
            f"T{where[1:]} is a {type(dataset).__name__}, but should be a `datasets.Dataset` (or a dict of them): "
            "`Dataset.from_list(rows)` makes one of dicts, `Dataset.from_dict(columns)` one of columns."
        )
    num_rows = len(dataset) if isinstance(dataset, Dataset) else None
    if num_rows == 0 or (num_rows is None and next(iter(dataset), None) is None):
        raise ValueError(f"T{where[1:]} is empty. Check the filters or files it comes from.")
    # Of several data sets the rows may tell the name, as `add_dataset_name_column` has them do.
    columns = [column for column in column_names(dataset) if not (name and column == "dataset_name")]
    ids = tuple(column for column in id_columns if column in columns)
    others = [column for column in columns if column not in ids]
    label = label_column(others, label_columns)
    texts = tuple(column for column in others if column != label)
    plan = DataSetPlan(
        name, texts, label, family.prompts(prompts, name, texts), roles=texts,
        loss=type(loss).__name__, num_rows=num_rows, is_collated=is_collated,
    )  # fmt: skip
    if is_collated:
        checks.check_reserved(columns, where)
        return plan
    checks.check_names(texts, label, where)
    rows = checks.first_rows(dataset)
    for column in ids:
        checks.refuse_missing(rows, column, where, "no id")  # rows without one would belong together
    family.checked_columns(rows, texts, loss, where, modalities)
    shape = checks.checked_shape(loss, texts, label, where)
    if shape is not None:
        if label is not None:
            family.check_labels(rows, label, texts, loss, shape, where)
        if batch_size is not None and batch_size < shape.least_rows(len(texts)):
            raise ValueError(
                f"{type(loss).__name__} takes the other rows of a batch as negatives, but the batch size for {where} is {batch_size}. "
                f"Set `per_device_{split.removesuffix('ing').removesuffix('uation')}_batch_size` to 2 or more, the more the better."
            )
        plan = replace(
            plan,
            label=None if shape.label is Label.NONE else label,
            roles=checks.roles_in(shape, len(texts)),
            has_classes=shape.label is Label.CLASS,
        )
    if family.by_task:
        router_mapping = usual_tasks(router_mapping, name, texts)
    routes = None if router_mapping is None else routes_of(router_mapping, name, texts, where)
    return replace(plan, ids=ids, routes=routes)


class Planned(NamedTuple):
    """Plans, and what they were made of; the data sets are held so that no other one gets the id of one of them."""

    asked: Any
    plans: list[DataSetPlan]
    data: list[Any]


def losses_by_data_set(
    loss: nn.Module | Mapping[str, nn.Module], names: Sequence[str], split: str
) -> dict[str, nn.Module]:
    """The loss of each data set; refused are losses by data set of which one lacks."""
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
    trainer: Any, data: Mapping[str, Any], split: str, batch_size: int, is_collated: bool
) -> list[DataSetPlan]:
    """Settle and check all data sets of a split, by the trainer's arguments, losses and model as they are now.

    The split is "training" or "evaluation", the batch size that over all processes, `is_collated` whether a data collator of the
    user's makes the batches.
    """
    args, family, model = trainer.args, trainer.family, trainer.trained.model
    if data and split == "training":
        checks.check_id_columns(args.id_columns, dict(data))
    if data:
        family.check_prompts(args.prompts, dict(data))
    losses = losses_by_data_set(trainer.loss, list(data), split)
    if args.id_columns and split == "training":
        masks = any(not isinstance(loss, Loss) or loss.mask_duplicates for loss in losses.values())
        if not masks and args.batch_sampler in (BatchSamplers.BATCH_SAMPLER, BatchSamplers.GROUP_BY_LABEL):
            logger.warning(
                "`id_columns` is without effect: no loss has `mask_duplicates=True`, and `batch_sampler` is not 'no_duplicates'."
            )
    has_router = any(isinstance(module, Router) for module in model.modules())
    has_routes = family.by_task or has_router
    if args.router_mapping and not has_routes:
        raise ValueError(
            f"`router_mapping={args.router_mapping}` has no effect, since the model has no Router. Drop it."
        )
    # Where the model takes other things than texts and images, cells are not looked at.
    modalities = model.modalities if model.takes_tokens or "image" in model.modalities else ()
    # The limit that cuts texts is looked at where each is read by itself.
    counted = model if split == "training" and family.keeps_tokens else None
    plans = []
    for name, dataset in data.items():
        plan = plan_data_set(
            dataset, name, split, losses[name], args.prompts, batch_size, trainer._label_columns, modalities,
            id_columns=args.id_columns, router_mapping=args.router_mapping if has_routes else None,
            is_collated=is_collated, family=family,
        )  # fmt: skip
        if not is_collated:
            where = checks.in_words(name, split)
            check_routes(plan, model, where)
            with seeded(()):  # what makes rows anew may draw random numbers, which training should not miss
                found = symptoms(dataset, plan.texts, plan.label, where, counted)
            plan = replace(plan, warnings=(*([] if has_router else unknown_tasks(plan, where)), *found))
        plans.append(plan)
    for warning in [warning for plan in plans for warning in plan.warnings]:
        logger.warning("%s", warning)
    return plans


def check_routes(plan: DataSetPlan, model: nn.Module, where: str) -> None:
    """Refuse routes that the model's Router does not have."""
    routers = [module for module in model.children() if isinstance(module, Router)]
    for router, (column, route) in product(routers, zip(plan.texts, plan.routes or (), strict=False)):
        try:
            router.route(route)
        except ValueError as error:
            raise ValueError(
                f"`router_mapping` sends the column {column!r} of {where} to {route!r}, but the model's routes are "
                f"{listed(router.routes)}.{nearest(str(route), router.routes)} Name one of these."
            ) from error


def unknown_tasks(plan: DataSetPlan, where: str) -> list[str]:
    """A sentence for each column that has a task which means nothing to a model without a Router."""
    return [
        f"`router_mapping` says {task!r} for the column {column!r} of {where}, which is neither 'query' nor 'document', so that its "
        f"texts are embedded as neither.{nearest(str(task), (QUERY, DOCUMENT))} Say one of these."
        for column, task in zip(plan.texts, plan.routes or (), strict=False)
        if task not in (QUERY, DOCUMENT)
    ]


def check_mixture(args: Any, data: Mapping[str, Any]) -> None:
    """Refuse arguments on mixing that do not fit the training data: weights by other names, a stream whose length must be known."""
    weights = args.multi_dataset_weights
    if weights and set(weights) != set(data):
        wrong = sorted(set(weights) ^ set(data))[0]
        raise ValueError(
            f"`multi_dataset_weights` and the training data sets must have the same names, but {wrong!r} is only in one of "
            f"them. The data sets are {', '.join(map(repr, data)) if set(data) - {''} else 'one without a name'}."
        )
    unknown = [name for name, dataset in data.items() if is_stream(dataset) and known_length(dataset) is None]
    if not unknown:
        return
    is_proportional = args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
    where = f"T{checks.in_words(unknown[0], 'training')[1:]} is a stream whose length is not known"
    if args.max_steps <= 0:
        raise ValueError(f"{where}, so that an epoch has no end. Set `max_steps`.")
    if len(data) > 1 and is_proportional and not weights:
        raise ValueError(
            f"{where}, so that there is no proportion. Set `multi_dataset_weights`, or "
            "`multi_dataset_batch_sampler='round_robin'`."
        )
    if len(data) > 1 and args.multi_dataset_exhausted not in (None, Exhausted.RESTART):
        raise ValueError(
            f"{where}; with it, data sets start over until `max_steps`. Drop `multi_dataset_exhausted`."
        )
