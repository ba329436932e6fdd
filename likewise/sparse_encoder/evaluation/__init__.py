"""Evaluators of sparse models."""

from likewise.sparse_encoder.evaluation.embedding_evaluators import (
    SparseBinaryClassificationEvaluator,
    SparseEmbeddingSimilarityEvaluator,
    SparseMSEEvaluator,
    SparseRerankingEvaluator,
    SparseTranslationEvaluator,
    SparseTripletEvaluator,
)
from likewise.sparse_encoder.evaluation.information_retrieval import (
    SparseInformationRetrievalEvaluator,
    SparseNanoBEIREvaluator,
)
from likewise.sparse_encoder.evaluation.reciprocal_rank_fusion import ReciprocalRankFusionEvaluator

__all__ = [
    "ReciprocalRankFusionEvaluator",
    "SparseBinaryClassificationEvaluator",
    "SparseEmbeddingSimilarityEvaluator",
    "SparseInformationRetrievalEvaluator",
    "SparseMSEEvaluator",
    "SparseNanoBEIREvaluator",
    "SparseRerankingEvaluator",
    "SparseTranslationEvaluator",
    "SparseTripletEvaluator",
]
