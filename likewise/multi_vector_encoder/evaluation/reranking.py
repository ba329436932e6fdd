"""Does late interaction with a query put the relevant documents of a given list first?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from likewise.evaluation.embedding import Task
from likewise.evaluation.reranking import RerankingEvaluator
from likewise.multi_vector_encoder.evaluation.base import embed, refuse_truncate_dim


@dataclass(eq=False, repr=False)
class MultiVectorRerankingEvaluator(RerankingEvaluator):
    """RerankingEvaluator by tokens; its arguments, of which one has another default.

    Args:
        similarity_fct: A list with one query's (tokens, D), and a list with those of its M documents -> (1, M); None for the
            model's own.
    """

    model_type = "MultiVectorEncoder"
    similarity_fct: Callable[..., Tensor] | None = None  # type: ignore[assignment]
    batch_size: int = 16

    def __post_init__(self, mrr_at_k: int | None) -> None:
        refuse_truncate_dim(self.truncate_dim)
        super().__post_init__(mrr_at_k)

    def embed_inputs(  # type: ignore[override]
        self,
        model: Any,
        sentences: Sequence[str],
        encode_fn_name: Task | None = None,
        show_progress_bar: bool | None = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """The embeddings that are measured, (tokens, D) for each text: override it to prepare or embed otherwise."""
        return embed(self, model, sentences, encode_fn_name, show_progress_bar=show_progress_bar, **kwargs)

    def _scores(self, model: Any, samples: Sequence[Mapping[str, Any]]) -> list[Tensor]:
        shows = self.show_progress_bar and self.use_batched_encoding
        texts = [[*sample["positive"], *sample["negative"]] for sample in samples]
        queries = self.embed_inputs(
            model, [sample["query"] for sample in samples], "query", show_progress_bar=shows
        )
        documents = iter(
            self.embed_inputs(
                model, [text for some in texts for text in some], "document", show_progress_bar=shows
            )
        )
        score = cast(Any, self.similarity_fct or model.similarity)
        return [
            score([query], [next(documents) for _ in some]).reshape(-1)
            for query, some in zip(queries, texts, strict=True)
        ]
