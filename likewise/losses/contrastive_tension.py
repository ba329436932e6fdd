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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from likewise.engine import ColumnBatch
from likewise.input_example import InputExample
from likewise.losses import citations
from likewise.losses.base import (
    Columns,
    Embedder,
    Features,
    Label,
    Loss,
    Run,
    column_tokens,
    function_name,
    one_label_per_row,
    run_whole,
    sentence_embeddings,
)
from likewise.losses.gather import join_processes
from likewise.losses.ids import column_ids, find_duplicates
from likewise.losses.info_nce import Direction, as_dot_products, info_nce
from likewise.similarity import Similarity, cos_sim, pairwise_dot_score

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer


class ContrastiveTensionLoss(Loss):
    """Pairs of texts, some of them equal: label 1, or no label at all (equal texts are found by their tokens).

    Prefer ContrastiveTensionLossInBatchNegatives, which learns more from a batch; DenoisingAutoEncoderLoss is the other
    way to train without labels.

    Args:
        model: The model to train; it embeds the second texts, and is the one to keep. A copy, trained along, embeds
            the first ones.
    """

    takes = (
        Columns(("sentence1", "sentence2"), label=Label.BINARY),
        Columns(("sentence1", "sentence2")),
    )

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__(model)
        self.model1 = copy.deepcopy(model)

    @property
    def model2(self) -> SentenceTransformer:
        """The reference's name of `model`."""
        return self.model

    def embed(
        self, columns: Features, run: Run = run_whole, embedder: Embedder = sentence_embeddings
    ) -> Sequence[Tensor]:
        """The copy's embeddings of the first texts, the model's of the second."""
        pairs = zip((self.model1, self.model), (0, 1), strict=True)
        return [embed_column(model, columns, number, run, embedder) for model, number in pairs]

    def context(self, columns: Features, run: Run = run_whole) -> dict[str, Any]:
        """`same`: (B,) whether the texts are equal; left out where the columns are not packed."""
        if not isinstance(columns, ColumnBatch):
            return {}
        first, second = column_ids(columns)[:2]
        return {"same": first == second}

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, same: Tensor | None = None
    ) -> Tensor:
        """Two (B, D) batches and (B,) labels, 0 or 1 -> scalar, in nats; a sum over rows."""
        labels = one_label_per_row(self, same if labels is None else labels, embeddings)
        scores = pairwise_dot_score(*embeddings)
        return binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="sum")

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return citations.CONTRASTIVE_TENSION


class ContrastiveTensionLossInBatchNegatives(Loss):
    """Texts alone: both copies embed all of a batch, and each text's two embeddings should find each other.

    Args:
        model: The model to train, and the one to keep. A copy is trained along.
        scale: Multiplies the similarities at the start, > 0; it is trained along.
        similarity_fct: Scores of all pairs, (N, D), (M, D) -> (N, M).
        gather_across_devices: Whether the texts of all processes are candidates.
        mask_duplicates: Whether equal texts, and texts that share the value of an id column, are no negatives of each
            other. False is the reference's behaviour.
    """

    takes = (Columns(("sentence",), in_batch_negatives=True),)

    def __init__(
        self,
        model: SentenceTransformer,
        scale: float = 20.0,
        similarity_fct: Similarity = cos_sim,
        *,
        gather_across_devices: bool = False,
        mask_duplicates: bool = False,
    ) -> None:
        super().__init__(model)
        if not scale > 0:
            raise ValueError(f"`scale` must be positive, but is {scale}. 20 suits cosine similarity.")
        self.model1 = copy.deepcopy(model)
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices
        self.mask_duplicates = mask_duplicates
        device = next(model.parameters()).device
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale), device=device))

    @property
    def model2(self) -> SentenceTransformer:
        """The reference's name of `model`."""
        return self.model

    def embed(
        self, columns: Features, run: Run = run_whole, embedder: Embedder = sentence_embeddings
    ) -> Sequence[Tensor]:
        """The copy's embeddings of the texts, and the model's."""
        return [embed_column(model, columns, 0, run, embedder) for model in (self.model1, self.model)]

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, ids: Tensor | None = None
    ) -> Tensor:
        """Two (B, D) batches of the same texts -> scalar, in nats; log(B) by chance.

        Args:
            embeddings: The copy's and the model's.
            labels: Not used.
            ids: (1 or more, B) int64: ids of the texts, then of id columns.
        """
        own, similarity = as_dot_products(embeddings, self.similarity_fct)
        joined = join_processes(own, self.gather_across_devices)
        every = joined.tensors
        rows = joined.first + torch.arange(len(own[0]), device=own[0].device)
        known = find_duplicates(ids, self.mask_duplicates, 1, rows, self.gather_across_devices)
        edit = None if known is None else known.hide_rows
        directions = [Direction(own[0], every[1], edit), Direction(own[1], every[0], edit, swapped=True)]
        loss = info_nce(directions, rows, similarity, self.logit_scale.exp(), separate=True)
        return loss * joined.weight

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of this loss, for the model card."""
        duplicates = {"mask_duplicates": True} if self.mask_duplicates else {}
        scale = self.logit_scale.exp().item()
        return {"scale": scale, "similarity_fct": function_name(self.similarity_fct), **duplicates}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return citations.CONTRASTIVE_TENSION


def embed_column(model: nn.Module, columns: Features, number: int, run: Run, embedder: Embedder) -> Tensor:
    """Embed one column: (B, D)."""
    if isinstance(columns, ColumnBatch):
        return run(lambda tokens: embedder(model, {"tokens": tokens}), column_tokens(columns, number))
    return embedder(model, dict(columns[number]))


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
