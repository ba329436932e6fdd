"""Logits over a vocabulary, pooled to one row for each sequence: those of all tokens, often gigabytes, never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from likewise.engine.token_batch import TokenBatch

CHUNK_TOKENS = {"cpu": 128}  # elsewhere 1,024


@dataclass(frozen=True, eq=False)
class TokenLogits:
    """What stands in place of the logits of T tokens: the inputs of the linear layer that makes them.

    Attributes:
        hidden: (T, D), in packed order.
        weight: (V, D).
        bias: (V,), or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    def whole(self) -> Tensor:
        """(T, V)."""
        return linear(self.hidden, self.weight, self.bias)


def pooled_logits(
    logits: TokenLogits,
    tokens: TokenBatch,
    pooling: Literal["max", "sum"],
    twice: bool,
    chunk_tokens: int | None = None,
) -> Tensor:
    """SPLADE's row of each sequence: the maximum or sum over its tokens of log(1 + relu(logit)) (https://arxiv.org/abs/2109.10086).

    Args:
        logits: Those of the batch's tokens.
        tokens: The batch.
        pooling: "max" or "sum".
        twice: Whether log(1 + x) is taken once more.
        chunk_tokens: Tokens whose logits exist at the same time; None for 128 on the CPU and 1,024 elsewhere.

    Returns (N, V), in packed order; zeros for a sequence without tokens.
    """
    size = chunk_tokens or CHUNK_TOKENS.get(logits.hidden.device.type, 1024)
    settings = tokens.lengths.tolist(), pooling == "sum", twice, size, torch.is_grad_enabled()
    rows: Tensor = _Pooled.apply(logits.hidden, logits.weight, logits.bias, *settings)  # type: ignore[no-untyped-call]
    return rows


def saturated(logits: Tensor, twice: bool) -> Tensor:
    """log(1 + relu(x)), and log(1 + x) of that once more if `twice`."""
    return logits.relu().log1p().log1p() if twice else logits.relu().log1p()


def _chunks(lengths: list[int], size: int) -> Iterator[tuple[slice, slice, list[tuple[int, int, int]]]]:
    """Runs of `size` tokens: the tokens, the sequences, and of each (its number, its tokens' first and end in the run)."""
    ends = torch.tensor(lengths, dtype=torch.long).cumsum(0)
    starts = ends - torch.tensor(lengths, dtype=torch.long)
    for start in range(0, sum(lengths), size):
        first = int(torch.searchsorted(ends, start, right=True))
        last = int(torch.searchsorted(starts, start + size))
        inside = [(bounds[first:last] - start).clamp(0, size).tolist() for bounds in (starts, ends)]
        yield slice(start, start + size), slice(first, last), [*zip(range(first, last), *inside, strict=True)]


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, lengths: list[int], is_sum: bool, twice: bool, size: int, trains: bool) -> Tensor:  # fmt: skip
        """Pool chunk by chunk; of a maximum, which token gave it is kept for the backward pass."""
        rows = hidden.new_zeros(len(lengths), len(weight))
        needs_winners = trains and not is_sum and any(ctx.needs_input_grad)
        winners = rows.new_zeros(rows.shape, dtype=torch.int32) if needs_winners else None
        for run, _, spans in _chunks(lengths, size):
            logits = linear(hidden[run], weight, bias)
            for number, first, end in spans:
                part, row = logits[first:end], rows[number]
                if is_sum:
                    row += saturated(part, twice).sum(dim=0)
                elif winners is None:
                    torch.maximum(row, part.amax(dim=0), out=row)
                else:
                    largest, token = part.max(dim=0)
                    is_new = largest > row
                    winners[number][is_new] = (token[is_new] + (run.start + first)).int()
                    torch.maximum(row, largest, out=row)
        if not is_sum:
            rows = saturated(rows, twice)  # both logarithms rise, so that they may come after the maximum
        ctx.save_for_backward(hidden, weight, bias, *(() if winners is None else (rows, winners)))
        ctx.settings = lengths, is_sum, twice, size
        return rows

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Chunk by chunk, over the entries of the vocabulary that have a gradient there."""
        hidden, weight, bias, *kept = ctx.saved_tensors
        lengths, is_sum, twice, size = ctx.settings
        of_hidden = torch.zeros_like(hidden)
        of_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        of_bias = of_weight.new_zeros(len(weight))
        slopes = None if is_sum else gradient * _slope_at(kept[0], twice)
        for run, sequences, spans in _chunks(lengths, size):
            if slopes is None:
                part = linear(hidden[run], weight, bias)
                towards = torch.cat([gradient[n].expand(end - first, -1) for n, first, end in spans])
                by_logit = towards * _slope_at(saturated(part, twice), twice)
                used = by_logit.any(dim=0).nonzero().squeeze(1)
                by_logit = by_logit[:, used]
            else:
                by_logit, used = _at_winners(slopes[sequences], kept[1][sequences], run, len(hidden[run]))
            of_hidden[run] = by_logit @ weight[used]
            of_weight.index_add_(0, used, (by_logit.T @ hidden[run]).to(of_weight.dtype))
            of_bias.index_add_(0, used, by_logit.sum(dim=0, dtype=of_bias.dtype))
        given = (None if bias is None else of_bias.to(bias.dtype), *[None] * 5)
        return of_hidden, of_weight.to(weight.dtype), *given


def _slope_at(rows: Tensor, twice: bool) -> Tensor:
    """The derivative of `saturated` by what it gave, 0 where that is 0."""
    return torch.exp(-rows - rows.expm1() if twice else -rows) * (rows > 0)


def _at_winners(slopes: Tensor, winners: Tensor, run: slice, tokens: int) -> tuple[Tensor, Tensor]:
    """(n, V) gradients of maxima -> (tokens of the run, U) each at the token that gave it, and which U entries these are."""
    there = (slopes != 0) & (winners >= run.start) & (winners < run.stop)
    is_used = there.any(dim=0)
    used = is_used.nonzero().squeeze(1)
    by_logit = slopes.new_zeros(tokens, len(used))
    sequence, entry = there.nonzero(as_tuple=True)
    token, column = winners[sequence, entry].long() - run.start, (is_used.cumsum(0) - 1)[entry]
    by_logit[token, column] = slopes[sequence, entry]
    return by_logit, used
