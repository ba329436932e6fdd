"""GISTEmbedLoss: InfoNCE whose false negatives are left out, as a guide model sees them.

With S the similarities, G the guide's, T the temperature, and a margin:

    loss = mean over i of -log(exp(S(a_i, p_i) / T) / sum over candidates of exp(S / T))

Candidates of row i are (a_i, p_j), (a_i, a_j), (p_i, p_j) and (a_i, n_j) for all j. Left out are those that the guide
thinks more alike than the pair itself, G > G(a_i, p_i) - margin; the pair itself stays.

Reference: Solatorio 2024, https://arxiv.org/abs/2402.16829, equations 2 to 5; the margins: Moreira et al. 2024, NV-Retriever,
https://arxiv.org/abs/2407.15831, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from likewise.checked import above_zero, one_of
from likewise.engine import ColumnBatch, TokenSequences
from likewise.engine.embed import Batch, Embed
from likewise.losses.base import GRADCACHE, Columns, Loss
from likewise.losses.gather import join_processes
from likewise.losses.ids import find_duplicates
from likewise.losses.info_nce import Direction, as_dot_products, info_nce
from likewise.modules import Router
from likewise.modules.base import padding_of
from likewise.similarity import cos_sim, pairwise_dot_score
from likewise.types import Encoder

EPS = 1e-8  # norms below it count as it
TIE = 1e-6  # guide similarities that differ by rounding count as equal


@dataclass(eq=False, repr=False)
class GISTEmbedLoss(Loss):
    """Anchors with a positive each, and any number of hard negatives; a guide tells which candidates are no negatives.

    For data where other rows often hold good answers too. The guide is any embedding model, better than the one that is
    trained; it is not trained, not saved, and costs a forward pass per step. Prefer MultipleNegativesRankingLoss where
    false negatives are rare, or known by their text (`mask_duplicates`).

    Args:
        model: The model to train.
        guide: The guide. Texts are decoded and tokenised for it where its vocabulary is another one, or where it takes
            fewer tokens.
        temperature: T, > 0.
        margin_strategy: `absolute`: as in the formula. `relative`: the margin counts as a share of the pair's similarity.
        margin: Leaves out candidates that come this near to the pair, too.
        contrast_anchors: Whether other anchors are candidates.
        contrast_positives: Whether other positives are compared with the positive.
        gather_across_devices: Whether the rows of all processes are candidates.
        mask_duplicates: As in MultipleNegativesRankingLoss. A guide spares positives that are equal to a row's own, but
            only just: in the formula they come as near as the pair, and not nearer.

    Raises:
        ValueError: The margin strategy is unknown, the temperature is not positive, or a model has no tokenizer.
    """

    takes = (Columns(("anchor", "positive"), more="negative", in_batch_negatives=True),)
    never_called = GRADCACHE | {"calculate_loss_and_cache_gradients", "sim_matrix"}
    cites = "solatorio2024gistembed"

    model: Encoder
    guide: Encoder
    temperature: float = 0.01
    margin_strategy: Literal["absolute", "relative"] = "absolute"
    margin: float = 0.0
    contrast_anchors: bool = True
    contrast_positives: bool = True
    gather_across_devices: bool = False
    _: KW_ONLY
    mask_duplicates: bool = False

    def __post_init__(self) -> None:
        above_zero(self.temperature, "temperature", "The paper takes 0.01.")
        super().__post_init__()
        one_of(self.margin_strategy, "margin_strategy", ("absolute", "relative"))
        # No submodule: the guide is not trained, wrapped or saved with the loss.
        self.__dict__["guide"] = self._modules.pop("guide", None) or self.guide
        self.must_retokenize = _speak_differently(self.model, self.guide)

    @torch.no_grad()
    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """`guides`: the guide's embeddings, one (B, D') for each column; and `ids`, where duplicates are masked."""
        ids = super().context(batch, embed)
        if self.must_retokenize:
            batch = _retokenized(batch, self.model, self.guide)
        elif isinstance(batch, ColumnBatch):
            batch = batch.to(self.guide.device)
        guides = embed(self.guide, batch)
        return {"guides": [guide.to(self.model.device) for guide in guides], **ids}

    def compute(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None = None,
        guides: Sequence[Tensor] | None = None,
        ids: Tensor | None = None,
    ) -> Tensor:
        """(B, D) anchors, positives and hard negatives -> scalar, in nats.

        Args:
            embeddings: One batch for each column.
            labels: Not used.
            guides: The guide's embeddings of the same, (B, D') each.
            ids: (C or more, B) int64: ids of the values of the text columns, then of id columns.
        """
        if guides is None:
            raise ValueError(
                "GISTEmbedLoss needs the guide's embeddings, `guides`. Call the loss with a batch."
            )
        columns, similarity = as_dot_products(embeddings, cos_sim, EPS)
        guides, _ = as_dot_products(guides, cos_sim, EPS)
        joined = join_processes([*columns, *guides], self.gather_across_devices)
        all_columns, all_guides = joined.tensors[: len(columns)], joined.tensors[len(columns) :]
        own = joined.numbers(columns[0])
        known = find_duplicates(ids, self.mask_duplicates, len(columns), own, self.gather_across_devices)
        pairs = pairwise_dot_score(guides[0], guides[1])[:, None]  # (B, 1)
        slack = self.margin if self.margin_strategy == "absolute" else pairs.abs() * self.margin
        limits = pairs - slack + TIE

        def compared(of: int, to: int) -> Direction:
            """The rows' anchors (0) or positives (1), with a column of all rows."""

            def hide(tile: Tensor, rows: slice) -> None:
                hidden = guides[of][rows] @ all_guides[to].T > limits[rows]
                if (of, to) == (0, 1):
                    hidden.scatter_(1, own[rows, None], False)  # the pairs themselves
                if known is not None:
                    hidden |= known.rows(rows) if to < 2 else known.negatives(rows, to)
                tile.masked_fill_(hidden, -torch.inf)

            return Direction(columns[of], all_columns[to], hide)

        directions = [compared(0, 1)]
        if self.contrast_anchors:
            directions.append(compared(0, 0))
        if self.contrast_positives:
            directions.append(compared(1, 1))
        directions += [compared(0, negative) for negative in range(2, len(columns))]
        return info_nce(directions, own, similarity, 1 / self.temperature) * joined.weight


class CachedGISTEmbedLoss(GISTEmbedLoss):
    """GISTEmbedLoss whose encoder runs in chunks that are recomputed in the backward pass.

    The training argument `micro_batch_tokens` does this for any loss; prefer it.

    Args:
        model: As in GISTEmbedLoss; so are the other arguments of the same name.
        guide: As there.
        temperature: As there.
        mini_batch_size: Sequences of a chunk, were they all as long as the longest of the batch.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        show_progress_bar: Whether to show a bar over the chunks.
        margin_strategy: As there.
        margin: As there.
        contrast_anchors: As there.
        contrast_positives: As there.
        gather_across_devices: As there.
        mask_duplicates: As there.
    """

    def __init__(
        self,
        model: Encoder,
        guide: Encoder,
        temperature: float = 0.01,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        margin_strategy: Literal["absolute", "relative"] = "absolute",
        margin: float = 0.0,
        contrast_anchors: bool = True,
        contrast_positives: bool = True,
        gather_across_devices: bool = False,
        *,
        mask_duplicates: bool = False,
    ) -> None:
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        super().__init__(
            model, guide, temperature, margin_strategy, margin, contrast_anchors, contrast_positives, gather_across_devices,
            mask_duplicates=mask_duplicates,
        )  # fmt: skip


def _firsts(model: Encoder) -> list[Any]:
    """The modules that take texts: one for each route of a Router, else the first module."""
    first: Any = model[0]
    return [first.first_module(route) for route in first.routes] if isinstance(first, Router) else [first]


def _speak_differently(model: Encoder, guide: Encoder) -> bool:
    """Whether the model's tokens, of any of its routes, mean nothing to the guide, or may be too many for it."""
    for name, one in (("model", model), ("guide", guide)):
        if not all(hasattr(getattr(first, "tokenizer", None), "get_vocab") for first in _firsts(one)):
            raise ValueError(
                f"`{name}` has no tokenizer of transformers' kind. Take a model with a Transformer."
            )
    for own, other in product(_firsts(model), _firsts(guide)):
        if own.tokenizer.get_vocab() != other.tokenizer.get_vocab():
            return True
        longest, limit = (getattr(first, "max_seq_length", None) for first in (own, other))
        if limit is not None and (longest is None or limit < longest):
            return True
    return False


def _retokenized(columns: Batch, model: Encoder, guide: Encoder) -> ColumnBatch:
    """The columns' texts, as far as tokens tell them, as the guide's tokens."""
    if isinstance(columns, ColumnBatch):
        tokens, rows = columns.tokens, columns.num_rows
        parts = tokens.input_ids.cpu().split(tokens.lengths.tolist())
        sequences: list[Any] = [parts[place] for place in tokens.place.tolist()]
        ids = [sequences[start : start + rows] for start in range(0, len(sequences), rows)]
        tasks = columns.tasks or (None,) * len(columns)
    else:
        ids = [list(features["input_ids"]) for features in columns]
        tasks = tuple(features.get("task") for features in columns)  # type: ignore[misc]
    own: Any = model[0]
    guided = tasks if isinstance(guide[0], Router) else (None,) * len(tasks)
    made = []
    for column, task, route in zip(ids, tasks, guided, strict=True):
        tokenizer = (own.first_module(task) if isinstance(own, Router) else own).tokenizer
        made.append(guide.token_sequences(_decoded(tokenizer, column), task=route))
    packed = TokenSequences.concatenate(made).pack()
    return ColumnBatch(
        packed,
        len(columns),
        tasks=guided if isinstance(guide[0], Router) else None,
        paddings=tuple(padding_of(guide[0], route) for route in guided),
    ).to(guide.device)


def _decoded(tokenizer: Any, ids: Sequence[Tensor]) -> list[str]:
    """Texts of token ids, by a tokenizer of transformers or of tokenizers."""
    if hasattr(tokenizer, "decode_batch"):
        return list(tokenizer.decode_batch([row.tolist() for row in ids], skip_special_tokens=True))
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))
