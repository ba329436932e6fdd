"""CrossEncoderTrainer: what the trainer is for models that score pairs of texts."""

from __future__ import annotations

from typing import Any

from torch import nn

from likewise.card.callback import BaseModelCardCallback
from likewise.cross_encoder.data_collator import CrossEncoderDataCollator
from likewise.cross_encoder.family import PAIRS
from likewise.cross_encoder.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from likewise.cross_encoder.training_args import CrossEncoderTrainingArguments
from likewise.training.run.trainer import BaseTrainer, of_family


class CrossEncoderModelCardCallback(BaseModelCardCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card."""


class CrossEncoderTrainer(BaseTrainer):
    """Trains a CrossEncoder: the pairs that a loss makes of a row's columns are scored, and it is computed of the scores.

    The default loss is BinaryCrossEntropyLoss for a model with one label, which takes two texts with a number from 0 to 1 a
    row, and CrossEntropyLoss for one with several, which takes a whole number, the class.
    """

    __doc__ = of_family(__doc__)

    family = PAIRS
    plain_collator = CrossEncoderDataCollator
    model_card_callback_class: Any = CrossEncoderModelCardCallback
    data_collator_class: Any = CrossEncoderDataCollator
    training_args_class: Any = CrossEncoderTrainingArguments

    def get_default_loss(self, model: Any) -> nn.Module:
        """Binary cross-entropy of a model with one label, cross-entropy of one with several; override it to use another."""
        return BinaryCrossEntropyLoss(model) if model.num_labels == 1 else CrossEntropyLoss(model)
