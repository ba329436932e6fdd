"""GlobalOrthogonalRegularizationLoss: embeddings of different texts should be about orthogonal, as if spread at random.

    gor_mean = (mean of s_ij over i != j) ** 2        gor_second_moment = max(0, mean of s_ij ** 2 over i != j - 1 / D)

Reference: Zhang et al. 2017, https://arxiv.org/abs/1708.06320, equations 7 and 8; as the companion of InfoNCE: Vera et al.
2025, EmbeddingGemma, https://arxiv.org/abs/2509.20354.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu

from likewise.checked import number, one_of
from likewise.losses.base import Columns, Loss
from likewise.losses.gather import join_processes
from likewise.similarity import Similarity, cos_sim
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class GlobalOrthogonalRegularizationLoss(Loss):
    """Spreads embeddings over all directions; each column by itself.

    Not to be used alone: it is met by random embeddings. Add it to another loss, in a loss of your own:
    `inner.compute(embeddings, labels) + sum(gor.compute(embeddings).values())`.

    Args:
        model: The model to train.
        similarity_fct: Scores of all pairs, (N, D), (M, D) -> (N, M).
        mean_weight: Weight of the first term; None or 0 leaves it out.
        second_moment_weight: Weight of the second term; None or 0 leaves it out.
        aggregation: `mean` or `sum` over the text columns.
        gather_across_devices: Whether the means are taken over the rows of all processes.

    Raises:
        ValueError: Both terms are left out, or the aggregation is unknown.
    """

    takes = (Columns(("sentence",), more="sentence", in_batch_negatives=True),)
    config_keys = ("similarity_fct", "mean_weight", "second_moment_weight", "aggregation")
    cites = "zhang2017learningspreadoutlocalfeature"

    model: Encoder
    similarity_fct: Similarity = cos_sim
    mean_weight: float | None = 1.0
    second_moment_weight: float | None = 1.0
    aggregation: Literal["mean", "sum"] = "mean"
    _: KW_ONLY
    gather_across_devices: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean_weight", "second_moment_weight"):
            if (weight := getattr(self, name)) is not None:
                number(weight, name, "None or 0 leaves it out.")
        if not self.mean_weight and not self.second_moment_weight:
            raise ValueError(
                f"`mean_weight` is {self.mean_weight} and `second_moment_weight` is {self.second_moment_weight}, which leaves "
                "nothing. Make one of them positive."
            )
        one_of(self.aggregation, "aggregation", ("mean", "sum"))

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> dict[str, Tensor]:
        """(B, D) batches -> the terms by name, each a scalar >= 0."""
        # Every process computes the terms of all rows: what they derive for a row adds up to its gradient.
        joined = join_processes(embeddings, self.gather_across_devices)
        terms = torch.stack(
            [torch.stack(self.compute_gor(embedding)) for embedding in joined.tensors]
        )  # (columns, 2)
        mean, second_moment = terms.sum(dim=0) if self.aggregation == "sum" else terms.mean(dim=0)
        results = {}
        if self.mean_weight:
            results["gor_mean"] = self.mean_weight * mean
        if self.second_moment_weight:
            results["gor_second_moment"] = self.second_moment_weight * second_moment
        return results

    def compute_gor(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """One column's (B, D) -> its two terms, without their weights."""
        rows, size = embeddings.shape
        itself = torch.eye(rows, dtype=torch.bool, device=embeddings.device)
        scores = self.similarity_fct(embeddings, embeddings).masked_fill(itself, 0.0)
        pairs = max(rows * (rows - 1), 1)
        return (scores.sum() / pairs).square(), relu(scores.square().sum() / pairs - 1.0 / size)
