"""Attention over packed sequences: each token sees the tokens of its own sequence, and nothing is padded.

`register()` makes it known to transformers under the name `packed`. A model with that attention implementation is
called with one row of shape (1, T), explicit positions, and `token_batch=` a TokenBatch; a padded batch still works
and takes torch's ordinary attention. Behind the one name:

- CUDA, half precision: torch's variable-length flash attention.
- CUDA, float32: torch's memory-efficient attention, by cumulative lengths.
- elsewhere, and with a bias per distance: sequences of equal length, which lie next to each other, form a group, and
  every group is one dense attention over views of the packed tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention

from likewise.engine.blocks import Blocks, blocks_of
from likewise.engine.made_again import made_of
from likewise.engine.random import keep_mask
from likewise.engine.token_batch import TokenBatch

NAME = "packed"
FLASH_HEAD_SIZE = 256  # the fused CUDA kernels take heads up to this size, in multiples of 8


@cache
def register() -> None:
    """Make `packed` known to transformers as an attention implementation and as a way to build masks."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention_forward)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """None where no token is masked by hand (packed rows among them); torch's ordinary mask for a padded batch."""
    from transformers.masking_utils import sdpa_mask

    return None if kwargs.get("attention_mask") is None else sdpa_mask(*args, **kwargs)


def packed_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    token_batch: TokenBatch | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The signature by which transformers' models call an attention implementation.

    Queries (1, H, T, D), keys and values (1, H or fewer, T, D), or without a TokenBatch (N, H, L, D); the rest as in
    `packed_attention`. The layer's `is_causal` holds where the call does not say. Returns (1, T, H, D), and None for the weights.
    """
    unsupported = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if unsupported and token_batch is not None:
        raise NotImplementedError(f"Packed attention does not know `{unsupported[0]}`.")
    if token_batch is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and sliding_window is not None:
            causal = _causal(module, is_causal)
            attention_mask = _visible(query.shape[2], causal, sliding_window, query.device)
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return attended
    query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    output = packed_attention(
        query, key, value, token_batch, dropout, scaling, _causal(module, is_causal), sliding_window
    )
    return output.unsqueeze(0), None


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: TokenBatch,
    dropout: float = 0.0,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention within each sequence of a packed batch.

    Args:
        query: (T, H, D).
        key: (T, H, D), or fewer heads, each shared by H / (their number) query heads.
        value: As the key.
        tokens: The lengths of the sequences.
        dropout: Probability of dropping an attention weight, in [0, 1).
        scale: Multiplies the scores; None for D ** -0.5.
        causal: Whether a token sees only itself and those before it.
        window: A token sees those at a distance less than this; None for all.
        bias: (H, 2 L - 1), added to the scores by the distance from query to key, -(L - 1) to L - 1, where L is the
            longest sequence; None for no bias.

    Returns:
        (T, H, D).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if window is not None and window >= tokens.longest:
        window = None
    how = Scoring(dropout, scale, causal, window, bias)
    device = query.device.type
    if torch.is_autocast_enabled(device):  # as torch's own attention: some models leave these in float32
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    head_size = query.shape[-1]
    fits_kernels = head_size <= FLASH_HEAD_SIZE and head_size % 8 == 0
    is_plain = bias is None and tokens.unseen is None and tokens.num_tokens > 0
    fused = query.is_cuda and fits_kernels and is_plain
    if fused and query.dtype in (torch.float16, torch.bfloat16):
        return _flash_attention(query, key, value, tokens, how)
    if key.shape[1] != query.shape[1]:
        shared = query.shape[1] // key.shape[1]
        key, value = (tensor.repeat_interleave(shared, dim=1) for tensor in (key, value))
    if fused and window is None:
        return _efficient_attention(query, key, value, tokens, how)
    # With dropout always the same way, gradients wanted or not: a checkpoint that is run again must draw the same mask.
    has_mask = bias is not None or tokens.unseen is not None
    by_blocks = dropout > 0 or (has_mask and torch.is_grad_enabled())
    if tokens.num_tokens and by_blocks and not fused:
        with torch.autocast(device, enabled=False):
            attended: Tensor = _BlockAttention.apply(query, key, value, bias, blocks_of(tokens), how)  # type: ignore[no-untyped-call]
        return attended
    return _grouped_sdpa(query, key, value, tokens, how)


class Scoring(NamedTuple):
    """How the scores of queries and keys become weights; the arguments of `packed_attention`, resolved."""

    dropout: float
    scale: float
    causal: bool
    window: int | None
    bias: Tensor | None


def _grouped_sdpa(query: Tensor, key: Tensor, value: Tensor, tokens: TokenBatch, how: Scoring) -> Tensor:
    """One call of torch's attention for each group of equal lengths."""
    unseen = tokens.unseen
    if len(tokens.groups) == 1:  # a single text, say
        return _dense_sdpa(tokens.groups[0], how, query, key, value, unseen)
    # `split`, not slices: the backward of each slice would be a zero tensor of full size.
    sizes = [length * count for length, count in tokens.groups]
    hidden = [None] * len(sizes) if unseen is None else unseen.split(sizes)
    by_group = zip(*(tensor.split(sizes) for tensor in (query, key, value)), hidden, strict=True)
    outputs = [_dense_sdpa(group, how, *parts) for group, parts in zip(tokens.groups, by_group, strict=True)]
    if not outputs:
        return query
    # The layer behind needs it all in one, whose pieces are kept for the attention's own gradients.
    return made_of(torch.cat(outputs), lambda *pieces: torch.cat(pieces), *outputs)


def _dense_sdpa(
    group: tuple[int, int], how: Scoring, query: Tensor, key: Tensor, value: Tensor, unseen: Tensor | None
) -> Tensor:
    """torch's attention of a group, (length, count): (count * length, H, D) each -> the same; `unseen` (count * length,)."""
    length, count = group
    query, key, value = (  # (count, H, length, D)
        tensor.view(count, length, *tensor.shape[1:]).transpose(1, 2) for tensor in (query, key, value)
    )
    by_hand = how.window is not None or (how.causal and unseen is not None)
    mask = _visible(length, how.causal, how.window, query.device) if by_hand else None
    if how.bias is not None:
        mask = _bias_matrix(how, how.bias, length)
    if unseen is not None:
        seen = ~unseen.view(count, 1, 1, length)
        if mask is None or mask.dtype == torch.bool:
            mask = seen if mask is None else seen & mask
        else:
            mask = mask.masked_fill(~seen, -torch.inf)
    causal = how.causal and mask is None and length > 1
    attended = scaled_dot_product_attention(
        query, key, value, mask, how.dropout, is_causal=causal, scale=how.scale
    )
    return attended.transpose(1, 2).flatten(0, 1)


class _BlockAttention(torch.autograd.Function):
    """Attention by blocks of about equal length with dropout and a bias by distance, forward and backward.

    torch's own attention leaves its fused kernel on the CPU as soon as dropout is on. Here the heads of all sequences
    are gathered into blocks once, and the products of each block run over contiguous memory. A block pads its
    sequences to the longest of them; the padding is masked, and nothing outside of this function sees it.
    Of dropout a byte for each weight is kept; the weights themselves are too, since making them again takes a tenth of a step.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, blocks: Blocks, how: Scoring
    ) -> Tensor:
        heads = query.shape[1]
        q, k, v = (blocks.gather(tensor) for tensor in (query, key, value))
        out = torch.empty_like(q)
        sizes = [block.count * heads * block.length**2 for block in blocks.blocks]
        # For one block's scores, and then for its weights without those that are dropped.
        room = q.new_empty(max(sizes))
        kept, factor = keep_mask([sum(sizes)], how.dropout, q) if how.dropout else (None, 1.0)
        all_weights: list[Tensor] = []
        for (block, q_, k_, v_, out_), mask in zip(
            blocks.split(heads, q, k, v, out), _by_block(kept, sizes), strict=True
        ):
            scores = room[: sizes[len(all_weights)]].view(-1, block.length, block.length)
            addend = _addend(how, block.length, query)
            if addend is None:
                torch.baddbmm(scores, q_, k_.transpose(1, 2), beta=0, alpha=how.scale, out=scores)
            else:
                addend = addend.expand(block.count, heads, -1, -1).flatten(0, 1)
                torch.baddbmm(addend, q_, k_.transpose(1, 2), alpha=how.scale, out=scores)
            if block.hidden is not None:
                by_head = scores.view(block.count, heads, block.length, block.length)
                by_head.masked_fill_(block.hidden, torch.finfo(scores.dtype).min)
            weights = torch.softmax(scores, -1)  # (count * H, length, length)
            if blocks.has_unseen:  # a token may see nothing, for a window or causality besides
                sees = scores.amax(-1, keepdim=True) > torch.finfo(scores.dtype).min
                weights = weights.masked_fill_(~sees, 0)
            used = weights if mask is None else torch.mul(weights, mask.view_as(weights), out=scores)
            torch.bmm(used, v_, out=out_)
            all_weights.append(weights)
        attended = blocks.scatter(out.mul_(factor) if how.dropout else out, heads)
        ctx.save_for_backward(q, k, v, attended, kept, *all_weights)
        ctx.blocks, ctx.sizes, ctx.scale, ctx.factor = blocks, sizes, how.scale, factor
        ctx.bias_shape = None if bias is None else bias.shape
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, attended, kept, *all_weights = ctx.saved_tensors
        blocks, heads = ctx.blocks, grad_output.shape[1]
        # The softmax's backward needs sum(weights * grad_weights) of each row, which is sum(attended * grad_output).
        row_sums = blocks.gather((attended * grad_output).sum(-1, keepdim=True), padding=0.0)
        grad_out = blocks.gather(grad_output, padding=0.0).mul_(ctx.factor)
        grad_q, grad_k, grad_v = (torch.empty_like(q) for _ in range(3))
        grad_bias = None if ctx.bias_shape is None else q.new_zeros(ctx.bias_shape)
        by_block = blocks.split(heads, q, k, v, grad_out, row_sums, grad_q, grad_k, grad_v)
        rooms = q.new_empty(2, max(ctx.sizes))
        for pieces, weights, mask in zip(by_block, all_weights, _by_block(kept, ctx.sizes), strict=True):
            block, q_, k_, v_, grad_out_, row_sums_, grad_q_, grad_k_, grad_v_ = pieces
            grad_scores, used = (room[: weights.numel()].view_as(weights) for room in rooms)
            torch.bmm(grad_out_, v_.transpose(1, 2), out=grad_scores)
            if mask is None:
                used = weights
            else:
                torch.mul(weights, mask.view_as(weights), out=used)
                grad_scores *= mask.view_as(weights)
            grad_scores.sub_(row_sums_).mul_(weights)
            if grad_bias is not None:
                by_head = grad_scores.view(block.count, heads, block.length, block.length).sum(0)
                _of_distances(grad_bias, block.length).add_(_sums_by_distance(by_head))
            torch.bmm(used.transpose(1, 2), grad_out_, out=grad_v_)
            grad_scores *= ctx.scale
            torch.bmm(grad_scores, k_, out=grad_q_)
            torch.bmm(grad_scores.transpose(1, 2), q_, out=grad_k_)
        grads = (blocks.scatter(grad, heads) for grad in (grad_q, grad_k, grad_v))
        return (*grads, grad_bias, None, None)


def _by_block(kept: Tensor | None, sizes: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(sizes) if kept is None else kept.split(sizes)


def _addend(how: Scoring, length: int, like: Tensor) -> Tensor | None:
    """What is added to the scores of a group, (1 or H, length, length); None for nothing."""
    if how.bias is not None:
        return _bias_matrix(how, how.bias, length).to(like.dtype)
    if not how.causal and how.window is None:
        return None
    visible = _visible(length, how.causal, how.window, like.device)
    return like.new_zeros(1, length, length).masked_fill(~visible, -torch.inf)


def _bias_matrix(how: Scoring, bias: Tensor, length: int) -> Tensor:
    """(H, 2 L - 1) by distance -> (H, length, length), with -inf where a key is not visible."""
    matrix = _of_distances(bias, length).unfold(1, length, 1).flip(1)
    if how.causal or how.window is not None:
        matrix = matrix.masked_fill(~_visible(length, how.causal, how.window, bias.device), -torch.inf)
    return matrix


def _of_distances(bias: Tensor, length: int) -> Tensor:
    """(H, 2 L - 1) -> the view (H, 2 length - 1) of the distances that occur in a sequence of this length."""
    return bias.narrow(1, bias.shape[1] // 2 + 1 - length, 2 * length - 1)


def _sums_by_distance(scores: Tensor) -> Tensor:
    """(H, length, length) -> (H, 2 length - 1): the sum over all pairs of a query and a key at each distance."""
    length = scores.shape[1]
    # Last query first, query i's row is moved i places to the right: equal distances then stand in one column.
    moved = pad(scores.flip(1), (0, length)).flatten(1)[:, : length * (2 * length - 1)]
    sums: Tensor = moved.unflatten(1, (length, 2 * length - 1)).sum(1)
    return sums


def _visible(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """(length, length) bool: whether query i sees key j."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    visible = torch.ones(length, length, dtype=torch.bool, device=device)
    if causal:
        visible &= distance >= 0
    if window is not None:
        visible &= distance.abs() < window
    return visible


def _causal(module: nn.Module, is_causal: bool | None) -> bool:
    return bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal


# torch's fused variable-length kernels; the operators beneath the public functions, since those take no dropout.


def _flash_attention(query: Tensor, key: Tensor, value: Tensor, tokens: TokenBatch, how: Scoring) -> Tensor:
    ends, longest, window = tokens.cumulative_lengths, tokens.longest, how.window
    # The kernel counts the neighbours on either side, ours the token itself too. A window says causality by its right side.
    left = -1 if window is None else window - 1
    right = 0 if how.causal else left
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query.contiguous(), key.contiguous(), value.contiguous(), ends, ends, longest, longest, how.dropout,
        how.causal and window is None, False, scale=how.scale, window_size_left=left, window_size_right=right,
    )[0]  # fmt: skip
    return output


def _efficient_attention(
    query: Tensor, key: Tensor, value: Tensor, tokens: TokenBatch, how: Scoring
) -> Tensor:
    ends, longest = tokens.cumulative_lengths, tokens.longest
    output: Tensor = torch.ops.aten._efficient_attention_forward(
        query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), None, ends, ends, longest, longest, how.dropout,
        int(how.causal), compute_log_sumexp=torch.is_grad_enabled(), scale=how.scale,
    )[0]  # fmt: skip
    return output.squeeze(0)
