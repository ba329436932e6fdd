"""The modules of a SparseEncoder, with the dense ones that may stand beside them."""

from likewise.modules import Dense, Pooling, Router, Transformer
from likewise.modules.base import InputModule, Module
from likewise.sparse_encoder.modules.lexical_weights import LexicalWeights
from likewise.sparse_encoder.modules.mlm_transformer import MLMTransformer
from likewise.sparse_encoder.modules.sparse_auto_encoder import SparseAutoEncoder
from likewise.sparse_encoder.modules.sparse_static_embedding import IDF, SparseStaticEmbedding
from likewise.sparse_encoder.modules.splade_pooling import SpladePooling

__all__ = [
    "IDF",
    "Dense",
    "InputModule",
    "LexicalWeights",
    "MLMTransformer",
    "Module",
    "Pooling",
    "Router",
    "SparseAutoEncoder",
    "SparseStaticEmbedding",
    "SpladePooling",
    "Transformer",
]
