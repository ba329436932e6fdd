"""Exact streaming top-k: the best K documents of every query, without ever holding all scores.

Documents arrive in chunks. A chunk is compared tile by tile (some queries x some documents), and only scores that can
still reach a query's best K leave a tile. Similarities that a matrix product finds are found in two steps: a product, of
bfloat16 where the processor multiplies that faster, proposes documents, and these are scored again, in float32. The product's
rounding error is bounded, so it is known which documents may be among the best, and of which queries there are more of
these than were kept; those queries are searched again, with finer products or more room. So the result is exact, and does not depend
on how the documents were cut into chunks and tiles.

Ties are decided: of two documents with equal scores, the one with the smaller id comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from likewise.retrieval.excluded import Excluded, Hidden
from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.products import Products, products_of
from likewise.retrieval.ranking_keys import (
    LOWEST,
    NO_KEY,
    BestKeys,
    largest,
    last_scores,
    no_keys,
    pack,
    unpack,
    unpack_scores,
)
from likewise.retrieval.rounding import bfloat16_is_faster, product_error
from likewise.similarity import Embeddings, Similarity, cos_sim, to_float_tensor

TILE_ELEMENTS = 2**20  # scores at a time: 4 MiB in float32, which a processor's cache keeps
TILES_ON_DEVICES = 16  # as many times that elsewhere, where launching work takes longer
CHUNK_BYTES = 2**26  # of documents that are multiplied, beside the documents themselves
SCORED_ELEMENTS = 2**20  # numbers of documents that are scored again, or rounded, at a time
QUERIES_PER_TILE = 1024
QUERIES_PER_TILE_ON_CPU = 256  # so that a tile has many documents, of which few leave it
QUERIES_WORTH_ROUNDING = 192  # for fewer, rounding all documents takes longer than it saves
PROPOSED_SHARE = 0.01  # of the documents: scoring more of them takes longer than coarse products save
SAMPLE_SIZE = 4096  # documents that tell about how large the K-th best product is

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
        queries: (Q, D).
        documents: (M, D). A numpy array may be a memory map: it is read chunk by chunk.
        k: How many documents per query. Where there are fewer, the rest is filled with -inf and -1.
        score_function: (A, D), (B, D) -> (A, B), larger is better. `cos_sim`, `dot_score` and `euclidean_sim` take the fast
            way.
        exclude: Pairs that must not be found: their queries' rows and their documents' ids, two (P,) int64 tensors.
        queries_per_tile: At most this many queries at a time.
        documents_per_tile: At most this many documents at a time.
    """
    device = documents.device if isinstance(documents, Tensor) else torch.device("cpu")
    queries = to_float_tensor(queries).to(device)
    search = StreamingTopK(queries, k, score_function, exclude, queries_per_tile, documents_per_tile)
    search.add(documents)
    return search.result()


class StreamingTopK:
    """A search over documents that arrive in chunks: `add` them, then ask for the `result`.

    Args:
        queries: (Q, D). Others as in `top_k`, and:
        report: Called now and then with the number of pairs of a query and a document that were compared since.
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
        self.k = k
        self.score_function = score_function
        self.products = products_of(score_function)
        self.size = queries.shape[1]
        queries = to_float_tensor(queries.detach()).float()
        refuse_not_finite(queries, lambda row: f"The embedding of query {row}")
        self.queries = self.products.queries(queries) if self.products else queries  # (Q, F)
        self.device = queries.device
        self.best = no_keys(len(queries), k, self.device)
        self.excluded = None if exclude is None else Excluded(*(part.to(self.device) for part in exclude))
        is_cpu = self.device.type == "cpu"
        self.queries_per_tile = min(queries_per_tile, QUERIES_PER_TILE_ON_CPU) if is_cpu else queries_per_tile
        self.documents_per_tile = documents_per_tile
        self.times_more = 1 if is_cpu else TILES_ON_DEVICES
        is_rounded = len(queries) >= QUERIES_WORTH_ROUNDING and bfloat16_is_faster(self.device)
        self.dtypes: tuple[torch.dtype, ...] = (torch.float32,)
        if is_rounded:
            self.dtypes = (torch.bfloat16, torch.float32)
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
        if not len(documents):
            return
        if not isinstance(documents, Tensor | np.ndarray):
            documents = to_float_tensor(documents)
        if documents.shape[1] != self.size:
            raise ValueError(
                f"The queries have {self.size} dimensions, but the documents have {documents.shape[1]}. "
                "Embed both with the same model and the same `truncate_dim`."
            )
        rows = torch.arange(len(self.queries), device=self.device)
        if len(rows) and self.k:
            self._search(documents, ids.to(self.device), rows, self.dtypes)

    def result(self) -> Ranking:
        """The best K of all documents so far."""
        return Ranking(*unpack(self.best))

    def _search(
        self, documents: Documents, ids: Tensor, rows: Tensor, dtypes: tuple[torch.dtype, ...]
    ) -> None:
        """Search documents for the queries `rows`, by products in the first of these dtypes, and where that is too coarse the next."""
        dtype, *finer = dtypes
        step = max(1, self.times_more * CHUNK_BYTES // (dtype.itemsize * self.size))
        for start in range(0, len(documents), step):
            part = slice(start, start + step)
            hidden = None if self.excluded is None else self.excluded.among(ids[part])
            chunk = _Chunk(documents[part], ids[part], hidden)
            if self.products is None:
                self._search_by_function(chunk, rows)
                continue
            crowded, room = rows, 4 * self.k + 256  # documents that may be proposed for each query at first
            factors = self._factors(chunk, self.products, dtype) if dtype in self.dtypes else None
            while factors is not None and len(crowded):
                crowded = self._search_by_products(chunk, crowded, self.products, factors, room)
                if finer:
                    break
                factors, room = replace(factors, sample=None), 8 * room
            if len(crowded):
                self._search(chunk.documents, chunk.ids, crowded, tuple(finer))

    def _search_by_function(self, chunk: _Chunk, rows: Tensor) -> None:
        """Search a chunk with the scores that the score function gives."""
        for tile in self._tiles(len(chunk), 1):
            self._refuse_not_finite(chunk, tile)
        for part in torch.split(rows, self.queries_per_tile):
            queries, best = self.queries[part], BestKeys(self.best[part])
            hidden = None if chunk.hidden is None else chunk.hidden.of(part)
            for tile in self._tiles(len(chunk), len(part)):
                scores = torch.as_tensor(self.score_function(queries, chunk.rows(tile))).detach().float()
                if bool(scores.isnan().any()):
                    row, column = scores.isnan().nonzero()[0].tolist()
                    raise ValueError(
                        f"`score_function` returned NaN for query {int(part[row])} and document "
                        f"{int(chunk.ids[tile][column])}, with which nothing can be ranked. Return a number for every pair."
                    )
                if hidden is not None:
                    hidden.mask(scores, tile.start)
                row, column = best.places(scores, best.worst())
                best.add(row, pack(scores[row, column], chunk.ids[tile][column]))
            self.best[part] = best.keys()
            self.report(len(part) * len(chunk))

    def _search_by_products(
        self, chunk: _Chunk, rows: Tensor, products: Products, factors: _Factors, room: int
    ) -> Tensor:
        """Search a chunk for the queries `rows`; returns those with more near documents than there is room for, left as they were."""
        crowded, num_done, num_proposed = [rows[:0]], 0, 0
        dtype, queries_at_once = factors.values.dtype, max(1, self.times_more * TILE_ELEMENTS // room)
        for part in torch.split(rows, min(self.queries_per_tile, queries_at_once)):
            queries, known = self.queries[part], self.best[part]
            magnitude = products.magnitude(queries, factors.longest)
            error = product_error(queries, factors.longest, factors.residual, magnitude, dtype)
            least = products.of_scores(last_scores(known).clamp(min=LOWEST), queries).clamp(min=LOWEST)
            proposed, limit = self._propose(
                chunk, part, queries.to(dtype), factors, least - error, error, room
            )
            scored = self._score_again(chunk, queries, proposed, products)
            best = largest(torch.cat([known, scored], dim=1), self.k)
            # The product of a document that was not proposed is at most the limit, give or take the error.
            needed = products.of_scores(last_scores(best).clamp(min=LOWEST), queries).clamp(min=LOWEST)
            is_crowded = limit + error >= needed
            self.best[part] = torch.where(is_crowded, known, best)
            crowded.append(part[is_crowded[:, 0]])
            self.report((len(part) - len(crowded[-1])) * len(chunk))
            num_done += len(part)
            num_proposed += int((proposed != NO_KEY).sum())
            if dtype != torch.float32 and num_proposed > num_done * (self.k + len(chunk) * PROPOSED_SHARE):
                # These documents are too close to each other for so few bits.
                self.dtypes = tuple(other for other in self.dtypes if other != dtype)
                return torch.cat([*crowded, rows[num_done:]])
        return torch.cat(crowded)

    def _factors(self, chunk: _Chunk, products: Products, dtype: torch.dtype) -> _Factors:
        """A chunk's documents as they are multiplied."""
        size = min(SAMPLE_SIZE, max(len(chunk) // 16, 1))
        generator = torch.Generator().manual_seed(0)
        columns = torch.randint(len(chunk), (size,), generator=generator).to(self.device)
        products.look_at(chunk.rows(columns))
        values = torch.empty(len(chunk), self.queries.shape[1], dtype=dtype, device=self.device)
        longest = residual = 0.0
        for part in self._parts(chunk):
            factors = products.documents(chunk.rows(part))
            values[part] = factors
            norm = float(factors.norm(dim=1).max())
            if not math.isfinite(norm):
                self._refuse_not_finite(chunk, part)
            longest = max(longest, norm)
            if dtype != torch.float32:
                residual = max(residual, float((factors - values[part]).norm(dim=1).max()))
        expected = self.k * size / len(chunk)
        rank = math.ceil(expected + 4 * math.sqrt(expected) + 4)
        is_useful = 2 * rank < size
        return _Factors(values, longest, residual, values[columns] if is_useful else None, rank)

    def _propose(
        self,
        chunk: _Chunk,
        rows: Tensor,
        queries: Tensor,
        factors: _Factors,
        floor: Tensor,
        error: Tensor,
        room: int,
    ) -> tuple[Tensor, Tensor]:
        """The documents that may be among the best K.

        Returns:
            Keys of products and columns (Q, W), best first; and what a product of another document is at most, (Q, 1), -inf
            where it cannot be among the best.
        """
        k = min(self.k, len(chunk))
        best = BestKeys(no_keys(len(rows), min(room, len(chunk)), rows.device), k)
        hidden = None if chunk.hidden is None else chunk.hidden.of(rows)
        start = floor
        if factors.sample is not None:
            # About what the K-th best product is, or less: it spares most of the work on the tiles.
            of_sample = (queries @ factors.sample.T).topk(factors.rank, dim=1).values[:, -1:]
            start = torch.maximum(floor, of_sample.float() - 2 * error)
        for tile in self._tiles(len(chunk), len(rows)):
            products = queries @ factors.values[tile].T
            if hidden is not None:
                hidden.mask(products, tile.start)
            threshold = torch.maximum(start, best.worst() - 2 * error)
            row, column = best.places(products, threshold, 2 * error)
            best.add(row, pack(products[row, column].float(), tile.start + column))
        keys = best.keys()
        limit = start.masked_fill(start <= floor, -torch.inf)
        if room < len(chunk):
            limit = torch.maximum(limit, last_scores(keys))
        hopeless = torch.maximum(floor, best.worst() - 2 * error)
        return keys.masked_fill_(unpack_scores(keys) < hopeless, NO_KEY), limit

    def _score_again(self, chunk: _Chunk, queries: Tensor, proposed: Tensor, products: Products) -> Tensor:
        """Keys of products and columns (Q, W), best first, as keys of scores and ids."""
        _, columns = unpack(proposed)
        counts = (columns >= 0).sum(dim=1)
        width = max(1, int(counts.max()))
        keys = torch.full_like(proposed[:, :width], NO_KEY)
        rows_at_once = max(1, self.times_more * SCORED_ELEMENTS // (width * self.size))
        for start in range(0, len(queries), rows_at_once):
            part = slice(start, start + rows_at_once)
            found = columns[part, : max(1, int(counts[part].max()))]
            vectors = chunk.rows(found.clamp(min=0).reshape(-1)).view(*found.shape, self.size)
            scores = products.scores(queries[part].unsqueeze(1), vectors)
            keys[part, : found.shape[1]] = pack(scores, chunk.ids[found]).masked_fill_(found < 0, NO_KEY)
        return keys

    def _refuse_not_finite(self, chunk: _Chunk, part: slice) -> None:
        refuse_not_finite(
            chunk.rows(part), lambda row: f"The embedding of document {int(chunk.ids[part][row])}"
        )

    def _parts(self, chunk: _Chunk) -> Iterator[slice]:
        """A chunk's documents, a few at a time."""
        step = max(1, self.times_more * SCORED_ELEMENTS // self.size)
        return (slice(start, start + step) for start in range(0, len(chunk), step))

    def _tiles(self, num_documents: int, num_queries: int) -> Iterator[slice]:
        """Cut a chunk into tiles of bounded numbers of scores."""
        step = max(1, min(self.documents_per_tile, self.times_more * TILE_ELEMENTS // num_queries))
        return (slice(start, start + step) for start in range(0, num_documents, step))


@dataclass(frozen=True)
class _Chunk:
    """Documents that are searched together.

    Attributes:
        documents: (M, D).
        ids: (M,).
        hidden: Which of them which queries must not find.
    """

    documents: Documents
    ids: Tensor
    hidden: Hidden | None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, which: slice | Tensor) -> Tensor:
        """Some of the documents, (N, D) float32 on the ids' device; a copy if they are named one by one."""
        if isinstance(self.documents, Tensor):
            found = self.documents.detach()
            if isinstance(which, slice):
                found = found[which]
            else:
                found = found.index_select(0, which.to(found.device))
            return found.to(self.ids.device, torch.float32)
        index = which if isinstance(which, slice) else which.cpu().numpy()
        return torch.from_numpy(np.array(self.documents[index], dtype=np.float32)).to(self.ids.device)


@dataclass(frozen=True)
class _Factors:
    """A chunk's documents as they are multiplied.

    Attributes:
        values: (M, F) float32 or bfloat16.
        longest: The largest norm of a row before it was rounded.
        residual: The largest norm of what a row lost.
        sample: (S, F), some of the values; None if they would tell nothing.
        rank: The product of this rank among the sample is about the K-th of all, or less.
    """

    values: Tensor
    longest: float
    residual: float
    sample: Tensor | None
    rank: int
