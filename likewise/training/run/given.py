"""What the trainer was given, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from likewise.model.placement import refuse_spread
from likewise.training.run.arguments import BaseTrainingArguments
from likewise.types import MODEL_TYPES


def check_given(
    trainer: Any, model: Any, args: Any, loss: Any, model_init: Any, compute_metrics: Any, preprocess: Any
) -> None:
    """Refuse arguments of the trainer that cannot be, or cannot take effect."""
    wanted = trainer.family.model_name
    if not isinstance(args, BaseTrainingArguments):
        raise TypeError(
            f"`args` is a {type(args).__name__}, but should be {wanted}TrainingArguments, which takes the same "
            "arguments and more."
        )
    for name, value in (("compute_metrics", compute_metrics), ("preprocess_logits_for_metrics", preprocess)):
        if value is not None:
            raise ValueError(
                f"`{name}` has nothing to work on: losses return no predictions. Use an `evaluator`."
            )
    if model is None and model_init is None:
        raise ValueError("Pass a `model` to train (or `model_init`, a function that makes one).")
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"`model` is {model!r}, but should be a {wanted}. Load it: `{wanted}({model!r})`.")
    if model is not None:
        check_family(trainer, model, "model")
        refuse_spread(model, "be trained")
    if model is not None and model_init is not None:
        raise ValueError("Pass either `model` or `model_init`, not both.")
    losses = loss.values() if isinstance(loss, Mapping) else [loss]
    if model_init is not None and any(isinstance(each, nn.Module) for each in losses):
        raise ValueError(
            "With `model_init` every run has a model of its own, but the `loss` belongs to one. Pass a function: "
            "`loss=lambda model: MultipleNegativesRankingLoss(model)`, or the class itself."
        )


def check_family(trainer: Any, given: Any, argument: str) -> None:
    """Refuse a model, loss or evaluator that is known to be of another family than the trainer's."""
    wanted = trainer.family.model_name
    family = getattr(given, "model_type", None)
    if family in MODEL_TYPES and family != wanted:
        what = given.__name__ if isinstance(given, type) else type(given).__name__
        instead = f"load it as a {wanted}" if argument == "model" else f"choose one for a {wanted}"
        raise TypeError(
            f"The {argument} {what} is for a {family}, but {type(trainer).__name__} trains a {wanted}. Use "
            f"{family}Trainer, or {instead}."
        )


def check_callback(callback: Any) -> None:
    """Refuse what is no callback of transformers, nor has its methods, such as a callback's name."""
    if not callable(getattr(callback, "on_init_end", None)):
        raise TypeError(
            f"`callbacks` takes objects and classes of transformers' TrainerCallback, but got {callback!r}. Name reporters such "
            "as 'tensorboard' in the arguments' `report_to`."
        )
