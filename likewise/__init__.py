"""Likewise: train, fine-tune, evaluate and run text embedding models (dense and sparse) and rerankers, without padding."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from likewise.compat.paths import find_paths_of

if TYPE_CHECKING:
    from likewise.backend import (
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
        export_static_quantized_openvino_model,
    )
    from likewise.cross_encoder import (
        CrossEncoder,
        CrossEncoderModelCardData,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from likewise.hybrid import HybridEncoder
    from likewise.legacy.readers import InputExample
    from likewise.legacy.sentences_dataset import ParallelSentencesDataset, SentencesDataset
    from likewise.multi_vector_encoder import (
        MultiVectorEncoder,
        MultiVectorEncoderModelCardData,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
    )
    from likewise.retrieval import mine_hard_negatives, quantize_embeddings
    from likewise.sentence_transformer.model import SentenceTransformer
    from likewise.sentence_transformer.model_card import SentenceTransformerModelCardData
    from likewise.sentence_transformer.trainer import SentenceTransformerTrainer
    from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments
    from likewise.similarity import SimilarityFunction
    from likewise.sparse_encoder import (
        SparseEncoder,
        SparseEncoderModelCardData,
        SparseEncoderTrainer,
        SparseEncoderTrainingArguments,
    )
    from likewise.training.data.resolve_ids import resolve_ids
    from likewise.training.samplers.default import DefaultBatchSampler
    from likewise.training.samplers.multi_dataset import MultiDatasetDefaultBatchSampler
    from likewise.util.logging import LoggingHandler
    from likewise.version import __version__

# Where each public name lives; a name is imported when it is first used, so that importing the package stays cheap.
_HOMES = {
    "CrossEncoder": "likewise.cross_encoder.model",
    "CrossEncoderModelCardData": "likewise.cross_encoder.model_card",
    "CrossEncoderTrainer": "likewise.cross_encoder.trainer",
    "CrossEncoderTrainingArguments": "likewise.cross_encoder.training_args",
    "DefaultBatchSampler": "likewise.training.samplers.default",
    "HybridEncoder": "likewise.hybrid",
    "InputExample": "likewise.legacy.readers",
    "LoggingHandler": "likewise.util.logging",
    "MultiVectorEncoder": "likewise.multi_vector_encoder.model",
    "MultiVectorEncoderModelCardData": "likewise.multi_vector_encoder.model_card",
    "MultiVectorEncoderTrainer": "likewise.multi_vector_encoder.trainer",
    "MultiVectorEncoderTrainingArguments": "likewise.multi_vector_encoder.training_args",
    "MultiDatasetDefaultBatchSampler": "likewise.training.samplers.multi_dataset",
    "ParallelSentencesDataset": "likewise.legacy.sentences_dataset",
    "SentenceTransformer": "likewise.sentence_transformer.model",
    "SentenceTransformerModelCardData": "likewise.sentence_transformer.model_card",
    "SentenceTransformerTrainer": "likewise.sentence_transformer.trainer",
    "SentenceTransformerTrainingArguments": "likewise.sentence_transformer.training_args",
    "SentencesDataset": "likewise.legacy.sentences_dataset",
    "SimilarityFunction": "likewise.similarity",
    "SparseEncoder": "likewise.sparse_encoder.model",
    "SparseEncoderModelCardData": "likewise.sparse_encoder.model_card",
    "SparseEncoderTrainer": "likewise.sparse_encoder.trainer",
    "SparseEncoderTrainingArguments": "likewise.sparse_encoder.training_args",
    "__version__": "likewise.version",
    "export_dynamic_quantized_onnx_model": "likewise.backend",
    "export_optimized_onnx_model": "likewise.backend",
    "export_static_quantized_openvino_model": "likewise.backend",
    "mine_hard_negatives": "likewise.retrieval",
    "quantize_embeddings": "likewise.retrieval",
    "resolve_ids": "likewise.training.data.resolve_ids",
}

__all__ = [
    "CrossEncoder",
    "CrossEncoderModelCardData",
    "CrossEncoderTrainer",
    "CrossEncoderTrainingArguments",
    "DefaultBatchSampler",
    "HybridEncoder",
    "InputExample",
    "LoggingHandler",
    "MultiDatasetDefaultBatchSampler",
    "MultiVectorEncoder",
    "MultiVectorEncoderModelCardData",
    "MultiVectorEncoderTrainer",
    "MultiVectorEncoderTrainingArguments",
    "ParallelSentencesDataset",
    "SentenceTransformer",
    "SentenceTransformerModelCardData",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SentencesDataset",
    "SimilarityFunction",
    "SparseEncoder",
    "SparseEncoderModelCardData",
    "SparseEncoderTrainer",
    "SparseEncoderTrainingArguments",
    "__version__",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
    "mine_hard_negatives",
    "quantize_embeddings",
    "resolve_ids",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"likewise.{name}")
    else:
        raise AttributeError(f"module 'likewise' has no attribute {name!r}")
    globals()[name] = value
    return value


# Reached as attributes too (`likewise.losses.CoSENTLoss`), without an import statement of their own.
_SUBMODULES = frozenset(
    {
        "backend",
        "cross_encoder",
        "datasets",
        "evaluation",
        "hybrid",
        "losses",
        "model_card",
        "models",
        "multi_vector_encoder",
        "quantization",
        "readers",
        "sampler",
        "similarity_functions",
        "sparse_encoder",
        "trainer",
        "training_args",
        "util",
    }
)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})


# The reference's paths below the package, looked for only where a file is not found: the one effect of importing it.
find_paths_of("likewise", len(sys.meta_path))
