"""The layer of BERT and its kin: attention, then a feed-forward block, each added to what went in and normed behind that.

Architectures give its parts other names and other boxes; what they compute is one thing, written here once: by the modules, for
whoever trains, and by their weights alone, where no gradient is wanted and the calls would take longer than the products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from likewise.engine.attention import packed_attention
from likewise.engine.layers import FastGELU, FastLayerNorm, fast_linear
from likewise.engine.reduced_linear import ReducedLinear, is_reducible, multiplied
from likewise.engine.token_batch import TokenBatch


@dataclass(frozen=True)
class PostNormLayer:
    """The parts of a layer.

    Attributes:
        query: Makes the attention's queries.
        key: Makes its keys.
        value: Makes its values.
        out: Behind it.
        norm: Behind that, with what went in added.
        up: The first linear layer of the feed-forward block.
        down: The second.
        last_norm: Behind that, with what went in added.
        activation: Between `up` and `down`.
        num_heads: H.
        attention_dropout: Of the attention's weights.
        out_dropout: Behind `out`; None for none.
        down_dropout: Behind `down`.
        causal: Whether a token sees only itself and those before it.
    """

    query: Any
    key: Any
    value: Any
    out: Any
    norm: Any
    up: Any
    down: Any
    last_norm: Any
    activation: Callable[[Tensor], Tensor]
    num_heads: int
    attention_dropout: nn.Dropout
    out_dropout: nn.Dropout | None
    down_dropout: nn.Dropout
    causal: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether the parts are linear layers and norms, as ever; adapters, say, are not."""
        norms = (self.norm, self.last_norm)
        return all(isinstance(part, nn.Linear) for part in self.linears) and all(
            isinstance(part, nn.LayerNorm) for part in norms
        )

    @property
    def is_reduced(self) -> bool:
        """Whether all linear layers multiply in fewer bits, in the same way."""
        return isinstance(self.query, ReducedLinear) and len(set(map(type, self.linears))) == 1

    @property
    def linears(self) -> tuple[Any, ...]:
        """The linear layers."""
        return self.query, self.key, self.value, self.out, self.up, self.down

    @property
    def attention_drop(self) -> float:
        """The probability of dropping an attention weight now."""
        return self.attention_dropout.p if self.attention_dropout.training else 0.0

    def __call__(self, hidden: Tensor, tokens: TokenBatch, bias: Tensor | None = None) -> Tensor:
        """Tokens (T, D) -> (T, D); `bias` (H, 2 L - 1) is added to the attention's scores by distance."""
        query, key, value = (
            part(hidden).unflatten(-1, (self.num_heads, -1)) for part in (self.query, self.key, self.value)
        )
        bias = None if bias is None else bias.to(query.dtype)
        attended = packed_attention(
            query, key, value, tokens, self.attention_drop, causal=self.causal, bias=bias
        )
        return self.behind_attention(attended, hidden)

    def behind_attention(self, attended: Tensor, hidden: Tensor) -> Tensor:
        """What the attention gives (T, H, D / H), and what went in (T, D) -> (T, D)."""
        outer = self.out(attended.flatten(1))
        hidden = self.norm((outer if self.out_dropout is None else self.out_dropout(outer)) + hidden)
        inner = self.down(self.activation(self.up(hidden)))
        output: Tensor = self.last_norm(self.down_dropout(inner) + hidden)
        return output

    def bare(self, hidden: Tensor, tokens: TokenBatch, bias: Tensor | None = None) -> Tensor:
        """As the call, in inference, by the weights: in the same order, and in place. `hidden` is overwritten.

        Where all linear layers multiply in fewer bits, what flows from one to the next stays in the type of their products; what
        is added and normed is float32.
        """
        narrow, attends = self.is_reduced and is_reducible(hidden), (self.query, self.key, self.value)
        if narrow:
            made = multiplied(attends, hidden).view(hidden.shape[0], 3, self.num_heads, -1).unbind(1)
        else:
            made = tuple(_linear(part, hidden).view(hidden.shape[0], self.num_heads, -1) for part in attends)
        query, key, value = made
        bias = None if bias is None else bias.to(query.dtype)
        attended = packed_attention(query, key, value, tokens, causal=self.causal, bias=bias)
        hidden = _norm(self.norm, hidden.add_(_linear(self.out, attended.flatten(1), narrow)))
        is_gelu = isinstance(self.activation, FastGELU) or type(self.activation).__name__ == "GELUActivation"
        inner = _linear(self.up, hidden, narrow, is_gelu)
        inner = _linear(self.down, inner if is_gelu else self.activation(inner), narrow)
        return _norm(self.last_norm, hidden.add_(inner))


def _linear(part: Any, input: Tensor, narrow: bool = False, gelu: bool = False) -> Tensor:
    if narrow:
        return multiplied((part,), input, gelu)
    output: Tensor = fast_linear(part, input) if type(part) is nn.Linear else part(input)
    # In place: nobody else sees what it overwrites.
    return torch.ops.aten.gelu_(output) if gelu else output


def _norm(part: nn.Module, input: Tensor) -> Tensor:
    if isinstance(part, nn.LayerNorm) and type(part) in (nn.LayerNorm, FastLayerNorm):
        return torch.layer_norm(input, part.normalized_shape, part.weight, part.bias, part.eps)
    output: Tensor = part(input)
    return output


def _of_bert(layer: Any) -> PostNormLayer:
    attention, behind = layer.attention.self, layer.attention.output
    return PostNormLayer(
        query=attention.query,
        key=attention.key,
        value=attention.value,
        out=behind.dense,
        norm=behind.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        last_norm=layer.output.LayerNorm,
        activation=layer.intermediate.intermediate_act_fn,
        num_heads=attention.num_attention_heads,
        attention_dropout=attention.dropout,
        out_dropout=behind.dropout,
        down_dropout=layer.output.dropout,
        causal=attention.is_causal,
    )


def _of_distilbert(layer: Any) -> PostNormLayer:
    attention, block = layer.attention, layer.ffn
    return PostNormLayer(
        query=attention.q_lin,
        key=attention.k_lin,
        value=attention.v_lin,
        out=attention.out_lin,
        norm=layer.sa_layer_norm,
        up=block.lin1,
        down=block.lin2,
        last_norm=layer.output_layer_norm,
        activation=block.activation,
        num_heads=attention.n_heads,
        attention_dropout=attention.dropout,
        out_dropout=None,
        down_dropout=block.dropout,
    )


def _of_mpnet(layer: Any) -> PostNormLayer:
    attention, outer = layer.attention.attn, layer.attention
    return PostNormLayer(
        query=attention.q,
        key=attention.k,
        value=attention.v,
        out=attention.o,
        norm=outer.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        last_norm=layer.output.LayerNorm,
        activation=layer.intermediate.intermediate_act_fn,
        num_heads=attention.num_attention_heads,
        attention_dropout=attention.dropout,
        out_dropout=outer.dropout,
        down_dropout=layer.output.dropout,
    )


PARTS: dict[str, Callable[[Any], PostNormLayer]] = {
    "bert": _of_bert,
    "camembert": _of_bert,
    "distilbert": _of_distilbert,
    "electra": _of_bert,
    "mpnet": _of_mpnet,
    "roberta": _of_bert,
    "xlm-roberta": _of_bert,
}
"""By transformers' name of the architecture: the parts of one of its layers."""
