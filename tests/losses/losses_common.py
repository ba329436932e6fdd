"""What the tests of losses share: fixed embeddings in place of a model, batches of random texts, gradients to compare."""

from __future__ import annotations

from typing import Any

import torch
from small import sentences
from torch import Tensor, nn

from likewise.packing import ColumnBatch


class FixedModel(nn.Module):
    """Stands in for a model where only embeddings matter: `features["column"]` says which of the stored ones."""

    takes_tokens = False
    device = torch.device("cpu")
    max_seq_length = 32

    def __init__(self, size: int = 8, tokenizer: Any = None) -> None:
        super().__init__()
        self.size = size
        self.stored: list[Tensor] = []
        self.weight = nn.Parameter(torch.zeros(1))
        if tokenizer is not None:
            self.tokenizer = tokenizer

    def get_embedding_dimension(self) -> int:
        return self.size

    get_sentence_embedding_dimension = get_embedding_dimension

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": self.stored[features["column"]]}

    def __getitem__(self, index: int) -> Any:
        return self


def texts(rows: int, columns: int, seed: int = 0) -> list[list[str]]:
    """Random texts: one list for each column."""
    found = sentences(rows * columns, seed)
    return [found[column * rows : (column + 1) * rows] for column in range(columns)]


def batch_of(model: Any, columns: list[list[str]]) -> ColumnBatch:
    """The batch of these texts."""
    sequences = model.token_sequences([text for column in columns for text in column])
    return ColumnBatch(sequences.pack(), len(columns))


def total(value: Any) -> Tensor:
    """What is minimised: the value, or the sum of its parts."""
    return sum(value.values()) if isinstance(value, dict) else value


def gradients(value: Any, module: nn.Module) -> dict[str, Tensor]:
    """The gradients of a loss value for a module's parameters, by name."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(total(value), list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-5) -> None:
    """Equal up to rounding, which is relative to the largest entries."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), largest * 0.1)
        torch.testing.assert_close(
            found[name], gradient, rtol=rtol, atol=rtol * scale, msg=lambda m, n=name: f"{n}: {m}"
        )
