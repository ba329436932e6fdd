"""PairEvaluator: what evaluators of CrossEncoders have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import check_text
from likewise.evaluation.measurement import Array

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder


class PairEvaluator(SentenceEvaluator):
    """Measures a CrossEncoder by its scores of pairs.

    Attributes:
        prompt_name: For `predict`.
        batch_size: For `predict`.
        show_progress_bar: For `predict`.
    """

    model_type = "CrossEncoder"
    prompt_name: str | None = None

    def predict(self, model: CrossEncoder, pairs: Sequence[Any]) -> Array:
        """The model's scores of pairs, (N,) or (N, labels)."""
        found: Array = model.predict(
            pairs,
            prompt_name=self.prompt_name,
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
        )
        return found

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the metrics for the model card, where there is one."""
        if model.model_card_data is not None:
            super().store_metrics_in_model_card_data(model, metrics, epoch, step)


def checked_pairs(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """The pairs as tuples.

    Raises:
        ValueError: There are none, or one has more or less than two texts.
        TypeError: Something is not a text.
    """
    if isinstance(values, str | bytes):
        raise TypeError(f"`sentence_pairs` must be a list of pairs, but is the single text {values!r}.")
    pairs = []
    for row, pair in enumerate(values):
        if isinstance(pair, str | bytes) or not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
            raise ValueError(f"Row {row} of `sentence_pairs` must be two texts, but is {pair!r}.")
        for text in pair:
            check_text(text, f"each text in row {row} of `sentence_pairs`")
        pairs.append((pair[0], pair[1]))
    if not pairs:
        raise ValueError("`sentence_pairs` is empty. Pass at least one row to evaluate on.")
    return pairs


def of_examples(examples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The pairs of texts and the labels of InputExamples."""
    return [example.texts for example in examples], [example.label for example in examples]
