"""Exact streaming top-k: the best K documents of every query, without ever holding all scores.

Documents arrive in chunks. A chunk is compared tile by tile (some queries x some documents), and only scores that can
still reach a query's best K leave a tile. Cosines and dot products are found in two steps: a matrix product (in
bfloat16 where the processor multiplies that faster) proposes candidates, and the candidates are scored again, in
float32. The product's rounding error is bounded, so it is known for which queries a document that was not proposed
could belong to the best; those few are searched again without the shortcut. So the result is exact, and does not
depend on how the documents were cut into chunks and tiles.

Ties are decided: of two documents with equal scores, the one with the smaller id comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from likewise.retrieval.ranking_keys import NO_KEY, no_keys, pack, unpack, unpack_scores
from likewise.retrieval.rounding import ErrorBound, bfloat16_is_faster
from likewise.similarity import Embeddings, Similarity, cos_sim, dot_score, pytorch_cos_sim, to_float_tensor

TILE_ELEMENTS = (
    2**20
)  # scores at a time: 4 MiB in float32, which a processor's cache keeps; memory grows with it
TILES_ON_DEVICES = 16  # as many times that elsewhere, where launching work takes longer
QUERIES_PER_TILE = 1024
_LOWEST = torch.finfo(torch.float32).min


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
        documents: (M, D). A numpy array may be a memory map: it is read tile by tile.
        k: How many documents per query. Where there are fewer, the rest is filled with -inf and -1.
        score_function: (A, D), (B, D) -> (A, B), larger is better. `cos_sim` and `dot_score` take the fast way.
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
    """A search over documents that arrive in chunks: `add` them, then ask for the `result`. Arguments as in `top_k`."""

    def __init__(
        self,
        queries: Tensor,
        k: int,
        score_function: Similarity = cos_sim,
        exclude: tuple[Tensor, Tensor] | None = None,
        queries_per_tile: int = QUERIES_PER_TILE,
        documents_per_tile: int = TILE_ELEMENTS,
    ) -> None:
        if min(k, queries_per_tile, documents_per_tile) < 1:
            sizes = {"k": k, "queries per tile": queries_per_tile, "documents per tile": documents_per_tile}
            raise ValueError(f"A search takes sizes of at least 1, but got {sizes}. Pass positive numbers.")
        self.k = k
        self.score_function = score_function
        self.is_cosine = score_function in (cos_sim, pytorch_cos_sim)
        queries = to_float_tensor(queries.detach()).float()
        self.queries = torch.nn.functional.normalize(queries, dim=-1) if self.is_cosine else queries  # (Q, D)
        self.best = no_keys(len(queries), k, queries.device)
        self.exclude = None if exclude is None else _Excluded(*(part.to(queries.device) for part in exclude))
        self.queries_per_tile = queries_per_tile
        self.documents_per_tile = documents_per_tile
        self.num_documents = 0

    def add(self, documents: Embeddings, ids: Tensor | None = None) -> None:
        """Search these documents too.

        Args:
            documents: (M, D).
            ids: (M,) int64, from 0 to 2**32 - 2, no two alike: they name the documents and decide ties. By default
                the documents are counted in the order they arrive.
        """
        device = self.queries.device
        if ids is None:
            ids = torch.arange(self.num_documents, self.num_documents + len(documents), device=device)
        self.num_documents += len(documents)
        if not len(documents) or not len(self.queries):
            return
        chunk = _Chunk(documents, ids.to(device), self.is_cosine)
        if chunk.size != self.queries.shape[1]:
            raise ValueError(
                f"The queries have {self.queries.shape[1]} dimensions, but the documents have {chunk.size}. "
                "Embed both with the same model and the same `truncate_dim`."
            )
        rows = torch.arange(len(self.queries), device=device)
        if self.is_cosine or self.score_function is dot_score:
            self._search_by_product(chunk, rows)
        else:
            self._search(chunk, rows)

    def result(self) -> Ranking:
        """The best K of all documents so far."""
        return Ranking(*unpack(self.best))

    def _search(self, chunk: _Chunk, rows: Tensor) -> None:
        """Search a chunk for the queries `rows`, with the scores that the score function gives."""
        for part in torch.split(rows, self.queries_per_tile):
            queries, best = self.queries[part], self.best[part]
            for tile in self._tiles(len(chunk), len(part)):
                scores = self.score_function(queries, chunk.rows(tile)).detach().float()
                best = self._merge(best, scores, chunk, tile, part)
            self.best[part] = best

    def _search_by_product(self, chunk: _Chunk, rows: Tensor) -> None:
        """Search a chunk by products: rounded ones if that pays, then, for queries left in doubt, more exact ones."""
        is_large = len(rows) * len(chunk) > TILE_ELEMENTS
        if is_large and bfloat16_is_faster(self.queries.device):
            rows = self._search_by_rounded_product(chunk, rows, torch.bfloat16)
        if len(rows):
            rows = self._search_by_rounded_product(chunk, rows, torch.float32)
        for row in torch.split(rows, 1) if len(rows) else ():
            best = self.best[row]
            for tile in chunk.parts():
                scores = _row_products(self.queries[row], chunk.factors(tile)).unsqueeze(0)
                best = self._merge(best, scores, chunk, tile, row)
            self.best[row] = best

    def _search_by_rounded_product(self, chunk: _Chunk, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Search a chunk for the queries `rows`; returns those in doubt, which are left as they were."""
        in_doubt = [rows[:0]]
        for part in torch.split(rows, self.queries_per_tile):
            queries, known = self.queries[part], self.best[part]
            bound = ErrorBound.of_products(queries, chunk.longest, chunk.residual(dtype), dtype)
            proposed = self._propose(queries.to(dtype), chunk, part, bound.below(_worst(known)))
            scored = self._score_again(queries, chunk, proposed, _worst(known), bound)
            best = torch.cat([known, scored], dim=1).topk(self.k, dim=1).values
            # A document that was not proposed scores at most what the last proposal's product may stand for.
            doubtful = (proposed[:, -1:] != NO_KEY) & (bound.above(_worst(proposed)) >= _worst(best))
            self.best[part] = torch.where(doubtful, known, best)
            in_doubt.append(part[doubtful[:, 0]])
        return torch.cat(in_doubt)

    def _propose(self, queries: Tensor, chunk: _Chunk, rows: Tensor, floor: Tensor) -> Tensor:
        """Keys of the documents with the largest products, best first and some more than K: (Q, 2K + 32)."""
        width = min(2 * self.k + 32, len(chunk))
        best = no_keys(len(rows), width, rows.device)
        # The first tile is small: it finds thresholds that spare most of the work on the others.
        for tile in self._tiles(len(chunk), len(rows), first=4 * width):
            products = queries @ chunk.factors(tile).to(queries.dtype).T
            best = self._merge(best, products, chunk, tile, rows, floor)
        return best

    def _score_again(
        self, queries: Tensor, chunk: _Chunk, proposed: Tensor, known: Tensor, bound: ErrorBound
    ) -> Tensor:
        """Proposed keys (Q, W), best first, with scores in place of products; hopeless ones are left out."""
        products, ids = unpack(proposed)
        possible = bound.above(products)
        keys = torch.full_like(proposed, NO_KEY)
        rows_at_once = max(1, _elements(queries.device) // (self.k * chunk.size))
        for part in torch.split(torch.arange(len(queries), device=queries.device), rows_at_once):
            # The K most promising first: their worst score tells how many more are worth a look.
            first = chunk.score(queries[part], ids[part, : self.k])
            worst = torch.maximum(known[part], first.amin(dim=1, keepdim=True))
            width = max(first.shape[1], int((possible[part] >= worst).sum(dim=1).max()))
            rest = chunk.score(queries[part], ids[part, self.k : width])
            scores = torch.cat([first, rest], dim=1)
            keys[part, :width] = pack(scores, ids[part, :width]).masked_fill(ids[part, :width] < 0, NO_KEY)
        return keys

    def _merge(
        self,
        best: Tensor,
        scores: Tensor,
        chunk: _Chunk,
        tile: slice,
        rows: Tensor,
        floor: Tensor | None = None,
    ) -> Tensor:
        """The best keys of the queries `rows` (Q, K) after a tile's scores (Q, M) competed with them: (Q, K)."""
        k, width = best.shape[1], scores.shape[1]
        if self.exclude is not None:
            self.exclude.mask(scores, rows, chunk.ids[tile])
        threshold = _worst(best).clamp(min=_LOWEST)
        if floor is not None:
            threshold = torch.maximum(threshold, floor)
        if width > k and bool((threshold == _LOWEST).any()):
            threshold = torch.maximum(threshold, scores.topk(k, dim=1).values[:, -1:].float())
        candidates = _flat_nonzero(scores >= threshold.to(scores.dtype))
        if not len(candidates):
            return best
        row, column = candidates // width, candidates % width
        counts = torch.bincount(row, minlength=len(best))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        found = no_keys(len(best), int(counts.max()), best.device)
        found[row, place] = pack(scores.reshape(-1)[candidates].float(), chunk.ids[tile][column])
        return torch.cat([best, found], dim=1).topk(k, dim=1).values

    def _tiles(self, num_documents: int, num_queries: int, first: int | None = None) -> Iterator[slice]:
        """Cut a chunk into tiles of bounded numbers of scores."""
        most = max(1, min(self.documents_per_tile, _elements(self.queries.device) // num_queries))
        start, size = 0, min(first or most, most)
        while start < num_documents:
            yield slice(start, min(start + size, num_documents))
            start, size = start + size, most


class _Chunk:
    """Documents that are searched together: their embeddings (M, D) and their ids (M,)."""

    def __init__(self, documents: Embeddings, ids: Tensor, is_cosine: bool) -> None:
        self.documents = (
            documents if isinstance(documents, Tensor | np.ndarray) else to_float_tensor(documents)
        )
        self.ids = ids
        self.size = int(self.documents.shape[1])
        self.is_cosine = is_cosine

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, which: slice | Tensor) -> Tensor:
        """Some of the documents, (N, D) float32 on the ids' device."""
        if isinstance(self.documents, Tensor):
            return self.documents[which].detach().to(self.ids.device, torch.float32)
        index = which if isinstance(which, slice) else which.cpu().numpy()
        return torch.from_numpy(np.array(self.documents[index], dtype=np.float32)).to(self.ids.device)

    def factors(self, which: slice | Tensor) -> Tensor:
        """Some of the documents as they are multiplied, (N, D): with norm 1 for cosines."""
        return self.rows(which) * self._scale[which] if self.is_cosine else self.rows(which)

    def parts(self) -> Iterator[slice]:
        """All documents, a few at a time."""
        step = max(1, _elements(self.ids.device) // self.size)
        return (slice(start, start + step) for start in range(0, len(self), step))

    @cached_property
    def _scale(self) -> Tensor:
        """(M, 1): one over the norms."""
        norms = torch.cat([self.rows(part).norm(dim=1, keepdim=True) for part in self.parts()])
        return 1 / norms.clamp(min=1e-12)

    @cached_property
    def longest(self) -> float:
        """The largest norm of a factor."""
        return (
            1.0 if self.is_cosine else max(float(self.rows(part).norm(dim=1).max()) for part in self.parts())
        )

    @cached_property
    def _bfloat16_residual(self) -> float:
        factors = (self.factors(part) for part in self.parts())
        return max(float((part - part.bfloat16()).norm(dim=1).max()) for part in factors)

    def residual(self, dtype: torch.dtype) -> float:
        """The largest norm of what a factor loses in this dtype."""
        return 0.0 if dtype == torch.float32 else self._bfloat16_residual

    @cached_property
    def _by_id(self) -> tuple[Tensor, Tensor]:
        ids, order = self.ids.sort()
        return ids, order

    def score(self, queries: Tensor, ids: Tensor) -> Tensor:
        """The scores of queries (Q, D) with documents of their own (Q, K): (Q, K) float32; -inf for the id -1."""
        ids_in_order, order = self._by_id
        column = order[torch.searchsorted(ids_in_order, ids.clamp(min=int(ids_in_order[0])))]
        documents = self.factors(column.reshape(-1)).view(*ids.shape, self.size)
        return _row_products(queries.unsqueeze(1), documents).masked_fill(ids < 0, -torch.inf)


class _Excluded:
    """Pairs of query rows (P,) and document ids (P,) that must not be found."""

    def __init__(self, rows: Tensor, ids: Tensor) -> None:
        self.rows, order = rows.sort()
        self.ids = ids[order]

    def mask(self, scores: Tensor, rows: Tensor, ids: Tensor) -> None:
        """Set the scores (Q, M) of excluded pairs of these query rows (Q,) and document ids (M,) to -inf."""
        place, ids_in_order = torch.arange(len(rows), device=rows.device), ids.sort()
        start = torch.searchsorted(self.rows, rows)
        counts = torch.searchsorted(self.rows, rows, right=True) - start
        row = torch.repeat_interleave(place, counts)
        pair = torch.arange(len(row), device=rows.device) - (counts.cumsum(0) - counts)[row] + start[row]
        found = torch.searchsorted(ids_in_order.values, self.ids[pair]).clamp(max=len(ids) - 1)
        hit = ids_in_order.values[found] == self.ids[pair]
        scores[row[hit], ids_in_order.indices[found[hit]]] = -torch.inf


def _elements(device: torch.device) -> int:
    """How many numbers to compute at a time."""
    return TILE_ELEMENTS * (1 if device.type == "cpu" else TILES_ON_DEVICES)


def _worst(keys: Tensor) -> Tensor:
    """The scores of the last of the keys (Q, K): (Q, 1)."""
    return unpack_scores(keys[:, -1:])


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Dot products along the last dimension, each added up in the same way: equal rows score equally, to the bit."""
    return (a * b).sum(dim=-1)


def _flat_nonzero(mask: Tensor) -> Tensor:
    """Where a mask is true, as places in the flattened mask. NumPy finds few among many much faster than torch."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.reshape(-1).nonzero().squeeze(1)
