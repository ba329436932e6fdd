"""Training losses: each declares the columns and labels it takes, and computes a number from embeddings."""

from likewise.losses.adaptive_layer import AdaptiveLayerLoss, Matryoshka2dLoss
from likewise.losses.batch_triplets import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchHardTripletLossDistanceFunction,
    BatchSemiHardTripletLoss,
)
from likewise.losses.contrastive import ContrastiveLoss, OnlineContrastiveLoss, SiameseDistanceMetric
from likewise.losses.contrastive_tension import (
    ContrastiveTensionDataLoader,
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
)
from likewise.losses.cosent import AnglELoss, CoSENTLoss
from likewise.losses.cosine_similarity import CosineSimilarityLoss
from likewise.losses.denoising_auto_encoder import DenoisingAutoEncoderLoss
from likewise.losses.embed_distill import EmbedDistillLoss, MSELoss
from likewise.losses.gist_embed import CachedGISTEmbedLoss, GISTEmbedLoss
from likewise.losses.global_orthogonal_regularization import GlobalOrthogonalRegularizationLoss
from likewise.losses.matryoshka import MatryoshkaLoss
from likewise.losses.mega_batch_margin import MegaBatchMarginLoss
from likewise.losses.multiple_negatives_ranking import (
    CachedMultipleNegativesRankingLoss,
    CachedMultipleNegativesSymmetricRankingLoss,
    MultipleNegativesRankingLoss,
    MultipleNegativesSymmetricRankingLoss,
)
from likewise.losses.score_distill import DistillKLDivLoss, MarginMSELoss
from likewise.losses.softmax import SoftmaxLoss
from likewise.losses.triplet import TripletDistanceMetric, TripletLoss

__all__ = [
    "AdaptiveLayerLoss",
    "AnglELoss",
    "BatchAllTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchHardTripletLoss",
    "BatchHardTripletLossDistanceFunction",
    "BatchSemiHardTripletLoss",
    "CachedGISTEmbedLoss",
    "CachedMultipleNegativesRankingLoss",
    "CachedMultipleNegativesSymmetricRankingLoss",
    "CoSENTLoss",
    "ContrastiveLoss",
    "ContrastiveTensionDataLoader",
    "ContrastiveTensionLoss",
    "ContrastiveTensionLossInBatchNegatives",
    "CosineSimilarityLoss",
    "DenoisingAutoEncoderLoss",
    "DistillKLDivLoss",
    "EmbedDistillLoss",
    "GISTEmbedLoss",
    "GlobalOrthogonalRegularizationLoss",
    "MSELoss",
    "MarginMSELoss",
    "Matryoshka2dLoss",
    "MatryoshkaLoss",
    "MegaBatchMarginLoss",
    "MultipleNegativesRankingLoss",
    "MultipleNegativesSymmetricRankingLoss",
    "OnlineContrastiveLoss",
    "SiameseDistanceMetric",
    "SoftmaxLoss",
    "TripletDistanceMetric",
    "TripletLoss",
]
