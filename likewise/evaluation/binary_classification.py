"""Does the similarity of two embeddings tell pairs that belong together from pairs that do not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import once_each
from likewise.evaluation.inputs import checked_numbers, function_names, primary_of
from likewise.evaluation.measurement import Array, Measurement
from likewise.evaluation.metrics import average_precision, best_accuracy, best_f1, matthews_correlation
from likewise.similarity import SimilarityFunction
from likewise.types import Encoder

_DISTANCES = ("euclidean", "manhattan")
_COLUMNS = ("accuracy", "accuracy_threshold", "f1", "precision", "recall", "f1_threshold", "ap", "mcc")


@dataclass(eq=False, repr=False)
class BinaryClassificationEvaluator(SentenceEvaluator):
    """Pairs are called positive if their similarity reaches the threshold that suits these pairs best.

    Metrics for every similarity function: `{fn}_accuracy` at the `{fn}_accuracy_threshold` that maximises it, `{fn}_f1`,
    `{fn}_precision` and `{fn}_recall` at the `{fn}_f1_threshold` that maximises F1, `{fn}_mcc` (Matthews correlation,
    -1 to 1) there, and `{fn}_ap` (average precision); and `max_...` of each if there are several functions. The
    thresholds of euclidean and manhattan are distances. Primary: `{fn}_ap`, or `max_ap`.

    Args:
        sentences1: The first text of each pair.
        sentences2: The second text of each pair.
        labels: 1 for pairs that belong together, 0 for others.
        name: Put in front of every metric.
        batch_size: For `encode`.
        show_progress_bar: For `encode`.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
        similarity_fn_names: The similarity functions; by default the model's.
    """

    model_type = "SentenceTransformer"
    sentences1: Sequence[str]
    sentences2: Sequence[str]
    labels: Sequence[int]
    name: str = ""
    batch_size: int = 32
    show_progress_bar: bool | None = False
    write_csv: bool = True
    truncate_dim: int | None = None
    similarity_fn_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.check_texts("sentences1", "sentences2")
        self._gold = checked_numbers("labels", self.labels, len(self.sentences1))
        found = sorted(set(self._gold.tolist()))
        if found != [0, 1]:
            raise ValueError(
                f"`labels` must be 0 and 1, both of them, but are {found[:5]}. Map them to 0 and 1."
            )
        self.similarity_fn_names = function_names(self.similarity_fn_names, None)
        self.set_names("binary_classification_evaluation")

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> BinaryClassificationEvaluator:
        """From InputExamples with two texts and a label each."""
        texts1, texts2 = ([example.texts[i] for example in examples] for i in range(2))
        return cls(texts1, texts2, [example.label for example in examples], **kwargs)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        if self.is_replaced("compute_metrics", "compute_metrices"):
            compute = self.compute_metrics if self.is_replaced("compute_metrics") else self.compute_metrices
            by_function = {fn: Measurement.fixed_each(values) for fn, values in compute(model).items()}
        else:
            by_function = self._by_function(model)
        measured = {f"{fn}_{key}": value for fn, found in by_function.items() for key, value in found.items()}
        if len(by_function) > 1:
            for key in next(iter(by_function.values())):
                measured[f"max_{key}"] = Measurement.largest([found[key] for found in by_function.values()])
        return measured

    def compute_metrics(self, model: Encoder) -> dict[str, dict[str, float]]:
        """Every metric of every similarity function, by function: override it to report others."""
        found = self._by_function(model)
        return {fn: {key: one.value for key, one in measured.items()} for fn, measured in found.items()}

    def compute_metrices(self, model: Encoder) -> dict[str, dict[str, float]]:
        """The older name of `compute_metrics`."""
        return self.compute_metrics(model)

    def _by_function(self, model: Encoder) -> dict[str, dict[str, Measurement]]:
        first, second = self._embedded(model)
        found = {}
        for name in self.similarity_fn_names or [model.similarity_fn_name]:
            similarity = SimilarityFunction.to_similarity_pairwise_fn(name)(first, second).cpu().numpy()
            is_distance = name in _DISTANCES
            found[name] = self._of_scores(-similarity if is_distance else similarity, not is_distance)
        return found

    def _embedded(self, model: Encoder) -> tuple[Tensor, Tensor]:
        texts, places = once_each([*self.sentences1, *self.sentences2])
        (distinct,) = self.embed_columns(model, texts)
        first, second = torch.tensor(places).chunk(2)
        return distinct.index_select(0, first), distinct.index_select(0, second)

    def _of_scores(self, scores: Array, is_similarity: bool) -> dict[str, Measurement]:
        """One similarity function's metrics from (N,) similarities, or distances."""
        sign = 1 if is_similarity else -1

        def accuracy(s: Array, y: Array) -> tuple[float, float]:
            return self.find_best_acc_and_threshold(s, y, is_similarity)

        def f1(s: Array, y: Array) -> tuple[float, float, float, float]:
            return self.find_best_f1_and_threshold(s, y, is_similarity)

        def mcc(s: Array, y: Array) -> float:
            return matthews_correlation(sign * s >= np.asarray(sign * f1(s, y)[3], s.dtype), y)

        statistics = {
            "accuracy": lambda s, y: accuracy(s, y)[0],
            "accuracy_threshold": lambda s, y: accuracy(s, y)[1],
            "f1": lambda s, y: f1(s, y)[0],
            "f1_threshold": lambda s, y: f1(s, y)[3],
            "precision": lambda s, y: f1(s, y)[1],
            "recall": lambda s, y: f1(s, y)[2],
            "ap": lambda s, y: average_precision(sign * s, y),
            "mcc": mcc,
        }
        return {key: Measurement((scores, self._gold), statistic) for key, statistic in statistics.items()}

    @staticmethod
    def find_best_acc_and_threshold(
        scores: Any, labels: Any, high_score_more_similar: bool
    ) -> tuple[float, float]:
        """The highest accuracy, and the threshold that gives it.

        Args:
            scores: (N,) similarities, or distances.
            labels: (N,), 1 for pairs that are alike, else 0.
            high_score_more_similar: Whether they are similarities.
        """
        sign = 1 if high_score_more_similar else -1
        found = best_accuracy(sign * np.asarray(scores), np.asarray(labels))
        return found.value, sign * found.threshold

    @staticmethod
    def find_best_f1_and_threshold(
        scores: Any, labels: Any, high_score_more_similar: bool
    ) -> tuple[float, float, float, float]:
        """The highest F1, with its precision and recall, and the threshold; arguments as above."""
        sign = 1 if high_score_more_similar else -1
        found = best_f1(sign * np.asarray(scores), np.asarray(labels))
        return found.value, found.precision, found.recall, sign * found.threshold

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str:
        return primary_of("{}_ap", self.similarity_fn_names or [model.similarity_fn_name])

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """All metrics of every similarity function, without the `max_` ones."""
        names = [key.removesuffix("_ap") for key in measured if key.endswith("_ap") and key != "max_ap"]
        return {f"{fn}_{column}": measured[f"{fn}_{column}"].value for fn in names for column in _COLUMNS}
