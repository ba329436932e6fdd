# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise import backend as backend
from likewise import cross_encoder as cross_encoder
from likewise import datasets as datasets
from likewise import evaluation as evaluation
from likewise import hybrid as hybrid
from likewise import losses as losses
from likewise import model_card as model_card
from likewise import models as models
from likewise import multi_vector_encoder as multi_vector_encoder
from likewise import quantization as quantization
from likewise import readers as readers
from likewise import sampler as sampler
from likewise import similarity_functions as similarity_functions
from likewise import sparse_encoder as sparse_encoder
from likewise import trainer as trainer
from likewise import training_args as training_args
from likewise import util as util
from likewise.backend import export_dynamic_quantized_onnx_model as export_dynamic_quantized_onnx_model
from likewise.backend import export_optimized_onnx_model as export_optimized_onnx_model
from likewise.backend import export_static_quantized_openvino_model as export_static_quantized_openvino_model
from likewise.cross_encoder.model import CrossEncoder as CrossEncoder
from likewise.cross_encoder.model_card import CrossEncoderModelCardData as CrossEncoderModelCardData
from likewise.cross_encoder.trainer import CrossEncoderTrainer as CrossEncoderTrainer
from likewise.cross_encoder.training_args import (
    CrossEncoderTrainingArguments as CrossEncoderTrainingArguments,
)
from likewise.hybrid import HybridEncoder as HybridEncoder
from likewise.legacy.readers import InputExample as InputExample
from likewise.legacy.sentences_dataset import ParallelSentencesDataset as ParallelSentencesDataset
from likewise.legacy.sentences_dataset import SentencesDataset as SentencesDataset
from likewise.multi_vector_encoder.model import MultiVectorEncoder as MultiVectorEncoder
from likewise.multi_vector_encoder.model_card import (
    MultiVectorEncoderModelCardData as MultiVectorEncoderModelCardData,
)
from likewise.multi_vector_encoder.trainer import MultiVectorEncoderTrainer as MultiVectorEncoderTrainer
from likewise.multi_vector_encoder.training_args import (
    MultiVectorEncoderTrainingArguments as MultiVectorEncoderTrainingArguments,
)
from likewise.retrieval import mine_hard_negatives as mine_hard_negatives
from likewise.retrieval import quantize_embeddings as quantize_embeddings
from likewise.sentence_transformer.model import SentenceTransformer as SentenceTransformer
from likewise.sentence_transformer.model_card import (
    SentenceTransformerModelCardData as SentenceTransformerModelCardData,
)
from likewise.sentence_transformer.trainer import SentenceTransformerTrainer as SentenceTransformerTrainer
from likewise.sentence_transformer.training_args import (
    SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments,
)
from likewise.similarity import SimilarityFunction as SimilarityFunction
from likewise.sparse_encoder.model import SparseEncoder as SparseEncoder
from likewise.sparse_encoder.model_card import SparseEncoderModelCardData as SparseEncoderModelCardData
from likewise.sparse_encoder.trainer import SparseEncoderTrainer as SparseEncoderTrainer
from likewise.sparse_encoder.training_args import (
    SparseEncoderTrainingArguments as SparseEncoderTrainingArguments,
)
from likewise.training.data.resolve_ids import resolve_ids as resolve_ids
from likewise.training.samplers.default import DefaultBatchSampler as DefaultBatchSampler
from likewise.training.samplers.multi_dataset import (
    MultiDatasetDefaultBatchSampler as MultiDatasetDefaultBatchSampler,
)
from likewise.util.logging import LoggingHandler as LoggingHandler
from likewise.version import __version__ as __version__
