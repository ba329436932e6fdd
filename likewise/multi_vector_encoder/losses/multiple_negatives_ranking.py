"""MultiVectorMultipleNegativesRankingLoss: of all documents in the batch, a query's positive should score highest.

    loss = mean over i of -log(exp(scale * s(q_i, d_i)) / sum over all documents d of exp(scale * s(q_i, d)))

References: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832, section 3.3; Henderson et al. 2017,
https://arxiv.org/abs/1705.00652, section 4.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from likewise.checked import above_zero, positive_or_none
from likewise.losses.base import Columns
from likewise.losses.gather import join_processes
from likewise.multi_vector_encoder.losses.base import Loss, columns_of
from likewise.multi_vector_encoder.scoring.token_scores import Score, colbert_scores, scored
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings


class Ranked(NamedTuple):
    """Scores of B queries with the M documents of a batch, of all processes if they are gathered.

    Attributes:
        scores: (B, M), times the loss's scale; a query's documents stand side by side.
        right: (B,), which of them is each query's positive.
        weight: That of this process's mean (see `Joined`).
    """

    scores: Tensor
    right: Tensor
    weight: float


class MultiVectorMultipleNegativesRankingLoss(Loss):
    """Queries with a positive each, and any number of hard negatives; the other rows' documents are negatives too.

    Args:
        model: The model to train.
        scale: Multiplies the scores (an inverse temperature), > 0. 1 suits MaxSim, whose scores grow with the query's length;
            the mean of a query's tokens takes about that length.
        similarity_fct: Scores of all queries with all documents, as `colbert_scores`; None for that.
        mini_batch_size: Texts of a chunk that is recomputed in the backward pass; None for all at once.
        score_mini_batch_size: Queries that are scored at a time; None for all.
        gather_across_devices: Whether the documents of all processes are candidates.

    Raises:
        ValueError: An argument is out of its range.
    """

    takes = (Columns(("query", "positive"), more="negative", in_batch_negatives=True),)
    config_keys: ClassVar[tuple[str, ...]] = (
        "scale", "similarity_fct", "mini_batch_size", "score_mini_batch_size", "gather_across_devices",
    )  # fmt: skip
    cites = "oord2019representationlearningcontrastivepredictive"

    def __init__(
        self,
        model: Any,
        *,
        scale: float = 1.0,
        similarity_fct: Score | None = None,
        mini_batch_size: int | None = None,
        score_mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, similarity_fct or colbert_scores, mini_batch_size)
        above_zero(scale, "scale", "1 suits MaxSim.")
        self.scale = scale
        self.score_mini_batch_size = positive_or_none(score_mini_batch_size, "score_mini_batch_size")
        self.gather_across_devices = gather_across_devices

    def compute(
        self, embeddings: Sequence[Any], labels: Tensor | None = None, ranked: Ranked | None = None
    ) -> Tensor:
        """TokenEmbeddings of B queries, positives and hard negatives -> scalar, in nats.

        Args:
            embeddings: Of each column.
            labels: None are taken.
            ranked: What `rank` gives of the embeddings, where the caller has it.
        """
        scores, right, weight = ranked or self.rank(embeddings)
        return cross_entropy(scores, right) * weight

    def rank(self, embeddings: Sequence[Any]) -> Ranked:
        """The scores that the loss is made of."""
        queries, documents = columns_of(embeddings)
        joined = [joined_texts(column, self.gather_across_devices) for column in documents]
        _, first, weight = joined[0]
        rows = torch.arange(len(queries), device=queries.device) + first
        candidates = [column for column, _, _ in joined]
        parts = queries.split(self.score_mini_batch_size or max(len(queries), 1))
        scores = torch.cat([scored(self.similarity_fct, part, candidates) for part in parts])
        return Ranked(scores * self.scale, rows * len(documents), weight)


class CachedMultiVectorMultipleNegativesRankingLoss(MultiVectorMultipleNegativesRankingLoss):
    """MultiVectorMultipleNegativesRankingLoss whose encoder runs in chunks that are recomputed in the backward pass.

    The same loss and gradients in the memory of one chunk. The training argument `micro_batch_tokens` does this for any loss.

    Args:
        model: The model to train.
        scale: As there; so are the other arguments of the same name.
        similarity_fct: As there.
        mini_batch_size: Texts of a chunk, were they all as long as the longest of the batch.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        score_mini_batch_size: As there.
        gather_across_devices: As there.
        show_progress_bar: Whether to show a bar over the chunks.
    """

    config_keys = (*MultiVectorMultipleNegativesRankingLoss.config_keys, "mini_batch_num_tokens")
    cites = "gao2021scaling"

    def __init__(
        self,
        model: Any,
        *,
        scale: float = 1.0,
        similarity_fct: Score | None = None,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        score_mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        self.mini_batch_num_tokens, self.show_progress_bar = mini_batch_num_tokens, show_progress_bar
        super().__init__(
            model,
            scale=scale,
            similarity_fct=similarity_fct,
            mini_batch_size=mini_batch_size,
            score_mini_batch_size=score_mini_batch_size,
            gather_across_devices=gather_across_devices,
        )


def joined_texts(texts: TokenEmbeddings, wanted: bool) -> tuple[TokenEmbeddings, int, float]:
    """The texts of all processes; the number of this process's first one; and the weight of its mean (see `Joined`)."""
    if not wanted:
        return texts, 0, 1.0
    lengths = join_processes([texts.lengths.to(texts.device)])
    vectors = join_processes([texts.vectors]).tensors[0]
    return TokenEmbeddings(vectors, lengths.tensors[0].cpu()), lengths.first, lengths.weight
