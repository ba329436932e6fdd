"""ListMLE: PListMLE in which all places weigh the same.

Reference: Xia et al. 2008, Listwise Approach to Learning to Rank: Theory and Algorithm.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from likewise.cross_encoder.losses.plist_mle import PListMLELoss


class ListMLELoss(PListMLELoss):
    """A query with a list of documents in the right order; or in any, with labels to order them by.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores; None for none.
        mini_batch_size: See ListLoss.
        respect_input_order: Whether the documents come in the right order; False to order them by their labels.
    """

    cites = "xia2008listwise"
    config_keys = PListMLELoss.config_keys[1:]

    def __init__(
        self,
        model: Any,
        activation_fn: nn.Module | None = None,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, None, activation_fn, mini_batch_size, respect_input_order)
