# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.cross_encoder import evaluation as evaluation
from likewise.cross_encoder import losses as losses
from likewise.cross_encoder import modules as modules
from likewise.cross_encoder.data_collator import CrossEncoderDataCollator as CrossEncoderDataCollator
from likewise.cross_encoder.model import CrossEncoder as CrossEncoder
from likewise.cross_encoder.model_card import CrossEncoderModelCardData as CrossEncoderModelCardData
from likewise.cross_encoder.trainer import CrossEncoderTrainer as CrossEncoderTrainer
from likewise.cross_encoder.training_args import (
    CrossEncoderTrainingArguments as CrossEncoderTrainingArguments,
)
