"""Functions around embeddings, under the name that the reference gave them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from likewise.model.sentence_transformer import best_device as get_device_name
from likewise.retrieval import (
    community_detection,
    information_retrieval,
    mine_hard_negatives,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    quantize_embeddings,
    semantic_search,
    semantic_search_faiss,
    semantic_search_usearch,
)
from likewise.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pytorch_cos_sim,
)

Matrix = TypeVar("Matrix", Tensor, np.ndarray[Any, Any])

__all__ = [
    "SimilarityFunction",
    "batch_to_device",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "get_device_name",
    "information_retrieval",
    "manhattan_sim",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "truncate_embeddings",
]


def normalize_embeddings(embeddings: Tensor) -> Tensor:
    """(..., D) scaled to Euclidean length 1."""
    return normalize(embeddings, dim=-1)


def truncate_embeddings(embeddings: Matrix, truncate_dim: int | None) -> Matrix:
    """(..., D) cut to the first `truncate_dim` entries; None leaves them whole."""
    return embeddings[..., :truncate_dim]


def batch_to_device(batch: dict[str, Any], target_device: torch.device | str) -> dict[str, Any]:
    """A batch with its tensors on another device, changed in place."""
    for key, value in batch.items():
        if isinstance(value, Tensor):
            batch[key] = value.to(target_device)
    return batch
