"""How often does a softmax classifier on top of the embeddings give the right label?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from likewise.engine.modes import eval_mode
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.measurement import Array, Measurement
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class LabelAccuracyEvaluator(SentenceEvaluator):
    """Accuracy of a classifier that was trained with SoftmaxLoss.

    The model is in eval mode meanwhile. Its `smart_batching_collate` makes the batches.

    Metrics: `accuracy`, which is primary.

    Args:
        dataloader: Batches of InputExamples with texts and a class label.
        name: Put in front of every metric.
        softmax_model: The SoftmaxLoss: called with a list of features, one for each text column, and `labels=None`, it
            returns embeddings and (B, classes) scores.
        write_csv: Whether to write a csv file.
    """

    dataloader: DataLoader[Any]
    name: str = ""
    softmax_model: Callable[..., tuple[Any, Tensor]] | None = None
    write_csv: bool = True

    primary = "accuracy"

    def __post_init__(self) -> None:
        if self.softmax_model is None:
            raise TypeError(
                "`softmax_model` is missing. Pass the SoftmaxLoss that the model was trained with."
            )
        self.set_names("accuracy_evaluation")

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        trained: Any = model
        self.dataloader.collate_fn = trained.smart_batching_collate
        batches: Iterable[tuple[list[dict[str, Any]], Tensor]] = self.dataloader
        with eval_mode(trained):
            is_correct = [self._is_correct(model, *batch) for batch in batches]
        if not is_correct:
            raise ValueError("`dataloader` is empty. Pass at least one example to evaluate on.")
        return {"accuracy": Measurement((np.concatenate(is_correct).astype(np.float64),))}

    @torch.no_grad()
    def _is_correct(self, model: Encoder, columns: list[dict[str, Any]], labels: Tensor) -> Array:
        features = [
            {key: value.to(model.device) for key, value in column.items() if torch.is_tensor(value)}
            for column in columns
        ]
        assert self.softmax_model is not None
        _, scores = self.softmax_model(features, labels=None)
        found: Array = (scores.argmax(dim=1) == labels.to(scores.device)).cpu().numpy()
        return found
