"""How often does a softmax classifier on top of the embeddings give the right label?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from likewise.engine.modes import eval_mode
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import file_name
from likewise.evaluation.measurement import Measurement

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer


@dataclass(eq=False, repr=False)
class LabelAccuracyEvaluator(SentenceEvaluator):
    """Accuracy of a classifier that was trained with SoftmaxLoss.

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
        self.csv_file = file_name("accuracy_evaluation", self.name, "results.csv")
        self.primary_metric = self.full_name("accuracy")

    def measure(self, model: SentenceTransformer) -> dict[str, Measurement]:
        """See the class."""
        self.dataloader.collate_fn = list
        batches: Iterable[Sequence[Any]] = self.dataloader
        with eval_mode(model):
            is_correct = [self._is_correct(model, batch) for batch in batches]
        if not is_correct:
            raise ValueError("`dataloader` is empty. Pass at least one example to evaluate on.")
        return {"accuracy": Measurement((np.concatenate(is_correct).astype(np.float64),))}

    @torch.no_grad()
    def _is_correct(self, model: SentenceTransformer, examples: Sequence[Any]) -> np.ndarray[Any, Any]:
        columns = zip(*(example.texts for example in examples), strict=True)
        features = [
            {
                key: value.to(model.device)
                for key, value in model.tokenize(list(texts)).items()
                if torch.is_tensor(value)
            }
            for texts in columns
        ]
        assert self.softmax_model is not None
        _, scores = self.softmax_model(features, labels=None)
        labels = torch.tensor([example.label for example in examples], device=scores.device)
        found: np.ndarray[Any, Any] = (scores.argmax(dim=1) == labels).cpu().numpy()
        return found
