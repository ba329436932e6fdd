"""Health: figures beside the loss that tell whether embeddings are getting better, or all alike.

They are taken from the batches whose loss is logged, from the embeddings that the loss has computed anyway.

    in_batch_accuracy   share of anchors whose own positive is nearer than every other row's positive and every negative
    positive_cosine     mean cosine of anchor and positive (`pair_cosine` where texts are pairs with a label)
    negative_cosine     mean cosine of anchor and negative where the data has negatives, else of anchor and others' positives
    uniformity          log of the mean of exp(-2 |x - y|^2) over the first column's rows, scaled to length 1; 0 is collapse
    truncated_share     share of the texts tokenised so far that were cut at the maximum length
    tokens_per_second   tokens that went through the model since the last log, per second
    padding_avoided     share of the batch that would have been padding, were each column padded to its longest text

Reference: Wang and Isola 2020, Understanding Contrastive Representation Learning, https://arxiv.org/abs/2005.10242.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from likewise.engine import ColumnBatch
from likewise.engine.pair_batch import PairBatch
from likewise.training.data.batch import num_tokens

logger = logging.getLogger(__name__)

MOST_ROWS = 1024  # of a batch that are compared with each other
COLLAPSED = 0.99  # mean cosine of different texts


class Health:
    """Watches the batches that train a model go by."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.figures: dict[str, float] = {}
        self._num_tokens = 0
        self._since = time.perf_counter()
        self._first_cosine: float | None = None
        self._warned = False

    def count(self, features: Any) -> None:
        """Count the tokens of a batch's features."""
        self._num_tokens += num_tokens(features)

    def look(self, embeddings: Sequence[Tensor], columns: Any, roles: Sequence[str]) -> None:
        """Keep the figures of a batch: of its text columns with their roles, and of what the loss was computed from.

        There are figures of embeddings where these are (B, D), one for each column.
        """
        is_one_each = bool(embeddings) and len(embeddings) == len(columns)
        if is_one_each and all(each.dim() == 2 for each in embeddings):
            self.figures = embedding_figures([embedding.float() for embedding in embeddings], roles)
        if isinstance(columns, ColumnBatch | PairBatch):
            self.figures["padding_avoided"] = padding_avoided(columns)

    def take(self) -> dict[str, float]:
        """The figures since the last log, for the next one."""
        now = time.perf_counter()
        figures, self.figures = self.figures, {}
        tokenization = getattr(self.model[0], "tokenization", None)
        if tokenization is not None and tokenization.num_texts:
            figures["truncated_share"] = tokenization.num_truncated / tokenization.num_texts
        if self._num_tokens:
            figures["tokens_per_second"] = round(self._num_tokens / (now - self._since), 1)
        self._num_tokens, self._since = 0, now
        self._warn_of_collapse(figures.pop("_cosine_of_different", None))
        return figures

    def _warn_of_collapse(self, cosine: float | None) -> None:
        if cosine is None or self._warned:
            return
        if self._first_cosine is None:
            self._first_cosine = cosine
        elif cosine > COLLAPSED and cosine > self._first_cosine:
            self._warned = True
            logger.warning(
                "The embeddings collapse: different texts have a cosine of %.3f on average. Lower `learning_rate`, warm up "
                "longer, or take a loss with in-batch negatives.",
                cosine,
            )


def embedding_figures(columns: Sequence[Tensor], roles: Sequence[str]) -> dict[str, float]:
    """The figures that depend on embeddings, from (B, D) each. They leave the device together, once."""
    columns = [normalize(column[:MOST_ROWS], dim=-1) for column in columns]
    anchor = columns[0]
    number = len(anchor)
    figures: dict[str, Tensor] = {}
    if number > 1:
        cosines = anchor @ anchor.T
        off_diagonal = ~torch.eye(number, dtype=torch.bool, device=anchor.device)
        different = cosines[off_diagonal]
        figures["uniformity"] = (-2 * (2 - 2 * different)).exp().mean().log()
        figures["_cosine_of_different"] = different.mean()
    if len(columns) > 1 and "positive" in roles:
        positive = columns[roles.index("positive")]
        others = [c for c, role in zip(columns, roles, strict=True) if role.startswith("negative")]
        scores = anchor @ torch.cat([positive, *others]).T  # (B, B and B for each negative)
        own = torch.arange(number, device=scores.device)
        figures["in_batch_accuracy"] = (scores.argmax(1) == own).float().mean()
        figures["positive_cosine"] = scores.diagonal().mean()
        if others:
            means = [(anchor * other).sum(-1).mean() for other in others]
            figures["negative_cosine"] = torch.stack(means).mean()
        elif number > 1:
            figures["negative_cosine"] = scores[off_diagonal].mean()
    elif len(columns) == 2:
        figures["pair_cosine"] = (anchor * columns[1]).sum(-1).mean()
    if not figures:
        return {}
    values = torch.stack(list(figures.values())).tolist()
    return dict(zip(figures, values, strict=True))


def padding_avoided(columns: ColumnBatch | PairBatch) -> float:
    """The share of padding in the batch if each column (or all pairs) were padded to its longest text."""
    lengths: tuple[Tensor, ...] = (columns.tokens.lengths,)
    if isinstance(columns, ColumnBatch):
        lengths = columns.split(columns.tokens.restore(columns.tokens.lengths))
    padded = sum(len(column) * int(column.max()) for column in lengths)
    return 1 - columns.tokens.num_tokens / padded if padded else 0.0
