"""BaseTrainer: transformers' Trainer around a model, its data sets, losses and evaluators."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, HubStrategy

from likewise.card.callback import BaseModelCardCallback, default_arguments
from likewise.engine import ColumnBatch
from likewise.engine.embed import Embed
from likewise.engine.modes import eval_mode
from likewise.engine.pair_batch import PairBatch
from likewise.evaluation import SentenceEvaluator, SequentialEvaluator
from likewise.model.hub import with_retries
from likewise.model.placement import refuse_spread
from likewise.modules.text import KeptTokens
from likewise.training.data import loading
from likewise.training.data.batch import num_tokens, with_ids
from likewise.training.data.checks import check_reserved, roles_of
from likewise.training.data.columns import LABEL_COLUMNS, column_names
from likewise.training.data.data_collator import agree, makes_batches
from likewise.training.data.data_set_plan import DataSetPlan, TrainingPlan
from likewise.training.data.family import Family, Making
from likewise.training.data.plan import plan_data_sets
from likewise.training.data.prefetch import Prefetched
from likewise.training.data.prompts import save_prompts, warn_of_other_prompts
from likewise.training.run import best_metric, checkpoints, evaluating
from likewise.training.run.arguments import BaseTrainingArguments
from likewise.training.run.health import Health
from likewise.training.run.learning_rates import parameter_groups
from likewise.training.run.objective import Objective, half_precision
from likewise.training.run.settings import settings_in_words
from likewise.training.run.uploads import push_checkpoint

if TYPE_CHECKING:
    from likewise.model.model import Model

logger = logging.getLogger(__name__)

HANDED_A_BATCH = (
    "training_step", "compute_loss", "collect_features", "prediction_step", "get_batch_samples", "floating_point_ops",
    "_prepare_inputs", "_prepare_input", "get_train_dataloader", "get_eval_dataloader", "get_test_dataloader",
)  # fmt: skip
"""Methods that a batch goes through. Where one of them is a subclass's, batches are by name, as the reference has them."""
PAST_METHODS = {
    "maybe_add_prompts_or_dataset_name_column": "preprocess_dataset",
    "add_prompts_or_dataset_name_column": "add_dataset_name_column",
    "add_prompts_or_dataset_name_transform": "add_dataset_name_transform",
    "add_dataset_name_function": "add_dataset_name_transform",
    "_build_dataloader": "get_train_dataloader",
}
"""Methods that the reference's older releases called, or that are its own business; and what to override in their place."""


class BaseTrainer(Trainer):
    """Trains a model, of whatever family. A family's trainer is a subclass that says what differs.

    The data, the losses and the arguments are settled to a plan, which is checked when the trainer is made and printed
    when the training begins.

    Args:
        model: The model to train.
        args: The training arguments; None for the defaults, in the folder `tmp_trainer`.
        train_dataset: A data set, or several by name. One column may be the label: the first of label, labels, score,
            scores. Every other column is a text input, in order.
        eval_dataset: The same, to measure the loss on.
        loss: A loss, or one for each data set by name; or functions that make them from the model. None for the family's usual one.
        evaluator: An evaluator or several; they run whenever the loss is evaluated.
        data_collator: Makes a batch of rows, `{column}_input_ids` and so on, in place of the trainer's own collation. Its
            `valid_label_columns` are the names that a label column may have.
        tokenizer: Kept as `processing_class`; the model has its own.
        model_init: A function that makes the model (perhaps from a trial), for hyper-parameter searches. Losses are then
            functions of the model.
        compute_metrics: Not used: losses return no predictions. Use an evaluator.
        callbacks: transformers' callbacks; they see the model as `model`.
        optimizers: An optimiser and a schedule in place of those that the arguments describe.
        optimizer_cls_and_kwargs: A class of optimisers and its arguments, in place of the one that `optim` names.
        preprocess_logits_for_metrics: Not used.
        processing_class: The newer name of `tokenizer`.

    Raises:
        ValueError: The data does not fit the loss, or the arguments do not fit the run.
    """

    model: Any
    args: Any
    train_dataset: Any
    eval_dataset: Any
    model_wrapped: Any
    loss: Any
    data_collator: Any
    optimizer: Any
    family: ClassVar[Family]
    """How rows become batches, and batches a loss."""
    plain_collator: ClassVar[type]
    """The class of collators that leave it to the trainer."""
    model_card_callback_class: Any = BaseModelCardCallback
    data_collator_class: Any
    training_args_class: Any

    def __init__(
        self,
        model: Model | None = None,
        args: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: SentenceEvaluator | Sequence[SentenceEvaluator] | None = None,
        data_collator: Any = None,
        tokenizer: Any = None,
        model_init: Callable[..., Model] | None = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Any = None,
        *,
        processing_class: Any = None,
    ) -> None:
        args = self.training_args_class("tmp_trainer") if args is None else args
        _check_given(self, model, args, model_init, compute_metrics, preprocess_logits_for_metrics)
        _check_losses_follow(loss, model_init)
        self._is_made = False
        self.args = args
        if model is None:
            self.model_init: Any = model_init
            torch.manual_seed(args.seed)
            model = self.call_model_init()
        assert model is not None
        self.evaluator, self.eval_dataset = evaluator, eval_dataset
        best_metric.settle(args, self._evaluator, self._evaluation_names, model)
        processing_class = processing_class or tokenizer or getattr(model, "tokenizer", None)
        if data_collator is None:
            data_collator = self.get_data_collator(model, args, processing_class)
        super().__init__(
            model=model if model_init is None else None,
            args=args,
            eval_dataset=eval_dataset if eval_dataset is not None or evaluator is None else {},
            data_collator=data_collator,
            processing_class=processing_class,
            model_init=model_init,  # type: ignore[arg-type]
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self.model_accepts_loss_kwargs = False
        self.can_return_loss = True
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._evaluation_parts: dict[str, torch.Tensor] = {}
        self._ahead: Prefetched | None = None
        self._reads_ahead = False
        self._aside: str | None = None
        self._kept_tokens = KeptTokens()
        self._hooks = ExitStack()
        self._agreed: dict[str, Any] = {}
        self._planned: dict[str, _Planned] = {}
        self._evaluated: Mapping[str, Any] = {}
        self._optimizer_made: tuple[Any, Any] = (None, None)
        self._objective: Objective | None = None
        self._loss_given = self.get_default_loss if loss is None else loss
        self.loss = self._loss_made = self._prepared(self._loss_given, self.model)
        self._is_made = True
        self.model_wrapped = self.trained
        self.health = Health(self.model)
        # Only now: transformers would ask a stream for its length.
        self.train_dataset = self.preprocess_dataset(train_dataset, dataset_name="train")
        self.eval_dataset = self.preprocess_dataset(eval_dataset, dataset_name="eval")
        self._check_run()
        self.add_model_card_callback(default_arguments(type(args)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse methods of the reference that nothing calls here."""
        super().__init_subclass__(**kwargs)
        for name, instead in PAST_METHODS.items():
            if name in vars(cls):
                raise TypeError(
                    f"`{cls.__name__}.{name}` would never be called. Override `{instead}` in its place."
                )

    def _is_replaced(self, *names: str) -> bool:
        """Whether one of these methods is a subclass's, or was put on this trainer."""
        return any(
            name in vars(self) or getattr(type(self), name) is not getattr(BaseTrainer, name)
            for name in names
        )

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add the callback that keeps what the model card tells of the run; override it to do without, or use your own.

        Args:
            default_args_dict: The arguments' defaults.
        """
        self.add_callback(self.model_card_callback_class(self))

    # What is trained

    @property
    def trained(self) -> Objective:
        """The model and its losses as one module: of `model` and `loss` as they are now."""
        known = self._objective
        if known is not None and self.model is None:  # a search has none between two runs
            return known
        if known is not None and known.model is self.model and _same(known, self.loss, self._embed):
            return known
        previous = self.model if known is None else known.model
        if getattr(getattr(self.data_collator, "preprocess_fn", None), "__self__", None) is previous:
            self.data_collator.preprocess_fn = self.model.preprocess
        if self.loss is not self._loss_made or previous is not self.model:
            self.loss = self._loss_made = self._prepared(self.loss, self.model)
        self._objective = Objective(self.model, self.loss, self._embed, self.family)
        self._objective.to(self.model.device)
        return self._objective

    @property
    def _embed(self) -> Embed | None:
        """How all losses embed, where the arguments say so."""
        tokens = self.args.micro_batch_tokens
        return None if tokens is None else Embed(tokens, output=self.family.output)

    @property
    def plans(self) -> dict[str, list[DataSetPlan]]:
        """What is trained and evaluated on, by split: of data, losses, arguments and collator as they are now."""
        return {
            "train": self._plans_of("train", _by_name(self.train_dataset)),
            "eval": self._plans_of("eval", _by_name(self.eval_dataset)),
        }

    def _plans_of(self, split: str, data: Mapping[str, Any]) -> list[DataSetPlan]:
        args, trained, collator = self.args, self.trained, self._collator
        self._agreed = agree(self.data_collator, args, self._agreed)
        is_training = split == "train"
        batch_size = (
            args.per_device_train_batch_size * args.world_size if is_training else args.eval_batch_size
        )
        state = copy.deepcopy((args.prompts, args.router_mapping, args.id_columns, list(self._label_columns)))
        data_sets = [
            (name, id(dataset), getattr(dataset, "_fingerprint", None)) for name, dataset in data.items()
        ]
        asked = (data_sets, batch_size, state, args.batch_sampler, collator is None, trained)
        known = self._planned.get(split)
        if known is None or known.asked != asked:
            plans = plan_data_sets(
                data, self.loss, args, batch_size, "training" if is_training else "evaluation", trained.model,
                self._label_columns, collator is not None, self.family,
            )  # fmt: skip
            known = self._planned[split] = _Planned(asked, plans, list(data.values()))
        return known.plans

    def _check_run(self) -> None:
        """Refuse what cannot be trained or evaluated as everything is set now."""
        best_metric.settle(self.args, self._evaluator, self._evaluation_names, self.trained.model)
        plans = self.plans
        loading.check_mixture(self.args, _by_name(self.train_dataset))
        if plans["train"] and not any(p.requires_grad for p in self.trained.parameters()):
            raise ValueError(
                "There is nothing to train: no parameter of the model or the loss has `requires_grad`. Unfreeze some, e.g. "
                "`model[0].requires_grad_(True)`."
            )

    @property
    def _collator(self) -> Any:
        """The data collator, where it makes other batches than the trainer's own way."""
        return (
            self.data_collator
            if makes_batches(self.data_collator, self.trained.model, self.plain_collator)
            else None
        )

    @property
    def _label_columns(self) -> Sequence[str]:
        return getattr(self.data_collator, "valid_label_columns", LABEL_COLUMNS)

    @property
    def evaluator(self) -> Any:
        """The evaluator, or None; several become a SequentialEvaluator, also where they are set later."""
        return self._evaluator

    @evaluator.setter
    def evaluator(self, evaluator: Any) -> None:
        several = isinstance(evaluator, list | tuple)
        for each in evaluator if several else [evaluator]:
            if each is not None and not callable(each):
                raise TypeError(
                    f"`evaluator` is {each!r}, but should be an evaluator, or a list of them: "
                    "`EmbeddingSimilarityEvaluator(sentences1, sentences2, scores)`."
                )
        self._evaluator = SequentialEvaluator(list(evaluator)) if several else evaluator

    @property
    def _evaluation_names(self) -> list[str]:
        return list(_by_name(self.eval_dataset))

    def get_default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given; override it to use another."""
        raise NotImplementedError

    def prepare_loss(self, loss: Any, model: Model) -> nn.Module:
        """A loss for this model, of a loss or a function that makes one; on the model's device."""
        return _loss_of(loss, model).to(model.device)

    def override_model_in_loss(self, loss: nn.Module, model: nn.Module) -> nn.Module:
        """The loss, with this model in the place of every model of its family that it keeps as `model`.

        What wraps model and losses in one, as `training_step` is handed it, holds the loss already: it comes back as it is.
        """
        if not isinstance(model, type(self.model)):
            return loss
        for name, child in loss.named_children():
            if name == "model" and isinstance(child, type(self.model)):
                loss.model = model
            else:
                setattr(loss, name, self.override_model_in_loss(child, model))
        return loss

    def _prepared(self, given: Any, model: Model) -> Any:
        """The loss, or the losses by data set, of what was given."""
        if isinstance(given, Mapping):
            return {name: self._prepared(loss, model) for name, loss in given.items()}
        loss = self.prepare_loss(given, model)
        own = getattr(loss, "model", None)
        return (
            self.override_model_in_loss(loss, model)
            if isinstance(own, type(model)) and own is not model
            else loss
        )

    def call_model_init(self, trial: Any = None) -> Model:
        """A fresh model, and losses that belong to it."""
        model: Any = super().call_model_init(trial)
        if self._is_made:
            given = self._loss_given if self.loss is self._loss_made else self.loss
            self.loss = self._loss_made = self._prepared(given, model)
            self.model = model
        fresh: Model = model
        return fresh

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        """What is trained, ready for the run: also where a search has just made the model."""
        self.trained.to(self.args.device)
        self._hooks.close()
        self._hooks.enter_context(half_precision(self.model, self._half))
        self.health = Health(self.model)
        if self.args.save_prompts:
            save_prompts(self.plans["train"], self.model)
        warn_of_other_prompts(self.plans["train"], self.model)
        wrapped: nn.Module = self.accelerator.prepare_model(self.trained) if training else self.trained
        return wrapped

    @property
    def _half(self) -> torch.dtype | None:
        return torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser over the model's weights and those of the losses."""
        before, made = self._optimizer_made
        if made is not None and before is not self.trained and made is _unwrapped(self.optimizer):
            self.optimizer = None  # it is for weights that were exchanged
        is_given = self.optimizer is not None
        if not is_given and self.args.learning_rate_mapping and self.optimizer_cls_and_kwargs is not None:
            kind, options = self.optimizer_cls_and_kwargs
            self.optimizer = kind(self._parameter_groups(), **options)
        optimizer: torch.optim.Optimizer = super().create_optimizer(self.trained)
        if not is_given:
            self._optimizer_made = self.trained, optimizer
        return optimizer

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """The optimiser's class and its arguments; with `learning_rate_mapping` among them the groups of parameters."""
        weights: Any = self.trained if model is None else model
        kind, options = super().get_optimizer_cls_and_kwargs(args, weights)
        if args.learning_rate_mapping:
            if {"params", "model", "optimizer_dict"} & set(options):
                raise ValueError(
                    f"`learning_rate_mapping` does not go with `optim={args.optim!r}`, which groups the parameters itself. "
                    "Drop one of them."
                )
            options["optimizer_dict"] = self._parameter_groups()
        return kind, options

    def _parameter_groups(self) -> list[dict[str, Any]]:
        decayed = {f"model.{name}" for name in self.get_decay_parameter_names(self.model)}
        return parameter_groups(
            self.trained.named_trained_parameters(), decayed, self.args.learning_rate_mapping,
            self.args.learning_rate, self.args.weight_decay,
        )  # fmt: skip

    # A step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch; its named parts are averaged until the next log."""
        name = inputs.pop("dataset_name", None) or ""
        features, label = self.collect_features(inputs)
        features = with_ids(self.model, features, inputs)
        loss_module = self._loss_for(name)
        is_training = self.model.training
        step = self._forward_of(model)(features, label, name)
        if is_training:
            self.health.count(features)
            if self._will_be_logged():
                number = len(step.embeddings)
                self.health.look(step.embeddings, features, roles_of(loss_module, number) or ("",) * number)
        if step.parts:
            self.track_loss_components(step.parts)
        return (step.loss, {}) if return_outputs else step.loss

    def _loss_for(self, data_set: str) -> nn.Module:
        """The loss of a batch's data set."""
        if isinstance(self.loss, Mapping) and data_set not in self.loss:
            told = f"is of the data set {data_set!r}" if data_set else "has no `dataset_name`"
            raise ValueError(
                f"The `loss` is a dict ({', '.join(map(repr, self.loss))}), but a batch {told}. Evaluate a dict of data sets "
                "with the same keys; a data loader or collator of your own puts `dataset_name` into its batches."
            )
        return self.trained.loss_of(data_set)

    def _forward_of(self, model: nn.Module) -> nn.Module:
        """What computes a batch's loss: the wrapped model where several processes train, else model and loss as they are."""
        if model is self.model or isinstance(model, Objective):
            return self.trained
        if self.accelerator.unwrap_model(model, keep_torch_compile=False) is not self.trained:
            raise ValueError(
                "`loss` or `model` was exchanged in the course of a run on several processes. Set it before `train()`."
            )
        return model

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[Any, torch.Tensor | None]:
        """The padded features of each text column of a batch, and its labels; override it to change either."""
        return self.family.features(inputs, self._text_columns), inputs.get("label")

    @property
    def _text_columns(self) -> list[str]:
        return [
            column for planned in self._planned.values() for plan in planned.plans for column in plan.texts
        ]

    def track_loss_components(self, loss: Mapping[str, torch.Tensor]) -> None:
        """Keep the named parts of a loss for the next log, or for the evaluation's means."""
        if self.model.training:
            for name, value in loss.items():
                self._parts.setdefault(name, []).append(value.detach())
        else:
            self._evaluation_parts |= loss

    def _prepare_input(self, data: Any) -> Any:
        return (
            data.to(self.args.device)
            if isinstance(data, ColumnBatch | PairBatch)
            else super()._prepare_input(data)
        )

    def _will_be_logged(self) -> bool:
        every = getattr(self.state, "logging_steps", 0) or 0
        first = self.args.logging_first_step and self.state.global_step == 0
        return first or every < 1 or (self.state.global_step + 1) % int(every) == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the averages of the losses' named parts and the figures of health."""
        if "loss" in logs:
            own = {
                name: (float(torch.stack(values).sum()), len(values)) for name, values in self._parts.items()
            }
            self._parts.clear()
            everyone = evaluating.over_processes(own)
            for name in dict.fromkeys(name for each in everyone for name in each):
                found = [each[name] for each in everyone if name in each]
                logs[name] = sum(total for total, _ in found) / sum(count for _, count in found)
            logs |= self.health.take()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        if self.args.include_num_input_tokens_seen != "no":
            self.state.num_input_tokens_seen += sum(evaluating.over_processes(num_tokens(inputs)))

    # Data

    def get_batch_sampler(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> Any:
        """The batch sampler for one data set; override it to use your own."""
        return loading.batch_sampler(
            self.args, dataset, batch_size, drop_last, valid_label_columns, generator, seed
        )

    def get_multi_dataset_batch_sampler(
        self,
        dataset: Any,
        batch_samplers: Sequence[Any],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> Any:
        """The sampler over several data sets; override it to use your own."""
        names = [plan.name for plan in self.plans["train"]]
        return loading.multi_dataset_batch_sampler(self.args, dataset, batch_samplers, generator, seed, names)

    def get_data_collator(self, model: Model, args: Any, processing_class: Any = None) -> Any:
        """The data collator where none is given; override it to use another. The trainer's own way of making batches is faster."""
        return self.data_collator_class(
            preprocess_fn=model.preprocess, router_mapping=args.router_mapping, prompts=args.prompts
        )

    def validate_column_names(self, dataset: Any, dataset_name: str | None = None) -> None:
        """Refuse names of columns that batches use for something else; override it to check more.

        Raises:
            ValueError: There is one.
        """
        of = {"train": "training ", "eval": "evaluation "}.get(dataset_name or "", "")
        for name, each in _by_name(dataset).items():
            if hasattr(each, "column_names"):
                check_reserved(column_names(each), f"the {of}data set {name!r}" if name else f"the {of}data")

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        """Check the names of the columns; override it to change data sets before they are trained or evaluated on.

        Args:
            dataset: A data set, several by name, or None.
            dataset_name: "train", "eval", or another name for messages.
        """
        if dataset is None:
            return None
        self.validate_column_names(dataset, dataset_name=dataset_name)
        # A batch knows the name of its data set by itself. The column is only for those who change how it is made.
        makes_names = (
            "add_dataset_name_column",
            "add_dataset_name_transform",
            "should_dataset_name_column_be_added",
        )
        if self._is_replaced(*makes_names) and self.should_dataset_name_column_be_added(
            dataset, self.args, self.loss
        ):
            return self.add_dataset_name_column(dataset)
        return dataset

    def should_dataset_name_column_be_added(self, dataset: Any, args: Any, loss: Any) -> bool:
        """Whether rows have to tell their data set: there are several, and losses, prompts or routes go by their names."""
        routes = args.router_mapping or {}
        by_name = isinstance(loss, Mapping) or isinstance(args.prompts or None, Mapping)
        return isinstance(dataset, Mapping) and (
            by_name or isinstance(next(iter(routes.values()), None), Mapping)
        )

    def add_dataset_name_column(self, dataset: Any, dataset_name: str | None = None) -> Any:
        """The data set, or each of several, with its name in every row that is read, as the column `dataset_name`."""
        if isinstance(dataset, Mapping):
            named = {name: self.add_dataset_name_column(each, name) for name, each in dataset.items()}
            kind: Any = type(dataset)
            return kind(named)
        if dataset_name is None:
            return dataset
        if loading.is_stream(dataset):
            return dataset.map(
                partial(self.add_dataset_name_transform, dataset_name=dataset_name), batched=True
            )
        transform = partial(
            self.add_dataset_name_transform, dataset_name=dataset_name, **dataset.format["format_kwargs"]
        )
        return dataset.with_transform(transform)

    @staticmethod
    def add_dataset_name_transform(
        batch: dict[str, list[Any]],
        dataset_name: str | None = None,
        transform: Callable[[dict[str, list[Any]]], dict[str, list[Any]]] | None = None,
        **kwargs: Any,
    ) -> dict[str, list[Any]]:
        """Rows, by an earlier transform if there is one, with the name of their data set."""
        batch = batch if transform is None else transform(batch)
        num_rows = len(next(iter(batch.values()), []))
        return (
            batch
            if dataset_name is None or not num_rows
            else {**batch, "dataset_name": [dataset_name] * num_rows}
        )

    @property
    def making(self) -> Making:
        """How rows become a batch."""
        args = self.args
        return Making(
            self.model, self._collator, self._is_replaced(*HANDED_A_BATCH), self._loss_for,
            args.seed if args.data_seed is None else args.data_seed,
        )  # fmt: skip

    @property
    def _samplers(self) -> loading.Samplers:
        return loading.Samplers(
            self.get_batch_sampler, self.get_multi_dataset_batch_sampler, self._label_columns
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches for one epoch after the other."""
        data = _by_name(self.train_dataset)
        plans = self._plans_of("train", data)
        if not plans:
            raise ValueError(
                "Training needs a `train_dataset`, but it is "
                f"{'an empty dict' if self.train_dataset is not None else 'None'}. Pass one to the trainer."
            )
        loader = loading.training_loader(
            self.args, data, plans, self.making, self.family, self._samplers, self._train_batch_size
        )
        readers: Any = loader.dataset
        self._reads_ahead = self._collator is None and not any(r.is_made_anew for r in readers.readers)
        prepared: DataLoader[Any] = self.accelerator.prepare_data_loader(loader)
        return prepared

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches of evaluation data, in order: of the data set with this name, of the given one, or of all there are."""
        known = _by_name(self.eval_dataset)
        if eval_dataset is None and not known:
            if self.evaluator is not None:
                return DataLoader([])  # type: ignore[arg-type]
            raise ValueError("Evaluation needs an `eval_dataset` or an `evaluator`. Pass one to the trainer.")
        if isinstance(eval_dataset, str):
            if eval_dataset not in known:
                raise ValueError(
                    f"There is no evaluation data set {eval_dataset!r}, only {', '.join(map(repr, known)) or 'none'}."
                )
            return self._evaluation_loader({eval_dataset: known[eval_dataset]})
        return self._evaluation_loader(known if eval_dataset is None else self._named(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Batches of other data, in order, as `predict` measures it."""
        return self._evaluation_loader(self._named(test_dataset))

    def _named(self, dataset: Any) -> dict[str, Any]:
        """A data set by the name that it has among those of the evaluation."""
        if isinstance(dataset, Mapping):
            return dict(dataset)
        known = {**_by_name(self.eval_dataset), **self._evaluated}
        return {next((name for name, each in known.items() if each is dataset), ""): dataset}

    def _evaluation_loader(self, data: dict[str, Any]) -> DataLoader[Any]:
        known = {plan.name: plan for plan in self._plans_of("eval", _by_name(self.eval_dataset))}
        mine = _by_name(self.eval_dataset)
        is_known = all(name in mine and mine[name] is dataset for name, dataset in data.items())
        plans = [known[name] for name in data] if is_known else self._plans_of("other", data)
        samplers = (
            self._samplers
            if self._is_replaced("get_batch_sampler", "get_multi_dataset_batch_sampler")
            else None
        )
        return loading.evaluation_loader(self.args, data, plans, self.making, self.family, samplers)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The next batches, which a thread makes ahead of the model; not where other people's code may draw numbers."""
        if not self._reads_ahead:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._ahead is None or self._ahead.iterator is not epoch_iterator:
            self._stop_ahead()
            self._ahead = Prefetched(epoch_iterator)
        return super().get_batch_samples(self._ahead, num_batches, device)

    def _stop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    # Evaluation

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss over a data set, and what the evaluators measure (with the first data set only)."""
        self.trained.to(self.args.device)
        self.callback_handler.eval_dataloader = dataloader
        if hasattr(self.optimizer, "eval") and callable(self.optimizer.eval):
            self.optimizer.eval()  # those without a schedule have other weights to measure

        def measure(batch: Any) -> dict[str, torch.Tensor]:
            self._evaluation_parts = {}
            loss, _, _ = self.prediction_step(self.model, batch, True, ignore_keys=ignore_keys)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
            return ({} if loss is None else {"loss": loss}) | self._evaluation_parts

        with (
            eval_mode(self.trained),
            torch.no_grad(),
            half_precision(self.model, None if self.is_in_train else self._half),
        ):
            means, rows = evaluating.mean_losses(measure, loading.shared_over_processes(dataloader))
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
            metrics |= self._evaluators_metrics(metric_key_prefix)
        nothing: Any = None
        return EvalLoopOutput(predictions=nothing, label_ids=nothing, metrics=metrics, num_samples=rows)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> Any:
        """Losses on the evaluation data, and the evaluators' metrics."""
        is_one_of_them = any(
            each is eval_dataset for each in self._evaluated.values()
        )  # where this calls itself
        if eval_dataset is not None and not isinstance(eval_dataset, str) and not is_one_of_them:
            eval_dataset = self.preprocess_dataset(eval_dataset, dataset_name="eval")
        if isinstance(eval_dataset, Mapping):
            eval_dataset = dict(eval_dataset)
            self._evaluated = eval_dataset
        if (eval_dataset if eval_dataset is not None else self.eval_dataset) == {}:
            raise ValueError(
                "`eval_dataset` is an empty dict: there is nothing to evaluate. Put data sets into it, or drop it."
            )
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether an evaluation is the best so far; one that gave no number never is."""
        name = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
        value = metrics.get(name)
        if value is not None and math.isnan(value):
            logger.warning(
                "The metric %r that tells the best checkpoint is NaN at step %d, which is taken for no result. Lower "
                "`learning_rate`, or look at the evaluation data.",
                name, self.state.global_step,
            )  # fmt: skip
            return False
        return bool(super()._determine_best_metric(metrics, trial))

    def _evaluators_metrics(self, prefix: str, write: bool = True) -> dict[str, float]:
        names = self._evaluation_names
        evaluator = self._evaluator
        if names and names[0] and prefix.startswith("eval_"):
            if prefix != f"eval_{names[0]}":
                return {}
            prefix = "eval"
        if evaluator is None:
            return {}
        folder = os.path.join(str(self.args.output_dir), "eval")
        if write:
            os.makedirs(folder, exist_ok=True)
        with eval_mode(self.trained):
            metrics = evaluating.run_evaluator(
                evaluator,
                self.model,
                folder if write else None,
                self.state.epoch or 0,
                self.state.global_step,
                self._kept_tokens,
                prefix,
            )
        best_metric.take_primary(self.args, evaluator)  # some know it only now
        return metrics

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return self._aside or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside and move it into place; only then remove old ones and push to the Hub."""
        run_folder, step = self._get_output_dir(trial), self.state.global_step
        folder = Path(run_folder) / f"checkpoint-{step}"
        with checkpoints.written_aside(
            run_folder, step, self.accelerator.wait_for_everyone, self.args.should_save
        ) as aside:
            self._aside = aside
            if self.state.best_global_step == step:
                self.state.best_model_checkpoint = str(folder)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._aside = None
            if self.state.best_global_step == step:  # it is known by the path that it is moved to
                self.state.best_model_checkpoint = str(folder)
                if self.args.should_save:
                    self.state.save_to_json(str(Path(aside) / folder.name / checkpoints.STATE_FILE))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        if self.args.should_save:
            checkpoints.remove_old(run_folder, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, create_model_card=self._has_card(folder))
        self.trained.save_loss(folder)
        checkpoints.save_adapted(self.model, folder)
        torch.save(self.args, folder / "training_args.bin")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._aside is None:  # only once it is in its place
            push_checkpoint(self, Path(checkpoint_folder))

    def push_to_hub(  # type: ignore[override]
        self, commit_message: str | None = "End of training", blocking: bool = True, **kwargs: Any
    ) -> Any:
        """Save the model to the output folder and upload it; a lost connection is tried again.

        Args:
            commit_message: Of the upload.
            blocking: Whether to wait until it is done.
            **kwargs: As transformers' method takes them, and those of `create_model_card`.
        """
        push = partial(super().push_to_hub, commit_message, blocking=blocking, **kwargs)
        return with_retries(push, "uploading the trained model")

    def create_model_card(  # type: ignore[override]
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the model card to the output folder.

        Args:
            language: Languages that the model is for.
            license: The licence.
            tags: Further tags.
            model_name: A title.
            **kwargs: What transformers' own card would tell besides; the data tells that here.
        """
        if not self.is_world_process_zero():
            return
        data = self.model.model_card_data
        if language:
            data.set_language(language)
        if license:
            data.set_license(license)
        data.add_tags(tags or [])
        self.model._create_model_card(self.args.output_dir, model_name=model_name)

    def _has_card(self, folder: Path) -> bool:
        """Whether a model card is written: with the best checkpoint so far, the last one, and any that goes to the Hub."""
        step, args = self.state.global_step, self.args
        return (
            not folder.name.startswith(PREFIX_CHECKPOINT_DIR)
            or step in (self.state.best_global_step, self.state.max_steps)
            or (args.push_to_hub and args.hub_strategy != HubStrategy.END)
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoints.load_weights(self.model, resume_from_checkpoint)
        self.trained.load_loss(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        logger.info("Loading the best model, from %s.", best)
        self._load_from_checkpoint(str(best))
        self.model.model_card_data.set_best_model_step(int(str(best).rpartition("-")[2]))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Print the plan, then train.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or True for the newest one in the output folder; None for the
                argument of this name.
            *args: As for transformers' Trainer.
            **kwargs: As for transformers' Trainer.

        Raises:
            FileNotFoundError: There is no such checkpoint, or files of it are missing.
        """
        given = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        if given is True or str(given).lower() == "true":
            given = checkpoints.newest_checkpoint(str(self.args.output_dir))
        if given:
            checkpoints.check_complete(str(given))
        self._train_batch_size = self.args.train_batch_size
        self._reads_ahead = False
        self._check_run()
        best_metric.check_named(
            self.args,
            self._evaluator,
            self._evaluation_names,
            lambda prefix: self._evaluators_metrics(prefix, write=False),
        )
        if self.is_world_process_zero():
            settings = settings_in_words(self.args, len(self.plans["train"]), self._evaluator, self.optimizer)
            print(TrainingPlan(tuple(self.plans["train"]), tuple(self.plans["eval"]), settings))
        try:
            return super().train(given or None, *args, **kwargs)
        finally:
            self._stop_ahead()
            self._hooks.close()
            self.is_in_train = False


@dataclass(frozen=True)
class _Planned:
    """Plans, and what they were made of; the data sets are held so that no other one gets the id of one of them."""

    asked: Any
    plans: list[DataSetPlan]
    data: list[Any]


def _check_given(
    trainer: BaseTrainer, model: Any, args: Any, model_init: Any, compute_metrics: Any, preprocess: Any
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
        refuse_spread(model, "be trained")
    if model is not None and model_init is not None:
        raise ValueError("Pass either `model` or `model_init`, not both.")


def _check_losses_follow(loss: Any, model_init: Any) -> None:
    given = loss.values() if isinstance(loss, Mapping) else [loss]
    if model_init is not None and any(isinstance(each, nn.Module) for each in given):
        raise ValueError(
            "With `model_init` every run has a model of its own, but the `loss` belongs to one. Pass a function: "
            "`loss=lambda model: MultipleNegativesRankingLoss(model)`, or the class itself."
        )


def _unwrapped(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)  # accelerate puts its own around one


def _same(objective: Objective, loss: Any, embed: Embed | None) -> bool:
    """Whether an objective is of these losses, embedded this way."""
    losses = list(loss.values()) if isinstance(loss, Mapping) else [loss]
    names = tuple(loss) if isinstance(loss, Mapping) else None
    return (
        objective.names == names
        and objective.embed == embed
        and len(losses) == len(objective.losses)
        and all(one is other for one, other in zip(losses, objective.losses, strict=True))
    )


def _by_name(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else {"": data}


def _loss_of(loss: Any, model: Model) -> nn.Module:
    if not callable(loss):
        raise TypeError(
            f"`loss` is {loss!r}, but should be a loss, a function that makes one from the model, or a dict of these by "
            "data set."
        )
    made: nn.Module = loss if isinstance(loss, nn.Module) else loss(model)
    return made
