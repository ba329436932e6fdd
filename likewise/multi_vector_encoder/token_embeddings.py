"""TokenEmbeddings: the embeddings of the tokens that count of N texts, end to end, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from likewise.engine.token_batch import TokenBatch


@dataclass(frozen=True, eq=False)
class TokenEmbeddings:
    """The embeddings of N texts' tokens, one text behind the other, in the caller's order.

    Attributes:
        vectors: (T, D).
        lengths: (N,) int64, on the CPU: how many tokens of each text count; 0 is a text without any.
    """

    vectors: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, features: Mapping[str, Any]) -> TokenEmbeddings:
        """What a model gave, in packed or padded form: the tokens that are scored, in the caller's order of texts."""
        found: Tensor = features["token_embeddings"]
        if "tokens" not in features:
            mask = features.get("attention_mask")
            if mask is None:
                return cls(found.flatten(0, 1), torch.full((len(found),), found.shape[1]))
            return cls(found[mask.bool()], mask.bool().sum(1).cpu())
        tokens: TokenBatch = features["tokens"]
        scored: Tensor | None = features.get("scoring_mask")
        if scored is None and tokens.unseen is not None:
            scored = ~tokens.unseen
        if scored is None:
            return cls(found, tokens.lengths).select(tokens.place)
        counts = torch.zeros(len(tokens), dtype=torch.long, device=scored.device)
        counts.index_add_(0, tokens.sequence_of_token, scored.long())
        numbers = cls(scored.nonzero().squeeze(1), counts.cpu()).select(tokens.place)
        return cls(found.index_select(0, numbers.vectors), numbers.lengths)

    @classmethod
    def from_list(cls, texts: Sequence[Tensor]) -> TokenEmbeddings:
        """From one (tokens, D) for each of N > 0 texts."""
        return cls(torch.cat(list(texts)), torch.tensor([len(text) for text in texts]))

    @classmethod
    def from_padded(cls, padded: Tensor, mask: Tensor | None = None) -> TokenEmbeddings:
        """From (N, L, D) and a mask (N, L); without one, tokens of zeros are padding."""
        kept = padded.detach().ne(0).any(dim=-1) if mask is None else mask.bool()
        return cls(padded[kept], kept.sum(dim=1).cpu())

    @classmethod
    def join(cls, parts: Sequence[TokenEmbeddings]) -> TokenEmbeddings:
        """The texts of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([part.vectors for part in parts]), torch.cat([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Tensor]:
        """Each text's (tokens, D)."""
        return iter(self.vectors.split(self.lengths.tolist()))

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        return self.vectors.device

    @cached_property
    def starts(self) -> Tensor:
        """(N,) int64, on the CPU: where each text's tokens begin."""
        return self.lengths.cumsum(0) - self.lengths

    def select(self, rows: Tensor) -> TokenEmbeddings:
        """The texts with these numbers, in this order."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        shift = (self.starts[rows] - (ends - lengths)).repeat_interleave(lengths)
        number = torch.arange(total) + shift
        return TokenEmbeddings(self.vectors.index_select(0, number.to(self.device)), lengths)

    def split(self, size: int) -> tuple[TokenEmbeddings, ...]:
        """Parts of `size` texts, the last perhaps of fewer."""
        lengths = self.lengths.split(size)
        vectors = self.vectors.split([int(part.sum()) for part in lengths])
        return tuple(TokenEmbeddings(*part) for part in zip(vectors, lengths, strict=True))

    def detach(self) -> TokenEmbeddings:
        """The same without a graph."""
        return TokenEmbeddings(self.vectors.detach(), self.lengths)

    def padded(self) -> tuple[Tensor, Tensor]:
        """(N, L, D) with zeros behind, and the mask (N, L), bool: for functions that somebody else wrote."""
        longest = int(self.lengths.max()) if len(self) else 0
        mask = torch.arange(longest) < self.lengths.unsqueeze(1)
        return pad_sequence(list(self), batch_first=True), mask.to(self.device)

    def as_batch(self) -> tuple[TokenBatch, Tensor]:
        """As a batch whose tokens have no ids any more, and (T, D) in its order: for features that go on."""
        order = torch.argsort(self.lengths, stable=True)
        ordered = self.select(order)
        ids = torch.zeros(len(ordered.vectors), dtype=torch.long, device=self.device)
        return TokenBatch(ids, ordered.lengths, torch.argsort(order)), ordered.vectors
