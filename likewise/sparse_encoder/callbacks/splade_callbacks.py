"""The schedule of SpladeLoss's weights: from 0, so that the model learns what texts are about before it must be brief."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any

from transformers import TrainerCallback

from likewise.sparse_encoder.losses.splade import SpladeLoss

logger = logging.getLogger(__name__)


class SchedulerType(Enum):
    """How the weights rise."""

    LINEAR = "linear"
    QUADRATIC = "quadratic"


class SpladeRegularizerWeightSchedulerCallback(TrainerCallback):
    """Raises the weights of a SpladeLoss from 0 to what they were, over the first steps of a run; and logs them.

    They follow from the number of the step alone, so that a run that is resumed goes on with the same.

    Args:
        loss: The loss.
        scheduler_type: "linear" or "quadratic".
        warmup_ratio: The share of the run's steps in which they rise, above 0 and at most 1.

    Raises:
        ValueError: `loss` is no SpladeLoss.
    """

    def __init__(
        self,
        loss: SpladeLoss,
        scheduler_type: str | SchedulerType = SchedulerType.QUADRATIC,
        warmup_ratio: float = 1 / 3,
    ) -> None:
        super().__init__()
        if not isinstance(loss, SpladeLoss):
            raise ValueError(
                f"`loss` must be a SpladeLoss, whose weights are raised, but is a {type(loss).__name__}."
            )
        known = [member.value for member in SchedulerType]
        if not isinstance(scheduler_type, SchedulerType) and str(scheduler_type).lower() not in known:
            logger.warning(
                "There is no schedule %r: the weights rise quadratically. Choose among: %s.",
                scheduler_type,
                ", ".join(known),
            )
            scheduler_type = SchedulerType.QUADRATIC
        if not 0 < warmup_ratio <= 1:
            logger.warning(
                "`warmup_ratio` should be above 0 and at most 1, but is %r: 1/3 is taken.", warmup_ratio
            )
            warmup_ratio = 1 / 3
        self.loss = loss
        self.scheduler_type = SchedulerType(
            scheduler_type.lower() if isinstance(scheduler_type, str) else scheduler_type
        )
        self.warmup_ratio = warmup_ratio
        self.max_document_regularizer_weight = loss.document_regularizer_weight
        self.max_query_regularizer_weight = loss.query_regularizer_weight
        self.total_steps: int | None = None
        self.warmup_steps: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the steps, and begin at 0."""
        self.total_steps = state.max_steps
        self.warmup_steps = max(1, int(state.max_steps * self.warmup_ratio))
        self._set(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the weights of this step."""
        self._set(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the weights to what is logged."""
        if logs is not None and self.warmup_steps is not None:
            logs["document_regularizer_weight"] = self.loss.document_regularizer_weight
            if self.loss.query_regularizer_weight is not None:
                logs["query_regularizer_weight"] = self.loss.query_regularizer_weight

    def _set(self, step: int) -> None:
        assert self.warmup_steps is not None
        share = min(1.0, step / self.warmup_steps)
        if self.scheduler_type is SchedulerType.QUADRATIC:
            share **= 2
        self.loss.document_regularizer_weight = self.max_document_regularizer_weight * share
        if self.max_query_regularizer_weight is not None:
            self.loss.query_regularizer_weight = self.max_query_regularizer_weight * share
