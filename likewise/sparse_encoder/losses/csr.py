"""CSRLoss: what another loss says of the latents, and how well they rebuild the embeddings that they were made of.

    loss = MSE(x, from k) + MSE(x, from 4 k) / 8 + beta * NMSE(left over, from dead latents) + gamma * base

Reference: Wen et al. 2025, Beyond Matryoshka, https://arxiv.org/abs/2503.01776, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from likewise.engine.embed import Batch, Embed
from likewise.losses.citations import bibtex
from likewise.losses.wrapping import LossAround
from likewise.modules.base import Features, run_module
from likewise.sparse_encoder.losses.base import FAMILY
from likewise.sparse_encoder.losses.inner import SparseMultipleNegativesRankingLoss
from likewise.sparse_encoder.losses.splade import named
from likewise.sparse_encoder.modules import SparseAutoEncoder


class CSRReconstructionLoss(nn.Module):
    """How well latents rebuild embeddings; CSRLoss takes it.

    Args:
        model: The model to train.
        beta: The weight of what dead latents rebuild.
    """

    model_type = FAMILY

    def __init__(self, model: Any, beta: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.beta = beta

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            NotImplementedError: Always: it does not say which texts should be near.
        """
        raise NotImplementedError("CSRReconstructionLoss should not be used alone: it is a part of CSRLoss.")

    def compute_loss_from_embeddings(self, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """What a SparseAutoEncoder gives for each column -> three scalars by name, each the mean over the columns."""
        sums: dict[str, list[Tensor]] = {"k": [], "4k": [], "aux": []}
        for features in outputs:
            given = features["sentence_embedding_backbone"]
            sums["k"].append(mse_loss(given, features["decoded_embedding_k"]))
            sums["4k"].append(mse_loss(given, features["decoded_embedding_4k"]) / 8)
            from_dead = features["decoded_embedding_aux"]
            left_over = given - features["decoded_embedding_k_pre_bias"].detach()
            sums["aux"].append(
                given.new_zeros(())
                if from_dead is None
                else self.beta * normalized_mean_squared_error(from_dead, left_over)
            )
        return {f"reconstruction_loss_{name}": torch.stack(values).mean() for name, values in sums.items()}

    def get_config_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}


class CSRLoss(LossAround):
    """A loss over the latents of a SparseAutoEncoder, which is the model's last module, and how well they rebuild embeddings.

    Args:
        model: The model to train.
        loss: The inner loss; None for SparseMultipleNegativesRankingLoss.
        beta: The weight of what dead latents rebuild.
        gamma: The weight of the inner loss.

    Raises:
        TypeError: The inner loss does not compute from embeddings.
        ValueError: The model does not end with a SparseAutoEncoder.
    """

    model_type = FAMILY

    def __init__(
        self, model: Any, loss: nn.Module | None = None, beta: float = 0.1, gamma: float = 1.0
    ) -> None:
        super().__init__(model, SparseMultipleNegativesRankingLoss(model) if loss is None else loss)
        *_, last = model.children()
        if not isinstance(last, SparseAutoEncoder):
            raise ValueError(
                f"CSRLoss is for models whose last module is a SparseAutoEncoder, but this one's is a {type(last).__name__}. Use "
                "SpladeLoss, or put a SparseAutoEncoder behind it."
            )
        self.beta, self.gamma = beta, gamma
        self.reconstruction_loss = CSRReconstructionLoss(model, beta)

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """The dense embeddings (B, D) of each column, which the SparseAutoEncoder gets in `compute`, column by column."""
        return embed(_Before(self.model), batch)  # type: ignore[arg-type]

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, **context: Any
    ) -> dict[str, Tensor]:
        """(B, D) dense embeddings of each column, and labels -> named scalars."""
        *_, encoder = self.model.children()
        outputs = [encoder({"sentence_embedding": column}) for column in embeddings]
        parts = self.reconstruction_loss.compute_loss_from_embeddings(outputs)
        base = self.loss.compute([output["sentence_embedding"] for output in outputs], labels, **context)
        return parts | {name: self.gamma * value for name, value in named(base).items()}

    def get_config_dict(self) -> dict[str, Any]:
        return {"beta": self.beta, "gamma": self.gamma, "loss": self.inner_name}

    @property
    def citation(self) -> str:
        return bibtex("wen2025matryoshkarevisitingsparsecoding")


class _Before:
    """A model without its last module."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def children(self) -> Iterator[nn.Module]:
        yield from list(self.model.children())[:-1]

    def __call__(self, features: Features) -> Features:
        for module in self.children():
            features = run_module(module, features, {}, reader=self.model[0])
        return features


def normalized_mean_squared_error(reconstruction: Tensor, original_input: Tensor) -> Tensor:
    """The mean squared error, in units of that of the mean row; as it is where all rows are equal. (N, D), (N, D) -> scalar."""
    spread = mse_loss(original_input.mean(dim=0).expand_as(original_input), original_input)
    is_even = (spread == 0) | (original_input == original_input[:1]).all()
    return mse_loss(reconstruction, original_input) / torch.where(is_even, 1.0, spread)
