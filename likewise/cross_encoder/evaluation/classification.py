"""Does a CrossEncoder tell pairs that belong together from others, or give each pair its class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.cross_encoder.evaluation.base import PairEvaluator, checked_pairs, of_examples
from likewise.evaluation.inputs import checked_numbers
from likewise.evaluation.measurement import Array, Measurement
from likewise.evaluation.metrics import average_precision, best_accuracy, best_f1

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder


@dataclass(eq=False, repr=False)
class CrossEncoderClassificationEvaluator(PairEvaluator):
    """Scores or classes of pairs against their labels.

    Metrics of a model with one label: `accuracy` at the `accuracy_threshold` that maximises it, `f1`, `precision` and `recall`
    at the `f1_threshold` that maximises F1, and `average_precision`, which is primary. With several labels the highest score
    counts: `f1_macro` (primary), the mean over the classes; `f1_micro`, which is the accuracy; `f1_weighted`, the mean over
    the pairs' classes.

    Args:
        sentence_pairs: The pairs of texts.
        labels: The class of each; 0 or 1 for a model with one label.
        name: Put in front of every metric.
        prompt_name: For `predict`.
        batch_size: For `predict`.
        show_progress_bar: For `predict`.
        write_csv: Whether to write a csv file.
    """

    sentence_pairs: Sequence[Any]
    labels: Sequence[int]
    _: KW_ONLY
    name: str = ""
    prompt_name: str | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = None
    write_csv: bool = True

    def __post_init__(self) -> None:
        self.sentence_pairs = checked_pairs(self.sentence_pairs)
        self._gold = checked_numbers("labels", self.labels, len(self.sentence_pairs))
        if not (self._gold == self._gold.astype(np.int64)).all():
            row = int(np.flatnonzero(self._gold != self._gold.astype(np.int64))[0])
            raise ValueError(
                f"`labels` must be whole numbers, but row {row} is {self._gold[row]}. Round them, or take the "
                "CrossEncoderCorrelationEvaluator."
            )
        self.set_names("CrossEncoderClassificationEvaluator")

    @classmethod
    def from_input_examples(
        cls, examples: Sequence[Any], **kwargs: Any
    ) -> CrossEncoderClassificationEvaluator:
        """From InputExamples with two texts and a label each."""
        return cls(*of_examples(examples), **kwargs)

    def measure(self, model: CrossEncoder) -> dict[str, Measurement]:  # type: ignore[override]
        """See the class.

        Raises:
            ValueError: A label is not one of the model's.
        """
        labels, num_labels = self._gold.astype(np.int64), max(2, model.num_labels)
        wrong = np.flatnonzero((labels < 0) | (labels >= num_labels))
        if len(wrong):
            raise ValueError(
                f"`labels` go from 0 to {num_labels - 1} for this model (`num_labels` is {model.num_labels}), but row {wrong[0]} "
                f"is {labels[wrong[0]]}. Correct the labels, or evaluate a model with more of them."
            )
        scores = self.predict(model, self.sentence_pairs)
        if model.num_labels == 1:
            return {key: Measurement((scores, labels), statistic) for key, statistic in _BINARY.items()}
        predicted = scores.argmax(axis=1)
        return {key: Measurement((predicted, labels), statistic) for key, statistic in _CLASSES.items()}

    def primary_key(self, model: Any, metrics: Mapping[str, float] | None = None) -> str:
        return "average_precision" if model.num_labels == 1 else "f1_macro"

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`Accuracy`, `Accuracy_Threshold`, ...; or `Macro_F1`, `Micro_F1`, `Weighted_F1`."""
        return {_COLUMNS[key]: measurement.value for key, measurement in measured.items()}


def _f1_of_classes(predicted: Array, labels: Array) -> tuple[Array, Array]:
    """F1 of each class that was predicted or is right for some pair, and for how many pairs it is right."""
    classes = np.union1d(predicted, labels)
    right = np.array([((predicted == c) & (labels == c)).sum() for c in classes])
    support = np.array([(labels == c).sum() for c in classes])
    called = np.array([(predicted == c).sum() for c in classes])
    return 2 * right / (support + called), support


def _f1_macro(predicted: Array, labels: Array) -> float:
    return float(_f1_of_classes(predicted, labels)[0].mean())


def _f1_weighted(predicted: Array, labels: Array) -> float:
    f1, support = _f1_of_classes(predicted, labels)
    return float((f1 * support).sum() / support.sum())


_BINARY: dict[str, Any] = {
    "accuracy": lambda s, y: best_accuracy(s, y).value,
    "accuracy_threshold": lambda s, y: best_accuracy(s, y).threshold,
    "f1": lambda s, y: best_f1(s, y).value,
    "f1_threshold": lambda s, y: best_f1(s, y).threshold,
    "precision": lambda s, y: best_f1(s, y).precision,
    "recall": lambda s, y: best_f1(s, y).recall,
    "average_precision": average_precision,
}
_CLASSES: dict[str, Any] = {
    "f1_macro": _f1_macro,
    "f1_micro": lambda p, y: float((p == y).mean()),
    "f1_weighted": _f1_weighted,
}
_COLUMNS = {
    "accuracy": "Accuracy",
    "accuracy_threshold": "Accuracy_Threshold",
    "f1": "F1",
    "f1_threshold": "F1_Threshold",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average_Precision",
    "f1_macro": "Macro_F1",
    "f1_micro": "Micro_F1",
    "f1_weighted": "Weighted_F1",
}
