"""Whether a teacher's scores can be learnt from."""

from __future__ import annotations

import logging

from torch import Tensor

logger = logging.getLogger(__name__)


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
        loss_name,
        teacher_temperature,
        lost,
        teacher_probabilities.numel(),
        spread,
        spread / 100,
    )
