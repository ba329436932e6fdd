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
    """

    blocks: tuple[Block, ...]
    source: Tensor
    target: Tensor
    padding: Tensor
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
        """`source`, `target` and `padding` for rows of one head each."""
        if heads not in self._heads:
            head_numbers = torch.arange(heads, device=self.source.device)
            sources, start = [], 0
            row_of = torch.empty(len(self.source), heads, dtype=torch.long, device=self.source.device)
            for block in self.blocks:
                size = block.count * block.length
                of_heads = (
                    self.source[start : start + size].view(block.count, block.length, 1) * heads
                    + head_numbers
                )
                sources.append(of_heads.transpose(1, 2).flatten())
                rows = torch.arange(size * heads, device=head_numbers.device).view(
                    block.count, heads, block.length
                )
                row_of[start : start + size] = rows.transpose(1, 2).reshape(size, heads) + start * heads
                start += size
            self._heads[heads] = (
                torch.cat(sources),
                row_of[self.target].flatten(),
                row_of[self.padding].flatten(),
            )
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
    blocks, sources, targets, paddings = [], [], [], []
    first_token = first_slot = 0
    for of_block in lengths.split(counts.tolist()):
        count, length = len(of_block), int(of_block[-1])
        filled = torch.arange(length) < of_block.unsqueeze(1)  # (count, length)
        source = torch.zeros(count, length, dtype=torch.long)
        source[filled] = torch.arange(first_token, first_token + int(of_block.sum()))
        sources.append(source.flatten())
        targets.append(filled.flatten().nonzero().squeeze(1) + first_slot)
        paddings.append((~filled).flatten().nonzero().squeeze(1) + first_slot)
        hidden = None
        is_hidden = ~filled
        if tokens.unseen is not None:
            is_hidden[filled] = tokens.unseen[first_token : first_token + int(of_block.sum())].cpu()
        if is_hidden.any():
            hidden = is_hidden[:, None, None].to(tokens.device)
        blocks.append(Block(count, length, hidden))
        first_token += int(of_block.sum())
        first_slot += count * length
    source, target, padding = (torch.cat(pieces).to(tokens.device) for pieces in (sources, targets, paddings))
    return Blocks(tuple(blocks), source, target, padding)
