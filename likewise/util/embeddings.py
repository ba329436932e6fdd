"""Changes to embeddings: lengths and sizes; and where a batch is."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

Matrix = TypeVar("Matrix", Tensor, np.ndarray[Any, Any])

__all__ = ["batch_to_device", "normalize_embeddings", "truncate_embeddings"]


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


def batch_to_device(batch: dict[str, Any], target_device: torch.device | str) -> dict[str, Any]:
    """A batch with its tensors on another device, changed in place."""
    for key, value in batch.items():
        if isinstance(value, Tensor):
            batch[key] = value.to(target_device)
    return batch
