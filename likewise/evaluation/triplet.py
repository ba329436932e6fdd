"""Is the positive closer to the anchor than the negative is?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import Task
from likewise.evaluation.inputs import (
    FUNCTION_NAMES,
    checked_function,
    checked_margin,
    function_names,
    primary_of,
)
from likewise.evaluation.measurement import Array, Measurement
from likewise.similarity import Similarity, SimilarityFunction
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class TripletEvaluator(SentenceEvaluator):
    """The share of triplets whose positive is closer to the anchor than the negative is, by more than a margin.

    Anchors are embedded as queries, positives and negatives as documents; without such prompts that is all the same.
    A tie between positive and negative counts as wrong.

    Metrics: `{fn}_accuracy` for every similarity function, and `max_accuracy` if there are several.
    Primary: that of the main similarity function, else `max_accuracy`, else that of the only function.

    Args:
        anchors: The texts to compare with.
        positives: One text for each anchor, which should be closer ...
        negatives: ... than this one.
        main_similarity_function: The similarity function of the primary metric: cosine, dot, euclidean or manhattan.
        margin: By how much the positive has to be closer; a number, or one for each similarity function.
        name: Put in front of every metric.
        batch_size: For `encode`.
        show_progress_bar: For `encode`.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
        similarity_fn_names: The similarity functions; by default the main one, else the model's.
        main_distance_function: The older name of `main_similarity_function`.
    """

    model_type = "SentenceTransformer"
    anchors: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[str]
    main_similarity_function: str | SimilarityFunction | None = None
    margin: float | Mapping[str, float] | None = None
    name: str = ""
    batch_size: int = 16
    show_progress_bar: bool | None = False
    write_csv: bool = True
    truncate_dim: int | None = None
    similarity_fn_names: Sequence[str] | None = None
    main_distance_function: InitVar[str | SimilarityFunction | None] = None

    def __post_init__(self, main_distance_function: str | SimilarityFunction | None) -> None:
        self.check_texts("anchors", "positives", "negatives")
        functions = self._get_similarity_functions()
        self._main = checked_function(self.main_similarity_function or main_distance_function, functions)
        self.main_similarity_function = self._main
        self.similarity_fn_names = function_names(self.similarity_fn_names, self._main, functions)
        self._margin = checked_margin(self.margin, functions)
        self.margin = self._margin
        self.set_names("triplet_evaluation")

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> TripletEvaluator:
        """From InputExamples with three texts each."""
        anchors, positives, negatives = ([example.texts[i] for example in examples] for i in range(3))
        return cls(anchors, positives, negatives, **kwargs)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        columns, functions = self._columns(model), self._get_similarity_functions()
        measured = {}
        for name in self.similarity_fn_names or [model.similarity_fn_name]:
            near, far = functions[name](*columns)
            is_correct = near > far + self._margin[name]
            measured[f"{name}_accuracy"] = Measurement((is_correct.cpu().numpy().astype(np.float64),))
        if len(measured) > 1:
            measured["max_accuracy"] = Measurement.largest(list(measured.values()))
        return measured

    def _columns(self, model: Encoder) -> list[Any]:
        given = (
            *self.embed_columns(model, self.anchors, encode_fn_name="query"),
            *self.embed_columns(model, self.positives, self.negatives, encode_fn_name="document"),
        )
        return [one if one.is_sparse else one.cpu().numpy() for one in given]

    def embed_inputs(  # type: ignore[override]
        self, model: Encoder, sentences: Sequence[str], encode_fn_name: Task | None = None, **kwargs: Any
    ) -> Any:
        """As every evaluator's, as queries or documents where `encode_fn_name` says so."""
        return super().embed_inputs(model, sentences, task=encode_fn_name, **kwargs)

    def _get_similarity_functions(self) -> dict[str, Callable[[Array, Array, Array], tuple[Tensor, Tensor]]]:
        """By name: anchors, positives and negatives, (N, D) each -> scores with positives and with negatives, (N,)."""

        def both(similarity: Similarity) -> Callable[[Array, Array, Array], tuple[Tensor, Tensor]]:
            return lambda a, p, n: (similarity(a, p), similarity(a, n))

        return {name: both(SimilarityFunction.to_similarity_pairwise_fn(name)) for name in FUNCTION_NAMES}

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str:
        return primary_of("{}_accuracy", self.similarity_fn_names or [model.similarity_fn_name], self._main)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`accuracy_{fn}` for every similarity function."""
        names = [key.removesuffix("_accuracy") for key in measured if not key.startswith("max_")]
        return {f"accuracy_{name}": measured[f"{name}_accuracy"].value for name in names}

    def get_config_dict(self) -> dict[str, Any]:
        return ({"margin": self._margin} if any(self._margin.values()) else {}) | super().get_config_dict()
