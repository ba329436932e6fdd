"""Padded embeddings of tokens, for losses and functions that somebody else wrote; the library's own are packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

FLAT_ONLY = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx", "position_ids")


def repad_flattened_features(features: dict[str, Any]) -> dict[str, Any]:
    """Texts that stand one behind the other as a padded batch, changed in place.

    Args:
        features: `token_embeddings` (1, T, D), `input_ids` (1, T) and `cu_seq_lens_q` (B + 1,), where each text begins.

    Returns:
        The same: `token_embeddings` (B, longest, D), `input_ids` and `attention_mask` (B, longest).
    """
    lengths = features["cu_seq_lens_q"].diff()
    for name in ("token_embeddings", "input_ids"):
        features[name] = pad_sequence(features[name][0].split(lengths.tolist()), batch_first=True)
    place = torch.arange(int(lengths.max()), device=lengths.device)
    features["attention_mask"] = (place < lengths.unsqueeze(1)).to(features["input_ids"].device)
    for name in FLAT_ONLY:
        features.pop(name, None)
    return features


def stack_padded_token_embeddings(
    embeddings: Sequence[Tensor], masks: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """N columns of (B, T, D) and their masks (B, T), each with a T of its own -> (B, N, largest T, D), (B, N, largest T)."""
    padded = _padded(embeddings, masks)
    return torch.stack([each for each, _ in padded], dim=1), torch.stack([mask for _, mask in padded], dim=1)


def cat_padded_token_embeddings(
    embeddings: Sequence[Tensor], masks: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Batches of (B, T, D) and their masks (B, T), each with a B and T of its own -> (sum of B, largest T, D), (sum of B, largest T)."""
    padded = _padded(embeddings, masks)
    return torch.cat([each for each, _ in padded]), torch.cat([mask for _, mask in padded])


def _padded(embeddings: Sequence[Tensor], masks: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    longest = max(each.shape[1] for each in embeddings)
    return [
        (
            pad(each, (0, 0, 0, longest - each.shape[1])),
            pad(mask, (0, longest - mask.shape[1])),
        )
        for each, mask in zip(embeddings, masks, strict=True)
    ]
