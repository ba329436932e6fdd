"""RankNet: LambdaLoss in which all pairs weigh the same.

Reference: Burges et al. 2005, Learning to Rank using Gradient Descent, https://icml.cc/Conferences/2015/wp-content/uploads/2015/06/icml_ranking.pdf.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from likewise.cross_encoder.losses.lambda_loss import LambdaLoss, NoWeightingScheme


class RankNetLoss(LambdaLoss):
    """A query with a list of documents and a list of labels; only the order of the labels matters.

    Args:
        model: The CrossEncoder that is trained.
        k: Only pairs with a document among the first k count; None for all.
        sigma: Multiplies the differences of scores.
        eps: As of LambdaLoss; without effect here.
        reduction_log: "binary" for a loss in bits, "natural" in nats.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: See ListLoss.
    """

    cites = "burges2005learning"
    config_keys = LambdaLoss.config_keys[1:]  # all pairs weigh the same

    def __init__(
        self,
        model: Any,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: Literal["natural", "binary"] = "binary",
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            model, NoWeightingScheme(), k, sigma, eps, reduction_log, activation_fn, mini_batch_size
        )
