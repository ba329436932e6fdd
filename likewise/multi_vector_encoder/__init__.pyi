# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.multi_vector_encoder import evaluation as evaluation
from likewise.multi_vector_encoder import losses as losses
from likewise.multi_vector_encoder import modules as modules
from likewise.multi_vector_encoder import scoring as scoring
from likewise.multi_vector_encoder import token_corpus as token_corpus
from likewise.multi_vector_encoder.maxsim_scores import maxsim as maxsim
from likewise.multi_vector_encoder.maxsim_scores import maxsim_pairwise as maxsim_pairwise
from likewise.multi_vector_encoder.model import MultiVectorEncoder as MultiVectorEncoder
from likewise.multi_vector_encoder.model_card import (
    MultiVectorEncoderModelCardData as MultiVectorEncoderModelCardData,
)
from likewise.multi_vector_encoder.trainer import (
    MultiVectorEncoderDataCollator as MultiVectorEncoderDataCollator,
)
from likewise.multi_vector_encoder.trainer import MultiVectorEncoderTrainer as MultiVectorEncoderTrainer
from likewise.multi_vector_encoder.training_args import (
    MultiVectorEncoderTrainingArguments as MultiVectorEncoderTrainingArguments,
)
