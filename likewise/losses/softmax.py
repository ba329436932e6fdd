"""SoftmaxLoss: a classifier of pairs on top of their embeddings.

    loss = cross entropy of W [u; v; |u - v|] + b against the class

Reference: Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3 ("classification objective function").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from likewise.checked import positive
from likewise.engine.embed import Embed, packed
from likewise.losses.base import Columns, Label, Loss, LossValue, widened
from likewise.types import Encoder


class SoftmaxLoss(Loss):
    """Pairs of texts with a class each, such as contradiction, entailment and neutral.

    The classifier is trained along, and is no part of the saved model. Prefer MultipleNegativesRankingLoss on the
    entailed pairs, with the contradictions as negatives: it trains better embeddings from the same data.

    Args:
        model: The model to train.
        embedding_dimension: D, the model's embedding size; also by its older name `sentence_embedding_dimension`.
        num_labels: Number of classes; labels are 0 to this minus 1.
        concatenation_sent_rep: Whether the classifier sees u and v.
        concatenation_sent_difference: Whether it sees |u - v|.
        concatenation_sent_multiplication: Whether it sees u * v.
        loss_fct: Compares (B, num_labels) scores with labels. Default: cross entropy.

    Raises:
        ValueError: The classifier would see nothing.
    """

    takes: tuple[Columns, ...] = (Columns(("sentence1", "sentence2"), label=Label.CLASS),)
    config_keys = (
        "num_labels", "concatenation_sent_rep", "concatenation_sent_difference", "concatenation_sent_multiplication",
    )  # fmt: skip
    cites = "reimers-2019-sentence-bert"

    def __init__(
        self,
        model: Encoder,
        embedding_dimension: int | None = None,
        num_labels: int | None = None,
        concatenation_sent_rep: bool = True,
        concatenation_sent_difference: bool = True,
        concatenation_sent_multiplication: bool = False,
        loss_fct: Callable[..., Tensor] | None = None,
        *,
        sentence_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__(model)
        size = sentence_embedding_dimension if embedding_dimension is None else embedding_dimension
        if size is None or num_labels is None:
            raise TypeError(
                "SoftmaxLoss needs `embedding_dimension` (`model.get_sentence_embedding_dimension()`) and `num_labels`."
            )
        positive(size, "embedding_dimension")
        positive(num_labels, "num_labels")
        parts = 2 * concatenation_sent_rep + concatenation_sent_difference + concatenation_sent_multiplication
        if not parts:
            raise ValueError(
                "All three `concatenation_...` arguments are False, so that the classifier would see nothing. Leave "
                "`concatenation_sent_rep` at True."
            )
        self.embedding_dimension = size
        self.num_labels = num_labels
        self.concatenation_sent_rep = concatenation_sent_rep
        self.concatenation_sent_difference = concatenation_sent_difference
        self.concatenation_sent_multiplication = concatenation_sent_multiplication
        self.classifier = nn.Linear(parts * size, num_labels, device=model.device)
        self.loss_fct = nn.CrossEntropyLoss() if loss_fct is None else loss_fct
        columns = type(self).takes[0]
        classes = replace(columns, label_range=(0, num_labels - 1))
        # Another function may take other labels, e.g. a list of numbers for binary cross entropy.
        self.takes = (classes,) if loss_fct is None else (replace(columns, label=Label.NUMBERS),)

    def scores(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Two (B, D) batches -> (B, num_labels)."""
        weight = self.classifier.weight
        u, v = (widened(embedding, self.embedding_dimension).to(weight.dtype) for embedding in embeddings)
        parts = [u, v] if self.concatenation_sent_rep else []
        if self.concatenation_sent_difference:
            parts.append((u - v).abs())
        if self.concatenation_sent_multiplication:
            parts.append(u * v)
        scores: Tensor = self.classifier(torch.cat(parts, dim=1))
        return scores

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Two (B, D) batches and (B,) classes -> scalar, in nats; log(num_labels) by chance."""
        scores = self.scores(embeddings)
        if labels is None:
            raise ValueError(
                "SoftmaxLoss takes one class per row. Name the label column of the data set 'label'."
            )
        if self.num_labels == 1 or labels.shape != scores.shape:
            labels = labels.view(-1)
        if isinstance(self.loss_fct, nn.CrossEntropyLoss) and not labels.is_floating_point():
            labels = labels.long()
        return self.loss_fct(scores, labels)

    def forward(
        self,
        sentence_features: Iterable[dict[str, Tensor]],
        labels: Tensor | None = None,
        embed: Embed | None = None,
    ) -> LossValue:
        """Embed the columns and compute the loss; without labels, the embeddings and the scores of the classes.

        LabelAccuracyEvaluator calls it without labels.
        """
        if labels is None:
            embeddings = self.read(packed(self.model, sentence_features), embed or self.embed)
            return embeddings, self.scores(embeddings)  # type: ignore[return-value]
        return super().forward(sentence_features, labels, embed)
