"""The steps inside of the reference's losses, which are functions or the engine's business here, so that none is called."""

from __future__ import annotations

_CACHED = (
    "calculate_loss",
    "calculate_loss_and_cache_gradients",
    "embed_minibatch",
    "embed_minibatch_iter",
    "forward_cached",
)
_MASKS = ("get_triplet_mask", "get_anchor_positive_triplet_mask", "get_anchor_negative_triplet_mask")
UNCALLED = {
    "AdaptiveLayerLoss": ("get_layer_weight",),
    "BatchAllTripletLoss": ("batch_all_triplet_loss",),
    "BatchHardSoftMarginTripletLoss": ("batch_hard_triplet_soft_margin_loss",),
    "BatchHardTripletLoss": ("batch_hard_triplet_loss", *_MASKS),
    "BatchSemiHardTripletLoss": ("batch_semi_hard_triplet_loss",),
    "CachedGISTEmbedLoss": ("sim_matrix", *_CACHED),
    "CachedMultipleNegativesRankingLoss": _CACHED,
    "CachedMultipleNegativesSymmetricRankingLoss": _CACHED,
    "DenoisingAutoEncoderLoss": ("retokenize",),
    "GISTEmbedLoss": ("sim_matrix",),
    "GlobalOrthogonalRegularizationLoss": ("compute_gor",),
    "Matryoshka2dLoss": ("get_layer_weight",),
    "MegaBatchMarginLoss": ("forward_mini_batched", "forward_non_mini_batched", *_CACHED),
}
INSTEAD = "Override `compute_loss_from_embeddings`, or `forward`."
