"""Is the positive closer to the anchor than the negative is, by late interaction?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from likewise.evaluation.embedding import Task
from likewise.evaluation.triplet import TripletEvaluator
from likewise.multi_vector_encoder.evaluation.base import embed, refuse_truncate_dim
from likewise.multi_vector_encoder.model import SIMILARITIES


@dataclass(eq=False, repr=False)
class MultiVectorTripletEvaluator(TripletEvaluator):
    """TripletEvaluator by tokens, with the similarity functions maxsim and meanmaxsim; its arguments."""

    model_type = "MultiVectorEncoder"

    def __post_init__(self, main_distance_function: Any) -> None:
        refuse_truncate_dim(self.truncate_dim)
        super().__post_init__(main_distance_function)

    def _columns(self, model: Any) -> list[Any]:
        return [
            self.embed_inputs(model, self.anchors, "query"),
            self.embed_inputs(model, self.positives, "document"),
            self.embed_inputs(model, self.negatives, "document"),
        ]

    def embed_inputs(  # type: ignore[override]
        self, model: Any, sentences: Sequence[str], encode_fn_name: Task | None = None, **kwargs: Any
    ) -> list[Tensor]:
        """The embeddings that are measured, (tokens, D) for each text: override it to prepare or embed otherwise."""
        return embed(self, model, sentences, encode_fn_name, **kwargs)

    def _get_similarity_functions(self) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
        def both(score: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
            return lambda a, p, n: (score(a, p), score(a, n))

        return {name: both(pairwise) for name, (_, pairwise) in SIMILARITIES.items()}
