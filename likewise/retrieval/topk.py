"""Exact streaming top-k: the best K documents of every query, without ever holding all scores.

Documents arrive in chunks. A chunk is compared tile by tile (some queries x some documents), and only scores that can
still reach a query's best K leave a tile. Similarities that a matrix product finds are found in two steps: products, of
bfloat16 where the processor multiplies that faster, propose documents, and these are scored again, in float32, since a
product's last digits depend on the tile's shape. A product's error is bounded, so that every document that may be among the
best is proposed: the result is exact, and does not depend on how the documents were cut into chunks and tiles.

Ties are decided: of two documents with equal scores, the one with the smaller id comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.products import bfloat16_is_faster, products_of
from likewise.retrieval.ranking_keys import (
    LOWEST,
    NO_KEY,
    at_least,
    largest,
    merged,
    pack,
    unpack,
    unpack_scores,
)
from likewise.similarity import Embeddings, Similarity, cos_sim, is_sparse, to_float_tensor, to_tensor

TILE_ELEMENTS = 2**21  # scores at a time: 8 MiB in float32, which a processor's last cache keeps
TIMES_MORE_ON_DEVICES = 16  # as many times that elsewhere, where launching work takes longer
CHUNK_BYTES = 2**27  # of documents that are prepared together, in float32
QUERIES_PER_TILE = 1024
QUERIES_PER_TILE_ON_CPU = 256  # so that a tile has many documents, of which few leave it
QUERIES_WORTH_ROUNDING = 192  # for fewer, rounding all documents takes longer than it saves
SPARSE_CHUNK = (
    10_000  # sparse documents that are scored together: each score is kept until the best are chosen
)
PROPOSED_SHARE = 0.01  # of the documents: scoring more of them takes longer than coarse products save


@dataclass(frozen=True)
class Ranking:
    """The best K documents of Q queries, best first.

    Attributes:
        scores: (Q, K) float32, descending; -inf where a query has fewer than K documents.
        ids: (Q, K) int64; -1 where a query has fewer than K documents.
    """

    scores: Tensor
    ids: Tensor


def top_k(
    queries: Embeddings,
    documents: Embeddings,
    k: int,
    score_function: Similarity = cos_sim,
    exclude: tuple[Tensor, Tensor] | None = None,
    queries_per_tile: int = QUERIES_PER_TILE,
    documents_per_tile: int = TILE_ELEMENTS,
) -> Ranking:
    """The K best documents of each query, on the documents' device; a document's id is its row number.

    Args:
        queries: (Q, D); COO, as sparse models give them, on both sides too.
        documents: (M, D). A numpy array may be a memory map: it is read chunk by chunk.
        k: How many documents per query. Where there are fewer, the rest is filled with -inf and -1.
        score_function: (A, D), (B, D) -> (A, B), larger is better. `cos_sim`, `dot_score` and `euclidean_sim` take the fast
            way.
        exclude: Pairs that must not be found: their queries' rows and their documents' ids, two (P,) int64 tensors; of COO none.
        queries_per_tile: At most this many queries at a time.
        documents_per_tile: At most this many documents at a time.
    """
    if is_sparse(queries) or is_sparse(documents):
        if exclude is not None:
            raise ValueError("Pairs cannot be excluded from a search of COO embeddings. Drop `exclude`.")
        return _sparse_top_k(queries, documents, k, score_function, queries_per_tile, documents_per_tile)
    device = documents.device if isinstance(documents, Tensor) else torch.device("cpu")
    queries = to_float_tensor(queries).to(device)
    search = StreamingTopK(queries, k, score_function, exclude, queries_per_tile, documents_per_tile)
    search.add(documents)
    return search.result()


def _sparse_top_k(
    queries: Any, documents: Any, k: int, score_function: Similarity, query_step: int, document_step: int
) -> Ranking:
    queries, documents = to_tensor(queries), to_tensor(documents)
    best = torch.full((len(queries), min(k, len(documents))), NO_KEY)
    for some in _slices(len(queries), query_step):
        for others in _slices(len(documents), min(document_step, SPARSE_CHUNK)):
            sides = (_rows(queries, some), _rows(documents, others))
            found = score_function(*sides).float().cpu()
            keys = pack(found, torch.arange(others.start, others.stop))
            best[some] = largest(torch.cat([best[some], keys], dim=1), best.shape[1])
    return Ranking(*unpack(best))


def _rows(embeddings: Tensor, rows: slice) -> Tensor:
    return embeddings.index_select(0, torch.arange(rows.start, rows.stop, device=embeddings.device))


class StreamingTopK:
    """A search over documents that arrive in chunks: `add` them, then ask for the `result`.

    Args:
        queries: (Q, D). Others as in `top_k`, and:
        report: Called now and then with the number of pairs of a query and a document that were compared since.

    Raises:
        ValueError: A size is too small, or a row of embeddings, here or in `add`, is not finite or of another size.
    """

    def __init__(
        self,
        queries: Tensor,
        k: int,
        score_function: Similarity = cos_sim,
        exclude: tuple[Tensor, Tensor] | None = None,
        queries_per_tile: int = QUERIES_PER_TILE,
        documents_per_tile: int = TILE_ELEMENTS,
        report: Callable[[int], object] | None = None,
    ) -> None:
        if k < 0:
            raise ValueError(f"`k` must be at least 0, but is {k}. Pass a positive number.")
        if min(queries_per_tile, documents_per_tile) < 1:
            sizes = {"queries per tile": queries_per_tile, "documents per tile": documents_per_tile}
            raise ValueError(f"A search takes sizes of at least 1, but got {sizes}. Pass positive numbers.")
        self.k, self.size, self.device = k, queries.shape[1], queries.device
        queries = to_float_tensor(queries.detach()).float()
        refuse_not_finite(queries, lambda row: f"The embedding of query {row}")
        self.products = products_of(score_function)
        self.queries = self.products.queries(self.products.prepare(queries))  # (Q, F)
        self.best = torch.full((len(queries), k), NO_KEY, device=self.device)
        self.excluded = torch.empty(0, dtype=torch.int64, device=self.device)
        if exclude is not None and len(exclude[0]):
            self.excluded = _pair(*exclude).unique().to(self.device)  # sorted
        self.num_excluded = (self.excluded >> 32).bincount(minlength=len(queries))  # of each query
        is_cpu = self.device.type == "cpu"
        self.queries_per_tile = min(queries_per_tile, QUERIES_PER_TILE_ON_CPU) if is_cpu else queries_per_tile
        self.documents_per_tile = documents_per_tile
        self.times_more = 1 if is_cpu else TIMES_MORE_ON_DEVICES
        is_rounded = len(queries) >= QUERIES_WORTH_ROUNDING and self.products.function is None
        self.dtype = torch.bfloat16 if is_rounded and bfloat16_is_faster(self.device) else torch.float32
        self.report = report or (lambda num_pairs: None)
        self.num_documents = 0

    def add(self, documents: Embeddings, ids: Tensor | None = None) -> None:
        """Search these documents too.

        Args:
            documents: (M, D).
            ids: (M,) int64, from 0 to 2**32 - 2, no two alike: they name the documents and decide ties. By default
                the documents are counted in the order they arrive.
        """
        if ids is None:
            ids = torch.arange(self.num_documents, self.num_documents + len(documents))
        self.num_documents += len(documents)
        if not len(documents) or not self.best.numel():
            return
        if not isinstance(documents, Tensor | np.ndarray):
            documents = to_float_tensor(documents)
        if documents.shape[1] != self.size:
            raise ValueError(
                f"The queries have {self.size} dimensions, but the documents have {documents.shape[1]}. "
                "Embed both with the same model and the same `truncate_dim`."
            )
        for rows in _slices(len(ids), self.times_more * CHUNK_BYTES // (4 * self.size)):
            chunk = self.products.prepare(_float32(documents[rows]).to(self.device))
            self._search(chunk, ids[rows].to(self.device))

    def result(self) -> Ranking:
        """The best K of all documents so far."""
        return Ranking(*unpack(self.best))

    def _search(self, documents: Tensor, ids: Tensor) -> None:
        """Search one chunk of documents for all queries, some at a time."""
        exact = self.products.documents(documents)
        longest = float(exact.norm(dim=1).max())
        if not math.isfinite(longest):
            refuse_not_finite(documents, lambda row: f"The embedding of document {int(ids[row])}")
        factors = exact.to(self.dtype)
        for rows in _slices(len(self.queries), self.queries_per_tile):
            num_proposed = self._search_tiles(documents, ids, factors, longest, rows)
            if num_proposed > (rows.stop - rows.start) * (4 * self.k + len(ids) * PROPOSED_SHARE):
                self.dtype, factors = torch.float32, exact  # they are too close to each other for fewer bits
            self.report((rows.stop - rows.start) * len(ids))

    def _search_tiles(
        self, documents: Tensor, ids: Tensor, factors: Tensor, longest: float, rows: slice
    ) -> int:
        """Search a chunk for some queries, tile by tile; returns how many documents were proposed to them."""
        queries, num_proposed = self.queries[rows], 0
        rounded = queries.to(factors.dtype)
        error = self.products.error(queries, longest, factors.dtype)
        enough = self.k + int(self.num_excluded[rows].max())  # of so many, K may be found
        step = min(self.documents_per_tile, self.times_more * TILE_ELEMENTS // len(queries))
        for tile in _slices(len(ids), step):
            products = self.products.of_tile(rounded, factors[tile])
            # Worth a look is what reaches the best so far, or the best of this tile, if errors were against it.
            # Of two products each may be off by `error`, one up and one down: between them the bound is twice that.
            scores = unpack_scores(self.best[rows, -1:]).clamp(min=LOWEST)
            least = self.products.of_scores(scores, queries).clamp(min=LOWEST) - error
            if products.shape[1] >= enough and bool((least <= LOWEST).any()):
                kth = products.topk(enough, dim=1).values[:, -1:].float()
                least = torch.maximum(least, kth - 2 * error)
            row, column = at_least(products, least)
            if len(self.excluded):
                is_allowed = ~_is_in(_pair(rows.start + row, ids[tile.start + column]), self.excluded)
                row, column = row[is_allowed], column[is_allowed]
            found = self._scores(queries, documents[tile], products, row, column)
            best = merged(self.best[rows], row, pack(found, ids[tile.start + column]))
            self.best[rows] = best[:, : self.k]
            num_proposed += len(row)
        return num_proposed

    def _scores(
        self, queries: Tensor, documents: Tensor, products: Tensor, row: Tensor, column: Tensor
    ) -> Tensor:
        """The similarities (P,) of the queries in these rows and the documents in these columns of a tile."""
        if self.products.function is not None:
            return products[row, column]
        found = products.new_empty(len(row), dtype=torch.float32)
        for pairs in _slices(len(row), self.times_more * TILE_ELEMENTS // (8 * self.size)):
            found[pairs] = self.products.scores(
                queries.index_select(0, row[pairs]), documents.index_select(0, column[pairs])
            )
        return found


def _float32(documents: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """Documents as they are where they are float32 in memory that may be written to, else a copy."""
    if isinstance(documents, Tensor):
        return documents.detach().float()
    return torch.from_numpy(np.require(documents, np.float32, "W"))


def _slices(total: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    return (slice(first, min(first + step, total)) for first in range(0, total, step))


def _pair(rows: Tensor, ids: Tensor) -> Tensor:
    """A query's row and a document's id in one int64."""
    return (rows << 32) | ids


def _is_in(values: Tensor, ascending: Tensor) -> Tensor:
    """Which values are among others, which are sorted and not empty."""
    return ascending[torch.searchsorted(ascending, values).clamp(max=len(ascending) - 1)] == values
