"""The last layer for those who read one token of each sequence: its queries and all behind them for these tokens alone.

A head on the first token, or on the last, needs the last layer's keys and values of all tokens, but queries, feed-forward
and norms of one. Where keys are a plain linear layer of the tokens, not even those are made: with one query q for each head,
q (W x + b) is (q W) x + q b, so that the scores are products with the tokens themselves, and so is what they weigh.

`make_reading(model)` teaches the last layer of a known architecture to do so when it is called with `read_rows=`; without,
it works as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from likewise.engine.attention import Scoring
from likewise.engine.layers import fast_linear
from likewise.engine.post_norm import PARTS, PostNormLayer
from likewise.engine.token_batch import TokenBatch

Read = Callable[..., Tensor]
"""A layer, (T, D) tokens, a Reading and the call's other arguments -> (N, D)."""


@dataclass(frozen=True)
class Reading:
    """Which token is read of each sequence, and where the sequence's tokens lie.

    Attributes:
        rows: (N,) the number of each token that is read.
        source: (N, L) the number of each sequence's tokens; any where there is none.
        distances: (N, L) from the token that is read to each place of its sequence.
        filled: (N, L) bool, where there is a token.
        blocks: (first sequence, the one behind the last, length of the longest) of like lengths, where to fill all up to L
            would be more than twice the tokens; else empty.
    """

    rows: Tensor
    source: Tensor
    distances: Tensor
    filled: Tensor
    blocks: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, tokens: TokenBatch, rows: Tensor) -> Reading:
        """That of a batch in which no sequence is empty."""
        starts = tokens.starts.to(tokens.device)
        column = torch.arange(tokens.longest, device=tokens.device)
        filled = column < tokens.device_lengths.unsqueeze(1)
        source = torch.where(filled, starts.unsqueeze(1) + column, 0)
        blocks = like_lengths(tokens.lengths) if source.numel() > 2 * tokens.num_tokens else ()
        return cls(rows, source, column - (rows - starts).unsqueeze(1), filled, blocks)

    def divided(self, query: Tensor, attend: Callable[[Tensor, Reading], Tensor]) -> Tensor:
        """What `attend` gives for the queries (N, ...), block by block."""
        if len(self.blocks) < 2:
            return attend(query, self)
        attended = []
        for first, end, length in self.blocks:
            sides = (self.source, self.distances, self.filled)
            source, distances, filled = (side[first:end, :length] for side in sides)
            part = Reading(self.rows[first:end], source, distances, filled)
            attended.append(attend(query[first:end], part))
        return torch.cat(attended)

    def visible(self, causal: bool, window: int | None) -> Tensor:
        """(N, L) bool: which tokens the one that is read sees."""
        visible = self.filled
        if causal:
            visible = visible & (self.distances <= 0)
        if window is not None:
            visible = visible & (self.distances.abs() < window)
        return visible

    def bias(self, by_distance: Tensor) -> Tensor:
        """(H, 2 L - 1) by distance -> (N, H, L)."""
        places = (self.distances + by_distance.shape[1] // 2).clamp(0, by_distance.shape[1] - 1)
        return by_distance[:, places].transpose(0, 1)


def like_lengths(lengths: Tensor) -> tuple[tuple[int, int, int], ...]:
    """Ascending lengths, on the CPU, in blocks (first, end, longest) of which each is at least half full."""
    blocks: list[tuple[int, int, int]] = []
    end = len(lengths)
    while end:
        longest = int(lengths[end - 1])
        first = int(torch.searchsorted(lengths, (longest + 1) // 2))
        blocks.append((first, end, longest))
        end = first
    return tuple(reversed(blocks))


def make_reading(model: Any) -> nn.Module | None:
    """Teach a model's last layer to read, and return it; None where the architecture is not known or it runs otherwise."""
    layer = last_layer(model)
    if layer is None or not type(layer).__module__.startswith("transformers.models."):
        return None
    own = vars(layer).get("forward")
    if own is None:
        layer.forward = partial(reads_by, layer, ARCHITECTURES[unwrapped(model).config.model_type][1])
        return layer
    return layer if isinstance(own, partial) and own.func is reads_by and own.args[0] is layer else None


def last_layer(model: Any) -> nn.Module | None:
    """The last layer of a known architecture."""
    inner = unwrapped(model)
    if inner.config.model_type not in ARCHITECTURES:
        return None
    layers = layers_of(inner)
    return layers[-1] if len(layers) else None


def layers_of(model: Any) -> nn.ModuleList:
    """All layers of a known architecture."""
    layers: nn.ModuleList = model.get_submodule(ARCHITECTURES[model.config.model_type][0])
    return layers


def read_last(model: Any, hidden: Tensor, reading: Reading, bias: Tensor | None = None) -> Tensor:
    """What the last layer of BERT or one of its kin gives for the tokens that are read: (T, D) -> (N, D)."""
    read = ARCHITECTURES[model.config.model_type][1]
    return read(layers_of(model)[-1], hidden, reading, bias=bias)


def unwrapped(model: Any) -> Any:
    """The model itself, out of a wrapper of PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def reads_by(layer: Any, read: Read, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """What `make_reading` puts in place of the last layer's `forward`."""
    rows = kwargs.pop("read_rows", None)
    if rows is None:
        return type(layer).forward(layer, hidden_states, *args, **kwargs)
    reading = Reading.of(kwargs.pop("token_batch"), rows)
    return read(layer, hidden_states.squeeze(0), reading, **kwargs).unsqueeze(0)


def read_post_norm(
    layer: Any,
    hidden: Tensor,
    reading: Reading,
    parts_of: Callable[[Any], PostNormLayer],
    bias: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """BERT and its kin; MPNet with its bias by distance, (H, 2 L - 1)."""
    parts = parts_of(layer)
    own = hidden.index_select(0, reading.rows)
    query = parts.query(own).unflatten(1, (parts.num_heads, -1))
    how = Scoring(parts.attention_drop, query.shape[-1] ** -0.5, parts.causal, None, bias)
    attended = read_attention(query, parts.key, parts.value, hidden, reading, how)
    return parts.behind_attention(attended, own)


def read_modernbert(
    layer: Any, hidden: Tensor, reading: Reading, position_embeddings: tuple[Tensor, Tensor], **kwargs: Any
) -> Tensor:
    """ModernBERT, whose queries, keys and values are one linear layer."""
    attention, size = layer.attn, layer.attn.head_dim
    query, key, value = attention.Wqkv(layer.attn_norm(hidden)).unflatten(-1, (3, -1, size)).unbind(-3)
    query, key = _rotated(query, position_embeddings, reading.rows), _rotated(key, position_embeddings)
    drop = attention.attention_dropout if attention.training else 0.0
    how = Scoring(drop, size**-0.5, False, attention.sliding_window, None)
    attended = _attended(query, key, value, reading, how)
    own = hidden.index_select(0, reading.rows) + attention.out_drop(attention.Wo(attended.flatten(1)))
    output: Tensor = own + layer.mlp(layer.mlp_norm(own))
    return output


def read_decoder(
    layer: Any, hidden: Tensor, reading: Reading, position_embeddings: tuple[Tensor, Tensor], **kwargs: Any
) -> Tensor:
    """Llama and its kin; EuroBERT looks to both sides."""
    attention, size = layer.self_attn, layer.self_attn.head_dim
    normed = layer.input_layernorm(hidden)
    query = attention.q_proj(normed.index_select(0, reading.rows)).unflatten(-1, (-1, size))
    key, value = (part(normed).unflatten(-1, (-1, size)) for part in (attention.k_proj, attention.v_proj))
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    cos, sin = position_embeddings
    query = _rotated(query, (cos[:, reading.rows], sin[:, reading.rows]))
    drop = attention.attention_dropout if attention.training else 0.0
    how = Scoring(drop, size**-0.5, attention.is_causal, getattr(attention, "sliding_window", None), None)
    attended = _attended(query, _rotated(key, position_embeddings), value, reading, how)
    own = hidden.index_select(0, reading.rows) + attention.o_proj(attended.flatten(1))
    output: Tensor = own + layer.mlp(layer.post_attention_layernorm(own))
    return output


ARCHITECTURES: dict[str, tuple[str, Read]] = {
    "eurobert": ("layers", read_decoder),
    "llama": ("layers", read_decoder),
    "modernbert": ("layers", read_modernbert),
    "qwen2": ("layers", read_decoder),
    "qwen3": ("layers", read_decoder),
    **{
        name: (
            "transformer.layer" if name == "distilbert" else "encoder.layer",
            partial(read_post_norm, parts_of=parts),
        )
        for name, parts in PARTS.items()
    },
}
"""By transformers' name of the architecture: where its layers stand, and how the last one reads."""


def read_attention(
    query: Tensor, key: Any, value: Any, hidden: Tensor, reading: Reading, how: Scoring
) -> Tensor:
    """Attention of one query for each sequence, (N, H, D / H), over the tokens `hidden` (T, D) -> (N, H, D / H).

    `key` and `value` make keys and values of tokens.
    """
    heads, size = query.shape[1:]
    if not (_is_plain(key) and _is_plain(value)):
        keys, values = (project(hidden).unflatten(-1, (heads, size)) for project in (key, value))
        return _attended(query, keys, values, reading, how)
    return reading.divided(query, lambda part, read: _attended_plainly(part, key, value, hidden, read, how))


def _attended_plainly(
    query: Tensor, key: Any, value: Any, hidden: Tensor, reading: Reading, how: Scoring
) -> Tensor:
    """`read_attention` with keys and values that are linear layers, of which neither is made."""
    heads, size = query.shape[1:]
    by_head = query.transpose(0, 1)  # (H, N, D / H)
    turned = torch.bmm(by_head, key.weight.unflatten(0, (heads, size))).transpose(0, 1)  # (N, H, D)
    constant = 0 if key.bias is None else (query * key.bias.view(heads, size)).sum(-1, keepdim=True)
    rows = hidden[reading.source]  # (N, L, D)
    scores = (torch.bmm(turned, rows.transpose(1, 2)) + constant) * how.scale  # (N, H, L)
    if how.bias is not None:
        scores = scores + reading.bias(how.bias)
    hidden_places = ~reading.visible(how.causal, how.window).unsqueeze(1)
    weights = scores.masked_fill(hidden_places, torch.finfo(scores.dtype).min).softmax(-1)
    weights = dropout(weights, how.dropout, training=how.dropout > 0)
    weighed = torch.bmm(weights.to(rows.dtype), rows).transpose(0, 1)  # (H, N, D)
    attended = torch.bmm(weighed, value.weight.unflatten(0, (heads, size)).transpose(1, 2)).transpose(0, 1)
    if value.bias is not None:
        attended = attended + value.bias.view(heads, size) * weights.sum(-1, keepdim=True)
    return attended.to(query.dtype)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is its weight and bias, and nothing else happens when it is called."""
    own: Any = vars(layer)
    forward = own.get("forward")
    is_usual = forward is None or (isinstance(forward, partial) and forward.func is fast_linear)
    return type(layer) is nn.Linear and is_usual and not (own["_forward_hooks"] or own["_forward_pre_hooks"])


def _attended(query: Tensor, key: Tensor, value: Tensor, reading: Reading, how: Scoring) -> Tensor:
    """(N, H, D) queries, (T, H or fewer, D) keys and values -> (N, H, D)."""
    if len(reading.blocks) > 1:
        return reading.divided(query, lambda part, read: _attended(part, key, value, read, how))
    shared = query.shape[1] // key.shape[1]
    key, value = (x[reading.source].repeat_interleave(shared, dim=2).transpose(1, 2) for x in (key, value))
    mask = reading.visible(how.causal, how.window)[:, None, None]
    if how.bias is not None:
        added = reading.bias(how.bias).unsqueeze(2).to(query.dtype)
        mask = added.masked_fill(~mask, torch.finfo(added.dtype).min)
    return scaled_dot_product_attention(
        query.unsqueeze(2), key, value, mask, how.dropout, scale=how.scale
    ).squeeze(2)


def _rotated(vectors: Tensor, angles: tuple[Tensor, Tensor], rows: Tensor | None = None) -> Tensor:
    """(T, H, D) turned by their positions' angles, cos and sin (1, T, D); with `rows` only these, (N, H, D)."""
    cos, sin = (angle.squeeze(0) for angle in angles)
    if rows is not None:
        vectors, cos, sin = (x.index_select(0, rows) for x in (vectors, cos, sin))
    exact = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    first, second = exact.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (exact * cos.unsqueeze(1) + turned * sin.unsqueeze(1)).to(vectors.dtype)
