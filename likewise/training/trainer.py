"""SentenceTransformerTrainer: transformers' Trainer around a model, its data sets, losses and evaluators."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, HubStrategy

from likewise.card.callback import SentenceTransformerModelCardCallback
from likewise.evaluation import SentenceEvaluator, SequentialEvaluator
from likewise.losses import CoSENTLoss
from likewise.losses.base import Loss, run_whole
from likewise.losses.recompute import recompute
from likewise.model.hub import with_retries
from likewise.modules import Router
from likewise.training import checks
from likewise.training.arguments import (
    BatchSamplers,
    MultiDatasetBatchSamplers,
    SentenceTransformerTrainingArguments,
)
from likewise.training.collation import BatchReader, DataSetReader
from likewise.training.columns import LABEL_COLUMNS
from likewise.training.hub import push_checkpoint
from likewise.training.no_duplicates import NoDuplicatesBatchSampler
from likewise.training.objective import Objective
from likewise.training.plan import DataSetPlan, TrainingPlan, losses_by_data_set, plan_data_set
from likewise.training.samplers import (
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.model.sentence_transformer import SentenceTransformer

logger = logging.getLogger(__name__)
SAMPLERS: dict[Any, Any] = {
    BatchSamplers.BATCH_SAMPLER: DefaultBatchSampler,
    BatchSamplers.NO_DUPLICATES: NoDuplicatesBatchSampler,
    BatchSamplers.NO_DUPLICATES_HASHED: NoDuplicatesBatchSampler,
    BatchSamplers.GROUP_BY_LABEL: GroupByLabelBatchSampler,
    MultiDatasetBatchSamplers.PROPORTIONAL: ProportionalBatchSampler,
    MultiDatasetBatchSamplers.ROUND_ROBIN: RoundRobinBatchSampler,
}


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
        data_collator: Applied to every finished batch.
        tokenizer: Kept as `processing_class`; the model has its own.
        model_init: A function that makes the model, for hyper-parameter searches.
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
    objective: Objective

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
        if compute_metrics is not None:
            raise ValueError(
                "`compute_metrics` has nothing to work on: losses return no predictions. Use an `evaluator`."
            )
        if model is None:
            if model_init is None:
                raise ValueError("Pass a `model` to train (or `model_init`, a function that makes one).")
            model = model_init()
        self.evaluator = _one_evaluator(evaluator)
        self._loss_given = CoSENTLoss(model) if loss is None else loss
        self._parts: dict[str, list[float]] = {}
        train, evaluation = _by_name(train_dataset), _by_name(eval_dataset)
        losses = self._losses(model)
        has_router = any(isinstance(module, Router) for module in model.modules())
        self.plans = {
            "train": _plans(
                train,
                losses,
                args,
                args.per_device_train_batch_size * args.world_size,
                "training",
                has_router,
            ),
            "eval": _plans(
                evaluation, losses, args, args.per_device_eval_batch_size, "evaluation", has_router
            ),
        }
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset if eval_dataset is not None or self.evaluator is None else {},
            data_collator=data_collator or _only,
            processing_class=processing_class or tokenizer or getattr(model, "tokenizer", None),
            model_init=model_init,  # type: ignore[arg-type]
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self.objective = self._make_objective(model)
        self.model_accepts_loss_kwargs = False
        self.model_wrapped = self.objective
        self._settle_best_metric()
        self.add_callback(SentenceTransformerModelCardCallback(self))

    # What is trained

    def _losses(self, model: SentenceTransformer) -> Any:
        given = self._loss_given
        if isinstance(given, Mapping):
            return {name: _loss_of(loss, model) for name, loss in given.items()}
        return _loss_of(given, model)

    def _make_objective(self, model: SentenceTransformer) -> Objective:
        tokens = self.args.micro_batch_tokens
        objective = Objective(model, self._losses(model), run_whole if tokens is None else recompute(tokens))
        return objective.to(model.device)

    def call_model_init(self, trial: Any = None) -> SentenceTransformer:
        """A fresh model, and losses that belong to it."""
        model: Any = super().call_model_init(trial)
        self.objective = self._make_objective(model)
        self.model_wrapped = self.objective
        fresh: SentenceTransformer = model
        return fresh

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        self.objective.to(self.args.device)
        wrapped: nn.Module = self.accelerator.prepare_model(self.objective) if training else self.objective
        return wrapped

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser over the model's weights and those of the losses."""
        if self.args.learning_rate_mapping and self.optimizer is None:
            kind, options = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(
                self.args, self.model
            )
            self.optimizer = kind(self._groups_by_learning_rate(), **options)
        optimizer: torch.optim.Optimizer = super().create_optimizer(self.objective)
        return optimizer

    def _groups_by_learning_rate(self) -> list[dict[str, Any]]:
        """The parameters in groups: by the first pattern of `learning_rate_mapping` in their name, and by weight decay."""
        named = self.objective.named_trained_parameters()
        rates = self.args.learning_rate_mapping
        for pattern in rates:
            if not any(re.search(pattern, name) for name in named):
                raise ValueError(
                    f"`learning_rate_mapping` has {pattern!r}, which matches no parameter. Their names look like "
                    f"{', '.join(map(repr, list(named)[:2]))}."
                )
        decayed = {f"model.{name}" for name in self.get_decay_parameter_names(self.model)}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in named.items():
            rate = next((rates[p] for p in rates if re.search(p, name)), self.args.learning_rate)
            decays = name in decayed or (not name.startswith("model.") and parameter.dim() > 1)
            groups.setdefault((rate, self.args.weight_decay if decays else 0.0), []).append(parameter)
        return [
            {"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()
        ]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch; its named parts are averaged until the next log."""
        objective = self.objective if model is self.model else model
        loss, parts = objective(inputs["columns"], inputs.get("label"), inputs["dataset_name"])
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value))
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the averages of the losses' named parts."""
        if "loss" in logs:
            logs |= {name: float(np.mean(values)) for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted."""
        return 0

    # Data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches for one epoch after the other."""
        if not self.plans["train"]:
            raise ValueError("Training needs a `train_dataset`. Pass one to the trainer.")
        return self._loader(_by_name(self.train_dataset), self.plans["train"], training=True)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches of one evaluation data set, in order."""
        name = eval_dataset if isinstance(eval_dataset, str) else ""
        dataset = (
            self.eval_dataset[name] if name else (self.eval_dataset if eval_dataset is None else eval_dataset)
        )
        plans = [plan for plan in self.plans["eval"] if plan.name == name]
        return self._loader({name: dataset}, plans, training=False)

    def _loader(
        self, data: Mapping[str, Dataset], plans: Sequence[DataSetPlan], training: bool
    ) -> DataLoader[Any]:
        readers = [DataSetReader(data[plan.name], plan, self.model, training) for plan in plans]
        loader = DataLoader(
            BatchReader(readers),
            batch_sampler=self._sampler(data, training),
            collate_fn=self.data_collator,
            pin_memory=False,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare_data_loader(loader)
        return prepared

    def _sampler(self, data: Mapping[str, Dataset], training: bool) -> Any:
        if not training:
            (dataset,) = data.values()
            return torch.utils.data.BatchSampler(range(len(dataset)), self.args.eval_batch_size, False)
        generator = torch.Generator().manual_seed(self.args.seed)
        shared: dict[str, Any] = {"generator": generator, "seed": self.args.seed}
        kind = self.args.batch_sampler
        # Of several data sets each goes on where the generator is, or all would be shuffled alike.
        own = shared | ({"seed": None} if len(data) > 1 and kind in SAMPLERS else {})
        samplers = [
            _resolve(kind)(
                dataset, self._train_batch_size, self.args.dataloader_drop_last, LABEL_COLUMNS, **own
            )
            for dataset in data.values()
        ]
        if len(samplers) == 1:
            return samplers[0]
        joined: Any = ConcatDataset(list(data.values()))
        return _resolve(self.args.multi_dataset_batch_sampler)(joined, samplers, **shared)

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
        total, rows = 0.0, 0
        training = self.model.training
        self.objective.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in dataloader:
                loss, _ = self.objective(batch["columns"], batch.get("label"), batch["dataset_name"])
                size = batch["columns"].num_rows
                total, rows = total + float(loss) * size, rows + size
        metrics = {f"{metric_key_prefix}_loss": total / rows} if rows else {}
        metrics |= self._evaluators_metrics(metric_key_prefix)
        self.objective.train(training)
        nothing: Any = None
        return EvalLoopOutput(predictions=nothing, label_ids=nothing, metrics=metrics, num_samples=rows)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> Any:
        """Losses on the evaluation data, and the evaluators' metrics."""
        if eval_dataset is None and not self.plans["eval"]:
            metrics = self._evaluators_metrics(metric_key_prefix)
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def _evaluators_metrics(self, prefix: str) -> dict[str, float]:
        names = [plan.name for plan in self.plans["eval"]]
        if self.evaluator is None or (names and names[0] and prefix != f"eval_{names[0]}"):
            return {}
        folder = os.path.join(str(self.args.output_dir), "eval")
        os.makedirs(folder, exist_ok=True)
        found = self.evaluator(
            self.model, output_path=folder, epoch=self.state.epoch or 0, steps=self.state.global_step
        )
        self._take_primary_metric()  # some know it only now
        metrics = found if isinstance(found, dict) else {"evaluator": found}
        return {f"eval_{key.removeprefix('eval_')}": value for key, value in metrics.items()}

    def _settle_best_metric(self) -> None:
        """The metric that tells the best checkpoint: the evaluator's primary one by default; refused if nobody gives it."""
        args = self.args
        if not self._wants_best():
            return
        if self.evaluator is not None:
            if hasattr(self.evaluator, "prepare"):
                self.evaluator.prepare(self.model)
            self._take_primary_metric()
            return
        names = [plan.name for plan in self.plans["eval"]]
        given = [f"eval_{name}_loss" if name else "eval_loss" for name in names]
        metric = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        if metric not in given:
            near = get_close_matches(metric, given, n=1)
            raise ValueError(
                f"`metric_for_best_model` is {args.metric_for_best_model!r}, but this run only measures "
                f"{', '.join(sorted(given)) or 'nothing'}. "
                + (f"Did you mean {near[0]!r}?" if near else "Name one of these, or pass an `evaluator`.")
            )

    def _wants_best(self) -> bool:
        return bool(self.args.load_best_model_at_end or self.args.save_strategy == "best")

    def _take_primary_metric(self) -> None:
        """Let the evaluator's primary metric tell the best checkpoint, unless another one was named."""
        primary = getattr(self.evaluator, "primary_metric", None)
        if primary and self._wants_best() and not self.args.names_best_metric:
            self.args.metric_for_best_model = f"eval_{primary.removeprefix('eval_')}"
            self.args.greater_is_better = getattr(self.evaluator, "greater_is_better", True)

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, create_model_card=self._has_card(folder))
        self.objective.save_loss(folder)
        torch.save(self.args, folder / "training_args.bin")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
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
        from likewise.model.sentence_transformer import SentenceTransformer

        saved = SentenceTransformer(
            resume_from_checkpoint, device="cpu", trust_remote_code=self.model.trust_remote_code
        )
        self.model.load_state_dict(saved.state_dict())
        self.objective.load_loss(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        logger.info("Loading the best model, from %s.", best)
        self._load_from_checkpoint(str(best))
        self.model.model_card_data.set_best_model_step(int(str(best).rpartition("-")[2]))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Print the plan, then train."""
        if self.is_world_process_zero():
            print(TrainingPlan(tuple(self.plans["train"]), tuple(self.plans["eval"]), self._settings()))
        return super().train(*args, **kwargs)

    def _settings(self) -> dict[str, str]:
        """What the plan says beside the data."""
        args = self.args
        batch = f"{args.per_device_train_batch_size} rows"
        if args.gradient_accumulation_steps > 1:
            batch += f", {args.gradient_accumulation_steps} accumulated"
        if args.micro_batch_tokens is not None:
            batch += f", embedded in recomputed chunks of {args.micro_batch_tokens:,} tokens"
        sampler = args.batch_sampler
        run = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
        settings = {
            "batch": f"{batch}, sampled by {getattr(sampler, 'value', getattr(sampler, '__name__', sampler))}",
            "run": f"{run}, learning rate {args.learning_rate:g}, {getattr(args.optim, 'value', args.optim)}",
        }
        if self.evaluator is not None:
            names = getattr(self.evaluator, "evaluators", [self.evaluator])
            settings["measure"] = ", ".join(
                f"{type(e).__name__} {getattr(e, 'name', '')}".strip() for e in names
            )
        return settings


def _only(batch: Any) -> Any:
    return batch


def _one_evaluator(evaluator: Any) -> Any:
    return SequentialEvaluator(list(evaluator)) if isinstance(evaluator, list | tuple) else evaluator


def _by_name(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else {"": data}


def _loss_of(loss: Any, model: SentenceTransformer) -> nn.Module:
    made: nn.Module = loss if isinstance(loss, nn.Module) else loss(model)
    return made


def _resolve(sampler: Any) -> Any:
    return SAMPLERS.get(sampler, sampler) if not callable(sampler) else sampler


def _plans(
    data: dict[str, Any], loss: Any, args: Any, batch_size: int, split: str, has_router: bool
) -> list[DataSetPlan]:
    if data and split == "training":
        checks.check_id_columns(args.id_columns, data)
    if data:
        checks.check_prompt_names(args.prompts, data)
    losses = losses_by_data_set(loss, list(data), split)
    if args.id_columns and split == "training" and not _use_ids(losses.values(), args.batch_sampler):
        logger.warning(
            "`id_columns` is without effect: no loss has `mask_duplicates=True`, and `batch_sampler` is not 'no_duplicates'."
        )
    router_mapping = args.router_mapping if has_router else None
    if args.router_mapping and not has_router:
        raise ValueError(
            f"`router_mapping={args.router_mapping}` has no effect, since the model has no Router. Drop it."
        )
    return [
        plan_data_set(
            dataset,
            name,
            split,
            losses[name],
            args.prompts,
            batch_size,
            id_columns=args.id_columns,
            router_mapping=router_mapping,
        )
        for name, dataset in data.items()
    ]


def _use_ids(losses: Iterable[nn.Module], sampler: Any) -> bool:
    """Whether id columns make a difference, as far as one can tell."""
    known = SAMPLERS.get(sampler) if not callable(sampler) else sampler
    return known not in (DefaultBatchSampler, GroupByLabelBatchSampler) or any(
        not isinstance(loss, Loss) or loss.mask_duplicates for loss in losses
    )
