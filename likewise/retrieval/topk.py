"""Exact streaming top-k: the best K documents of every query, without ever holding all scores.

Documents arrive in chunks. A chunk is compared tile by tile (some queries x some documents), and only scores that can
still reach a query's best K leave a tile. Similarities that a matrix product finds are found in two steps: products, of
bfloat16 where the processor multiplies that faster, propose documents, and these are scored again, in float32. A product's
error is bounded, so that every document that may be among the best is proposed. So the result is exact, and does not
depend on how the documents were cut into chunks and tiles.

Ties are decided: of two documents with equal scores, the one with the smaller id comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.products import products_of
from likewise.retrieval.ranking_keys import (
    LOWEST,
    NO_KEY,
    at_least,
    kth_at_least,
    kth_score,
    largest,
    merged,
    pack,
    unpack,
    unpack_scores,
)
from likewise.retrieval.rounding import bfloat16_is_faster, product_error
from likewise.similarity import Embeddings, Similarity, cos_sim, is_sparse, to_float_tensor, to_tensor

TILE_ELEMENTS = 2**20  # scores at a time: 4 MiB in float32, which a processor's cache keeps
TIMES_MORE_ON_DEVICES = 16  # as many times that elsewhere, where launching work takes longer
CHUNK_BYTES = 2**27  # of documents that are prepared together, in float32
QUERIES_PER_TILE = 1024
QUERIES_PER_TILE_ON_CPU = 256  # so that a tile has many documents, of which few leave it
QUERIES_WORTH_ROUNDING = 192  # for fewer, rounding all documents takes longer than it saves
SPARSE_CHUNK = (
    10_000  # sparse documents that are scored together: each score is kept until the best are chosen
)
PROPOSED_SHARE = 0.01  # of the documents: scoring more of them takes longer than coarse products save

Documents: TypeAlias = Tensor | np.ndarray[Any, Any]


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
        self.excluded = None
        if exclude is not None:
            rows, order = exclude[0].to(self.device).sort()
            self.excluded = rows, exclude[1].to(self.device)[order]
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
        ids = ids.to(self.device)
        for rows in _slices(len(ids), self.times_more * CHUNK_BYTES // (4 * self.size)):
            chunk = self.products.prepare(_float32(documents[rows]).to(self.device))
            done = 0
            while done < len(self.queries):
                done = self._search(chunk, ids[rows], done)

    def result(self) -> Ranking:
        """The best K of all documents so far."""
        return Ranking(*unpack(self.best))

    def _factors(self, documents: Tensor, ids: Tensor) -> tuple[Tensor, float, float]:
        """Documents as they are multiplied, the largest norm of one before it was rounded, and of what one lost."""
        values = torch.empty(len(documents), self.queries.shape[1], dtype=self.dtype, device=self.device)
        longest = residual = 0.0
        for rows in _slices(len(documents), self.times_more * TILE_ELEMENTS // self.size):
            factors = self.products.documents(documents[rows])
            norm = float(factors.norm(dim=1).max())
            if not math.isfinite(norm):
                names = [f"The embedding of document {one}" for one in ids[rows].tolist()]
                refuse_not_finite(documents[rows], names.__getitem__)
            values[rows] = factors
            longest = max(longest, norm)
            if self.dtype != torch.float32:
                residual = max(residual, float((factors - values[rows]).norm(dim=1).max()))
        return values, longest, residual

    def _search(self, documents: Tensor, ids: Tensor, start: int) -> int:
        """Search documents for the queries from `start` on, until products prove too coarse; returns where it stopped."""
        factors, num_proposed, dtype = self._factors(documents, ids), 0, self.dtype
        excluded = None if self.excluded is None else _among(*self.excluded, ids)
        for rows in _slices(len(self.queries), self.queries_per_tile, start):
            hidden = None
            if excluded is not None:
                low, high = torch.searchsorted(excluded[0], excluded[0].new_tensor([rows.start, rows.stop]))
                hidden = excluded[0][low:high] - rows.start, excluded[1][low:high]
            num_proposed += self._search_part(documents, ids, factors, rows, hidden)
            self.report((rows.stop - rows.start) * len(documents))
            too_many = (rows.stop - start) * (self.k + len(documents) * PROPOSED_SHARE)
            if dtype != torch.float32 and num_proposed > too_many:
                self.dtype = torch.float32  # these documents are too close to each other for so few bits
                return int(rows.stop)
        return len(self.queries)

    def _search_part(
        self,
        documents: Tensor,
        ids: Tensor,
        factors: tuple[Tensor, float, float],
        part: slice,
        hidden: tuple[Tensor, Tensor] | None,
    ) -> int:
        """Search documents for some queries; returns how many were scored again."""
        queries, (values, longest, residual), num_proposed = self.queries[part], factors, 0
        error = queries.new_zeros(len(queries), 1)
        if self.products.function is None:
            magnitude = self.products.magnitude(queries, longest)
            error = product_error(queries, longest, residual, magnitude, values.dtype)
        rounded, near = queries.to(values.dtype), self.best[part, :0]  # near: keys of products and columns
        step = min(self.documents_per_tile, self.times_more * TILE_ELEMENTS // len(queries))
        for tile in _slices(len(ids), step):
            tile_products = self.products.of_tile(rounded, values[tile])
            if hidden is not None:
                inside = (hidden[1] >= tile.start) & (hidden[1] < tile.stop)
                tile_products[hidden[0][inside], hidden[1][inside] - tile.start] = -torch.inf
            # Worth a look is what reaches the best so far, or the best of these documents, if errors were against it.
            # Of two products each may be off by `error`, one up and one down: between them the bound is twice that.
            scores = kth_score(self.best[part], self.k).clamp(min=LOWEST)
            floor = self.products.of_scores(scores, queries).clamp(min=LOWEST) - error
            least = torch.maximum(floor, kth_score(near, self.k) - 2 * error)
            if tile_products.shape[1] >= self.k and bool((least <= LOWEST).any()):
                least = torch.maximum(least, kth_at_least(tile_products, self.k) - 2 * error)
            row, column = at_least(tile_products, least)
            near = merged(near, row, pack(tile_products[row, column].float(), tile.start + column))
            least = torch.maximum(floor, kth_score(near, self.k) - 2 * error).clamp(min=LOWEST)
            near = near.masked_fill(unpack_scores(near) < least, NO_KEY)
            near = near[:, : int((near != NO_KEY).sum(dim=1).max())]
            if tile.stop == len(ids) or near.shape[1] > 4 * self.k + 256:
                scored = self._score_again(documents, ids, queries, near)
                self.best[part] = largest(torch.cat([self.best[part], scored], dim=1), self.k)
                num_proposed += int((near != NO_KEY).sum())
                near = near[:, :0]
        return num_proposed

    def _score_again(self, documents: Tensor, ids: Tensor, queries: Tensor, near: Tensor) -> Tensor:
        """Keys of products and columns (Q, W), best first, as keys of scores and ids."""
        products, columns = unpack(near)
        if self.products.function is not None:
            return pack(products, ids[columns]).masked_fill_(columns < 0, NO_KEY)
        keys = torch.full_like(near, NO_KEY)
        for rows in _slices(len(queries), self.times_more * TILE_ELEMENTS // (near.shape[1] * self.size + 1)):
            proposed = columns[rows, : int((columns[rows] >= 0).sum(dim=1).max())]
            vectors = documents[proposed.clamp(min=0)]  # (Q, K, D)
            scores = self.products.scores(queries[rows].unsqueeze(1), vectors)
            keys[rows, : proposed.shape[1]] = pack(scores, ids[proposed]).masked_fill_(proposed < 0, NO_KEY)
        return keys


def _float32(documents: Documents) -> Tensor:
    """Documents as they are where they are float32 in memory that may be written to, else a copy."""
    if isinstance(documents, Tensor):
        return documents.detach().float()
    return torch.from_numpy(np.require(documents, np.float32, "W"))


def _slices(total: int, step: int, start: int = 0) -> Iterator[slice]:
    step = max(1, step)
    return (slice(first, min(first + step, total)) for first in range(start, total, step))


def _among(rows: Tensor, ids: Tensor, of_chunk: Tensor) -> tuple[Tensor, Tensor]:
    """Of pairs of a query and a document's id those in a chunk: queries, and places in the chunk."""
    in_order = of_chunk.sort()
    position = torch.searchsorted(in_order.values, ids).clamp(max=len(of_chunk) - 1)
    hit = in_order.values[position] == ids
    return rows[hit], in_order.indices[position[hit]]
