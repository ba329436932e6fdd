"""The model: loading, saving, encoding."""

from likewise.model.sentence_transformer import SentenceTransformer

__all__ = ["SentenceTransformer"]
