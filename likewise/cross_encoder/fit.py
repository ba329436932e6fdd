"""`CrossEncoder.fit`: training of the older kind, from a data loader of InputExample, on top of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Columns, Label, Labels
from likewise.cross_encoder.losses.pairwise import PairLoss
from likewise.cross_encoder.trainer import CrossEncoderTrainer
from likewise.input_example import InputExample
from likewise.legacy.fit import fit as fit_family


class LogitsLoss(PairLoss):
    """A loss over logits, as torch has them, on pairs.

    Args:
        model: The CrossEncoder that is trained.
        loss_fct: (N,) logits and (N,) numbers -> scalar, of a model with one label; of others (N, labels) logits and (N,)
            classes. None for binary cross-entropy, or cross-entropy.
        activation_fct: Applied to the logits before the loss.
    """

    num_labels = None

    def __init__(
        self, model: Any, loss_fct: Callable[[Tensor, Tensor], Tensor] | None, activation_fct: Any
    ) -> None:
        super().__init__(model, activation_fct)
        self.is_one = model.num_labels == 1
        kind = Label.NUMBER if self.is_one else Label.CLASS
        self.takes = (Columns(("first text", "second text"), label=kind),)
        usual = nn.BCEWithLogitsLoss() if self.is_one else nn.CrossEntropyLoss()
        self.loss_fct: Callable[[Tensor, Tensor], Tensor] = usual if loss_fct is None else loss_fct

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor) -> Tensor:
        """(T, labels) logits and (T,) labels -> scalar."""
        logits = self.activation_fn(scores.view(-1) if self.is_one else scores)
        wanted = self.one_label_per_pair(labels, scores)
        return self.loss_fct(logits, wanted.to(logits.dtype) if self.is_one else wanted.long())


def fit(
    model: Any,
    train_dataloader: Any,
    evaluator: Any,
    loss_fct: Callable[[Tensor, Tensor], Tensor] | None,
    activation_fct: Any,
    **options: Any,
) -> None:
    """Train a CrossEncoder; see `CrossEncoder.fit`."""
    loss = LogitsLoss(model, loss_fct, activation_fct)
    fit_family(CrossEncoderTrainer, model, [(train_dataloader, loss)], evaluator, **options)


def smart_batching_collate(model: Any, batch: Sequence[InputExample]) -> tuple[Any, Tensor]:
    """Examples -> padded features of their pairs, white space at the ends of texts removed, and the labels."""
    labels = torch.tensor([example.label for example in batch])
    labels = labels.float() if model.num_labels == 1 else labels.long()
    return features_of_texts(model, [example.texts for example in batch]), labels.to(model.device)


def features_of_texts(model: Any, batch: Sequence[Sequence[str]]) -> Any:
    """Padded features of pairs, white space at the ends of texts removed."""
    return model.preprocess([tuple(text.strip() for text in texts) for texts in batch]).to(model.device)
