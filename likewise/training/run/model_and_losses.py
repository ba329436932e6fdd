"""What is trained: the model and its losses as one, and the optimiser over their weights.

The functions here are methods of the trainer, which has them by name; `trainer` is what `self` is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import Trainer

from likewise.training.data.prompts import save_prompts, warn_of_other_prompts
from likewise.training.run import sharding
from likewise.training.run.given import check_family
from likewise.training.run.health import Health
from likewise.training.run.objective import half_precision

if TYPE_CHECKING:
    from likewise.model.model import Model


def create_accelerator_and_postprocess(trainer: Any) -> None:
    """Make the accelerator."""
    Trainer.create_accelerator_and_postprocess(trainer)
    trainer._shards = sharding.settle(trainer)


def prepare_loss(trainer: Any, loss: Any, model: Model) -> nn.Module:
    """A loss for this model, of a loss or a function that makes one; on the model's device."""
    check_family(trainer, loss, "loss")
    if not callable(loss):
        raise TypeError(
            f"`loss` is {loss!r}, but should be a loss, a function that makes one from the model, or a dict of these by "
            "data set."
        )
    made: nn.Module = loss if isinstance(loss, nn.Module) else loss(model)
    check_family(trainer, made, "loss")
    return made.to(model.device)


def override_model_in_loss(trainer: Any, loss: nn.Module, model: nn.Module) -> nn.Module:
    """The loss, with this model in the place of every model of its family that it keeps as `model`.

    What wraps model and losses in one, as `training_step` is handed it, holds the loss already: it comes back as it is.
    """
    if not isinstance(model, type(trainer.model)):
        return loss
    for name, child in loss.named_children():
        if name == "model" and isinstance(child, type(trainer.model)):
            loss.model = model
        else:
            setattr(loss, name, trainer.override_model_in_loss(child, model))
    return loss


def prepared(trainer: Any, given: Any, model: Model) -> Any:
    """The loss, or the losses by data set, of what was given."""
    if isinstance(given, Mapping):
        return {name: prepared(trainer, loss, model) for name, loss in given.items()}
    loss = trainer.prepare_loss(given, model)
    own = getattr(loss, "model", None)
    is_others = isinstance(own, type(model)) and own is not model
    return trainer.override_model_in_loss(loss, model) if is_others else loss


def call_model_init(trainer: Any, trial: Any = None) -> Model:
    """A fresh model, and losses that belong to it."""
    model: Any = Trainer.call_model_init(trainer, trial)
    check_family(trainer, model, "model")
    if trainer._is_made:
        given = trainer._loss_given if trainer.loss is trainer._loss_made else trainer.loss
        trainer.loss = trainer._loss_made = prepared(trainer, given, model)
        trainer.model = model
    fresh: Model = model
    return fresh


def wrap_model(trainer: Any, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
    """What is trained, ready for the run: also where a search has just made the model."""
    is_sharded = sharding.is_sharded(trainer.trained)
    if not is_sharded:
        trainer.trained.to(trainer.args.device)
    trainer._hooks.close()
    trainer._hooks.enter_context(half_precision(trainer.model, trainer._half))
    trainer.health = Health(trainer.model)
    if trainer.args.save_prompts:
        save_prompts(trainer.plans["train"], trainer.model)
    warn_of_other_prompts(trainer.plans["train"], trainer.model)
    is_plain = is_sharded or not training
    wrapped: nn.Module = trainer.trained if is_plain else trainer.accelerator.prepare_model(trainer.trained)
    return wrapped


def create_optimizer(trainer: Any, model: nn.Module | None = None) -> torch.optim.Optimizer:
    """The optimiser over the model's weights and those of the losses."""
    before, made = trainer._optimizer_made
    is_of_others = before is not trainer.trained or trainer._shards is not None
    if made is not None and is_of_others and made is unwrapped(trainer.optimizer):
        trainer.optimizer = None  # it is for weights that were exchanged
    is_given = trainer.optimizer is not None
    plugin = trainer._shards
    if plugin is not None:
        if is_given:
            raise ValueError(
                "`optimizers` has an optimiser of whole weights, but FSDP trains shards. Describe it by `optim` and the like, or "
                "by `optimizer_cls_and_kwargs`."
            )
        sharding.shard(trainer.trained, plugin, trainer.args.device)
    if not is_given and trainer.args.learning_rate_mapping and trainer.optimizer_cls_and_kwargs is not None:
        kind, options = trainer.optimizer_cls_and_kwargs
        trainer.optimizer = kind(parameter_groups(trainer), **options)
    optimizer: torch.optim.Optimizer = Trainer.create_optimizer(trainer, trainer.trained)
    if not is_given:
        trainer._optimizer_made = trainer.trained, optimizer
    if plugin is not None:
        optimizer.register_load_state_dict_pre_hook(sharding.share_states)
    return optimizer


def get_optimizer_cls_and_kwargs(trainer: Any, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
    """The optimiser's class and its arguments; with `learning_rate_mapping` among them the groups of parameters."""
    weights: Any = trainer.trained if model is None else model
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args, weights)
    if args.learning_rate_mapping:
        if {"params", "model", "optimizer_dict"} & set(options):
            raise ValueError(
                f"`learning_rate_mapping` does not go with `optim={args.optim!r}`, which groups the parameters itself. "
                "Drop one of them."
            )
        options["optimizer_dict"] = parameter_groups(trainer)
    return kind, options


def parameter_groups(trainer: Any) -> list[dict[str, Any]]:
    """The weights in groups, one for each learning rate and weight decay, for the optimiser.

    The first pattern of `learning_rate_mapping` that is found in a parameter's name says its rate; one that is found in none is
    refused. Of the model decay those that transformers says, of a loss's own the matrices.
    """
    args, named = trainer.args, trainer.trained.named_trained_parameters()
    rates: dict[str, float] = args.learning_rate_mapping
    for pattern in rates:
        if not any(re.search(pattern, name) for name in named):
            raise ValueError(
                f"`learning_rate_mapping` has {pattern!r}, which matches no parameter. Their names look like "
                f"{', '.join(map(repr, list(named)[:2]))}."
            )
    decayed = {f"model.{name}" for name in trainer.get_decay_parameter_names(trainer.model)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        rate = next((rates[pattern] for pattern in rates if re.search(pattern, name)), args.learning_rate)
        decays = name in decayed or (not name.startswith("model.") and parameter.dim() > 1)
        groups.setdefault((rate, args.weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def unwrapped(optimizer: Any) -> Any:
    """The optimiser itself, without what accelerate puts around it."""
    return getattr(optimizer, "optimizer", optimizer)
