"""Query expansion: short queries filled up with tokens of one kind, whose embeddings are scored like the others'.

Reference: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832, section 3.2 (query augmentation).
"""

from __future__ import annotations

from typing import Literal

import torch

from likewise.engine.token_batch import TokenBatch


def expanded(
    tokens: TokenBatch, length: int, token_id: int, seen: bool, side: Literal["left", "right"] = "right"
) -> TokenBatch:
    """The batch with every sequence filled up to `length` tokens; longer ones stay as they are.

    Args:
        tokens: The batch.
        length: The least tokens of a sequence.
        token_id: What it is filled up with.
        seen: Whether the sequence's tokens see the added ones; the added ones see the sequence either way.
        side: Where they are added.
    """
    lengths = tokens.lengths.clamp(min=length)  # ascending as before, so that the packed order stays
    added = (lengths - tokens.lengths).to(tokens.device)
    ends = lengths.cumsum(0).to(tokens.device)
    sequence = tokens.sequence_of_token
    target = tokens.positions + (ends - lengths.to(tokens.device))[sequence]
    if side == "left":
        target = target + added[sequence]
    is_added = torch.ones(int(lengths.sum()), dtype=torch.bool, device=tokens.device)
    is_added[target] = False
    ids = torch.full_like(is_added, token_id, dtype=torch.long)
    ids[target] = tokens.input_ids
    types = None
    if tokens.token_type_ids is not None:
        types = torch.zeros_like(ids)
        types[target] = tokens.token_type_ids
    unseen = None if seen or not bool(added.any()) else is_added
    return TokenBatch(ids, lengths, tokens.place, types, tokens.prompt_lengths, unseen)
