"""The parts a model is made of."""

from likewise.modules.base import Module
from likewise.modules.dense import Dense
from likewise.modules.dropout import Dropout
from likewise.modules.layer_norm import LayerNorm
from likewise.modules.normalize import Normalize
from likewise.modules.pooling import Pooling
from likewise.modules.static_embedding import StaticEmbedding
from likewise.modules.transformer import Transformer

__all__ = [
    "Dense",
    "Dropout",
    "LayerNorm",
    "Module",
    "Normalize",
    "Pooling",
    "StaticEmbedding",
    "Transformer",
]
