"""A run's settings in words, for the plan."""

from __future__ import annotations

from typing import Any

from likewise.card.data_sets import by_name
from likewise.training.data.data_set_plan import TrainingPlan
from likewise.training.data.symptoms import overlaps
from likewise.training.run.arguments import MultiDatasetBatchSamplers


def plan_of_run(trainer: Any) -> TrainingPlan:
    """What a trainer's run will do, with what looks wrong."""
    plans = trainer.plans
    texts = {f"{split} {plan.name}": plan.texts for split, some in plans.items() for plan in some}
    found = overlaps(by_name(trainer.train_dataset), by_name(trainer.eval_dataset), texts)
    return TrainingPlan(tuple(plans["train"]), tuple(plans["eval"]), settings_of(trainer), tuple(found))


def settings_of(trainer: Any) -> dict[str, str]:
    """What the plan says beside the data, by title."""
    args, evaluator = trainer.args, trainer.evaluator
    batch = f"{args.per_device_train_batch_size} rows"
    if args.world_size > 1:
        batch += f" on each of {args.world_size} processes"
        if args.is_sharded:
            batch += " with a shard of the weights"
    if args.gradient_accumulation_steps > 1:
        batch += f", {args.gradient_accumulation_steps} accumulated"
    if args.micro_batch_tokens is not None:
        batch += f", embedded in recomputed chunks of {args.micro_batch_tokens:,} tokens"
    run = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
    settings = {
        "batch": f"{batch}, sampled by {_name(args.batch_sampler)}",
        "run": f"{run}, {_optimizer(args, trainer.optimizer)}",
    }
    if len(by_name(trainer.train_dataset)) > 1:
        settings["mix"] = _mixture(args)
    if evaluator is not None:
        names = getattr(evaluator, "evaluators", [evaluator])
        settings["measure"] = ", ".join(f"{type(e).__name__} {getattr(e, 'name', '')}".strip() for e in names)
    return settings


def _optimizer(args: Any, optimizer: Any) -> str:
    if optimizer is None:
        return f"learning rate {args.learning_rate:g}, {_name(args.optim)}"
    rates = sorted({group.get("initial_lr", group["lr"]) for group in optimizer.param_groups})
    return f"learning rate {' and '.join(f'{rate:g}' for rate in rates)}, {type(optimizer).__name__}"


def _mixture(args: Any) -> str:
    mixture = _name(args.multi_dataset_batch_sampler)
    if args.multi_dataset_weights:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in args.multi_dataset_weights.items())
        mixture += f" to weights ({weights})"
    if args.multi_dataset_temperature != 1:
        mixture += f", temperature {args.multi_dataset_temperature:g}"
    weighted = args.multi_dataset_weights or args.multi_dataset_temperature != 1
    in_turn = args.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.ROUND_ROBIN
    default = "stop" if weighted or in_turn else "drop"
    return f"{mixture}; where a data set is exhausted: {_name(args.multi_dataset_exhausted or default)}"


def _name(value: Any) -> str:
    return str(getattr(value, "value", getattr(value, "__name__", value)))
