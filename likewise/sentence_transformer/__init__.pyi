# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.sentence_transformer.model import SentenceTransformer as SentenceTransformer
from likewise.sentence_transformer.model_card import (
    SentenceTransformerModelCardData as SentenceTransformerModelCardData,
)
from likewise.sentence_transformer.trainer import SentenceTransformerTrainer as SentenceTransformerTrainer
from likewise.sentence_transformer.training_args import (
    SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments,
)
