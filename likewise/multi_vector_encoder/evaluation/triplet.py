"""Is the positive closer to the anchor than the negative is, by late interaction?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from likewise.evaluation.embedding import Task
from likewise.evaluation.inputs import checked_margin, checked_texts, file_name, function_names
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.triplet import TripletEvaluator
from likewise.multi_vector_encoder.evaluation.base import embed, refuse_truncate_dim
from likewise.multi_vector_encoder.model import SIMILARITIES


@dataclass(eq=False, repr=False)
class MultiVectorTripletEvaluator(TripletEvaluator):
    """TripletEvaluator by tokens, with the similarity functions maxsim and meanmaxsim; its arguments."""

    model_type = "MultiVectorEncoder"

    def __post_init__(self, main_distance_function: Any) -> None:
        refuse_truncate_dim(self.truncate_dim)
        if main_distance_function or self.main_similarity_function:
            raise ValueError(
                "`main_similarity_function` names a similarity of whole texts' embeddings. Drop it, and choose with "
                "`similarity_fn_names=['maxsim']`."
            )
        self.anchors, self.positives, self.negatives = checked_texts(
            anchors=self.anchors, positives=self.positives, negatives=self.negatives
        )
        self._main = None
        self.similarity_fn_names = function_names(self.similarity_fn_names, None, SIMILARITIES)
        self.margin = self._margin = checked_margin(self.margin, SIMILARITIES)
        self.csv_file = file_name("triplet_evaluation", self.name, "results.csv")

    def measure(self, model: Any) -> dict[str, Measurement]:
        """See the class."""
        columns = [
            self.embed_inputs(model, self.anchors, "query"),
            self.embed_inputs(model, self.positives, "document"),
            self.embed_inputs(model, self.negatives, "document"),
        ]
        functions = self._get_similarity_functions()
        measured = {}
        for name in self.similarity_fn_names or [model.similarity_fn_name]:
            near, far = functions[name](*columns)
            is_correct = near > far + self._margin[name]
            measured[f"{name}_accuracy"] = Measurement((is_correct.cpu().numpy().astype(np.float64),))
        if len(measured) > 1:
            measured["max_accuracy"] = Measurement.largest(list(measured.values()))
        return measured

    def embed_inputs(  # type: ignore[override]
        self, model: Any, sentences: Sequence[str], encode_fn_name: Task | None = None, **kwargs: Any
    ) -> list[Tensor]:
        """The embeddings that are measured, (tokens, D) for each text: override it to prepare or embed otherwise."""
        return embed(self, model, sentences, encode_fn_name, **kwargs)

    def _get_similarity_functions(self) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
        def both(score: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
            return lambda a, p, n: (score(a, p), score(a, n))

        return {name: both(pairwise) for name, (_, pairwise) in SIMILARITIES.items()}
