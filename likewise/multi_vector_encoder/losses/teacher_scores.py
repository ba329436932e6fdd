"""MultiVectorMarginMSELoss and MultiVectorDistillKLDivLoss: a student's scores of documents should be its teacher's.

The formulas are those of `likewise.losses.score_distill`, with MaxSim for the student's score.

References: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666; Santhanam et al. 2022, ColBERTv2,
https://arxiv.org/abs/2112.01488, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss

from likewise.checked import above_zero_and_finite
from likewise.losses.base import Columns, Label
from likewise.losses.score_distill import MarginMSELoss, check_teacher_targets, teacher_margins
from likewise.multi_vector_encoder.losses.base import Loss, columns_of
from likewise.multi_vector_encoder.scoring.token_scores import (
    Score,
    colbert_kd_scores,
    colbert_scores_pairwise,
    scored,
    scored_pairwise,
)


class MultiVectorMarginMSELoss(Loss):
    """A query, a positive and negatives, with the margins of a teacher's scores, or the scores themselves.

    Args:
        model: The student.
        similarity_fct: Score of each query with the document of its row, as `colbert_scores_pairwise`; None for that.
        mini_batch_size: Texts of a chunk that is recomputed in the backward pass; None for all at once.
    """

    takes = MarginMSELoss.takes
    config_keys: ClassVar[tuple[str, ...]] = ("similarity_fct", "mini_batch_size")
    cites = "hofstätter2021improving"

    def __init__(
        self, model: Any, *, similarity_fct: Score | None = None, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, similarity_fct or colbert_scores_pairwise, mini_batch_size)

    def compute(self, embeddings: Sequence[Any], labels: Tensor | None = None) -> Tensor:
        """TokenEmbeddings of B queries, positives and k negatives; labels (B,), (B, k) or (B, k + 1) -> scalar, >= 0."""
        queries, documents = columns_of(embeddings)
        positive, *negatives = (scored_pairwise(self.similarity_fct, queries, column) for column in documents)
        margins = torch.stack([positive - negative for negative in negatives], dim=1)  # (B, k)
        return mse_loss(margins, teacher_margins(self, labels, *margins.shape).detach().to(margins))


class MultiVectorDistillKLDivLoss(Loss):
    """A query and two or more documents, with a list of the scores that a teacher gives them.

    Args:
        model: The student.
        similarity_fct: Scores of each query with its documents, as `colbert_kd_scores`; None for that.
        temperature: Divides student's and teacher's scores, > 0.
        student_temperature: Another one for the student; None for `temperature`.
        teacher_temperature: Another one for the teacher; None for `temperature`.
        mini_batch_size: Texts of a chunk that is recomputed in the backward pass; None for all at once.

    Raises:
        ValueError: A temperature is not positive and finite; or, with the first batch, a score is NaN.
    """

    takes = (
        Columns(("query", "document", "document"), more="document", label=Label.NUMBERS, fewer_numbers=(1,)),
    )
    config_keys: ClassVar[tuple[str, ...]] = ("similarity_fct", "temperature", "mini_batch_size")
    cites = "lin2020distillingdenserepresentationsranking"

    def __init__(
        self,
        model: Any,
        *,
        similarity_fct: Score | None = None,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, similarity_fct or colbert_kd_scores, mini_batch_size)
        self.temperature = temperature
        self.student_temperature = temperature if student_temperature is None else student_temperature
        self.teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
        self._is_checked = False
        for name in ("temperature", "student_temperature", "teacher_temperature"):
            above_zero_and_finite(getattr(self, name), name)

    def compute(self, embeddings: Sequence[Any], labels: Tensor | None = None) -> Tensor:
        """TokenEmbeddings of B queries and N columns of documents; labels (B, N) -> scalar, in nats, >= 0."""
        queries, documents = columns_of(embeddings)
        scores = scored(self.similarity_fct, queries, documents)  # (B, N)
        if labels is None or labels.shape != scores.shape:
            found = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
            raise ValueError(
                f"MultiVectorDistillKLDivLoss takes the teacher's scores of all documents, of shape {tuple(scores.shape)} for this "
                f"batch; but got {found}. Make the label column a list of {scores.shape[1]} scores."
            )
        wanted = labels.detach().to(scores)
        student = log_softmax(scores / self.student_temperature, dim=1)
        teacher = log_softmax(wanted / self.teacher_temperature, dim=1)
        if not self._is_checked:
            self._is_checked = True
            check_teacher_targets(teacher.exp(), labels, self.teacher_temperature, type(self).__name__)
        loss = kl_div(student, teacher, reduction="batchmean", log_target=True)
        return loss * self.student_temperature**2

    def get_config_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("student_temperature", "teacher_temperature")}
        return super().get_config_dict() | {k: v for k, v in own.items() if v != self.temperature}
