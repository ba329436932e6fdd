"""Cross-entropy: which of several labels does a pair have?

loss = - mean over the pairs of log softmax(s)_y
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from likewise.cross_encoder.losses.base import Columns, Label, Labels
from likewise.cross_encoder.losses.pairwise import PairLoss


class CrossEntropyLoss(PairLoss):
    """Pairs of texts with a class each, or a probability for each class; the usual loss of a model with several labels.

    Args:
        model: The CrossEncoder that is trained.
        activation_fn: Applied to the scores before the softmax; None for none.
        **kwargs: For `torch.nn.CrossEntropyLoss`, e.g. `weight` or `label_smoothing`.
    """

    takes = (Columns(("first text", "second text"), label=Label.CLASS),)
    num_labels = None
    config_keys = ()

    def __init__(self, model: Any, activation_fn: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        label_range = (0.0, model.num_labels - 1.0)
        self.takes = (Columns(("first text", "second text"), label=Label.CLASS, label_range=label_range),)
        self.ce_loss = nn.CrossEntropyLoss(**kwargs)

    def compute(self, scores: Tensor, labels: Labels, lengths: Tensor | None = None) -> Tensor:
        """(T, C) scores, and (T,) classes or (T, C) probabilities -> scalar, in nats."""
        scores = self.activation_fn(scores)
        if isinstance(labels, list | tuple):
            labels = torch.stack([torch.as_tensor(label) for label in labels])
        if isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == scores.shape:
            loss: Tensor = self.ce_loss(scores, labels.to(scores))
            return loss
        classes = self.one_label_per_pair(labels, scores)
        if classes.is_floating_point():
            raise ValueError(
                f"CrossEntropyLoss takes whole numbers as classes, or {scores.shape[1]} probabilities a pair, but the labels "
                f"are {classes.dtype} of shape {tuple(classes.shape)}. Convert the label column to integers."
            )
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < scores.shape[1]:
            ignored = classes[(classes < 0) | (classes >= scores.shape[1])]
            if bool((ignored != self.ce_loss.ignore_index).any()):
                raise ValueError(
                    f"The labels of CrossEntropyLoss go from 0 to {scores.shape[1] - 1}, as the model has {scores.shape[1]} "
                    f"(`num_labels`), but one is {int(ignored[0])}. Correct it, or load the model with more labels."
                )
        loss = self.ce_loss(scores, classes)
        return loss
