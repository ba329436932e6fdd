"""InfoNCE over any number of candidates, in tiles: exact, without the matrix of all scores.

    loss = mean over rows i of -score(i, positive of i) + log sum over candidates j of exp(score(i, j))

The scores are made for a few rows at a time, and so are their gradients, right after the scores: the matrix of
B x M scores never exists, memory is that of the embeddings plus one tile, and every score is computed once. Sums of
exponentials are taken in at least float32.

References: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, equation 4; the subtraction of the maximum that
makes the sum safe is the usual log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from likewise.similarity import Similarity, cos_sim, dot_score, pytorch_cos_sim, to_float_tensor

Edit: TypeAlias = Callable[[Tensor, slice], None]
"""Changes a tile of logits (c, M) of these rows in place: minus infinity where there is no candidate."""

TILE_ENTRIES = {"cuda": 1 << 26}  # scores at a time: 256 MiB in float32
CPU_TILE_ENTRIES = 1 << 22  # 16 MiB


@dataclass(frozen=True)
class Direction:
    """What each row is compared with.

    Attributes:
        queries: (B, D), one for each row.
        candidates: (M, D).
        edit: Changes tiles of this direction; None for none.
        swapped: Whether the similarity takes the candidates first (it matters to one that is not symmetric).
    """

    queries: Tensor
    candidates: Tensor
    edit: Edit | None = None
    swapped: bool = False


def as_dot_products(
    embeddings: Sequence[Tensor], similarity_fct: Similarity, eps: float = 1e-12
) -> tuple[list[Tensor], Similarity]:
    """Embeddings whose dot products are the similarities, if it is cosine; in at least float32."""
    full = [to_float_tensor(embedding) for embedding in embeddings]
    if similarity_fct in (cos_sim, pytorch_cos_sim):
        return [normalize(embedding, dim=-1, eps=eps) for embedding in full], dot_score
    return full, similarity_fct


def info_nce(
    directions: Sequence[Direction],
    positives: Tensor,
    similarity_fct: Similarity = dot_score,
    scale: float | Tensor = 1.0,
    separate: bool = False,
    tile_entries: int | None = None,
) -> Tensor:
    """The loss, a scalar in nats.

    Args:
        directions: Each with the same B rows. The first has the positives.
        positives: (B,) int64, the number of each row's positive among the first direction's candidates.
        similarity_fct: Scores of all pairs, (N, D), (M, D) -> (N, M). For `dot_score` the gradients are made by hand.
        scale: Multiplies the scores.
        separate: False: one sum over the candidates of all directions. True: the mean of one loss per direction.
        tile_entries: Scores to hold at a time; for tests.
    """
    width = sum(len(direction.candidates) for direction in directions)
    device = positives.device.type
    entries = tile_entries or TILE_ENTRIES.get(device, CPU_TILE_ENTRIES)
    step = max(1, entries // width)
    count = len(positives)
    rows = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    groups = [[number] for number in range(len(directions))] if separate else [list(range(len(directions)))]
    with torch.autocast(device, enabled=False):
        if similarity_fct is dot_score:
            tensors = [t for d in directions for t in (d.queries * scale, d.candidates)]
            edits = [d.edit for d in directions]
            total: Tensor = _DotInfoNCE.apply(edits, positives, groups, rows, *tensors)  # type: ignore[no-untyped-call]
            return total / count

        def part(own: slice) -> Tensor:
            tiles = [scale * _similarities(direction, own, similarity_fct) for direction in directions]
            for direction, tile in zip(directions, tiles, strict=True):
                if direction.edit is not None:
                    direction.edit(tile, own)
            log_sums = torch.stack([tile.logsumexp(dim=1) for tile in tiles])  # (directions, c)
            log_sum = log_sums.mean(dim=0) if separate else log_sums.logsumexp(dim=0)
            return (log_sum - tiles[0].gather(1, positives[own, None]).squeeze(1)).sum()

        if len(rows) == 1:
            return part(rows[0]) / count
        parts = [checkpoint(part, own, use_reentrant=False, preserve_rng_state=False) for own in rows]
        return torch.stack(parts).sum() / count


def _similarities(direction: Direction, rows: slice, similarity_fct: Similarity) -> Tensor:
    if direction.swapped:
        return similarity_fct(direction.candidates, direction.queries[rows]).T
    return similarity_fct(direction.queries[rows], direction.candidates)


class _DotInfoNCE(torch.autograd.Function):
    """Sum of the rows' losses. Gradients are computed along with the scores, and kept: (B, D) and (M, D) each."""

    @staticmethod
    def forward(
        ctx: Any,
        edits: list[Edit | None],
        positives: Tensor,
        groups: list[list[int]],
        rows: list[slice],
        *tensors: Tensor,
    ) -> Tensor:
        queries, candidates = tensors[::2], tensors[1::2]
        gradients = [
            torch.zeros_like(tensor) if wanted else None
            for tensor, wanted in zip(tensors, ctx.needs_input_grad[4:], strict=True)
        ]
        total = queries[0].new_zeros(())
        positive = queries[0].new_empty(0)
        for own, group in ((own, group) for own in rows for group in groups):
            widths = [len(candidates[k]) for k in group]
            tile = queries[0].new_empty(own.stop - own.start, sum(widths))
            for k, part in zip(group, tile.split(widths, dim=1), strict=True):
                torch.mm(queries[k][own], candidates[k].T, out=part)
                edit = edits[k]
                if edit is not None:
                    edit(part, own)
            places = positives[own, None]
            if 0 in group:  # the first, so that the others of these rows know it
                positive = tile.gather(1, places).squeeze(1)
            total += _log_sums_to_shares(tile, positive) / len(groups)
            if 0 in group:
                tile.scatter_add_(1, places, tile.new_full(places.shape, -float(len(groups))))
            for k, part in zip(group, tile.split(widths, dim=1), strict=True):
                of_queries, of_candidates = gradients[2 * k], gradients[2 * k + 1]
                if of_queries is not None:
                    of_queries[own] = part @ candidates[k]
                if of_candidates is not None:
                    of_candidates.addmm_(part.T, queries[k][own])
        ctx.save_for_backward(*gradients)
        ctx.num_groups = len(groups)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient / ctx.num_groups
        return (None,) * 4 + tuple(None if g is None else g * factor for g in ctx.saved_tensors)


def _log_sums_to_shares(tile: Tensor, positive: Tensor) -> Tensor:
    """Logits (c, M) -> the sum over rows of their log-sum-exp minus the positive's logit (c,); the tile becomes its softmax.

    The positive is taken from the highest logit first, so that small losses keep their digits.
    """
    highest = tile.amax(dim=1)
    torch.softmax(tile, dim=1, out=tile)
    share = tile.amax(dim=1)  # the highest logit's: one over the sum
    return (highest - positive - share.log()).sum()
