"""Losses for CrossEncoders: functions of the scores of pairs."""

from likewise.cross_encoder.losses.adr_mse import ADRMSELoss
from likewise.cross_encoder.losses.base import Loss, PairBatch, PairLists
from likewise.cross_encoder.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from likewise.cross_encoder.losses.cross_entropy import CrossEntropyLoss
from likewise.cross_encoder.losses.lambda_loss import (
    BaseWeightingScheme,
    LambdaLoss,
    LambdaRankScheme,
    NDCGLoss1Scheme,
    NDCGLoss2PPScheme,
    NDCGLoss2Scheme,
    NoWeightingScheme,
)
from likewise.cross_encoder.losses.list_mle import ListMLELoss
from likewise.cross_encoder.losses.list_net import ListNetLoss
from likewise.cross_encoder.losses.margin_mse import MarginMSELoss
from likewise.cross_encoder.losses.mse import MSELoss
from likewise.cross_encoder.losses.multiple_negatives_ranking import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from likewise.cross_encoder.losses.plist_mle import PListMLELambdaWeight, PListMLELoss
from likewise.cross_encoder.losses.rank_net import RankNetLoss

__all__ = [
    "ADRMSELoss",
    "BaseWeightingScheme",
    "BinaryCrossEntropyLoss",
    "CachedMultipleNegativesRankingLoss",
    "CrossEntropyLoss",
    "LambdaLoss",
    "LambdaRankScheme",
    "ListMLELoss",
    "ListNetLoss",
    "Loss",
    "MSELoss",
    "MarginMSELoss",
    "MultipleNegativesRankingLoss",
    "NDCGLoss1Scheme",
    "NDCGLoss2PPScheme",
    "NDCGLoss2Scheme",
    "NoWeightingScheme",
    "PListMLELambdaWeight",
    "PListMLELoss",
    "PairBatch",
    "PairLists",
    "RankNetLoss",
]
