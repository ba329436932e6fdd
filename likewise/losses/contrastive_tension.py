"""Contrastive tension: two copies of a model should agree on equal texts and disagree on different ones. No labels needed.

With f the copy, g the model, y whether the texts of a pair are equal:

    loss = sum over pairs of binary cross entropy(f(s_1) . g(s_2), y)
    in-batch negatives: mean of the cross entropies of scale * cos(f(s_i), g(s_j)) over j, and over i

Reference: Carlsson et al. 2021, https://openreview.net/forum?id=Ov_sMNau-PF, section 3.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from likewise.checked import above_zero
from likewise.engine import ColumnBatch
from likewise.engine.embed import Batch, Embed
from likewise.input_example import InputExample
from likewise.losses.base import Columns, Label, Loss, one_label_per_row
from likewise.losses.gather import join_processes
from likewise.losses.ids import column_ids, find_duplicates
from likewise.losses.info_nce import Direction, as_dot_products, info_nce
from likewise.similarity import Similarity, cos_sim, pairwise_dot_score
from likewise.types import Encoder


class TwoModels(Loss):
    """A loss over a model and a copy of it, which is trained along. A subclass writes `compute`."""

    cites = "carlsson2021semantic"

    def __init__(self, model: Encoder) -> None:
        super().__init__(model)
        self.model1 = copy.deepcopy(model)

    @property
    def model2(self) -> Encoder:
        """The reference's name of `model`."""
        return self.model

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """The copy's embeddings of the first texts, and the model's of the last."""
        return [*embed(self.model1, batch, [0]), *embed(self.model, batch, [len(batch) - 1])]


class ContrastiveTensionLoss(TwoModels):
    """Pairs of texts, some of them equal: label 1, or no label at all (equal texts are found by their tokens).

    Prefer ContrastiveTensionLossInBatchNegatives, which learns more from a batch; DenoisingAutoEncoderLoss is the other
    way to train without labels.

    Args:
        model: The model to train; it embeds the second texts, and is the one to keep. A copy, trained along, embeds
            the first ones.
    """

    takes = (Columns(("sentence1", "sentence2"), label=Label.BINARY), Columns(("sentence1", "sentence2")))

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """`same`: (B,) whether the texts are equal; left out where the columns are not packed."""
        if not isinstance(batch, ColumnBatch):
            return {}
        first, second = column_ids(batch)[:2]
        return {"same": first == second}

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, same: Tensor | None = None
    ) -> Tensor:
        """Two (B, D) batches and (B,) labels, 0 or 1 -> scalar, in nats; a sum over rows."""
        labels = one_label_per_row(self, same if labels is None else labels, embeddings)
        scores = pairwise_dot_score(*embeddings)
        return binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="sum")


class ContrastiveTensionLossInBatchNegatives(TwoModels):
    """Texts alone: both copies embed all of a batch, and each text's two embeddings should find each other.

    Rows of two texts, usually a text and itself, are two views of one thing: the copy embeds the first, the model the
    second.

    Args:
        model: The model to train, and the one to keep. A copy is trained along.
        scale: Multiplies the similarities at the start, > 0; it is trained along.
        similarity_fct: Scores of all pairs, (N, D), (M, D) -> (N, M).
        gather_across_devices: Whether the texts of all processes are candidates.
        mask_duplicates: Whether equal texts, and texts that share the value of an id column, are no negatives of each
            other. False is the reference's behaviour.
    """

    takes = (
        Columns(("sentence",), in_batch_negatives=True),
        Columns(("sentence", "same sentence"), in_batch_negatives=True),
    )
    config_keys = ("scale", "similarity_fct", "mask_duplicates")

    def __init__(
        self,
        model: Encoder,
        scale: float = 20.0,
        similarity_fct: Similarity = cos_sim,
        *,
        gather_across_devices: bool = False,
        mask_duplicates: bool = False,
    ) -> None:
        super().__init__(model)
        above_zero(scale, "scale", "20 suits cosine similarity.")
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices
        self.mask_duplicates = mask_duplicates
        device = next(model.parameters()).device
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale), device=device))

    @property
    def scale(self) -> float:
        """What the similarities are multiplied by at present."""
        return self.logit_scale.exp().item()

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """`ids`, where duplicates are masked: those of the first and of the last texts, then of id columns."""
        context = super().context(batch, embed)
        if "ids" in context and len(batch) == 1:
            context["ids"] = torch.cat([context["ids"][:1], context["ids"]])
        return context

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, ids: Tensor | None = None
    ) -> Tensor:
        """Two (B, D) batches of the same texts -> scalar, in nats; log(B) by chance.

        Args:
            embeddings: The copy's and the model's.
            labels: Not used.
            ids: (2 or more, B) int64: ids of the texts that each embedded, then of id columns.
        """
        own, similarity = as_dot_products(embeddings, self.similarity_fct)
        joined = join_processes(own, self.gather_across_devices)
        every = joined.tensors
        rows = joined.numbers(own[0])
        known = find_duplicates(ids, self.mask_duplicates, 2, rows, self.gather_across_devices)
        edit = None if known is None else known.hide_rows
        directions = [Direction(own[0], every[1], edit), Direction(own[1], every[0], edit, swapped=True)]
        loss = info_nce(directions, rows, similarity, self.logit_scale.exp(), separate=True)
        return loss * joined.weight


class ContrastiveTensionDataLoader:
    """Batches of pairs for ContrastiveTensionLoss: of every `pos_neg_ratio` pairs, one of equal texts.

    Args:
        sentences: The texts; drawn in random order (by Python's `random`), each at most once in an epoch.
        batch_size: Pairs in a batch; a multiple of `pos_neg_ratio`.
        pos_neg_ratio: Of so many pairs, the first is a text with itself, the others are two different ones.

    Raises:
        ValueError: The batch size is no multiple.
    """

    def __init__(self, sentences: Sequence[str], batch_size: int, pos_neg_ratio: int = 8) -> None:
        if pos_neg_ratio < 1 or batch_size % pos_neg_ratio:
            raise ValueError(
                f"`batch_size` must be a multiple of `pos_neg_ratio`, but they are {batch_size} and {pos_neg_ratio}. Take "
                f"a batch size of {max(1, batch_size // max(1, pos_neg_ratio)) * max(1, pos_neg_ratio)}."
            )
        self.sentences = sentences
        self.batch_size = batch_size
        self.pos_neg_ratio = pos_neg_ratio
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        texts = iter(random.sample(self.sentences, len(self.sentences)))
        for _ in range(len(self)):
            batch = []
            for number in range(self.batch_size):
                first, equal = next(texts), number % self.pos_neg_ratio == 0
                batch.append(InputExample(texts=[first, first if equal else next(texts)], label=int(equal)))
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def __len__(self) -> int:
        return len(self.sentences) // (2 * self.batch_size - self.batch_size // self.pos_neg_ratio)
