"""CosineSimilarityLoss: the cosine of a pair should be its label.

    loss = mean over pairs of (transformation(cos(a, b)) - label) ** 2

Reference: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3 ("regression objective function").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from likewise.losses.base import Columns, Label, Loss, full_name, one_label_per_row
from likewise.similarity import to_float_tensor
from likewise.types import Encoder


class CosineSimilarityLoss(Loss):
    """Pairs of texts with the cosine that they should have.

    Prefer CoSENTLoss where only the order of the labels means something: it usually trains the better model.

    Args:
        model: The model to train.
        loss_fct: Compares scores and labels, (B,), (B,) -> scalar. Default: mean squared error.
        cos_score_transformation: Applied to the cosines, (B,) -> (B,). Default: none.
    """

    takes: tuple[Columns, ...] = (
        Columns(("sentence1", "sentence2"), label=Label.NUMBER, label_range=(-1.0, 1.0)),
    )

    def __init__(
        self,
        model: Encoder,
        loss_fct: nn.Module | None = None,
        cos_score_transformation: nn.Module | None = None,
    ) -> None:
        super().__init__(model)
        self.loss_fct = nn.MSELoss() if loss_fct is None else loss_fct
        self.cos_score_transformation = (
            nn.Identity() if cos_score_transformation is None else cos_score_transformation
        )
        if not isinstance(self.cos_score_transformation, nn.Identity):
            self.takes = (replace(type(self).takes[0], label_range=None),)

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) labels -> scalar."""
        labels = one_label_per_row(self, labels, embeddings)
        first, second = (to_float_tensor(embedding) for embedding in embeddings)
        scores = self.cos_score_transformation(cosine_similarity(first, second))
        loss: Tensor = self.loss_fct(scores, labels.to(scores.dtype))
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        return {
            "loss_fct": full_name(self.loss_fct),
            "cos_score_transformation": full_name(self.cos_score_transformation),
        }
