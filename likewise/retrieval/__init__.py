"""Search among embeddings: exact top-k, paraphrases, clusters, hard negatives, quantised embeddings."""

from __future__ import annotations

from likewise.precision import quantize_embeddings
from likewise.retrieval.community_detection import community_detection
from likewise.retrieval.fusion import reciprocal_rank_fusion, weighted_fusion
from likewise.retrieval.hard_negatives import mine_hard_negatives
from likewise.retrieval.paraphrase_mining import paraphrase_mining, paraphrase_mining_embeddings
from likewise.retrieval.quantized_search import semantic_search_faiss, semantic_search_usearch
from likewise.retrieval.ranking_keys import Ranking
from likewise.retrieval.semantic_search import information_retrieval, semantic_search
from likewise.retrieval.topk import StreamingTopK, top_k

__all__ = [
    "Ranking",
    "StreamingTopK",
    "community_detection",
    "information_retrieval",
    "mine_hard_negatives",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "quantize_embeddings",
    "reciprocal_rank_fusion",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "top_k",
    "weighted_fusion",
]
