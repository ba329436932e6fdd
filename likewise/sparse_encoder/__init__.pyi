# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.sparse_encoder import callbacks as callbacks
from likewise.sparse_encoder import evaluation as evaluation
from likewise.sparse_encoder import losses as losses
from likewise.sparse_encoder import modules as modules
from likewise.sparse_encoder import search_engines as search_engines
from likewise.sparse_encoder.data_collator import SparseEncoderDataCollator as SparseEncoderDataCollator
from likewise.sparse_encoder.model import SparseEncoder as SparseEncoder
from likewise.sparse_encoder.model_card import SparseEncoderModelCardData as SparseEncoderModelCardData
from likewise.sparse_encoder.trainer import SparseEncoderTrainer as SparseEncoderTrainer
from likewise.sparse_encoder.training_args import (
    SparseEncoderTrainingArguments as SparseEncoderTrainingArguments,
)
