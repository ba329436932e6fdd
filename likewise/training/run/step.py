"""A step of the trainer: from a batch to its loss, and what is logged of it.

The functions here are methods of the trainer, which has them by name; `trainer` is what `self` is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from likewise.training.data.batch import PACKED, num_tokens, with_ids
from likewise.training.data.checks import roles_of
from likewise.training.run import evaluating
from likewise.training.run.objective import Objective


def compute_loss(
    trainer: Any,
    model: nn.Module,
    inputs: dict[str, Any],
    return_outputs: bool = False,
    num_items_in_batch: Any = None,
) -> Any:
    """The loss of a batch; its named parts are averaged until the next log."""
    name = inputs.pop("dataset_name", None) or ""
    features, label = trainer.collect_features(inputs)
    features = with_ids(trainer.model, features, inputs)
    loss_module = trainer.trained.loss_of(name)
    is_training = trainer.model.training
    step = forward_of(trainer, model)(features, label, name)
    if is_training:
        trainer.health.count(features)
        if will_be_logged(trainer):
            number = len(step.embeddings)
            trainer.health.look(step.embeddings, features, roles_of(loss_module, number) or ("",) * number)
    if step.parts:
        trainer.track_loss_components(step.parts)
    return (step.loss, {}) if return_outputs else step.loss


def forward_of(trainer: Any, model: nn.Module) -> nn.Module:
    """What computes a batch's loss: the wrapped model where several processes train, else model and loss as they are."""
    trained: Objective = trainer.trained
    if model is trainer.model or isinstance(model, Objective):
        return trained
    if trainer.accelerator.unwrap_model(model, keep_torch_compile=False) is not trained:
        raise ValueError(
            "`loss` or `model` was exchanged in the course of a run on several processes. Set it before `train()`."
        )
    return model


def collect_features(trainer: Any, inputs: Mapping[str, Any]) -> tuple[Any, torch.Tensor | None]:
    """The padded features of each text column of a batch, and its labels; override it to change either."""
    return trainer.family.features(inputs, trainer._text_columns), inputs.get("label")


def track_loss_components(trainer: Any, loss: Mapping[str, torch.Tensor]) -> None:
    """Keep the named parts of a loss for the next log, or for the evaluation's means."""
    if trainer.model.training:
        for name, value in loss.items():
            trainer._parts.setdefault(name, []).append(value.detach())
    else:
        trainer._evaluation_parts |= loss


def prepare_input(trainer: Any, data: Any) -> Any:
    """A batch on the device where the run computes."""
    if isinstance(data, PACKED):
        return data.to(trainer.args.device)
    return Trainer._prepare_input(trainer, data)


def will_be_logged(trainer: Any) -> bool:
    """Whether the step under way is one that is logged."""
    every = getattr(trainer.state, "logging_steps", 0) or 0
    first = trainer.args.logging_first_step and trainer.state.global_step == 0
    return first or every < 1 or (trainer.state.global_step + 1) % int(every) == 0


def log(trainer: Any, logs: dict[str, float], start_time: float | None = None) -> None:
    """Log, with the averages of the losses' named parts and the figures of health."""
    if "loss" in logs:
        parts = trainer._parts.items()
        own = {name: (float(torch.stack(values).sum()), len(values)) for name, values in parts}
        trainer._parts.clear()
        everyone = evaluating.over_processes(own)
        for name in dict.fromkeys(name for each in everyone for name in each):
            found = [each[name] for each in everyone if name in each]
            logs[name] = sum(total for total, _ in found) / sum(count for _, count in found)
        logs |= trainer.health.take()
    Trainer.log(trainer, logs, start_time)


def floating_point_ops(trainer: Any, inputs: dict[str, Any]) -> int:
    """Not counted."""
    return 0


def track_num_input_tokens(trainer: Any, inputs: dict[str, Any]) -> None:
    """Count the tokens of a batch over all processes, where the arguments ask for it."""
    if trainer.args.include_num_input_tokens_seen != "no":
        trainer.state.num_input_tokens_seen += sum(evaluating.over_processes(num_tokens(inputs)))
