"""Blocks: the sequences of a packed batch gathered by about equal length, heads first, for dense products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from likewise.engine.token_batch import TokenBatch

SMALLEST_STEP = 8  # sequences whose lengths round up to the same multiple of this share a block


@dataclass(frozen=True)
class Block:
    """Sequences of about equal length.

    Attributes:
        count: How many.
        length: The longest of them, to which the others are padded.
        hidden: (count, 1, 1, length) bool, where a key is padding or not to be seen. None where all are seen.
    """

    count: int
    length: int
    hidden: Tensor | None


@dataclass(frozen=True)
class Blocks:
    """How the tokens of a batch lie in blocks.

    Attributes:
        blocks: In packed order.
        source: (S,) the token at each place of all blocks, each (count, length); token 0 where there is padding.
        target: (T,) the place of each token.
        padding: (P,) the places that are padding.
        has_unseen: Whether there are tokens besides that nobody sees.
    """

    blocks: tuple[Block, ...]
    source: Tensor
    target: Tensor
    padding: Tensor
    has_unseen: bool = False
    _heads: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def gather(self, packed: Tensor, padding: float | None = None) -> Tensor:
        """(T, H, D) -> (S * H, D), each block's heads first; padding takes the given value, or any."""
        source, _, empty = self._rows(packed.shape[1])
        gathered = packed.reshape(-1, packed.shape[2]).index_select(0, source)
        if padding is not None and len(empty):
            gathered.index_fill_(0, empty, padding)
        return gathered

    def scatter(self, blocked: Tensor, heads: int) -> Tensor:
        """(S * H, D) -> (T, H, D); what stands at padding is dropped."""
        _, target, _ = self._rows(heads)
        return blocked.index_select(0, target).view(-1, heads, blocked.shape[1])

    def split(self, heads: int, *blocked: Tensor) -> Iterator[tuple[Any, ...]]:
        """Each block with its part of every tensor: (S * H, D) -> views (count * H, length, D)."""
        sizes = [block.count * heads * block.length for block in self.blocks]
        for block, *pieces in zip(self.blocks, *(tensor.split(sizes) for tensor in blocked), strict=True):
            yield block, *(piece.view(block.count * heads, block.length, -1) for piece in pieces)

    def _rows(self, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """`source`, `target` and `padding` for rows of one head each: in each sequence head by head, all its places."""
        if heads not in self._heads:
            device = self.source.device
            places = [torch.arange(block.length).repeat(block.count) for block in self.blocks]
            lengths = [torch.full((block.count * block.length,), block.length) for block in self.blocks]
            place, length = (torch.cat(each).to(device) for each in (places, lengths))
            start = torch.arange(len(place), device=device) - place  # of the sequence
            head = torch.arange(heads, device=device)
            row_of = (start * heads + place).unsqueeze(1) + length.unsqueeze(1) * head  # (S, H)
            source = torch.empty_like(row_of).flatten()
            source[row_of] = self.source.unsqueeze(1) * heads + head
            self._heads[heads] = source, row_of[self.target].flatten(), row_of[self.padding].flatten()
        return self._heads[heads]


def blocks_of(tokens: TokenBatch) -> Blocks:
    """The blocks of a batch; made once, for all layers and for the backward pass."""
    if tokens not in _known:
        _known[tokens] = _make(tokens)
    return _known[tokens]


_known: WeakKeyDictionary[TokenBatch, Blocks] = WeakKeyDictionary()


def _make(tokens: TokenBatch) -> Blocks:
    lengths = tokens.lengths[tokens.lengths > 0]
    # From 64 tokens on a step is at most an eighth of the length: no more of a block is padding, and there are few blocks.
    steps = (2 ** (lengths.float().log2().floor() - 3)).clamp(min=SMALLEST_STEP).long()
    rounded = (lengths + steps - 1) // steps * steps
    _, counts = torch.unique_consecutive(rounded, return_counts=True)
    longest = lengths[counts.cumsum(0) - 1]
    widths = longest.repeat_interleave(counts)  # to which each sequence is padded
    sequence = torch.arange(len(lengths)).repeat_interleave(widths)
    place = torch.arange(len(sequence)) - (widths.cumsum(0) - widths)[sequence]
    filled = place < lengths[sequence]  # (S,)
    source = torch.zeros_like(sequence)
    source[filled] = torch.arange(int(lengths.sum()))
    is_hidden = ~filled
    if tokens.unseen is not None:
        is_hidden[filled] = tokens.unseen.cpu()
    parts = is_hidden.split((counts * longest).tolist())
    blocks = [
        Block(count, length, part.view(count, 1, 1, length).to(tokens.device) if part.any() else None)
        for count, length, part in zip(counts.tolist(), longest.tolist(), parts, strict=True)
    ]
    target, padding = filled.nonzero().squeeze(1), (~filled).nonzero().squeeze(1)
    source, target, padding = (each.to(tokens.device) for each in (source, target, padding))
    return Blocks(tuple(blocks), source, target, padding, tokens.unseen is not None)
