"""BaseTrainer: transformers' Trainer around a model, its data sets, losses and evaluators."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from transformers import Trainer

from likewise.card.callback import BaseModelCardCallback, default_arguments
from likewise.card.data_sets import by_name
from likewise.engine.embed import Embed
from likewise.evaluation import SentenceEvaluator, SequentialEvaluator
from likewise.modules.text import KeptTokens
from likewise.training.data.columns import LABEL_COLUMNS
from likewise.training.data.data_collator import agree
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Family, Making
from likewise.training.data.plan import Planned, check_mixture, plan_data_sets
from likewise.training.data.prefetch import Prefetched
from likewise.training.run import (
    batches,
    best_metric,
    checkpoints,
    evaluation,
    model_and_losses,
    saving,
    step,
)
from likewise.training.run.given import check_callback, check_family, check_given
from likewise.training.run.health import Health
from likewise.training.run.objective import Objective
from likewise.training.run.reporting import RunReport, reported
from likewise.training.run.settings import plan_of_run

if TYPE_CHECKING:
    from likewise.model.model import Model

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
        check_given(self, model, args, loss, model_init, compute_metrics, preprocess_logits_for_metrics)
        callbacks = [callbacks] if isinstance(callbacks, str) else callbacks
        for callback in callbacks or ():
            check_callback(callback)
        self._is_made = False
        self.args = args
        if model is None:
            self.model_init: Any = model_init
            torch.manual_seed(args.seed)
            model = self.call_model_init()
        self.evaluator, self.eval_dataset = evaluator, eval_dataset
        best_metric.settle(self, model)
        processing_class = processing_class or tokenizer or getattr(model, "tokenizer", None)
        if data_collator is None:
            data_collator = self.get_data_collator(model, args, processing_class)
        super().__init__(
            model=model if model_init is None else None,
            args=args,
            eval_dataset=eval_dataset if eval_dataset is not None or evaluator is None else {},
            data_collator=data_collator,
            # transformers holds it against the configuration, which a model of static embeddings has not.
            processing_class=None if getattr(model, "config", True) is None else processing_class,
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
        self._kept: dict[str, Any] = {}
        self._hooks = ExitStack()
        self._agreed: dict[str, Any] = {}
        self._planned: dict[str, Planned] = {}
        self._evaluated: Mapping[str, Any] = {}
        self.report: RunReport | None = None
        self._optimizer_made: tuple[Any, Any] = (None, None)
        self._objective: Objective | None = None
        self._loss_given = self.get_default_loss if loss is None else loss
        self.loss = self._loss_made = model_and_losses.prepared(self, self._loss_given, self.model)
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
        kind = type(self)
        return any(
            name in vars(self) or getattr(kind, name) is not getattr(BaseTrainer, name) for name in names
        )

    def add_callback(self, callback: Any) -> None:
        """Add one of transformers' callbacks, or make one of its class.

        Raises:
            TypeError: It is no callback.
        """
        check_callback(callback)
        super().add_callback(callback)

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
        # A search has no model between two runs.
        if known is not None and (self.model is None or known.is_of(self.model, self.loss, self._embed)):
            return known
        previous = self.model if known is None else known.model
        if getattr(getattr(self.data_collator, "preprocess_fn", None), "__self__", None) is previous:
            self.data_collator.preprocess_fn = self.model.preprocess
        if self.loss is not self._loss_made or previous is not self.model:
            self.loss = self._loss_made = model_and_losses.prepared(self, self.loss, self.model)
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
            "train": self._plans_of("train", by_name(self.train_dataset)),
            "eval": self._plans_of("eval", by_name(self.eval_dataset)),
        }

    def _plans_of(self, split: str, data: Mapping[str, Any]) -> list[DataSetPlan]:
        args, trained, is_collated = self.args, self.trained, self._collator is not None
        self._agreed = agree(self.data_collator, args, self._agreed)
        title, size = "evaluation", args.eval_batch_size
        if split == "train":
            title, size = "training", args.per_device_train_batch_size * args.world_size
        state = copy.deepcopy((args.prompts, args.router_mapping, args.id_columns, list(self._label_columns)))
        data_sets = [(name, id(each), getattr(each, "_fingerprint", None)) for name, each in data.items()]
        asked = (data_sets, size, state, args.batch_sampler, is_collated, trained)
        known = self._planned.get(split)
        if known is None or known.asked != asked:
            plans = plan_data_sets(self, data, title, size, is_collated)
            self._planned[split] = known = Planned(asked, plans, list(data.values()))
        return known.plans

    def _check_run(self) -> None:
        """Refuse what cannot be trained or evaluated as everything is set now."""
        best_metric.settle(self, self.trained.model)
        plans = self.plans
        check_mixture(self.args, by_name(self.train_dataset))
        if plans["train"] and not any(p.requires_grad for p in self.trained.parameters()):
            raise ValueError(
                "There is nothing to train: no parameter of the model or the loss has `requires_grad`. Unfreeze some, e.g. "
                "`model[0].requires_grad_(True)`."
            )

    @property
    def _collator(self) -> Any:
        """The data collator, where it makes other batches than the trainer's own way."""
        collator = self.data_collator
        preprocesses = getattr(getattr(collator, "preprocess_fn", None), "__self__", None)
        is_plain = type(collator) is self.plain_collator and preprocesses is self.trained.model
        return None if is_plain else collator

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
            check_family(self, each, "evaluator")
        self._evaluator = SequentialEvaluator(list(evaluator)) if several else evaluator

    @property
    def _evaluation_names(self) -> list[str]:
        return list(by_name(self.eval_dataset))

    def get_default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given; override it to use another."""
        raise NotImplementedError

    @property
    def _half(self) -> torch.dtype | None:
        return torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None

    @property
    def _text_columns(self) -> list[str]:
        return [column for known in self._planned.values() for plan in known.plans for column in plan.texts]

    @property
    def making(self) -> Making:
        """How rows become a batch."""
        return Making(
            self.model, self.family, self._collator, self._is_replaced(*HANDED_A_BATCH),
            lambda name: self.trained.loss_of(name), batches.seed_of(self.args), self._kept,
        )  # fmt: skip

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
        best_metric.check_named(self)
        plan = plan_of_run(self)
        if self.is_world_process_zero():
            print(plan)
        try:
            with reported(self, plan):
                return super().train(given or None, *args, **kwargs)
        finally:
            batches.stop_ahead(self)
            self._hooks.close()
            self.is_in_train = False

    # The methods that are told of in files of their own, by what they are about.

    # What is trained
    create_accelerator_and_postprocess = model_and_losses.create_accelerator_and_postprocess
    prepare_loss = model_and_losses.prepare_loss
    override_model_in_loss = model_and_losses.override_model_in_loss
    call_model_init = model_and_losses.call_model_init
    _wrap_model = model_and_losses.wrap_model
    create_optimizer = model_and_losses.create_optimizer
    get_optimizer_cls_and_kwargs = model_and_losses.get_optimizer_cls_and_kwargs

    # Data
    get_batch_sampler = batches.get_batch_sampler
    get_multi_dataset_batch_sampler = batches.get_multi_dataset_batch_sampler
    get_data_collator = batches.get_data_collator
    validate_column_names = batches.validate_column_names
    preprocess_dataset = batches.preprocess_dataset
    should_dataset_name_column_be_added = batches.should_dataset_name_column_be_added
    add_dataset_name_column = batches.add_dataset_name_column
    add_dataset_name_transform = staticmethod(batches.add_dataset_name_transform)
    get_train_dataloader = batches.get_train_dataloader
    get_eval_dataloader = batches.get_eval_dataloader
    get_test_dataloader = batches.get_test_dataloader
    get_batch_samples = batches.get_batch_samples

    # A step
    compute_loss = step.compute_loss
    collect_features = step.collect_features
    track_loss_components = step.track_loss_components
    _prepare_input = step.prepare_input
    log = step.log
    floating_point_ops = step.floating_point_ops
    _track_num_input_tokens = step.track_num_input_tokens

    # Evaluation
    evaluation_loop = evaluation.evaluation_loop
    evaluate = evaluation.evaluate
    _determine_best_metric = evaluation.determine_best_metric
    _evaluators_metrics = evaluation.evaluators_metrics

    # Checkpoints, the model, the Hub
    _get_output_dir = saving.get_output_dir
    _save_checkpoint = saving.save_checkpoint
    _finalize_training = saving.finalize_training
    _save = saving.save
    save_model = saving.save_model
    _save_optimizer_and_scheduler = saving.save_optimizer_and_scheduler
    _push_from_checkpoint = saving.push_from_checkpoint
    push_to_hub = saving.push_to_hub  # type: ignore[assignment]
    create_model_card = saving.create_model_card  # type: ignore[assignment]
    _load_from_checkpoint = saving.load_from_checkpoint
    _load_best_model = saving.load_best_model


def of_family(own: str | None) -> str:
    """The docstring of a family's trainer: what it says of itself, and the arguments of every trainer."""
    return f"{own or ''}\n{(BaseTrainer.__doc__ or '').partition(chr(10) * 2)[2]}"
