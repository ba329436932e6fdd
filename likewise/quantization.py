"""Quantised embeddings and search, under the reference's path."""

from likewise.precision import quantize_embeddings
from likewise.retrieval.quantized_search import semantic_search_faiss, semantic_search_usearch

__all__ = ["quantize_embeddings", "semantic_search_faiss", "semantic_search_usearch"]
