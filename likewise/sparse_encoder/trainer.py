"""SparseEncoderTrainer: what the trainer is for models that give sparse embeddings."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from likewise.card.callback import BaseModelCardCallback
from likewise.sparse_encoder.callbacks import SpladeRegularizerWeightSchedulerCallback
from likewise.sparse_encoder.data_collator import SparseEncoderDataCollator
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from likewise.sparse_encoder.losses.base import FAMILY, refuse_alone
from likewise.sparse_encoder.losses.inner import ONLY_INNER
from likewise.sparse_encoder.training_args import SparseEncoderTrainingArguments
from likewise.training.data.texts import Texts
from likewise.training.run.trainer import BaseTrainer, of_family

logger = logging.getLogger(__name__)


class SparseTexts(Texts):
    """Columns of texts, each of which becomes a sparse embedding."""

    model_name = FAMILY


class SparseEncoderModelCardCallback(BaseModelCardCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card."""


class SparseEncoderTrainer(BaseTrainer):
    """Trains a SparseEncoder: every text column becomes sparse embeddings, of which the loss is computed.

    The default loss is SpladeLoss around SparseMultipleNegativesRankingLoss, with weights of 5e-5 for queries and 3e-5 for
    documents. The weights of a SpladeLoss rise from 0 over the first third of the steps, unless there is a
    SpladeRegularizerWeightSchedulerCallback for it already.
    """

    __doc__ = of_family(__doc__)

    family = SparseTexts()
    plain_collator = SparseEncoderDataCollator
    model_card_callback_class: Any = SparseEncoderModelCardCallback
    data_collator_class: Any = SparseEncoderDataCollator
    training_args_class: Any = SparseEncoderTrainingArguments

    def get_default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given; override it to use another."""
        inner = SparseMultipleNegativesRankingLoss(model)
        return SpladeLoss(model, inner, document_regularizer_weight=3e-5, query_regularizer_weight=5e-5)

    def prepare_loss(self, loss: Any, model: Any) -> nn.Module:
        """A loss for this model, of a loss or a function that makes one; a SpladeLoss gets a schedule of its weights.

        Raises:
            AttributeError: It is one that stands only within SpladeLoss or CSRLoss.
        """
        made = super().prepare_loss(loss, model)
        if isinstance(made, ONLY_INNER):
            refuse_alone(made)
        if isinstance(made, SpladeLoss):
            self._schedule(made)
        return made

    def _schedule(self, loss: SpladeLoss) -> None:
        callbacks = self.callback_handler.callbacks
        kind = SpladeRegularizerWeightSchedulerCallback
        found = next((one for one in callbacks if isinstance(one, kind) and one.loss is loss), None)
        if found is None:
            logger.warning(
                "The weights of the SpladeLoss rise from 0 over the first third of the steps. Pass a "
                "SpladeRegularizerWeightSchedulerCallback to choose another schedule."
            )
            found = kind(loss)
        else:
            callbacks.remove(found)
        callbacks.insert(1, found)  # before what prints and reports
