"""Several retrieval tasks for late interaction, and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from likewise.evaluation.information_retrieval import InformationRetrievalEvaluator
from likewise.evaluation.nano_beir import NanoBEIREvaluator
from likewise.multi_vector_encoder.evaluation.base import refuse_truncate_dim
from likewise.multi_vector_encoder.evaluation.corpus_search import MultiVectorInformationRetrievalEvaluator


@dataclass(eq=False, repr=False)
class MultiVectorNanoBEIREvaluator(NanoBEIREvaluator):
    """NanoBEIREvaluator by tokens; its arguments, and two of MultiVectorInformationRetrievalEvaluator.

    Args:
        corpus_chunk_size: So many documents are embedded and scored at a time.
        chunk_elements: About how many products of tokens to hold at a time; None for the usual number.
    """

    model_type = "MultiVectorEncoder"
    corpus_chunk_size: int = 5000
    chunk_elements: int | None = None

    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = (
        MultiVectorInformationRetrievalEvaluator
    )

    def __post_init__(self) -> None:
        refuse_truncate_dim(self.truncate_dim)
        super().__post_init__()

    def _load_dataset(self, dataset_name: str, **ir_evaluator_kwargs: Any) -> InformationRetrievalEvaluator:
        own = {"corpus_chunk_size": self.corpus_chunk_size, "chunk_elements": self.chunk_elements}
        return super()._load_dataset(dataset_name, **(ir_evaluator_kwargs | own))
