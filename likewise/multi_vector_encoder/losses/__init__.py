"""Losses of late interaction: each declares the columns and labels it takes, and computes a number from token embeddings."""

from likewise.multi_vector_encoder.losses.multiple_negatives_ranking import (
    CachedMultiVectorMultipleNegativesRankingLoss,
    MultiVectorMultipleNegativesRankingLoss,
)
from likewise.multi_vector_encoder.losses.teacher_scores import (
    MultiVectorDistillKLDivLoss,
    MultiVectorMarginMSELoss,
)

__all__ = [
    "CachedMultiVectorMultipleNegativesRankingLoss",
    "MultiVectorDistillKLDivLoss",
    "MultiVectorMarginMSELoss",
    "MultiVectorMultipleNegativesRankingLoss",
]
