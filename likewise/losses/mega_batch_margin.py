"""MegaBatchMarginLoss: pairs should be alike, and every anchor unlike its hardest other positive in a very large batch.

    loss = mean over i of max(0, positive_margin - cos(a_i, p_i)) + max(0, max over j != i of cos(a_i, p_j) - negative_margin)

Reference: Wieting and Gimpel 2018, ParaNMT-50M, https://aclanthology.org/P18-1042, section 4 ("mega-batching"); the margin
here is one for each term, as in the reference implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from likewise.engine.embed import Embed
from likewise.losses.base import GRADCACHE, Columns, Loss
from likewise.losses.gather import join_processes
from likewise.losses.ids import Duplicates, find_duplicates
from likewise.losses.info_nce import as_dot_products
from likewise.similarity import cos_sim, pairwise_dot_score
from likewise.types import Encoder

TILE_ROWS = 256


@dataclass(eq=False, repr=False)
class MegaBatchMarginLoss(Loss):
    """Anchors with a positive each; of the other rows' positives, the one most alike is the negative.

    Made for paraphrases in batches of hundreds of rows, where the hardest negative is hard indeed. Prefer
    MultipleNegativesRankingLoss, which learns from all negatives.

    Args:
        model: The model to train.
        positive_margin: Pairs with a cosine above this cost nothing.
        negative_margin: Negatives with a cosine below this cost nothing.
        use_mini_batched_version: Whether the encoder runs in chunks that are recomputed in the backward pass; the
            result is the same.
        mini_batch_size: Sequences of a chunk, were they all as long as the longest of the batch.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        show_progress_bar: Whether to show a bar over the chunks.
        gather_across_devices: Whether the positives of all processes are candidates.
        mask_duplicates: As in MultipleNegativesRankingLoss.
    """

    takes = (Columns(("anchor", "positive"), in_batch_negatives=True),)
    never_called = GRADCACHE | {"forward_mini_batched", "forward_non_mini_batched"}
    config_keys = ("positive_margin", "negative_margin", "mask_duplicates")
    cites = "wieting-gimpel-2018-paranmt"

    model: Encoder
    positive_margin: float = 0.8
    negative_margin: float = 0.3
    use_mini_batched_version: bool = True
    mini_batch_size: int = 50
    mini_batch_num_tokens: int | None = None
    show_progress_bar: bool = False
    _: KW_ONLY
    gather_across_devices: bool = False
    mask_duplicates: bool = False

    @property
    def embed(self) -> Embed:
        """In chunks of the mini-batches' size, if they are asked for."""
        return super().embed if self.use_mini_batched_version else Embed()

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, ids: Tensor | None = None
    ) -> Tensor:
        """(B, D) anchors and positives -> scalar, >= 0. Where a row has no negative, that term is 0.

        Args:
            embeddings: The two batches.
            labels: Not used.
            ids: (2 or more, B) int64: ids of the values of the text columns, then of id columns.
        """
        (anchors, positives), _ = as_dot_products(embeddings, cos_sim)
        joined = join_processes([positives], self.gather_across_devices)
        candidates = joined.tensors[0]
        own = joined.numbers(anchors)
        known = find_duplicates(ids, self.mask_duplicates, 2, own, self.gather_across_devices)
        hardest, found = _hardest(anchors.detach(), candidates.detach(), own, known)
        excess = pairwise_dot_score(anchors, candidates[hardest]) - self.negative_margin
        losses = relu(self.positive_margin - pairwise_dot_score(anchors, positives)) + relu(excess) * found
        return losses.mean() * joined.weight


def _hardest(
    anchors: Tensor, candidates: Tensor, own: Tensor, known: Duplicates | None
) -> tuple[Tensor, Tensor]:
    """(B,) the number of each anchor's most similar negative among the candidates, and (B,) whether it has one."""
    hardest, found = [], []
    for start in range(0, len(anchors), TILE_ROWS):
        rows = slice(start, start + TILE_ROWS)
        scores = (anchors[rows] @ candidates.T).scatter_(1, own[rows, None], -torch.inf)
        if known is not None:
            scores.masked_fill_(known.rows(rows), -torch.inf)
        highest, number = scores.max(dim=1)
        hardest.append(number)
        found.append(highest > -torch.inf)
    return torch.cat(hardest), torch.cat(found)
