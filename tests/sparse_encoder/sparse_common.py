"""Small real sparse models for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from small import small_model, small_model_folder


def small_mlm_folder(path: str | Path, architecture: str = "bert", seed: int = 0, **config: Any) -> str:
    """A folder with a two-layer random masked language model and its tokenizer."""
    settings = {"initializer_range": 0.3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return small_model_folder(path, architecture, seed, "ForMaskedLM", **settings | config)


def small_splade(path: str | Path, **kwargs: Any) -> Any:
    """A SparseEncoder of a small masked language model, kept in `path`."""
    from likewise.sparse_encoder import SparseEncoder

    return SparseEncoder(small_mlm_folder(Path(path) / "mlm"), device="cpu", **kwargs)


def small_csr(path: str | Path) -> Any:
    """A SparseEncoder of a small dense model with a SparseAutoEncoder behind it."""
    from likewise.sparse_encoder import SparseEncoder

    dense = Path(path) / "dense"
    small_model(Path(path), dropout=False).save(str(dense))
    return SparseEncoder(str(dense), device="cpu")


def apart(embeddings: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two embeddings, COO or dense."""
    return float((embeddings.detach().to_dense() - expected.detach().to_dense()).abs().max())
