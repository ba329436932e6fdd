"""MultipleNegativesRankingLoss: of all documents in the batch, an anchor's positive should score highest (InfoNCE).

    loss = mean over i of -log(exp(scale * s(a_i, p_i)) / sum over all documents d of exp(scale * s(a_i, d)))

References: Henderson et al. 2017, https://arxiv.org/abs/1705.00652, section 4.4; van den Oord et al. 2018,
https://arxiv.org/abs/1807.03748, equation 4. More directions: Li et al. 2023, https://arxiv.org/abs/2308.03281, section
3.3 (GTE); Günther et al. 2023, https://arxiv.org/abs/2310.19923 (both ways, apart).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from likewise.checked import above_zero, one_of
from likewise.losses.base import GRADCACHE, Columns, Loss
from likewise.losses.citations import bibtex
from likewise.losses.gather import join_processes
from likewise.losses.ids import find_duplicates
from likewise.losses.info_nce import Direction, Edit, as_dot_products, info_nce
from likewise.similarity import Similarity, cos_sim
from likewise.types import Encoder

logger = logging.getLogger(__name__)

DirectionName: TypeAlias = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
PartitionMode: TypeAlias = Literal["joint", "per_direction"]
HardnessMode: TypeAlias = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]

ALL_DIRECTIONS: tuple[DirectionName, ...] = get_args(DirectionName)
BOTH_WAYS: tuple[DirectionName, ...] = ("query_to_doc", "doc_to_query")


@dataclass(eq=False, repr=False)
class MultipleNegativesRankingLoss(Loss):
    """Anchors with a positive each, and any number of hard negatives; the other rows' documents are negatives too.

    The first choice for search and for pairs without labels. The more rows, the better: with many,
    `micro_batch_tokens` (or the Cached spelling) keeps the memory of the encoder small, and the scores themselves are
    never held all at once. Where other rows' documents may be positives too, set `mask_duplicates`, or take
    GISTEmbedLoss.

    Args:
        model: The model to train.
        scale: Multiplies the similarities (an inverse temperature), > 0. 20 suits cosine; take 1 for dot products.
        similarity_fct: Scores of all pairs, (N, D), (M, D) -> (N, M).
        gather_across_devices: Whether the documents of all processes are candidates.
        directions: What is compared: `query_to_doc` (anchor with all documents; always among them), `query_to_query`
            (anchor with other anchors), `doc_to_query` (positive with all anchors), `doc_to_doc` (positive with other
            rows' documents).
        partition_mode: `joint`: one sum over the candidates of all directions. `per_direction`: the mean of one loss
            per direction, which must be `query_to_doc` and `doc_to_query`, or the first alone.
        hardness_mode: Which candidates' logits rise by `hardness_strength` times their similarity (taken as a constant),
            so that the hard ones count more: documents of other rows (`in_batch_negatives`), the row's own hard
            negatives (`hard_negatives`), or both (`all_negatives`). None for none.
        hardness_strength: See there; >= 0, where 0 is off.
        mask_duplicates: Whether documents that are known to be no negatives are left out: those of rows that share
            their anchor or positive with this row, or the value of an id column, and negatives equal to this row's
            anchor or positive. False is the reference's behaviour.

    Raises:
        ValueError: An argument is not among those described.
    """

    takes = (Columns(("anchor", "positive"), more="negative", in_batch_negatives=True),)
    never_called = GRADCACHE

    model: Encoder
    scale: float = 20.0
    similarity_fct: Similarity = cos_sim
    gather_across_devices: bool = False
    directions: Sequence[DirectionName] = ("query_to_doc",)
    partition_mode: PartitionMode = "joint"
    hardness_mode: HardnessMode | None = None
    hardness_strength: float = 0.0
    _: KW_ONLY
    mask_duplicates: bool = False

    def __post_init__(self) -> None:
        above_zero(self.scale, "scale", "20 suits cosine similarity.")
        super().__post_init__()
        self.directions = tuple(self.directions)
        _check_directions(self.directions, self.partition_mode)
        _check_hardness(self.hardness_mode, self.hardness_strength)

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, ids: Tensor | None = None
    ) -> Tensor:
        """(B, D) anchors, positives and hard negatives -> scalar, in nats; log(number of candidates) by chance.

        Args:
            embeddings: One batch for each column.
            labels: Not used.
            ids: (C or more, B) int64: ids of the values of the text columns, then of id columns.
        """
        columns, similarity = as_dot_products(embeddings, self.similarity_fct)
        joined = join_processes(columns, self.gather_across_devices)
        queries, *documents = joined.tensors
        own = joined.numbers(columns[0])
        # (B, columns - 1) the numbers of their documents
        own_documents = own[:, None] + len(queries) * torch.arange(len(documents), device=own.device)
        known = find_duplicates(ids, self.mask_duplicates, len(columns), own, self.gather_across_devices)

        def candidates(name: DirectionName) -> Direction:
            left = columns[0] if name.startswith("query") else columns[1]
            to_documents = name.endswith("doc")
            right = torch.cat(documents) if to_documents else queries
            edits: list[Edit] = []
            if name == "query_to_doc" and self.hardness_mode is not None and self.hardness_strength:
                edits.append(self._hardness(own_documents))
            if known is not None:
                edits.append(known.hide_documents if to_documents else known.hide_rows)
            if name == "query_to_query":
                edits.append(lambda tile, part: _hide_at(tile, own[part, None]))
            if name == "doc_to_doc":
                edits.append(lambda tile, part: _hide_at(tile, own_documents[part]))
            return Direction(left, right, _all_of(edits), swapped=name.startswith("doc"))

        loss = info_nce(
            [candidates(name) for name in ALL_DIRECTIONS if name in self.directions],
            own, similarity, self.scale, separate=self.partition_mode == "per_direction",
        )  # fmt: skip
        return loss * joined.weight

    def _hardness(self, own_documents: Tensor) -> Edit:
        """Raise the logits of the chosen negatives by a constant: logits are scale * similarity."""
        factor = self.hardness_strength / self.scale
        left_out = own_documents if self.hardness_mode == "in_batch_negatives" else own_documents[:, :1]

        def edit(tile: Tensor, rows: slice) -> None:
            if self.hardness_mode == "hard_negatives":
                places = own_documents[rows, 1:]
                tile.scatter_add_(1, places, tile.detach().gather(1, places) * factor)
            else:
                tile.add_((tile.detach() * factor).scatter_(1, left_out[rows], 0.0))

        return edit

    @property
    def temperature(self) -> float:
        """1 / scale."""
        return 1.0 / self.scale

    @property
    def citation(self) -> str:
        """BibTeX of the paper that describes these directions, or this way to embed."""
        key = "oord2019representationlearningcontrastivepredictive"
        if set(self.directions) == set(ALL_DIRECTIONS) and self.partition_mode == "joint":
            key = "li2023generaltextembeddingsmultistage"
        if set(self.directions) == set(BOTH_WAYS) and self.partition_mode == "per_direction":
            key = "günther2024jinaembeddings28192token"
        return bibtex(self.cites or key)


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """MultipleNegativesRankingLoss both ways: anchor to documents and positive to anchors, the mean of the two.

    The same as `directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"`; prefer that spelling.

    Args:
        model: The model to train.
        scale: As there.
        similarity_fct: As there.
        gather_across_devices: As there.
        mask_duplicates: As there.
    """

    def __init__(
        self,
        model: Encoder,
        scale: float = 20.0,
        similarity_fct: Similarity = cos_sim,
        gather_across_devices: bool = False,
        *,
        mask_duplicates: bool = False,
    ) -> None:
        super().__init__(
            model, scale, similarity_fct, gather_across_devices, BOTH_WAYS, "per_direction", mask_duplicates=mask_duplicates
        )  # fmt: skip


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """MultipleNegativesRankingLoss whose encoder runs in chunks that are recomputed in the backward pass.

    The same loss and gradients in the memory of one chunk, for about a fifth more time. The training argument
    `micro_batch_tokens` does this for any loss; prefer it.

    Args:
        model: The model to train.
        scale: As there; so are the other arguments of the same name.
        similarity_fct: As there.
        mini_batch_size: Sequences of a chunk, were they all as long as the longest of the batch.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        gather_across_devices: As there.
        directions: As there.
        partition_mode: As there.
        show_progress_bar: Whether to show a bar over the chunks.
        hardness_mode: As there.
        hardness_strength: As there.
        mask_duplicates: As there.
    """

    cites = "gao2021scaling"

    def __init__(
        self,
        model: Encoder,
        scale: float = 20.0,
        similarity_fct: Similarity = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        directions: Sequence[DirectionName] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        show_progress_bar: bool = False,
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
        *,
        mask_duplicates: bool = False,
    ) -> None:
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        super().__init__(
            model, scale, similarity_fct, gather_across_devices, directions, partition_mode, hardness_mode, hardness_strength,
            mask_duplicates=mask_duplicates,
        )  # fmt: skip


class CachedMultipleNegativesSymmetricRankingLoss(CachedMultipleNegativesRankingLoss):
    """MultipleNegativesSymmetricRankingLoss in chunks, as CachedMultipleNegativesRankingLoss.

    Args:
        model: The model to train.
        scale: As there.
        similarity_fct: As there.
        mini_batch_size: As there.
        mini_batch_num_tokens: As there.
        gather_across_devices: As there.
        show_progress_bar: As there.
        mask_duplicates: As there.
    """

    def __init__(
        self,
        model: Encoder,
        scale: float = 20.0,
        similarity_fct: Similarity = cos_sim,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        show_progress_bar: bool = False,
        *,
        mask_duplicates: bool = False,
    ) -> None:
        super().__init__(
            model, scale, similarity_fct, mini_batch_size, mini_batch_num_tokens, gather_across_devices, BOTH_WAYS,
            "per_direction", show_progress_bar, mask_duplicates=mask_duplicates,
        )  # fmt: skip


def _hide_at(tile: Tensor, places: Tensor) -> None:
    """Hide (c, K) places of a (c, M) tile."""
    tile.scatter_(1, places, -torch.inf)


def _all_of(edits: list[Edit]) -> Edit | None:
    if not edits:
        return None

    def edit(tile: Tensor, rows: slice) -> None:
        for one in edits:
            one(tile, rows)

    return edit


def _check_directions(directions: Sequence[DirectionName], partition_mode: str) -> None:
    unknown = set(directions) - set(ALL_DIRECTIONS)
    if unknown or "query_to_doc" not in directions:
        raise ValueError(
            f"`directions` must be 'query_to_doc', where the positives are, and any of {', '.join(ALL_DIRECTIONS[1:])}; "
            f"but are {tuple(directions)!r}."
        )
    one_of(partition_mode, "partition_mode", get_args(PartitionMode))
    if partition_mode == "per_direction" and not set(directions) <= set(BOTH_WAYS):
        raise ValueError(
            "`partition_mode='per_direction'` needs the positive among the candidates of each direction; that is so for "
            f"'query_to_doc' and 'doc_to_query' only, but `directions` are {tuple(directions)!r}. Drop the others, or "
            "take 'joint'."
        )


def _check_hardness(mode: str | None, strength: float) -> None:
    one_of(mode, "hardness_mode", (*get_args(HardnessMode), None))
    if strength < 0:
        raise ValueError(f"`hardness_strength` must be at least 0, but is {strength}. 0 turns it off.")
    if (mode is None) != (strength == 0):
        logger.warning(
            "hardness_mode=%r with hardness_strength=%g has no effect: it takes both a mode and a strength above 0.",
            mode, strength,
        )  # fmt: skip
