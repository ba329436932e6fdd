"""SentenceTransformerTrainer: what the trainer is for models whose losses are computed from embeddings."""

from __future__ import annotations

from typing import Any

from torch import nn

from likewise.card.callback import BaseModelCardCallback
from likewise.losses import CoSENTLoss
from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from likewise.training.data.data_collator import SentenceTransformerDataCollator
from likewise.training.data.texts import TEXTS
from likewise.training.run.trainer import BaseTrainer, of_family


class SentenceTransformerModelCardCallback(BaseModelCardCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card."""


class SentenceTransformerTrainer(BaseTrainer):
    """Trains a SentenceTransformer: every text column becomes embeddings, of which the loss is computed.

    The default loss is CoSENTLoss, which takes two texts with a number a row that says how alike they are.
    """

    __doc__ = of_family(__doc__)

    family = TEXTS
    plain_collator = SentenceTransformerDataCollator
    model_card_callback_class: Any = SentenceTransformerModelCardCallback
    data_collator_class: Any = SentenceTransformerDataCollator
    training_args_class: Any = SentenceTransformerTrainingArguments

    def get_default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given; override it to use another."""
        return CoSENTLoss(model)
