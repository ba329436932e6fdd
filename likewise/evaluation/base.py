"""SentenceEvaluator: what every evaluator has in common, and the one place where results are logged and written."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from likewise.evaluation.embedding import Task, checked_embeddings, embed
from likewise.evaluation.inputs import checked_texts, file_name
from likewise.evaluation.measurement import Array, Measurement
from likewise.modules.base import is_own
from likewise.types import Encoder, check_family

logger = logging.getLogger(__name__)


class SentenceEvaluator:
    """Measures a model: `evaluator(model)` returns metrics by name.

    Write your own by overriding `__call__` (return a dict and set `primary_metric`, or return a number), or, to have
    logging, csv files, the model card, confidence intervals and comparisons for free, `measure` and `primary`. What a
    subclass replaces is called: `embed_inputs`, `compute_metrics` and so on. Metrics that come out of a `compute_metrics`
    of your own are numbers without items, for which there are no confidence intervals.

    Attributes:
        name: Put in front of every metric, with an underscore; empty for none.
        primary_metric: The full name of the metric that decides which checkpoint is best. Where it depends on the
            model it is None until `prepare` or the first call.
        greater_is_better: Whether larger values of the primary metric are better.
        csv_file: The file that each call appends a row to, inside its `output_path`; None for no file.
        primary: The primary metric without the evaluator's name, where it is always the same.
        write_csv: Whether that file is written.
        truncate_dim: Embeddings are cut to this many entries; None for the model's own setting.
        batch_size: For `encode`.
        show_progress_bar: For `encode`.
    """

    model_type: ClassVar[str | None] = None
    """The family of models it is for; None for any."""
    title: ClassVar[str] = ""  # what is measured, in words, where the class's name does not say it
    name: str = ""
    primary_metric: str | None = None
    greater_is_better: bool = True
    csv_file: str | None = None
    primary: str | None = None
    write_csv: bool = True
    truncate_dim: int | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = False

    def __call__(
        self, model: Encoder, output_path: str | None = None, epoch: int = -1, steps: int = -1, **kwargs: Any
    ) -> dict[str, float]:
        """Measure a model.

        Args:
            model: The model.
            output_path: The folder that the csv file is in; it is made if it does not exist. None for no file.
            epoch: The epoch of training, or -1 outside of training.
            steps: The step of training, or -1 at the end of an epoch.
            **kwargs: Passed on to `measure`.

        Returns:
            Metrics by name, `primary_metric` among them.
        """
        self.prepare(model)
        return self.report(model, self.measure(model, **kwargs), output_path, epoch, steps)

    def report(
        self,
        model: Encoder,
        measured: Mapping[str, Measurement],
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """Log what was measured, write it, keep it for the model card, and return it under full names."""
        metrics = {key: measurement.value for key, measurement in measured.items()}
        if (key := self.primary_key(model, metrics)) is not None:
            self.primary_metric = key  # `prefix_name_to_metrics` puts the evaluator's name in front
        if output_path is not None:
            self.write_files(Path(output_path), {"epoch": epoch, "steps": steps, **self.csv_row(measured)})
        metrics = self.prefix_name_to_metrics(metrics, self.name)
        self.log(metrics, epoch, steps)
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        """The metrics, without the evaluator's name, each with the items it comes from."""
        raise NotImplementedError(
            f"{type(self).__name__} has to override `__call__`, or `measure` and set `primary`."
        )

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str | None:
        """The primary metric, without the evaluator's name.

        Args:
            model: The model to be measured.
            metrics: What was measured; None before. None is returned if it cannot be known then.
        """
        return self.primary

    def prepare(self, model: Encoder) -> None:
        """Set `primary_metric` as far as it can be known without measuring the model.

        Raises:
            TypeError: The model is of another family than the evaluator is for.
        """
        check_family(self, model, "evaluation")
        if (key := self.primary_key(model)) is not None:
            self.primary_metric = self.full_name(key)

    def check_texts(self, *columns: str) -> None:
        """Make lists of these attributes, columns of texts; see `checked_texts`."""
        lists = checked_texts(**{name: getattr(self, name) for name in columns})
        for name, texts in zip(columns, lists, strict=True):
            setattr(self, name, texts)

    def set_names(self, stem: str, *more: str | None) -> None:
        """Name the csv file, by the evaluator and what else tells it apart, and the primary metric if it is always the same."""
        self.csv_file = file_name(stem, self.name, *more, "results.csv")
        if self.primary is not None:
            self.primary_metric = self.full_name(self.primary)

    def embed(self, model: Encoder, texts: Sequence[Any], task: Task | None = None, **kwargs: Any) -> Tensor:
        """The embeddings of texts, (N, D), or of one text, (D,); as queries or documents, if `task` says so."""
        settings = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress_bar} | kwargs
        if isinstance(texts, str):
            return embed(model, [texts], task, self.truncate_dim, **settings)[0]
        return embed(model, texts, task, self.truncate_dim, **settings)

    def embed_inputs(self, model: Encoder, sentences: Sequence[Any], **kwargs: Any) -> Any:
        """The embeddings that are measured: override it to prepare texts or to embed in another way.

        Args:
            model: The model.
            sentences: N texts, or one.
            **kwargs: For `encode`.

        Returns:
            (N, D) or (D,), as an array.
        """
        found: Array = self.embed(model, sentences, **kwargs).cpu().numpy()
        return found

    def embed_columns(self, model: Encoder, *columns: Sequence[Any], **kwargs: Any) -> tuple[Tensor, ...]:
        """What `embed_inputs` gives for each column, (N, D) each: of all in one pass, but one by one where it was replaced."""
        texts = (
            columns if self.is_replaced("embed_inputs") else [[text for column in columns for text in column]]
        )
        found = [
            checked_embeddings(self.embed_inputs(model, some, **kwargs), some, type(self).__name__)
            for some in texts
        ]
        return tuple(found) if len(found) == len(columns) else found[0].split([len(c) for c in columns])

    def is_replaced(self, *methods: str) -> bool:
        """Whether a subclass, or an attribute of this object, replaces one of these methods."""
        return not is_own(self, *methods)  # type: ignore[arg-type]

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """The csv file's columns after epoch and steps."""
        return {key: measurement.value for key, measurement in measured.items()}

    def write_files(self, output_path: Path, row: Mapping[str, Any]) -> None:
        """Write the results to a folder: one more row of the csv file."""
        output_path.mkdir(parents=True, exist_ok=True)
        if self.write_csv and self.csv_file is not None:
            append_csv_row(output_path / self.csv_file, row)

    def full_name(self, key: str) -> str:
        """A metric's name with the evaluator's name in front."""
        return f"{self.name}_{key}" if self.name else key

    def prefix_name_to_metrics(self, metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The metrics as floats, with `name` and an underscore in front; the primary metric is renamed likewise."""
        if name and self.primary_metric is not None and not self.primary_metric.startswith(f"{name}_"):
            self.primary_metric = f"{name}_{self.primary_metric}"
        prefix = f"{name}_" if name else ""
        return {prefix + key: _float_if_possible(value) for key, value in metrics.items()}

    def store_metrics_in_model_card_data(
        self, model: Encoder, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the metrics for the model card."""
        owner: Any = model
        owner.model_card_data.set_evaluation_metrics(self, dict(metrics), epoch, step)

    def log(self, metrics: Mapping[str, float], epoch: int, steps: int) -> None:
        """Report the metrics at level INFO."""
        when = f" after epoch {epoch}" if steps == -1 else f" in epoch {epoch} after step {steps}"
        cut = "" if self.truncate_dim is None else f", embeddings cut to {self.truncate_dim}"
        values = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        logger.info("%s%s%s: %s", self.description, "" if epoch == -1 else when, cut, values)

    @property
    def description(self) -> str:
        """What is measured, in words: "Triplet" for a TripletEvaluator."""
        return self.title or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self).__name__.split("Evaluator")[0])

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments worth telling in the model card."""
        return {} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}


BaseEvaluator = SentenceEvaluator
"""The reference's newer name of SentenceEvaluator."""


def append_csv_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a csv file, with a header if the file is new."""
    is_new = not path.is_file()
    if not is_new:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
        if header != list(row):
            logger.warning(
                "%s has the columns %s, but this row has %s. It is appended all the same; pass another `name` or "
                "`output_path` to keep them apart.",
                path, header, list(row),
            )  # fmt: skip
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(row)
        writer.writerow(row.values())


def _float_if_possible(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value
