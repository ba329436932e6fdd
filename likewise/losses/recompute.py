"""Embed a batch chunk by chunk, and recompute each chunk in the backward pass: one chunk's memory, the same gradients.

Reference: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
https://arxiv.org/abs/2101.06983. There the gradients of the embeddings are cached; here every chunk is a checkpoint,
which is the same arithmetic and fits any loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from likewise.engine import TokenBatch
from likewise.losses.base import Embed, Run


def recompute(
    micro_batch_tokens: int, keep_tokens: int | None = None, show_progress_bar: bool = False
) -> Run:
    """A `Run` that embeds in chunks and recomputes them in the backward pass.

    Dropout draws the same numbers again, so that the gradients are those of the same chunks with their graphs kept.

    Args:
        micro_batch_tokens: Tokens of a chunk, at most; a longer sequence is a chunk of its own. Smaller saves memory,
            until the chunks no longer fill the device.
        keep_tokens: The last chunks keep their graph, and are not recomputed, as long as they hold no more tokens
            than this. Default: `micro_batch_tokens`. That costs no memory, since the backward pass begins with them
            and holds one chunk's graph at any time.
        show_progress_bar: Whether to show a bar over the chunks.

    Raises:
        ValueError: `micro_batch_tokens` is less than 1.
    """
    if micro_batch_tokens < 1:
        raise ValueError(
            f"`micro_batch_tokens` must be at least 1, but is {micro_batch_tokens}. 16,384 fits most devices."
        )

    def run(embed: Embed, tokens: TokenBatch) -> Tensor:
        chunks = tokens.chunks(micro_batch_tokens)
        kept = _first_kept(chunks, micro_batch_tokens if keep_tokens is None else keep_tokens)
        bar = tqdm(chunks, desc="Embed micro-batches", disable=not show_progress_bar)
        parts = [_embed(embed, chunk, number < kept) for number, chunk in enumerate(bar)]
        return tokens.restore(torch.cat(parts))

    return run


def recompute_mini_batches(
    mini_batch_size: int, mini_batch_num_tokens: int | None, show_progress_bar: bool
) -> Run:
    """The `Run` of the `Cached` losses, by the names that the reference gives its settings.

    Args:
        mini_batch_size: Sequences of a chunk if all were as long as the batch's longest. Nothing is padded, so that
            chunks of shorter ones hold more of them, in the same memory.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        show_progress_bar: Whether to show a bar over the chunks.

    Raises:
        ValueError: A number is less than 1.
    """
    for name, value in (
        ("mini_batch_size", mini_batch_size),
        ("mini_batch_num_tokens", mini_batch_num_tokens),
    ):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, but is {value}. Drop it to take the default.")

    def run(embed: Embed, tokens: TokenBatch) -> Tensor:
        budget = mini_batch_num_tokens or max(1, mini_batch_size * tokens.longest)
        return recompute(budget, show_progress_bar=show_progress_bar)(embed, tokens)

    return run


def _embed(embed: Embed, chunk: TokenBatch, again: bool) -> Tensor:
    if not (again and torch.is_grad_enabled()):
        return embed(chunk)
    # The argument is there only to tell `checkpoint` the device, whose random state it must keep.
    at = torch.empty(0, device=chunk.device)
    embeddings: Tensor = checkpoint(lambda _: embed(chunk), at, use_reentrant=False)
    return embeddings


def _first_kept(chunks: list[TokenBatch], keep_tokens: int) -> int:
    """The number of the first chunk that keeps its graph."""
    number = len(chunks)
    while number and chunks[number - 1].num_tokens <= keep_tokens:
        number -= 1
        keep_tokens -= chunks[number].num_tokens
    return number
