"""MultiVectorEncoderTrainer: what the trainer is for models whose losses are computed from token embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from likewise.card.callback import BaseModelCardCallback
from likewise.multi_vector_encoder.family import TOKEN_TEXTS
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.multi_vector_encoder.training_args import MultiVectorEncoderTrainingArguments
from likewise.training.data.data_collator import SentenceTransformerDataCollator
from likewise.training.run.trainer import BaseTrainer, of_family


class MultiVectorEncoderModelCardCallback(BaseModelCardCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card."""


@dataclass
class MultiVectorEncoderDataCollator(SentenceTransformerDataCollator):
    """Tells label columns, prompts and tasks; the batches are the trainer's own, unless it is of a subclass."""


class MultiVectorEncoderTrainer(BaseTrainer):
    """Trains a MultiVectorEncoder: the first column holds queries, the others documents, whose tokens are compared.

    The default loss is MultiVectorMultipleNegativesRankingLoss, which takes a query, its positive and any number of negatives
    a row.
    """

    __doc__ = of_family(__doc__)

    family = TOKEN_TEXTS
    plain_collator = MultiVectorEncoderDataCollator
    model_card_callback_class: Any = MultiVectorEncoderModelCardCallback
    data_collator_class: Any = MultiVectorEncoderDataCollator
    training_args_class: Any = MultiVectorEncoderTrainingArguments

    def get_default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given; override it to use another."""
        return MultiVectorMultipleNegativesRankingLoss(model)
