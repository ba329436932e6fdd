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

import numpy as np
import torch
from torch import Tensor

from likewise.checked import positive
from likewise.retrieval.best_documents import best_of_sparse
from likewise.retrieval.equal_rows import MANY_QUERIES, few_of_equal
from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.products import bfloat16_is_faster, lost_by, products_of
from likewise.retrieval.ranking_keys import NO_KEY, Ranking, at_least, merged, pack, unpack
from likewise.similarity import Embeddings, Similarity, cos_sim, is_sparse, to_float_tensor

TILE_ELEMENTS = 2**21  # scores at a time: 8 MiB in float32, which a processor's last cache keeps
TIMES_MORE_ON_DEVICES = 16  # as many times that elsewhere, where launching work takes longer
CHUNK_BYTES = 2**25  # of documents that are prepared together, in float32
QUERIES_PER_TILE = 1024
QUERIES_PER_TILE_ON_CPU = 256  # so that a tile has many documents, of which few leave it
QUERIES_WORTH_ROUNDING = 192  # for fewer, rounding all documents takes longer than it saves
MOST_NEAR = 8  # times K: that many documents of a query are scored before more tiles are looked at
PROPOSED_SHARE = 0.01  # of the documents: scoring more of them takes longer than coarse products save


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
        return best_of_sparse(queries, documents, k, score_function, (queries_per_tile, documents_per_tile))
    queries = to_float_tensor(queries).to(getattr(documents, "device", "cpu"))
    search = StreamingTopK(queries, k, score_function, exclude, queries_per_tile, documents_per_tile)
    search.add(documents)
    return search.result()


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
        positive(queries_per_tile, "queries_per_tile")
        positive(documents_per_tile, "documents_per_tile")
        self.k, self.shape, self.device = positive(k, "k", least=0), tuple(queries.shape), queries.device
        queries = to_float_tensor(queries.detach()).float()
        refuse_not_finite(queries, lambda row: f"The embedding of query {row}")
        self.products = products_of(score_function)
        self.queries = self.products.factors(self.products.prepare(queries), are_queries=True)  # (Q, F)
        self.best = torch.full((len(queries), self.k), NO_KEY, device=self.device)
        rows, ids = exclude or (torch.empty(0, dtype=torch.int64),) * 2
        self.excluded = ((rows << 32) | ids).unique().to(self.device)  # both in one int64, sorted
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
        size = self.shape[-1]
        if len(self.shape) != 2 or documents.shape[1:] != (size,):
            raise ValueError(
                f"Queries and documents must be of the shapes (number, size), but are {self.shape} and {tuple(documents.shape)}. Embed "
                "both with the same model and the same `truncate_dim`, all texts in one list."
            )
        for rows in slices(len(ids), self.times_more * CHUNK_BYTES // (4 * size)):
            chunk = documents[rows]
            if isinstance(chunk, np.ndarray):  # copied only where it is not float32 that may be written to
                chunk = torch.from_numpy(np.require(chunk, np.float32, "W"))
            chunk = self.products.prepare(chunk.detach().float().to(self.device))
            self._search(chunk, ids[rows].to(self.device))

    def result(self) -> Ranking:
        """The best K of all documents so far."""
        return unpack(self.best)

    def _search(self, documents: Tensor, ids: Tensor) -> None:
        """Search one chunk of documents for all queries, some at a time."""
        num_documents = len(ids)
        # Somebody's function may tell equal documents apart.
        if len(self.queries) >= MANY_QUERIES and self.products.function is None:
            few = few_of_equal(documents, ids, self.k + int(self.num_excluded.max()))
            documents, ids = documents[few], ids[few]
        exact = self.products.factors(documents, are_queries=False)
        longest = float(exact.norm(dim=1).max())
        if not math.isfinite(longest):
            refuse_not_finite(documents, lambda row: f"The embedding of document {int(ids[row])}")
        factors, lost = exact.to(self.dtype), lost_by(exact, self.dtype)
        for rows in slices(len(self.queries), self.queries_per_tile):
            queries, num_scored = self.queries[rows].to(self.dtype), 0
            error = self.products.error(self.queries[rows], longest, self.dtype, lost)
            enough = self.k + int(self.num_excluded[rows].max())  # of so many, K may be found
            step = min(self.documents_per_tile, self.times_more * TILE_ELEMENTS // len(queries))
            near = torch.full_like(self.best[rows], NO_KEY)  # products worth a look: of each query K or more
            for tile in slices(len(ids), step):
                products = self.products.of_tile(queries, factors[tile])
                least = self._least(rows, near, error)
                if products.shape[1] >= enough and bool(least.isneginf().any()):
                    least = torch.maximum(least, products.topk(enough).values[:, -1:].float() - 2 * error)
                row, column = at_least(products, least)
                if len(self.excluded):
                    pairs = ((rows.start + row) << 32) | ids[tile.start + column]
                    places = torch.searchsorted(self.excluded, pairs).clamp(max=len(self.excluded) - 1)
                    is_allowed = self.excluded[places] != pairs
                    row, column = row[is_allowed], column[is_allowed]
                near = merged(near, row, pack(products[row, column].float(), tile.start + column))
                if tile.stop == len(ids) or near.shape[1] > MOST_NEAR * self.k:
                    num_scored += self._settle(near, rows, documents, ids, error)
                    near = near[:, : self.k].fill_(NO_KEY)
            if num_scored > len(queries) * (4 * self.k + len(ids) * PROPOSED_SHARE):
                # They are too close to each other for fewer bits.
                self.dtype, factors, lost = torch.float32, exact, 0.0
            self.report(len(queries) * num_documents)

    def _least(self, rows: slice, near: Tensor, error: Tensor) -> Tensor:
        """(Q, 1): the product that a document must reach to be among the best, if errors were against it.

        Of two products each may be off by `error`, one up and one down: between them the bound is twice that.
        """
        best = self.products.of_scores(unpack(self.best[rows, -1:]).scores, self.queries[rows])
        return torch.maximum(best - error, unpack(near[:, self.k - 1 : self.k]).scores - 2 * error)

    def _settle(self, near: Tensor, rows: slice, documents: Tensor, ids: Tensor, error: Tensor) -> int:
        """Keep the best of what is near by its similarities; returns how many were computed."""
        found = unpack(near)
        row, place = at_least(found.scores, self._least(rows, near, error))
        column, scores = found.ids[row, place], found.scores[row, place]
        if self.products.function is None:
            step, queries = max(1, self.times_more * TILE_ELEMENTS // (8 * self.shape[1])), self.queries[rows]
            sides = zip(row.split(step), column.split(step), strict=True)
            of_pairs, take = self.products.scores, torch.index_select
            scores = torch.cat([of_pairs(take(queries, 0, r), take(documents, 0, c)) for r, c in sides])
        self.best[rows] = merged(self.best[rows], row, pack(scores, ids[column]))[:, : self.k]
        return len(row)


def slices(total: int, step: int) -> Iterator[slice]:
    """The rows from 0 to `total`, `step` at a time."""
    step = max(1, step)
    return (slice(first, min(first + step, total)) for first in range(0, total, step))
