"""The metric that tells the best checkpoint: the evaluator's primary one by default; refused where nobody measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers.trainer_utils import SaveStrategy

from likewise.tables import nearest

DEFAULT = "loss"
"""What transformers takes where nothing is named."""


def is_wanted(args: Any) -> bool:
    """Whether the run asks for the best checkpoint."""
    return bool(chooses(args) or args.names_best_metric)


def chooses(args: Any) -> bool:
    """Whether something is done with the best checkpoint."""
    return bool(args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST)


def settle(args: Any, evaluator: Any, data_sets: Sequence[str], model: Any) -> None:
    """Find the metric, as far as it can be known before anything is measured.

    Args:
        args: The training arguments, which keep it.
        evaluator: The evaluator, or None.
        data_sets: The names of the evaluation data sets.
        model: The model, to which an evaluator may adapt.

    Raises:
        ValueError: There is nothing to evaluate, or the metric that was named is none of the losses and there is no evaluator.
    """
    evaluates = getattr(args.eval_strategy, "value", args.eval_strategy) != "no"
    if evaluates and not data_sets and evaluator is None:
        raise ValueError(
            f"`eval_strategy` is {args.eval_strategy.value!r}, but there is nothing to evaluate. Pass an "
            "`eval_dataset` or an `evaluator`, or drop it."
        )
    if args.metric_for_best_model not in (None, DEFAULT, args.found_best_metric):
        args.names_best_metric = True  # also where it was set later
    if not is_wanted(args) or not (
        evaluates or chooses(args)
    ):  # where nothing is measured, a name says nothing
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
        args.metric_for_best_model = args.found_best_metric = f"eval_{primary.removeprefix('eval_')}"
        args.greater_is_better = getattr(evaluator, "greater_is_better", True)


def check_named(
    args: Any, evaluator: Any, data_sets: Sequence[str], measure: Callable[[str], dict[str, float]]
) -> None:
    """Measure once before the first step where only that tells whether a metric that was named exists.

    Args:
        args: The training arguments.
        evaluator: The evaluator, or None.
        data_sets: The names of the evaluation data sets.
        measure: Runs the evaluator, for metrics with a prefix.

    Raises:
        ValueError: It does not.
    """
    if evaluator is None or not (is_wanted(args) and args.names_best_metric):
        return
    primary = str(getattr(evaluator, "primary_metric", None))
    known = [*loss_names(data_sets), f"eval_{primary.removeprefix('eval_')}"]
    if f"eval_{args.metric_for_best_model.removeprefix('eval_')}" not in known:
        first = next(iter(data_sets), "")
        measured = measure(f"eval_{first}" if first else "eval")
        refuse_unmeasured(args.metric_for_best_model, [*loss_names(data_sets), *measured])


def loss_names(data_sets: Iterable[str]) -> list[str]:
    """The metrics that evaluation data sets give."""
    return [f"eval_{name}_loss" if name else "eval_loss" for name in data_sets]


def refuse_unmeasured(metric: str, measured: Iterable[str]) -> None:
    """Refuse a `metric_for_best_model` that nobody measures.

    Raises:
        ValueError: It is not among the measured ones.
    """
    known = sorted(measured)
    name = f"eval_{metric.removeprefix('eval_')}"
    if name in known:
        return
    raise ValueError(
        f"`metric_for_best_model` is {metric!r}, but this run only measures {', '.join(known) or 'nothing'}."
        + (nearest(name, known) or " Name one of these, or pass an `evaluator`.")
    )
