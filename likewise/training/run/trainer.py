"""SentenceTransformerTrainer: transformers' Trainer around a model, its data sets, losses and evaluators."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, HubStrategy

from likewise.card.callback import SentenceTransformerModelCardCallback
from likewise.evaluation import SentenceEvaluator, SequentialEvaluator
from likewise.losses import CoSENTLoss
from likewise.losses.base import run_whole
from likewise.losses.recompute import recompute
from likewise.model.hub import with_retries
from likewise.model.placement import refuse_spread
from likewise.modules.text import KeptTokens
from likewise.training.data import loading
from likewise.training.data.columns import LABEL_COLUMNS
from likewise.training.data.data_collator import SentenceTransformerDataCollator, makes_batches
from likewise.training.data.plan import TrainingPlan, plan_data_sets
from likewise.training.data.prefetch import Prefetched
from likewise.training.data.prompts import save_prompts, warn_of_other_prompts
from likewise.training.run import best_metric, checkpoints, evaluating
from likewise.training.run.arguments import SentenceTransformerTrainingArguments
from likewise.training.run.health import Health, num_tokens
from likewise.training.run.learning_rates import parameter_groups
from likewise.training.run.objective import Objective, half_precision
from likewise.training.run.settings import settings_in_words
from likewise.training.run.uploads import push_checkpoint

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

logger = logging.getLogger(__name__)


class SentenceTransformerTrainer(Trainer):
    """Trains a SentenceTransformer.

    The data, the losses and the arguments are settled to a plan, which is checked when the trainer is made and printed
    when the training begins.

    Args:
        model: The model to train.
        args: The training arguments; None for the defaults, in the folder `tmp_trainer`.
        train_dataset: A data set, or several by name. One column may be the label: the first of label, labels, score,
            scores. Every other column is a text input, in order.
        eval_dataset: The same, to measure the loss on.
        loss: A loss, or one for each data set by name; or functions that make them from the model. None for CoSENTLoss.
        evaluator: An evaluator or several; they run whenever the loss is evaluated.
        data_collator: Makes a batch of rows, `{column}_input_ids` and so on, in place of the trainer's own collation. Its
            `valid_label_columns` are the names that a label column may have.
        tokenizer: Kept as `processing_class`; the model has its own.
        model_init: A function that makes the model (perhaps from a trial), for hyper-parameter searches. Losses are then
            functions of the model.
        compute_metrics: Not used: losses return no predictions. Use an evaluator.
        callbacks: transformers' callbacks; they see the SentenceTransformer as `model`.
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
    trained: Objective

    def __init__(
        self,
        model: SentenceTransformer | None = None,
        args: SentenceTransformerTrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: SentenceEvaluator | Sequence[SentenceEvaluator] | None = None,
        data_collator: Any = None,
        tokenizer: Any = None,
        model_init: Callable[..., SentenceTransformer] | None = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Any = None,
        *,
        processing_class: Any = None,
    ) -> None:
        args = SentenceTransformerTrainingArguments("tmp_trainer") if args is None else args
        _check_given(model, args, model_init, compute_metrics, preprocess_logits_for_metrics)
        if model is None:
            assert model_init is not None
            self.model_init: Any = model_init
            torch.manual_seed(args.seed)
            model = cast("SentenceTransformer", Trainer.call_model_init(self))
        assert model is not None
        self.evaluator = _one_evaluator(evaluator)
        self._loss_given = CoSENTLoss if loss is None else loss
        self._check_losses_follow(model_init)
        if isinstance(data_collator, SentenceTransformerDataCollator):
            data_collator.agree_with(args)
        is_needed = data_collator is not None and makes_batches(data_collator, model)
        self._collator = data_collator if is_needed else None
        self._label_columns = getattr(data_collator, "valid_label_columns", LABEL_COLUMNS)
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._ahead: Prefetched | None = None
        self._reads_ahead = False
        self._aside: str | None = None
        self._kept_tokens = KeptTokens()
        self._hooks = ExitStack()
        losses = self._losses(model)
        train, evaluation = _by_name(train_dataset), _by_name(eval_dataset)
        batch_size = args.per_device_train_batch_size * args.world_size
        self.plans = {
            split: plan_data_sets(data, losses, args, size, name, model, self._label_columns)
            for split, data, size, name in (
                ("train", train, batch_size, "training"),
                ("eval", evaluation, args.per_device_eval_batch_size, "evaluation"),
            )
        }
        loading.check_mixture(args, train)
        self.args, self.model = args, model
        best_metric.settle(args, self.evaluator, self._evaluation_names, model)
        super().__init__(
            model=model if model_init is None else None,
            args=args,
            eval_dataset=eval_dataset if eval_dataset is not None or self.evaluator is None else {},
            data_collator=data_collator or _only,
            processing_class=processing_class or tokenizer or getattr(model, "tokenizer", None),
            model_init=model_init,  # type: ignore[arg-type]
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self.train_dataset = train_dataset  # only now: transformers would ask a stream for its length
        self.model_accepts_loss_kwargs = False
        if model_init is None:
            self._train_with(model, losses)
        self.add_callback(SentenceTransformerModelCardCallback(self))

    # What is trained

    @property
    def loss(self) -> nn.Module | dict[str, nn.Module]:
        """The loss, or the losses by data set."""
        losses = list(self.trained.losses)
        return losses[0] if self.trained.names is None else dict(zip(self.trained.names, losses, strict=True))

    @property
    def _evaluation_names(self) -> list[str]:
        return [plan.name for plan in self.plans["eval"]]

    def _losses(self, model: SentenceTransformer) -> Any:
        given = self._loss_given
        if isinstance(given, Mapping):
            return {name: _loss_of(loss, model) for name, loss in given.items()}
        return _loss_of(given, model)

    def _train_with(self, model: SentenceTransformer, losses: Any) -> None:
        tokens = self.args.micro_batch_tokens
        self.trained = Objective(model, losses, run_whole if tokens is None else recompute(tokens))
        self.trained.to(model.device)
        self.model_wrapped = self.trained
        self.health = Health(model)

    def call_model_init(self, trial: Any = None) -> SentenceTransformer:
        """A fresh model, and losses that belong to it."""
        model: Any = super().call_model_init(trial)
        self._train_with(model, self._losses(model))
        fresh: SentenceTransformer = model
        return fresh

    def _check_losses_follow(self, model_init: Any) -> None:
        given = self._loss_given.values() if isinstance(self._loss_given, Mapping) else [self._loss_given]
        if model_init is not None and any(isinstance(loss, nn.Module) for loss in given):
            raise ValueError(
                "With `model_init` every run has a model of its own, but the `loss` belongs to one. Pass a function: "
                "`loss=lambda model: MultipleNegativesRankingLoss(model)`, or the class itself."
            )

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
        if self.args.learning_rate_mapping and self.optimizer is None:
            kind, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
                self.args, self.model
            )
            decayed = {f"model.{name}" for name in self.get_decay_parameter_names(self.model)}
            groups = parameter_groups(
                self.trained.named_trained_parameters(), decayed, self.args.learning_rate_mapping,
                self.args.learning_rate, self.args.weight_decay,
            )  # fmt: skip
            self.optimizer = kind(groups, **options)
        optimizer: torch.optim.Optimizer = super().create_optimizer(self.trained)
        return optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch; its named parts are averaged until the next log."""
        forward = self.trained if model is self.model else model
        is_training = self.model.training  # an evaluation comes here by an overridden `compute_loss`
        with ExitStack() as watched:
            if is_training:
                self.health.count(inputs)
            if is_training and self._will_be_logged():
                (plan,) = (plan for plan in self.plans["train"] if plan.name == inputs["dataset_name"])
                watched.enter_context(self.health.watching(inputs, plan))
            loss, parts = forward(inputs["columns"], inputs.get("label"), inputs["dataset_name"])
        for name, value in parts.items() if is_training else ():
            self._parts.setdefault(name, []).append(value)
        return (loss, {}) if return_outputs else loss

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], torch.Tensor | None]:
        """The padded features of each text column of a batch, and its labels, for a `compute_loss` of one's own."""
        return list(inputs["columns"]), inputs.get("label")

    def _evaluation_loss(
        self, columns: Any, label: Any, name: str
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What `mean_losses` averages: the loss and its named parts, or what an overridden `compute_loss` gives."""
        if type(self).compute_loss is SentenceTransformerTrainer.compute_loss:
            found: tuple[torch.Tensor, dict[str, torch.Tensor]] = self.trained(columns, label, name)
            return found
        batch = {"columns": columns, "dataset_name": name} | ({} if label is None else {"label": label})
        return self.compute_loss(self.model, batch), {}

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

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches for one epoch after the other."""
        if not self.plans["train"]:
            raise ValueError("Training needs a `train_dataset`. Pass one to the trainer.")
        samplers = loading.Samplers(
            self.get_batch_sampler, self.get_multi_dataset_batch_sampler, self._label_columns
        )
        loader = loading.training_loader(
            self.args,
            _by_name(self.train_dataset),
            self.plans["train"],
            self.model,
            samplers,
            self._train_batch_size,
            self._collator,
        )
        readers: Any = loader.dataset
        self._reads_ahead = self._collator is None and not any(r.is_made_anew for r in readers.readers)
        prepared: DataLoader[Any] = self.accelerator.prepare_data_loader(loader)
        return prepared

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches of one evaluation data set, in order: of the only one, of the one with this name, or of a new one."""
        data = _by_name(self.eval_dataset)
        name = eval_dataset if isinstance(eval_dataset, str) else ""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            name = next((known for known, dataset in data.items() if dataset is eval_dataset), "")
            data = {name: eval_dataset}
        plan = next((plan for plan in self.plans["eval"] if plan.name == name), None)
        if plan is None:
            first = (self.trained.names or ("",))[0]
            (plan,) = plan_data_sets(
                {first: data[name]}, self.loss, self.args, self.args.eval_batch_size, "evaluation", self.model,
                self._label_columns,
            )  # fmt: skip
        return loading.evaluation_loader(
            data[name], plan, self.model, self.args.eval_batch_size, self._collator
        )

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
        training = self.model.training
        self.trained.eval()
        with torch.no_grad(), half_precision(self.model, None if self.is_in_train else self._half):
            means, rows = evaluating.mean_losses(
                self._evaluation_loss, loading.shared_over_processes(dataloader), self._on_device
            )
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
            metrics |= self._evaluators_metrics(metric_key_prefix)
        self.trained.train(training)
        nothing: Any = None
        return EvalLoopOutput(predictions=nothing, label_ids=nothing, metrics=metrics, num_samples=rows)

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns = batch["columns"]
        moved: dict[str, Any] = self._prepare_inputs(batch)
        return moved | ({"columns": columns.to(self.args.device)} if hasattr(columns, "tokens") else {})

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> Any:
        """Losses on the evaluation data, and the evaluators' metrics."""
        if eval_dataset is None and not self.plans["eval"]:
            with half_precision(self.model, None if self.is_in_train else self._half):
                metrics = self._evaluators_metrics(metric_key_prefix)
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def _evaluators_metrics(self, prefix: str, write: bool = True) -> dict[str, float]:
        names = self._evaluation_names
        if self.evaluator is None or (names and names[0] and prefix != f"eval_{names[0]}"):
            return {}
        folder = os.path.join(str(self.args.output_dir), "eval")
        if write:
            os.makedirs(folder, exist_ok=True)
        metrics = evaluating.run_evaluator(
            self.evaluator,
            self.model,
            folder if write else None,
            self.state.epoch or 0,
            self.state.global_step,
            self._kept_tokens,
        )
        best_metric.take_primary(self.args, self.evaluator)  # some know it only now
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
        best_metric.check_named(
            self.args,
            self.evaluator,
            self._evaluation_names,
            lambda prefix: self._evaluators_metrics(prefix, write=False),
        )
        if self.is_world_process_zero():
            settings = settings_in_words(self.args, len(self.plans["train"]), self.evaluator, self.optimizer)
            print(TrainingPlan(tuple(self.plans["train"]), tuple(self.plans["eval"]), settings))
        try:
            return super().train(given or None, *args, **kwargs)
        finally:
            self._stop_ahead()
            self._hooks.close()
            self.is_in_train = False


def _check_given(model: Any, args: Any, model_init: Any, compute_metrics: Any, preprocess: Any) -> None:
    """Refuse arguments of the trainer that cannot be, or cannot take effect."""
    if not isinstance(args, SentenceTransformerTrainingArguments):
        raise TypeError(
            f"`args` is a {type(args).__name__}, but should be SentenceTransformerTrainingArguments, which takes the same "
            "arguments and more."
        )
    for name, value in (("compute_metrics", compute_metrics), ("preprocess_logits_for_metrics", preprocess)):
        if value is not None:
            raise ValueError(
                f"`{name}` has nothing to work on: losses return no predictions. Use an `evaluator`."
            )
    if model is None and model_init is None:
        raise ValueError("Pass a `model` to train (or `model_init`, a function that makes one).")
    if model is not None:
        refuse_spread(model, "be trained")
    if model is not None and model_init is not None:
        raise ValueError("Pass either `model` or `model_init`, not both.")


def _only(batch: Any) -> Any:
    return batch


def _one_evaluator(evaluator: Any) -> Any:
    return SequentialEvaluator(list(evaluator)) if isinstance(evaluator, list | tuple) else evaluator


def _by_name(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else {"": data}


def _loss_of(loss: Any, model: SentenceTransformer) -> nn.Module:
    if not callable(loss):
        raise TypeError(
            f"`loss` is {loss!r}, but should be a loss, a function that makes one from the model, or a dict of these by "
            "data set."
        )
    made: nn.Module = loss if isinstance(loss, nn.Module) else loss(model)
    return made
