"""Do a CrossEncoder's scores of pairs correlate with gold scores?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.cross_encoder.evaluation.base import PairEvaluator, checked_pairs, of_examples
from likewise.evaluation.inputs import checked_numbers
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import pearson, spearman

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder


@dataclass(eq=False, repr=False)
class CrossEncoderCorrelationEvaluator(PairEvaluator):
    """Correlation of a model's scores with gold scores.

    Metrics: `pearson` and `spearman`, which is primary.

    Args:
        sentence_pairs: The pairs of texts.
        scores: How similar the texts of each pair are; only order and proportions matter.
        name: Put in front of every metric.
        prompt_name: For `predict`.
        batch_size: For `predict`.
        show_progress_bar: For `predict`.
        write_csv: Whether to write a csv file.
    """

    sentence_pairs: Sequence[Any]
    scores: Sequence[float]
    name: str = ""
    prompt_name: str | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = None
    write_csv: bool = True

    primary = "spearman"

    def __post_init__(self) -> None:
        self.sentence_pairs = checked_pairs(self.sentence_pairs)
        self._gold = checked_numbers("scores", self.scores, len(self.sentence_pairs))
        if np.ptp(self._gold) == 0:
            raise ValueError(
                f"All `scores` are {self._gold[0]}, with which nothing correlates. Pass varied scores."
            )
        self.set_names("CrossEncoderCorrelationEvaluator")

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> CrossEncoderCorrelationEvaluator:
        """From InputExamples with two texts and a score each."""
        return cls(*of_examples(examples), **kwargs)

    def measure(self, model: CrossEncoder) -> dict[str, Measurement]:  # type: ignore[override]
        """See the class.

        Raises:
            ValueError: The model gives several scores to a pair.
        """
        if model.num_labels != 1:
            raise ValueError(
                f"A correlation needs one score a pair, but this model gives {model.num_labels} (`num_labels`). Take the "
                "CrossEncoderClassificationEvaluator."
            )
        rows = (self._gold, self.predict(model, self.sentence_pairs))
        return {"pearson": Measurement(rows, pearson), "spearman": Measurement(rows, spearman)}

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`Pearson_Correlation`, `Spearman_Correlation`."""
        return {f"{key.title()}_Correlation": measurement.value for key, measurement in measured.items()}
