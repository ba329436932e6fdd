"""The callback through which a training run tells the model card what happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_pt_utils import AcceleratorConfig

from likewise.card import training_log
from likewise.card.data import SEARCH_COLUMNS, TRAINED, BaseModelCardData, harmless
from likewise.card.data_sets import by_name, describe

# Arguments that say how a run was watched and kept, and nothing of the model.
WATCHING = {
    "output_dir", "logging_dir", "logging_strategy", "logging_first_step", "logging_steps", "evaluation_strategy",
    "eval_strategy", "eval_steps", "eval_delay", "save_strategy", "save_steps", "save_total_limit",
    "metric_for_best_model", "greater_is_better", "report_to", "samples_per_label", "show_progress_bar", "do_train",
    "do_eval", "do_test", "run_name", "hub_token", "push_to_hub_token",
}  # fmt: skip


class BaseModelCardCallback(TrainerCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card. None of it can stop the run.

    Args:
        trainer: The trainer.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.trainer = trainer

    @harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep what is settled before the first step."""
        data = self.trainer.model.model_card_data
        data.add_tags(TRAINED)
        data.model_id = data.model_id or getattr(self.trainer, "hub_model_id", None)
        data.start_run(training_log.from_history(state.log_history, self._primary_metrics()))
        self._keep_arguments(data, args)
        self._keep_data_sets(data)
        data.set_losses(list(self.trainer.trained.losses))
        callbacks = self.trainer.callback_handler.callbacks
        measuring = [one for one in callbacks if type(one).__name__ == "CodeCarbonCallback"]
        data.code_carbon_callback = next(iter(measuring), None)

    @harmless
    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kw: Any
    ) -> None:
        """Keep the training loss."""
        if logs is not None and "loss" in logs:
            rows, loss = self.trainer.model.model_card_data.training_logs, logs["loss"]
            training_log.add(rows, state.epoch or 0.0, state.global_step, {training_log.TRAINING_LOSS: loss})

    @harmless
    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kw: Any
    ) -> None:
        """Keep the losses on the evaluation data."""
        data = self.trainer.model.model_card_data
        data.evaluation_seconds += (metrics or {}).get("eval_runtime", 0.0)
        losses = training_log.losses(metrics or {})
        training_log.add(data.training_logs, state.epoch or 0.0, state.global_step, losses)

    @harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time."""
        self.trainer.model.model_card_data.end_run()

    def _primary_metrics(self) -> list[str]:
        evaluators = getattr(self.trainer.evaluator, "evaluators", [self.trainer.evaluator])
        for evaluator in evaluators:
            if hasattr(evaluator, "prepare"):
                evaluator.prepare(self.trainer.model)
        primary = [getattr(evaluator, "primary_metric", None) for evaluator in evaluators]
        return [key for key in primary if key]

    @harmless
    def _keep_arguments(self, data: BaseModelCardData, args: Any) -> None:
        values = {key: value for key, value in args.to_dict().items() if key not in WATCHING}
        usual = default_arguments(type(args))
        changed = [key for key in values if key in usual and values[key] != usual[key]]
        data.all_hyperparameters = values
        data.non_default_hyperparameters = {
            key: values[key] for key in changed if not (usual[key] is None and values[key] is False)
        }

    @harmless
    def _keep_data_sets(self, data: BaseModelCardData) -> None:
        train, evaluation = by_name(self.trainer.train_dataset), by_name(self.trainer.eval_dataset)
        data.train_datasets = self._described(train, data.train_datasets)
        data.eval_datasets = self._described(evaluation, data.eval_datasets)
        if num_rows := sum(part.get("size", 0) for part in data.train_datasets):
            data.tags = [tag for tag in data.tags if not tag.startswith("dataset_size:")]
            data.add_tags(f"dataset_size:{num_rows}")
        columns = {column for part in data.train_datasets for column in part.get("columns", ())}
        if data.ir_model is None and columns & SEARCH_COLUMNS:
            data.ir_model = True
        if data.generate_widget_examples and not data.widget:
            data.set_widget_examples(evaluation or train)

    def _described(self, data_sets: Mapping[str, Any], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The data sets, with what their owner told of them where that is as many."""
        told = known if len(known) == len(data_sets) else [{}] * len(data_sets)
        mapping = self.trainer.args.router_mapping or {}  # of each data set, or of all
        found = []
        for (name, dataset), facts in zip(data_sets.items(), told, strict=True):
            loss, routes = self.trainer.trained.loss_of(name), mapping.get(name, mapping)
            found.append(describe(dataset, loss, self.trainer.model, facts, name, routes))
        return found or known


def default_arguments(kind: type) -> dict[str, Any]:
    """The defaults of training arguments, as `to_dict` gives them.

    They are read off the class: to make arguments would reset the device state of the run that is under way.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = getattr(field.default, "value", field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    accelerator = AcceleratorConfig().to_dict()
    accelerator.pop("use_configured_state", None)  # which arguments leave out as well
    settled = {"prediction_loss_only": True, "debug": [], "accelerator_config": accelerator}
    return found | settled
