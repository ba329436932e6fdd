"""The dense losses with the defaults of sparse embeddings; all but SparseMSELoss stand within SpladeLoss or CSRLoss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from likewise.losses import (
    AnglELoss,
    CoSENTLoss,
    CosineSimilarityLoss,
    DistillKLDivLoss,
    MarginMSELoss,
    MSELoss,
    MultipleNegativesRankingLoss,
    TripletLoss,
)
from likewise.similarity import Similarity, dot_score, pairwise_cos_sim, pairwise_dot_score
from likewise.sparse_encoder.losses.base import FAMILY, check_similarity, refuse_alone


@dataclass(eq=False, repr=False)
class SparseMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """MultipleNegativesRankingLoss of dot products, whose range sparse embeddings choose by themselves.

    Args:
        model: The model to train.
        scale: Multiplies the similarities, > 0.
        similarity_fct: Scores of all pairs, (N, V), (M, V) -> (N, M).
        gather_across_devices: As of MultipleNegativesRankingLoss, and so are those that follow.
        directions: As there.
        partition_mode: As there.
        hardness_mode: As there.
        hardness_strength: As there.
        mask_duplicates: As there.
    """

    model_type = FAMILY
    forward = refuse_alone

    scale: float = 1.0
    similarity_fct: Similarity = dot_score

    def __post_init__(self) -> None:
        check_similarity("similarity_fct", self.similarity_fct, of_pairs=False)
        super().__post_init__()


class SparseMarginMSELoss(MarginMSELoss):
    """MarginMSELoss: a query, a positive and negatives, with what a teacher scores them, or the differences.

    Args:
        model: The student.
        similarity_fct: Score of two aligned batches, (B, V), (B, V) -> (B,).
    """

    model_type = FAMILY
    forward = refuse_alone

    def __post_init__(self) -> None:
        check_similarity("similarity_fct", self.similarity_fct, of_pairs=True)
        super().__post_init__()


class SparseDistillKLDivLoss(DistillKLDivLoss):
    """DistillKLDivLoss at a temperature of 2.

    Args:
        model: The student.
        similarity_fct: Score of two aligned batches, (B, V), (B, V) -> (B,).
        temperature: Divides student's and teacher's scores, > 0.
        student_temperature: Another one for the student; None for `temperature`.
        teacher_temperature: Another one for the teacher; None for `temperature`.
    """

    model_type = FAMILY
    forward = refuse_alone

    def __init__(
        self,
        model: Any,
        similarity_fct: Similarity = pairwise_dot_score,
        temperature: float = 2.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        check_similarity("similarity_fct", similarity_fct, of_pairs=True)
        super().__init__(model, similarity_fct, temperature, student_temperature, teacher_temperature)


class SparseTripletLoss(TripletLoss):
    """TripletLoss: an anchor, a positive and a negative.

    Args:
        model: The model to train.
        distance_metric: Distance of two aligned batches.
        triplet_margin: How much farther the negative should be, > 0.
    """

    model_type = FAMILY
    forward = refuse_alone

    def __post_init__(self) -> None:
        check_similarity("distance_metric", self.distance_metric, of_pairs=True)
        super().__post_init__()


class SparseCosineSimilarityLoss(CosineSimilarityLoss):
    """CosineSimilarityLoss; the model compares by cosine from then on.

    Args:
        model: The model to train.
        loss_fct: Compares scores and labels, (B,), (B,) -> scalar. Default: mean squared error.
        cos_score_transformation: Applied to the cosines, (B,) -> (B,). Default: none.
    """

    model_type = FAMILY
    forward = refuse_alone

    def __init__(
        self,
        model: Any,
        loss_fct: nn.Module | None = None,
        cos_score_transformation: nn.Module | None = None,
    ) -> None:
        model.similarity_fn_name = "cosine"
        super().__init__(model, loss_fct, cos_score_transformation)


class SparseCoSENTLoss(CoSENTLoss):
    """CoSENTLoss; the model compares by cosine from then on.

    Args:
        model: The model to train.
        scale: Multiplies the scores, > 0.
        similarity_fct: Score of two aligned batches, (B, V), (B, V) -> (B,).
    """

    model_type = FAMILY
    forward = refuse_alone

    def __init__(
        self, model: Any, scale: float = 20.0, similarity_fct: Similarity = pairwise_cos_sim
    ) -> None:
        check_similarity("similarity_fct", similarity_fct, of_pairs=True)
        model.similarity_fn_name = "cosine"
        super().__init__(model, scale, similarity_fct)


class SparseAnglELoss(AnglELoss):
    """AnglELoss; the model compares by cosine from then on.

    Args:
        model: The model to train.
        scale: Multiplies the scores, > 0.
    """

    model_type = FAMILY
    forward = refuse_alone

    def __init__(self, model: Any, scale: float = 20.0) -> None:
        model.similarity_fn_name = "cosine"
        super().__init__(model, scale)


class SparseMSELoss(MSELoss):
    """MSELoss: texts with the embeddings that they should have; it stands alone."""

    model_type = FAMILY


ONLY_INNER = (
    SparseMultipleNegativesRankingLoss,
    SparseMarginMSELoss,
    SparseDistillKLDivLoss,
    SparseTripletLoss,
    SparseCosineSimilarityLoss,
    SparseCoSENTLoss,
    SparseAnglELoss,
)
"""Those that are no losses by themselves."""
