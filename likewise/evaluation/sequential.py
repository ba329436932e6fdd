"""Several evaluators, one after the other, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from likewise.checked import having
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import sharing_embeddings
from likewise.evaluation.measurement import Measurement
from likewise.types import Encoder


class SequentialEvaluator(SentenceEvaluator):
    """Runs evaluators one after the other; a text that several of them contain is embedded once.

    Metrics: those of all evaluators, and `sequential_score`, which is primary.

    Args:
        evaluators: The evaluators. Where names of metrics collide the later evaluator wins: give each a `name`.
        main_score_function: Makes one number, `sequential_score`, of the evaluators' primary metrics; by default the
            last evaluator's.
    """

    def __init__(
        self,
        evaluators: Iterable[SentenceEvaluator],
        main_score_function: Callable[[list[float]], float] = lambda scores: scores[-1],
    ) -> None:
        having(evaluators, "__iter__", "evaluators", "a list of evaluators")
        self.evaluators = list(evaluators)
        for evaluator in self.evaluators:
            if not callable(evaluator):
                raise TypeError(f"`evaluators` must be evaluators, but one of them is {evaluator!r}.")
        self.main_score_function = main_score_function
        self.primary_metric = "sequential_score"

    def __call__(
        self, model: Encoder, output_path: str | None = None, epoch: int = -1, steps: int = -1, **kwargs: Any
    ) -> dict[str, float]:
        """Measure a model with every evaluator; arguments as for a single one."""
        results: dict[str, float] = {}
        scores = []
        with sharing_embeddings(model):
            for i, evaluator in enumerate(self.evaluators):
                found: Mapping[str, float] | float = evaluator(model, output_path, epoch, steps)
                metrics = found if isinstance(found, Mapping) else {f"evaluator_{i}": found}
                scores.append(metrics[getattr(evaluator, "primary_metric", None) or next(iter(metrics))])
                results |= metrics
        results["sequential_score"] = self.main_score_function(scores) if scores else 0.0
        return results

    def prepare(self, model: Encoder) -> None:
        """Prepare every evaluator."""
        for evaluator in self.evaluators:
            evaluator.prepare(model)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        """Every evaluator's metrics with their items, under full names; without `sequential_score`."""
        measured: dict[str, Measurement] = {}
        with sharing_embeddings(model):
            for evaluator in self.evaluators:
                measured |= {
                    evaluator.full_name(key): value for key, value in evaluator.measure(model).items()
                }
        return measured
