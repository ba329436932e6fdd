"""The dense evaluators of pairs, triplets and lists of texts, for sparse models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    MSEEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)
from likewise.sparse_encoder.evaluation.base import Seen, SparseEvaluator, figures_of
from likewise.sparse_encoder.sparse_tensors import rows_of, to_scipy_coo


class OfSparseRows(SparseEvaluator):
    """An evaluator whose embeddings stay COO, so that memory grows with their active entries."""

    def embed_columns(self, model: Any, *columns: Sequence[Any], **kwargs: Any) -> tuple[Tensor, ...]:
        """(N, V) COO for each column, of all in one pass; dense where `embed_inputs` was replaced."""
        if self.is_replaced("embed_inputs"):
            return super().embed_columns(model, *columns, **kwargs)
        task = kwargs.pop("encode_fn_name", None)
        texts = [text for column in columns for text in column]
        whole = self.embed(model, texts, task, convert_to_sparse_tensor=True, **kwargs)
        numbers = torch.arange(len(texts)).split([len(column) for column in columns])
        found = tuple(whole.index_select(0, own).coalesce() for own in numbers)
        self._seen += [Seen.of(one, task) for one in found]
        return found


class SparseEmbeddingSimilarityEvaluator(OfSparseRows, EmbeddingSimilarityEvaluator):
    """EmbeddingSimilarityEvaluator, with `active_dims` and `sparsity_ratio`, the mean over both sides."""


class SparseBinaryClassificationEvaluator(OfSparseRows, BinaryClassificationEvaluator):
    """BinaryClassificationEvaluator, with `active_dims` and `sparsity_ratio` of the distinct texts."""


class SparseTripletEvaluator(OfSparseRows, TripletEvaluator):
    """TripletEvaluator, with `active_dims` and `sparsity_ratio` of anchors, positives and negatives."""

    def figures(self) -> dict[str, float]:
        """By `anchor_`, `positive_` and `negative_`."""
        found: dict[str, float] = {}
        for name, seen in zip(("anchor", "positive", "negative"), self._seen, strict=True):
            found |= figures_of([seen], f"{name}_")
        return found


class SparseTranslationEvaluator(OfSparseRows, TranslationEvaluator):
    """TranslationEvaluator, with `active_dims` and `sparsity_ratio`, the mean over both languages."""


class SparseMSEEvaluator(OfSparseRows, MSEEvaluator):
    """MSEEvaluator, with the student's `active_dims` and `sparsity_ratio`; the teacher is a sparse model too."""

    def _embedded(self, model: Any, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_array

        (found,) = self.embed_columns(model, texts)
        return csr_array(to_scipy_coo(found)) if found.is_sparse else found.cpu().numpy()


class SparseRerankingEvaluator(OfSparseRows, RerankingEvaluator):
    """RerankingEvaluator, with `active_dims` and `sparsity_ratio` of queries and documents (`corpus_`)."""

    def _with_documents(
        self, queries: Tensor, documents: Tensor, sizes: list[int]
    ) -> Iterable[tuple[Any, Any]]:
        if not documents.is_sparse:
            return super()._with_documents(queries, documents, sizes)
        rows = iter(rows_of(documents))
        each = zip(rows_of(queries), sizes, strict=True)
        return [(query.unsqueeze(0), torch.stack([next(rows) for _ in range(size)])) for query, size in each]

    def figures(self) -> dict[str, float]:
        """By `query_` and `corpus_`."""
        queries = [seen for seen in self._seen if seen.task == "query"]
        documents = [seen for seen in self._seen if seen.task != "query"]
        return figures_of(queries, "query_") | figures_of(documents, "corpus_")
