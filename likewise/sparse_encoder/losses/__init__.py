"""Training losses of sparse models."""

from likewise.sparse_encoder.losses.csr import CSRLoss, CSRReconstructionLoss, normalized_mean_squared_error
from likewise.sparse_encoder.losses.flops import FlopsLoss
from likewise.sparse_encoder.losses.inner import (
    SparseAnglELoss,
    SparseCoSENTLoss,
    SparseCosineSimilarityLoss,
    SparseDistillKLDivLoss,
    SparseMarginMSELoss,
    SparseMSELoss,
    SparseMultipleNegativesRankingLoss,
    SparseTripletLoss,
)
from likewise.sparse_encoder.losses.splade import CachedSpladeLoss, SpladeLoss

__all__ = [
    "CSRLoss",
    "CSRReconstructionLoss",
    "CachedSpladeLoss",
    "FlopsLoss",
    "SparseAnglELoss",
    "SparseCoSENTLoss",
    "SparseCosineSimilarityLoss",
    "SparseDistillKLDivLoss",
    "SparseMSELoss",
    "SparseMarginMSELoss",
    "SparseMultipleNegativesRankingLoss",
    "SparseTripletLoss",
    "SpladeLoss",
    "normalized_mean_squared_error",
]
