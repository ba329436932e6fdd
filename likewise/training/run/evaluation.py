"""Evaluation in the course of a run: losses on data sets, evaluators, the best checkpoint so far.

The functions here are methods of the trainer, which has them by name; `trainer` is what `self` is there.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from likewise.engine.modes import eval_mode
from likewise.training.run import best_metric, evaluating, sharding
from likewise.training.run.objective import half_precision

logger = logging.getLogger(__name__)


def evaluation_loop(
    trainer: Any,
    dataloader: DataLoader[Any],
    description: str,
    prediction_loss_only: bool | None = None,
    ignore_keys: list[str] | None = None,
    metric_key_prefix: str = "eval",
) -> EvalLoopOutput:
    """The mean loss over a data set, and what the evaluators measure (with the first data set only)."""
    if not sharding.is_sharded(trainer.trained):
        trainer.trained.to(trainer.args.device)
    trainer.callback_handler.eval_dataloader = dataloader
    if hasattr(trainer.optimizer, "eval") and callable(trainer.optimizer.eval):
        trainer.optimizer.eval()  # those without a schedule have other weights to measure

    def measure(batch: Any) -> dict[str, torch.Tensor]:
        trainer._evaluation_parts = {}
        loss, _, _ = trainer.prediction_step(trainer.model, batch, True, ignore_keys=ignore_keys)
        trainer.control = trainer.callback_handler.on_prediction_step(
            trainer.args, trainer.state, trainer.control
        )
        parts: dict[str, torch.Tensor] = trainer._evaluation_parts
        return ({} if loss is None else {"loss": loss}) | parts

    with (
        sharding.whole(trainer.trained),
        eval_mode(trainer.trained),
        torch.no_grad(),
        half_precision(trainer.model, None if trainer.is_in_train else trainer._half),
    ):
        means, rows = evaluating.mean_losses(measure, evaluating.shared_over_processes(dataloader))
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        metrics |= trainer._evaluators_metrics(metric_key_prefix)
    nothing: Any = None
    return EvalLoopOutput(predictions=nothing, label_ids=nothing, metrics=metrics, num_samples=rows)


def evaluate(
    trainer: Any, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
) -> Any:
    """Losses on the evaluation data, and the evaluators' metrics."""
    # Where this calls itself, for one after the other, it is one of them.
    is_one_of_them = any(each is eval_dataset for each in trainer._evaluated.values())
    if eval_dataset is not None and not isinstance(eval_dataset, str) and not is_one_of_them:
        eval_dataset = trainer.preprocess_dataset(eval_dataset, dataset_name="eval")
    if isinstance(eval_dataset, Mapping):
        eval_dataset = dict(eval_dataset)
        trainer._evaluated = eval_dataset
    if (eval_dataset if eval_dataset is not None else trainer.eval_dataset) == {}:
        raise ValueError(
            "`eval_dataset` is an empty dict: there is nothing to evaluate. Put data sets into it, or drop it."
        )
    return Trainer.evaluate(trainer, eval_dataset, ignore_keys, metric_key_prefix)


def determine_best_metric(trainer: Any, metrics: dict[str, float], trial: Any) -> bool:
    """Whether an evaluation is the best so far; one that gave no number never is."""
    name = best_metric.full_name(str(trainer.args.metric_for_best_model))
    value = metrics.get(name)
    if value is not None and math.isnan(value):
        logger.warning(
            "The metric %r that tells the best checkpoint is NaN at step %d, which is taken for no result. Lower "
            "`learning_rate`, or look at the evaluation data.",
            name, trainer.state.global_step,
        )  # fmt: skip
        return False
    return bool(Trainer._determine_best_metric(trainer, metrics, trial))


def evaluators_metrics(trainer: Any, prefix: str, write: bool = True) -> dict[str, float]:
    """What the evaluators measure, by name; nothing for data sets behind the first."""
    names = trainer._evaluation_names
    evaluator = trainer._evaluator
    if names and names[0] and prefix.startswith("eval_"):
        if prefix != f"eval_{names[0]}":
            return {}
        prefix = "eval"
    if evaluator is None:
        return {}
    folder = os.path.join(str(trainer.args.output_dir), "eval") if write else None
    with eval_mode(trainer.trained):
        metrics = evaluating.run_evaluator(
            evaluator, trainer.model, folder, trainer.state.epoch or 0, trainer.state.global_step,
            trainer._kept_tokens, prefix,
        )  # fmt: skip
    best_metric.take_primary(trainer.args, evaluator)  # some know it only now
    return metrics
