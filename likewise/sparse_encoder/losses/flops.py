"""FlopsLoss: how many products a search would take, as a number to minimise.

    loss = sum over entries v of (mean over rows i of e_iv) ** 2

Reference: Paria et al. 2020, Minimizing FLOPs to learn efficient sparse representations, https://arxiv.org/abs/2004.05665.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from likewise.losses.citations import bibtex
from likewise.losses.gather import join_processes
from likewise.sparse_encoder.losses.base import FAMILY


class FlopsLoss(nn.Module):
    """Drives entries that many texts have to 0. It is a regulariser: SpladeLoss takes it.

    Args:
        model: The model to train.
        threshold: Rows with this many active entries or fewer count as empty; None for all rows as they are.
        gather_across_devices: Whether the means are over the rows of all processes, as those of one with the joined batch;
            SpladeLoss does as its inner loss.

    Raises:
        ValueError: `threshold` is below 0.
    """

    model_type = FAMILY

    def __init__(
        self, model: Any, threshold: float | None = None, gather_across_devices: bool = False
    ) -> None:
        super().__init__()
        if threshold is not None and threshold < 0:
            raise ValueError(f"`threshold` must be a number of entries of at least 0, but is {threshold!r}.")
        self.model = model
        self.threshold = threshold
        self.gather_across_devices = gather_across_devices

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Refuse.

        Raises:
            NotImplementedError: Always: it has no notion of what texts should be near.
        """
        raise NotImplementedError("FlopsLoss should not be used alone: it is a regulariser for SpladeLoss.")

    def compute_loss_from_embeddings(self, embeddings: Tensor) -> Tensor:
        """(N, V) -> scalar, >= 0."""
        if self.threshold is not None:
            is_wide = (embeddings != 0).sum(dim=1, keepdim=True) > self.threshold
            embeddings = embeddings * is_wide.to(embeddings.dtype)
        sums, rows = embeddings.sum(dim=0, keepdim=True), embeddings.new_full((1, 1), len(embeddings))
        sums, rows = join_processes([sums, rows], self.gather_across_devices).tensors
        return (sums.sum(dim=0) / rows.sum()).square().sum()

    def get_config_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    @property
    def citation(self) -> str:
        return bibtex("paria2020minimizing")
