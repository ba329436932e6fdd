"""The metric that tells the best checkpoint: the evaluator's primary one by default; refused where nobody measures it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers.trainer_utils import SaveStrategy

from likewise.tables import nearest

DEFAULT = "loss"
"""What transformers takes where nothing is named."""


def chooses(args: Any) -> bool:
    """Whether something is done with the best checkpoint."""
    return bool(args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST)


def is_wanted(args: Any) -> bool:
    """Whether the run asks for the best checkpoint."""
    return bool(chooses(args) or args.names_best_metric)


def full_name(metric: str) -> str:
    """A metric's name as an evaluation has it."""
    return f"eval_{metric.removeprefix('eval_')}"


def settle(trainer: Any, model: Any) -> None:
    """Find the metric, as far as it can be known before anything is measured, and let the arguments keep it.

    Refused are evaluations of nothing, and without an evaluator a metric that is none of the losses. An evaluator may adapt to the
    model.
    """
    args, evaluator, data_sets = trainer.args, trainer.evaluator, trainer._evaluation_names
    evaluates = getattr(args.eval_strategy, "value", args.eval_strategy) != "no"
    if evaluates and not data_sets and evaluator is None:
        raise ValueError(
            f"`eval_strategy` is {args.eval_strategy.value!r}, but there is nothing to evaluate. Pass an "
            "`eval_dataset` or an `evaluator`, or drop it."
        )
    if args.metric_for_best_model not in (None, DEFAULT, args.found_best_metric):
        args.names_best_metric = True  # also where it was set later
    # Where nothing is measured, a name says nothing.
    if not is_wanted(args) or not (evaluates or chooses(args)):
        return
    if evaluator is None:
        if not args.names_best_metric:  # also where there was an evaluator before
            args.metric_for_best_model, args.greater_is_better = DEFAULT, False
        refuse_unmeasured(args.metric_for_best_model, loss_names(data_sets))
        return
    if hasattr(evaluator, "prepare"):
        evaluator.prepare(model)
    take_primary(args, evaluator)


def take_primary(args: Any, evaluator: Any) -> None:
    """Let the evaluator's primary metric tell the best checkpoint, unless another one was named."""
    primary = getattr(evaluator, "primary_metric", None)
    if primary and is_wanted(args) and not args.names_best_metric:
        args.metric_for_best_model = args.found_best_metric = full_name(primary)
        args.greater_is_better = getattr(evaluator, "greater_is_better", True)


def check_named(trainer: Any) -> None:
    """Measure once before the first step where only that tells whether a metric that was named exists; refuse one that does not."""
    args, evaluator, data_sets = trainer.args, trainer.evaluator, trainer._evaluation_names
    if evaluator is None or not (is_wanted(args) and args.names_best_metric):
        return
    known = [*loss_names(data_sets), full_name(str(getattr(evaluator, "primary_metric", None)))]
    if full_name(args.metric_for_best_model) not in known:
        first = next(iter(data_sets), "")
        measured = trainer._evaluators_metrics(f"eval_{first}" if first else "eval", write=False)
        refuse_unmeasured(args.metric_for_best_model, [*loss_names(data_sets), *measured])


def loss_names(data_sets: Iterable[str]) -> list[str]:
    """The metrics that evaluation data sets give."""
    return [f"eval_{name}_loss" if name else "eval_loss" for name in data_sets]


def refuse_unmeasured(metric: str, measured: Iterable[str]) -> None:
    """Refuse a `metric_for_best_model` that nobody measures."""
    known = sorted(measured)
    name = full_name(metric)
    if name in known:
        return
    raise ValueError(
        f"`metric_for_best_model` is {metric!r}, but this run only measures {', '.join(known) or 'nothing'}."
        + (nearest(name, known) or " Name one of these, or pass an `evaluator`.")
    )
