"""MarginMSELoss and DistillKLDivLoss: a student's scores of documents should be its teacher's.

With s the student's scores, y the teacher's, d_0 the positive, d_1 ... d_k the negatives, T temperatures:

    margin mse: mean over i, j of ((s(q_i, d_i0) - s(q_i, d_ij)) - (y_i0 - y_ij)) ** 2
    kl: T_student ** 2 * mean over i of KL(softmax(y_i / T_teacher) || softmax(s(q_i, d_i) / T_student))

References: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666, equation 8; Lin, Yang and Lin 2020,
https://arxiv.org/abs/2010.11386, equation 2; the square of the temperature: Hinton, Vinyals and Dean 2015,
https://arxiv.org/abs/1503.02531, section 2.1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss, softmax

from likewise.checked import above_zero_and_finite
from likewise.losses.base import Columns, Label, Loss
from likewise.similarity import Similarity, pairwise_dot_score, to_float_tensor
from likewise.types import Encoder

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class MarginMSELoss(Loss):
    """A query, a positive and negatives, with what a teacher (a cross encoder, say) scores them.

    The label of a row: the difference between the teacher's scores of positive and negative; with several negatives a
    list of these; or a list of the scores themselves, the positive's first. Prefer it to labels of 0 and 1 wherever a
    teacher is at hand; prefer DistillKLDivLoss where only the ranking of many documents counts.

    Args:
        model: The student.
        similarity_fct: Score of two aligned batches, (B, D), (B, D) -> (B,). Dot products reach the range of a
            teacher's scores; cosines do not.
    """

    takes = (
        Columns(
            ("query", "positive", "negative"), more="negative", label=Label.NUMBERS, fewer_numbers=(1, 2)
        ),
    )
    cites = "hofstätter2021improving"

    model: Encoder
    similarity_fct: Similarity = pairwise_dot_score

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """(B, D) queries, positives and k negatives; labels (B,), (B, k) or (B, k + 1) -> scalar, >= 0."""
        positive, *negatives = document_scores(embeddings, self.similarity_fct)
        margins = torch.stack([positive - negative for negative in negatives], dim=1)  # (B, k)
        return mse_loss(margins, teacher_margins(self, labels, *margins.shape).detach().to(margins))


class DistillKLDivLoss(Loss):
    """A query, a positive and negatives, with a list of the scores a teacher gives them (the positive's first).

    Learns the teacher's distribution over each row's documents; shifting all scores of a row changes nothing. Prefer
    MarginMSELoss where differences of scores mean the same for every query.

    Args:
        model: The student.
        similarity_fct: Score of two aligned batches, (B, D), (B, D) -> (B,).
        temperature: Divides student's and teacher's scores, > 0; higher softens the distributions.
        student_temperature: Another one for the student; None for `temperature`.
        teacher_temperature: Another one for the teacher; None for `temperature`.

    Raises:
        ValueError: A temperature is not positive and finite; or, with the first batch, a score is NaN.
    """

    takes = (
        Columns(("query", "positive", "negative"), more="negative", label=Label.NUMBERS, fewer_numbers=(1,)),
    )
    config_keys = ("similarity_fct", "temperature")
    cites = "lin2020distillingdenserepresentationsranking"

    def __init__(
        self,
        model: Encoder,
        similarity_fct: Similarity = pairwise_dot_score,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct
        self.temperature = temperature
        self.student_temperature = temperature if student_temperature is None else student_temperature
        self.teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
        self._is_checked = False
        for name in ("temperature", "student_temperature", "teacher_temperature"):
            above_zero_and_finite(getattr(self, name), name, "1 leaves scores as they are.")

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """(B, D) queries, positives and k negatives; labels (B, k + 1) -> scalar, in nats, >= 0."""
        scores = torch.stack(document_scores(embeddings, self.similarity_fct), dim=1)  # (B, k + 1)
        if labels is None or labels.shape != scores.shape:
            found = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
            raise ValueError(
                f"DistillKLDivLoss takes the teacher's scores of all documents, of shape {tuple(scores.shape)} for this "
                f"batch; but got {found}. Make the label column a list of {scores.shape[1]} scores, the positive's first."
            )
        student = log_softmax(scores / self.student_temperature, dim=1)
        teacher = softmax(labels.detach().to(scores) / self.teacher_temperature, dim=1)
        if not self._is_checked:
            self._is_checked = True  # the first batch stands for all: to look at each makes a device wait
            check_teacher_targets(teacher, labels, self.teacher_temperature, type(self).__name__)
        return kl_div(student, teacher, reduction="batchmean") * self.student_temperature**2

    def get_config_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("student_temperature", "teacher_temperature")}
        return super().get_config_dict() | {k: v for k, v in own.items() if v != self.temperature}


def teacher_margins(loss: Loss, labels: Tensor | None, rows: int, negatives: int) -> Tensor:
    """(B, k): a teacher's margins, of labels that are these, (B,) or (B, k), or the scores themselves (B, k + 1)."""
    if labels is not None and labels.shape == (rows, negatives + 1):
        return labels[:, :1] - labels[:, 1:]
    if labels is not None and labels.shape == (rows,):
        labels = labels.unsqueeze(1)
    if labels is None or labels.shape != (rows, negatives):
        found = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
        raise ValueError(
            f"{type(loss).__name__} takes for each of {rows} rows either {negatives} margins or {negatives + 1} scores, the "
            f"positive's first; but got {found}. Make the label column a list of that length."
        )
    return labels


def check_teacher_targets(
    teacher_probabilities: Tensor, teacher_logits: Tensor, teacher_temperature: float, loss_name: str
) -> None:
    """Warn where a temperature is so low that documents get a probability of exactly 0, and teach nothing.

    Args:
        teacher_probabilities: (B, documents): softmax of the scores over the temperature.
        teacher_logits: (B, documents): the teacher's scores. An infinite one says that its document does not count:
            nothing is said then.
        teacher_temperature: The temperature.
        loss_name: For the message.

    Raises:
        ValueError: A score is NaN.
    """
    if teacher_logits.isnan().any():
        raise ValueError(
            f"{loss_name} got a teacher's score that is NaN, which would make all weights NaN. Look for it in the label "
            "column: `numpy.isnan(dataset['label']).any()`."
        )
    lost = int((teacher_probabilities == 0).sum())
    if not lost or teacher_logits.isinf().any():
        return
    spread = float((teacher_logits.amax(dim=-1) - teacher_logits.amin(dim=-1)).max())
    logger.warning(
        "%s: at a teacher's temperature of %g, %d of %d documents have a probability of exactly 0 and teach nothing: the "
        "scores of a query differ by up to %.3g. A temperature of %.2g or more keeps them.",
        loss_name, teacher_temperature, lost, teacher_probabilities.numel(), spread, spread / 100,
    )  # fmt: skip


def document_scores(embeddings: Sequence[Tensor], similarity_fct: Similarity) -> list[Tensor]:
    """Queries and documents, (B, D) each -> (B,) scores of each column of documents."""
    queries, *documents = (to_float_tensor(embedding) for embedding in embeddings)
    return [similarity_fct(queries, column) for column in documents]
