"""MaxSim over tokens that lie end to end, with its gradients, in tiles.

    score(q, d) = sum over tokens i of q of weight_i * max over tokens j of d of q_i . d_j

The products of a tile are made, reduced and dropped: what is kept for the backward pass is which token of each document was
nearest to each query token, so that memory is that of the tokens, of those numbers and of one tile.

Reference: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WITHOUT_TOKENS = -1e9  # the score of a document that has none: below every other's
TILE_ENTRIES = {"cuda": 1 << 26}  # products at a time: 256 MiB in float32
CPU_TILE_ENTRIES = 1 << 22  # 16 MiB

Groups = Sequence[tuple[slice, slice]]
"""Which queries are scored with which documents, by their numbers; as many documents in each where there are several."""


def packed_maxsim(
    queries: Tensor,
    documents: Tensor,
    query_lengths: Sequence[int],
    document_lengths: Sequence[int],
    weights: Tensor | None = None,
    groups: Groups | None = None,
    tile_entries: int | None = None,
) -> Tensor:
    """The scores of all queries with all documents, (A, B) float32; or of groups of them.

    Products are of the inputs' own type, sums over a query's tokens in float32.

    Args:
        queries: (T, D), the tokens of A queries.
        documents: (U, D), the tokens of B documents. One without tokens scores -1e9.
        query_lengths: How many tokens each query has.
        document_lengths: How many each document has.
        weights: (T,), by which a token's part of the score is multiplied; None for 1.
        groups: Queries and documents that are scored with each other: then (A, documents of a group).
        tile_entries: Products to hold at a time; for tests.
    """
    everything = [(slice(0, len(query_lengths)), slice(0, len(document_lengths)))]
    weights = torch.ones(len(queries), device=queries.device) if weights is None else weights.float()
    with torch.autocast(queries.device.type, enabled=False):
        scores: Tensor = _PackedMaxSim.apply(  # type: ignore[no-untyped-call]
            queries,
            documents.to(queries.dtype),
            weights,
            list(query_lengths),
            list(document_lengths),
            list(groups or everything),
            tile_entries or TILE_ENTRIES.get(queries.device.type, CPU_TILE_ENTRIES),
            torch.is_grad_enabled(),
        )
    return scores


class _PackedMaxSim(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        queries: Tensor,
        documents: Tensor,
        weights: Tensor,
        query_lengths: list[int],
        document_lengths: list[int],
        groups: list[tuple[slice, slice]],
        tile_entries: int,
        trains: bool,
    ) -> Tensor:
        keeps = trains and any(ctx.needs_input_grad[:2])
        starts, ends = _borders(query_lengths), _borders(document_lengths)
        width = max((part.stop - part.start for _, part in groups), default=0)
        scores = torch.zeros(len(query_lengths), width, device=queries.device)
        nearest: list[Tensor] = []  # of each group and document, for each token of the group's queries
        for some, part in groups:
            own = queries[starts[some.start] : starts[some.stop]]  # (t, D)
            of_token = _numbers(query_lengths[some], queries.device)
            own_weights = weights[starts[some.start] : starts[some.stop], None]
            best = torch.zeros(part.stop - part.start, len(own), device=queries.device)
            for first, last in _tiles(document_lengths, part, max(1, tile_entries // max(len(own), 1))):
                products = documents[ends[first] : ends[last]] @ own.T  # (u, t)
                for number, rows in enumerate(products.split(document_lengths[first:last])):
                    place = first + number
                    if not len(rows) or not len(own):
                        nearest += [own.new_zeros(len(own), dtype=torch.long)] if keeps else []
                    elif keeps:
                        values, of_document = rows.max(dim=0)
                        best[place - part.start] = values
                        nearest.append(of_document + ends[place])
                    else:
                        best[place - part.start] = rows.amax(dim=0)
            sums = scores.new_zeros(some.stop - some.start, len(best))
            sums.index_add_(0, of_token, best.T * own_weights)
            empty = [i for i, length in enumerate(document_lengths[part]) if not length]
            sums[:, empty] = WITHOUT_TOKENS
            scores[some, : len(best)] = sums
        if keeps:
            ctx.save_for_backward(queries, documents, weights, *nearest)
            ctx.lengths = query_lengths, document_lengths, groups
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, documents, weights, *nearest = ctx.saved_tensors
        query_lengths, document_lengths, groups = ctx.lengths
        of_queries = torch.zeros_like(queries) if ctx.needs_input_grad[0] else None
        of_documents = torch.zeros_like(documents) if ctx.needs_input_grad[1] else None
        starts, taken = _borders(query_lengths), iter(nearest)
        for some, part in groups:
            tokens = slice(starts[some.start], starts[some.stop])
            own = queries[tokens]
            by_token = gradient[some].index_select(0, _numbers(query_lengths[some], gradient.device))
            by_token = (by_token * weights[tokens, None]).to(queries.dtype)  # (t, documents)
            for column, place in enumerate(range(part.start, part.stop)):
                rows, factor = next(taken), by_token[:, column : column + 1]
                if not document_lengths[place] or not len(own):
                    continue
                if of_queries is not None:
                    of_queries[tokens].addcmul_(documents.index_select(0, rows), factor)
                if of_documents is not None:
                    of_documents.index_add_(0, rows, own * factor)
        return of_queries, of_documents, *[None] * 6


def _borders(lengths: Sequence[int]) -> list[int]:
    """Where each text's tokens begin, and where the last one's end."""
    borders = [0]
    for length in lengths:
        borders.append(borders[-1] + length)
    return borders


def _numbers(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The number of the text that each token belongs to."""
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long)).to(device)


def _tiles(lengths: Sequence[int], part: slice, most: int) -> list[tuple[int, int]]:
    """Documents from first to before last, of at most so many tokens together, or one of more."""
    tiles, first, total = [], part.start, 0
    for place in range(part.start, part.stop):
        if place > first and total + lengths[place] > most:
            tiles.append((first, place))
            first, total = place, 0
        total += lengths[place]
    return [*tiles, (first, part.stop)] if part.stop > first else tiles
