"""The parts a model is made of."""

from likewise.modules.base import InputModule, Module
from likewise.modules.bow import BoW
from likewise.modules.clip_model import CLIPModel
from likewise.modules.cnn import CNN
from likewise.modules.dense import Dense
from likewise.modules.dropout import Dropout
from likewise.modules.layer_norm import LayerNorm
from likewise.modules.lstm import LSTM
from likewise.modules.normalize import Normalize
from likewise.modules.pooling import Pooling
from likewise.modules.router import Asym, Router
from likewise.modules.static_embedding import StaticEmbedding
from likewise.modules.transformer import Transformer
from likewise.modules.weighted_layer_pooling import WeightedLayerPooling
from likewise.modules.word_embeddings import WordEmbeddings
from likewise.modules.word_tokenizers import (
    PhraseTokenizer,
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
    WordTokenizer,
)
from likewise.modules.word_weights import WordWeights

__all__ = [
    "CNN",
    "LSTM",
    "Asym",
    "BoW",
    "CLIPModel",
    "Dense",
    "Dropout",
    "InputModule",
    "LayerNorm",
    "Module",
    "Normalize",
    "PhraseTokenizer",
    "Pooling",
    "Router",
    "StaticEmbedding",
    "Transformer",
    "TransformersTokenizerWrapper",
    "WeightedLayerPooling",
    "WhitespaceTokenizer",
    "WordEmbeddings",
    "WordTokenizer",
    "WordWeights",
]
