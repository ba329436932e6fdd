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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from likewise.engine import ColumnBatch
from likewise.training.data.collation import Batch
from likewise.training.data.plan import DataSetPlan

logger = logging.getLogger(__name__)

MOST_ROWS = 1024  # of a batch that are compared with each other
COLLAPSED = 0.99  # mean cosine of different texts


class Health:
    """Watches batches go by.

    Args:
        model: The model that is trained.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.figures: dict[str, float] = {}
        self._num_tokens = 0
        self._since = time.perf_counter()
        self._first_cosine: float | None = None
        self._warned = False

    def count(self, batch: Batch) -> None:
        """Count a batch's tokens."""
        self._num_tokens += num_tokens(batch)

    @contextmanager
    def watching(self, batch: Batch, plan: DataSetPlan) -> Iterator[None]:
        """Within this context the model embeds a batch, whose figures are then kept."""
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            embedding = output.get("sentence_embedding") if isinstance(output, dict) else None
            if embedding is not None and embedding.dim() == 2:
                seen.append(embedding.detach().float())

        handle = self.model.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()
        columns = in_columns(seen, batch["columns"])
        if columns is not None:
            self.figures = embedding_figures(columns, plan.roles)
        if isinstance(batch["columns"], ColumnBatch):
            self.figures["padding_avoided"] = padding_avoided(batch["columns"])

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


def num_tokens(batch: Batch) -> int:
    """The tokens of a batch, padding left aside."""
    columns = batch["columns"]
    if isinstance(columns, ColumnBatch):
        return columns.tokens.num_tokens
    return sum(int(column["attention_mask"].sum()) for column in columns if "attention_mask" in column)


def in_columns(seen: Sequence[Tensor], columns: Any) -> list[Tensor] | None:
    """What the model returned, piece by piece, as one (B, D) for each column; None where it was called otherwise."""
    if not seen:
        return None
    rows = torch.cat(list(seen))
    if isinstance(columns, ColumnBatch):
        if len(rows) != len(columns.tokens):
            return None
        in_order = rows if len(seen) == 1 else columns.tokens.restore(rows)  # pieces come in packed order
        return list(columns.split(in_order))
    return list(seen) if len(seen) == len(columns) else None


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
        figures["uniformity"] = (-2 * (2 - 2 * different)).exp().mean().clamp_min(1e-30).log()
        figures["_cosine_of_different"] = different.mean()
    if len(columns) > 1 and "positive" in roles:
        positive = columns[roles.index("positive")]
        others = [c for c, role in zip(columns, roles, strict=True) if role.startswith("negative")]
        scores = anchor @ torch.cat([positive, *others]).T  # (B, B and B for each negative)
        figures["in_batch_accuracy"] = (
            (scores.argmax(1) == torch.arange(number, device=scores.device)).float().mean()
        )
        figures["positive_cosine"] = scores.diagonal().mean()
        if others:
            figures["negative_cosine"] = torch.stack(
                [(anchor * other).sum(-1).mean() for other in others]
            ).mean()
        elif number > 1:
            figures["negative_cosine"] = scores[off_diagonal].mean()
    elif len(columns) == 2:
        figures["pair_cosine"] = (anchor * columns[1]).sum(-1).mean()
    if not figures:
        return {}
    values = torch.stack(list(figures.values())).tolist()
    return dict(zip(figures, values, strict=True))


def padding_avoided(columns: ColumnBatch) -> float:
    """The share of padding in the batch if each column were padded to its longest text."""
    lengths = columns.split(columns.tokens.restore(columns.tokens.lengths))
    padded = sum(len(column) * int(column.max()) for column in lengths)
    return 1 - columns.tokens.num_tokens / padded if padded else 0.0
