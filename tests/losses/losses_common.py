"""What the tests of losses share: fixed embeddings in place of a model, batches of random texts, gradients to compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from small import sentences
from torch import Tensor, nn

from likewise import losses
from likewise.engine import ColumnBatch

SIZE = 32  # of the embeddings of the small random model


@dataclass(frozen=True)
class Example:
    """A loss by arguments that both libraries take, and what it trains on: eight rows.

    Attributes:
        name: The class's name.
        columns: How many text columns.
        labels: (8, ...), or None.
        arguments: Keyword arguments.
        guided: Whether the loss takes a guide.
        inner: The class inside a wrapper.
    """

    name: str
    columns: int = 2
    labels: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    guided: bool = False
    inner: str | None = None

    def __str__(self) -> str:
        return self.name

    def build(self, model: Any, guide: Any = None, module: Any = losses) -> Any:
        """The loss, of this library or (`module`) of the reference."""
        around = [getattr(module, self.inner)(model)] if self.inner else []
        guides = [guide] if self.guided else []
        return getattr(module, self.name)(model, *around, *guides, **self.arguments)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


GRADED, CLASSES, BINARY = torch.linspace(0, 1, 8), torch.arange(8) % 3, torch.arange(8) % 2
CHUNKS = {"mini_batch_size": 3}
EXAMPLES = [
    Example("MultipleNegativesRankingLoss", 4),
    Example("MultipleNegativesSymmetricRankingLoss"),
    Example("CachedMultipleNegativesRankingLoss", 3, None, CHUNKS),
    Example("CachedMultipleNegativesSymmetricRankingLoss", 2, None, CHUNKS),
    Example("GISTEmbedLoss", 3, None, {"temperature": 0.1, "margin": -0.05}, guided=True),
    Example("CachedGISTEmbedLoss", 4, None, {"temperature": 0.1, "margin": -0.05, **CHUNKS}, guided=True),
    Example("CoSENTLoss", 2, GRADED),
    Example("AnglELoss", 3),
    Example("CosineSimilarityLoss", 2, GRADED),
    Example("ContrastiveLoss", 2, BINARY),
    Example("OnlineContrastiveLoss", 2, BINARY, {"margin": 1.5}),
    Example("TripletLoss", 3),
    Example("BatchAllTripletLoss", 1, CLASSES),
    Example("BatchHardTripletLoss", 1, CLASSES),
    Example("BatchHardSoftMarginTripletLoss", 1, CLASSES),
    Example("BatchSemiHardTripletLoss", 1, CLASSES),
    Example("MegaBatchMarginLoss", 2, None, {"positive_margin": 2.0, "negative_margin": -1.0, **CHUNKS}),
    Example("MSELoss", 2, _random(8, SIZE)),
    Example("EmbedDistillLoss", 2, _random(8, 12), {"projection_dim": 12}),
    Example("MarginMSELoss", 4, _random(8, 3)),
    Example("DistillKLDivLoss", 4, _random(8, 3)),
    Example("SoftmaxLoss", 2, CLASSES, {"embedding_dimension": SIZE, "num_labels": 3}),
    Example("GlobalOrthogonalRegularizationLoss"),
    Example("ContrastiveTensionLoss", 2, BINARY),
    Example("ContrastiveTensionLossInBatchNegatives", 1),
    Example("DenoisingAutoEncoderLoss"),
    Example("MatryoshkaLoss", 3, None, {"matryoshka_dims": [32, 16]}, inner="MultipleNegativesRankingLoss"),
    Example("AdaptiveLayerLoss", 2, GRADED, {"n_layers_per_step": -1}, inner="CoSENTLoss"),
    Example(
        "Matryoshka2dLoss", 2, None, {"matryoshka_dims": [32, 16], "n_layers_per_step": -1, "n_dims_per_step": -1},
        inner="MultipleNegativesRankingLoss",
    ),
]  # fmt: skip


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
    """Equal as one long vector, to `rtol` of its length; and each parameter's entries to ten times that of its largest."""
    assert found.keys() == expected.keys()
    squares = sum(float(gradient.double().square().sum()) for gradient in expected.values())
    apart = sum(float((found[name] - g).double().square().sum()) for name, g in expected.items())
    assert squares > 0
    assert (apart / squares) ** 0.5 <= rtol
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), largest * 0.1)
        torch.testing.assert_close(
            found[name], gradient, rtol=10 * rtol, atol=10 * rtol * scale, msg=lambda m, n=name: f"{n}: {m}"
        )
