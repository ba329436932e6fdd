"""The dense evaluators of pairs, triplets and lists of texts, for sparse models."""

from __future__ import annotations

from likewise.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    MSEEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)
from likewise.sparse_encoder.evaluation.base import SparseEvaluator, figures_of


class SparseEmbeddingSimilarityEvaluator(SparseEvaluator, EmbeddingSimilarityEvaluator):
    """EmbeddingSimilarityEvaluator, with `active_dims` and `sparsity_ratio`, the mean over both sides."""


class SparseBinaryClassificationEvaluator(SparseEvaluator, BinaryClassificationEvaluator):
    """BinaryClassificationEvaluator, with `active_dims` and `sparsity_ratio` of the distinct texts."""


class SparseTripletEvaluator(SparseEvaluator, TripletEvaluator):
    """TripletEvaluator, with `active_dims` and `sparsity_ratio` of anchors, positives and negatives."""

    def figures(self) -> dict[str, float]:
        """By `anchor_`, `positive_` and `negative_`."""
        found: dict[str, float] = {}
        for name, seen in zip(("anchor", "positive", "negative"), self._seen, strict=True):
            found |= figures_of([seen], f"{name}_")
        return found


class SparseTranslationEvaluator(SparseEvaluator, TranslationEvaluator):
    """TranslationEvaluator, with `active_dims` and `sparsity_ratio`, the mean over both languages."""


class SparseMSEEvaluator(SparseEvaluator, MSEEvaluator):
    """MSEEvaluator, with the student's `active_dims` and `sparsity_ratio`; the teacher is a sparse model too."""


class SparseRerankingEvaluator(SparseEvaluator, RerankingEvaluator):
    """RerankingEvaluator, with `active_dims` and `sparsity_ratio` of queries and documents (`corpus_`)."""

    def figures(self) -> dict[str, float]:
        """By `query_` and `corpus_`."""
        queries = [seen for seen in self._seen if seen.task == "query"]
        documents = [seen for seen in self._seen if seen.task != "query"]
        return figures_of(queries, "query_") | figures_of(documents, "corpus_")
