"""Search in quantised embeddings with faiss or usearch, the best candidates scored again with the float queries."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from likewise.checked import needed, one_of, positive
from likewise.precision import (
    Array,
    Precision,
    calibration_ranges,
    dequantize_embeddings,
    quantize_embeddings,
    to_array,
)
from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.ranking_keys import Ranking
from likewise.retrieval.semantic_search import as_hits

logger = logging.getLogger(__name__)

FAISS = ("faiss", "This search needs faiss", "faiss")  # as `needed` takes them


class SearchLibrary(ABC):
    """A library that searches, and what it does differently from the other."""

    name: str
    """As it is imported."""
    precisions: tuple[Precision, ...]
    """What the corpus may be quantised to."""

    @abstractmethod
    def build(self, corpus: Array, precision: Precision, exact: bool) -> Any:
        """An index of a corpus."""

    @abstractmethod
    def find(
        self, index: Any, queries: Array, precision: Precision, k: int, exact: bool
    ) -> tuple[Array, Array]:
        """(Q, k) scores, (Q, k) ids, -1 where there are fewer."""

    @abstractmethod
    def fetch(self, index: Any, ids: Array, precision: Precision) -> Array:
        """(N,) ids -> the N embeddings as they were added."""

    def search(
        self,
        query_embeddings: Array,
        corpus_embeddings: Array | None = None,
        corpus_index: Any = None,
        corpus_precision: Precision = "float32",
        top_k: int = 10,
        ranges: Array | None = None,
        calibration_embeddings: Array | None = None,
        rescore: bool = True,
        rescore_multiplier: int = 2,
        exact: bool = True,
        output_index: bool = False,
    ) -> tuple[Any, ...]:
        """Find the best documents of each query.

        Args:
            query_embeddings: (Q, D), best as float: then the candidates can be scored again.
            corpus_embeddings: (M, D), or (M, D / 8) for bits, quantised to `corpus_precision` already.
            corpus_index: The index of an earlier call, instead of the embeddings.
            corpus_precision: faiss: float32, uint8 or ubinary; usearch: float32, int8, binary or ubinary.
            top_k: How many documents per query.
            ranges: (2, D), for int8 and uint8: the ranges that the corpus was quantised with.
            calibration_embeddings: (N, D), which those ranges came from, instead of them. Without either, the ranges
                come from the queries, which is poor.
            rescore: Whether to find more candidates, and to score them again with the float queries.
            rescore_multiplier: How many times `top_k` to find for that.
            exact: Whether to compare with every document; else approximately, by a graph (HNSW).
            output_index: Whether to return the index too.

        Returns:
            For each query a list of `{"corpus_id": row, "score": score}`, best first; the seconds that the search took;
            and, if asked, the index. Scores not computed again are the library's: usearch's are distances.

        Raises:
            ImportError: The library is not installed.
            ValueError: The precision is not one of the library's, or there is not one corpus.
        """
        if rescore:
            positive(rescore_multiplier, "rescore_multiplier", "2 is the default.")
        top_k = self._check(corpus_embeddings, corpus_index, corpus_precision, top_k)
        queries, index, precision = np.atleast_2d(to_array(query_embeddings)), corpus_index, corpus_precision
        refuse_not_finite(torch.from_numpy(queries), lambda row: f"Row {row} of `query_embeddings`")
        if corpus_embeddings is not None:
            corpus = np.atleast_2d(to_array(corpus_embeddings))
            refuse_not_finite(torch.from_numpy(corpus), lambda row: f"Row {row} of `corpus_embeddings`")
            index = self.build(corpus, precision, exact)
        is_float = queries.dtype.kind == "f"
        scores_again = rescore and is_float and precision != "float32"
        if rescore and not scores_again:
            which = "corpus is" if is_float else "queries are"
            logger.warning("Nothing can be scored again, as the %s not suited. Pass `rescore=False`.", which)
        if is_float and precision in ("int8", "uint8") and ranges is None:
            ranges = calibration_ranges(queries if calibration_embeddings is None else calibration_embeddings)
        quantized = quantize_embeddings(queries, precision, ranges) if is_float else queries
        start = time.perf_counter()
        num_documents = index.ntotal if hasattr(index, "ntotal") else len(index)
        num_candidates = min(top_k * (rescore_multiplier if scores_again else 1), num_documents)
        if num_candidates:
            scores, ids = self.find(index, quantized, precision, num_candidates, exact)
        else:  # the libraries ask for a document and for a place
            scores, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if scores_again and ids.size:
            # Where fewer were found the first document is fetched, and not looked at.
            found = self.fetch(index, np.maximum(ids, 0).reshape(-1), precision)
            documents = dequantize_embeddings(found, precision, queries.shape[1], ranges)
            scores, ids = rescored(queries, documents.reshape(*ids.shape, -1), ids, top_k)
        seconds = time.perf_counter() - start
        hits = as_hits(Ranking(torch.from_numpy(scores).float(), torch.from_numpy(ids)))
        return (hits, seconds, index) if output_index else (hits, seconds)

    def _check(self, corpus: Array | None, index: Any, precision: Precision, top_k: int) -> int:
        if (corpus is None) == (index is None):
            raise ValueError("Pass either `corpus_embeddings` or `corpus_index`.")
        one_of(precision, "corpus_precision", self.precisions, f"Those are what {self.name} can search.")
        return positive(top_k, "top_k", least=0)


def rescored(queries: Array, documents: Array, ids: Array, top_k: int) -> tuple[Array, Array]:
    """(Q, D), each query's candidates (Q, K, D) and their ids, -1 for none -> (Q, top_k) dot products and ids, best first."""
    scores = np.where(ids >= 0, np.einsum("qd,qkd->qk", queries, documents), -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


class Faiss(SearchLibrary):
    """faiss, which scores floats by dot products."""

    name, precisions = "faiss", ("float32", "uint8", "ubinary")

    def build(self, corpus: Array, precision: Precision, exact: bool) -> Any:
        faiss, size = needed(*FAISS), corpus.shape[1]
        if precision == "ubinary":
            index = faiss.IndexBinaryFlat(8 * size) if exact else faiss.IndexBinaryHNSW(8 * size, 16)
        elif exact:
            index = faiss.IndexFlatIP(size)
        else:
            index = faiss.IndexHNSWFlat(size, 16, faiss.METRIC_INNER_PRODUCT)
        index.add(corpus)
        return index

    def find(
        self, index: Any, queries: Array, precision: Precision, k: int, exact: bool
    ) -> tuple[Array, Array]:
        scores, ids = index.search(queries, k)
        return scores, ids

    def fetch(self, index: Any, ids: Array, precision: Precision) -> Array:
        found: Array = np.stack([index.reconstruct(int(i)) for i in ids])
        return found.astype(np.uint8) if precision != "float32" else found


class Usearch(SearchLibrary):
    """usearch, whose scores are distances."""

    name, precisions = "usearch", ("float32", "int8", "binary", "ubinary")

    def build(self, corpus: Array, precision: Precision, exact: bool) -> Any:
        size = corpus.shape[1] * (8 if precision in ("binary", "ubinary") else 1)
        kinds = {"float32": ("cos", "f32"), "int8": ("ip", "i8")}
        metric, dtype = kinds.get(precision, ("hamming", "b1"))
        index = needed("usearch.index", "This search needs usearch", "usearch").Index(
            ndim=size, metric=metric, dtype=dtype
        )
        index.add(np.arange(len(corpus)), _unsigned(corpus, precision))
        return index

    def find(
        self, index: Any, queries: Array, precision: Precision, k: int, exact: bool
    ) -> tuple[Array, Array]:
        matches = index.search(_unsigned(queries, precision), k, exact=exact)
        scores, ids = np.atleast_2d(matches.distances), np.atleast_2d(matches.keys).astype(np.int64)
        counts: Any = getattr(matches, "counts", ids.shape[1])  # a single query has all its matches
        return scores, np.where(np.arange(ids.shape[1]) < np.reshape(counts, (-1, 1)), ids, -1)

    def fetch(self, index: Any, ids: Array, precision: Precision) -> Array:
        found = np.asarray(index.get(ids))
        return (found.view(np.uint8) ^ np.uint8(0x80)).view(np.int8) if precision == "binary" else found


def _unsigned(embeddings: Array, precision: Precision) -> Array:
    """Bits as usearch reads them: "binary" bytes are 128 lower than the bits say."""
    return embeddings.view(np.uint8) ^ np.uint8(0x80) if precision == "binary" else embeddings


semantic_search_faiss = Faiss().search
"""Search by faiss in embeddings that were quantised to float32, uint8 or ubinary; arguments as `SearchLibrary.search` has them."""
semantic_search_usearch = Usearch().search
"""Search by usearch in float32, int8, binary or ubinary; arguments as `SearchLibrary.search` has them."""
