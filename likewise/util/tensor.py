"""Changes to embeddings: lengths, sizes, sparse forms, and padded embeddings of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix

Matrix = TypeVar("Matrix", Tensor, np.ndarray[Any, Any])

FLAT_ONLY = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx", "position_ids")

__all__ = [
    "batch_to_device",
    "cat_padded_token_embeddings",
    "compute_count_vector",
    "normalize_embeddings",
    "repad_flattened_features",
    "select_max_active_dims",
    "stack_padded_token_embeddings",
    "to_scipy_coo",
    "truncate_embeddings",
]


def normalize_embeddings(embeddings: Tensor) -> Tensor:
    """(..., D) scaled to Euclidean length 1; a sparse (N, D) or (D,) stays sparse."""
    if not embeddings.is_sparse:
        return normalize(embeddings, dim=-1)
    embeddings = embeddings.coalesce()
    indices, values = embeddings.indices(), embeddings.values()
    row = indices[0] if embeddings.dim() == 2 else torch.zeros_like(indices[0])
    rows = len(embeddings) if embeddings.dim() == 2 else 1
    squares = values.new_zeros(rows, dtype=torch.float32).index_add(0, row, values.float().square())
    scaled = values.float() / squares.sqrt()[row].clamp(min=1e-12)
    return torch.sparse_coo_tensor(indices, scaled.to(values.dtype), embeddings.shape, check_invariants=True)


def truncate_embeddings(embeddings: Matrix, truncate_dim: int | None) -> Matrix:
    """(..., D) cut to the first `truncate_dim` entries; None leaves them whole."""
    return embeddings[..., :truncate_dim]


def select_max_active_dims(embeddings: Any, max_active_dims: int | None) -> Any:
    """(..., D) with the entries of the largest size kept, and zeros elsewhere, as a new tensor.

    Args:
        embeddings: A tensor, an array or a list.
        max_active_dims: How many entries to keep; None hands the embeddings back as they are.

    Raises:
        ValueError: It is below 1.
    """
    if max_active_dims is None:
        return embeddings
    if max_active_dims < 1:
        raise ValueError(f"`max_active_dims` must be at least 1, but is {max_active_dims}. None keeps all.")
    tensor = torch.as_tensor(embeddings)
    kept = tensor.abs().topk(min(max_active_dims, tensor.shape[-1]), dim=-1).indices
    return torch.zeros_like(tensor).scatter(-1, kept, tensor.gather(-1, kept))


def to_scipy_coo(x: Tensor) -> coo_matrix:
    """A sparse tensor (N, D) as scipy's coo_matrix; bfloat16 becomes float32."""
    from scipy.sparse import coo_matrix

    x = x.coalesce()
    values = x.values().float() if x.dtype == torch.bfloat16 else x.values()
    return coo_matrix((values.cpu().numpy(), x.indices().cpu().numpy()), shape=x.shape)


def compute_count_vector(embeddings: Tensor) -> Tensor:
    """How many rows of (N, D) or (D,), dense or sparse, have something else than 0 in each dimension: (D,) int32.

    As in the reference, a 0 that a sparse tensor stores counts as an entry.

    Raises:
        ValueError: There are more dimensions.
    """
    if embeddings.dim() not in (1, 2):
        raise ValueError(f"Expected embeddings (N, D) or (D,), but got {embeddings.dim()} dimensions.")
    sparse = embeddings if embeddings.is_sparse else embeddings.to_sparse()
    column = sparse.coalesce().indices()[-1]
    return torch.bincount(column, minlength=embeddings.shape[-1]).int()


def batch_to_device(batch: dict[str, Any], target_device: torch.device | str) -> dict[str, Any]:
    """A batch with its tensors on another device, changed in place."""
    for key, value in batch.items():
        if isinstance(value, Tensor):
            batch[key] = value.to(target_device)
    return batch


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
