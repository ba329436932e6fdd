"""BERT and its kin computed by plain functions of their weights, where no gradient is wanted.

A query is ten tokens: multiplying them takes no longer than the calls through some hundred modules around it, each with its
hooks, configuration and arguments. What is computed is the same, in the same order. It is done only while the model is
what it was when both ways were compared: the same modules, none in training mode, none with a hook or another `forward`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from operator import is_
from typing import Any

from torch import Tensor

from likewise.engine.last_layer import Reading, layers_of, read_last, reads_by
from likewise.engine.layers import fast_linear
from likewise.engine.modes import captures, is_hooked_everywhere, states_of
from likewise.engine.mpnet import bias_by_distance
from likewise.engine.post_norm import PARTS, PostNormLayer
from likewise.engine.reduced_linear import Bfloat16Linear
from likewise.engine.token_batch import TokenBatch

KNOWN = ("transformers.", "torch.nn.", "likewise.")
"""Where a model's modules come from that do what they do in the models these functions stand for."""


class BareModel:
    """A model in inference, as long as it stays what it is now.

    Args:
        model: A transformers model.
        layers: Its layers.
        position_offset: The number of a sequence's first position.

    Attributes:
        tried: Whether it was found to give what the model gives.
    """

    def __init__(self, model: Any, layers: Sequence[PostNormLayer], position_offset: int) -> None:
        self._model, self._layers, self._position_offset = model, layers, position_offset
        self._takes_types = "token_type_ids" in inspect.signature(model.embeddings.forward).parameters
        self._states = states_of(model)
        self.tried = False

    @classmethod
    def of(cls, model: Any, position_offset: int) -> BareModel | None:
        """That of a model; None where its architecture is not known, or somebody built other parts into it."""
        parts_of = PARTS.get(str(model.config.model_type))
        known = all(type(module).__module__.startswith(KNOWN) for module in model.modules())
        if parts_of is None or not known:
            return None
        layers = list(map(parts_of, layers_of(model)))
        usual = layers and all(layer.is_usual for layer in layers)
        return cls(model, layers, position_offset) if usual else None

    def holds(self) -> bool:
        """Whether the model is what it was, and its modules' calls would give no more than their functions."""
        states = states_of(self._model)
        same = len(states) == len(self._states) and all(map(is_, states, self._states))
        return same and all(map(_is_quiet, states)) and not is_hooked_everywhere()

    @property
    def is_exact(self) -> bool:
        """Whether what flows through it has as many bits as between the modules; products in bfloat16 stay so in it."""
        return not any(isinstance(layer.query, Bfloat16Linear) for layer in self._layers)

    def __call__(self, tokens: TokenBatch, rows: Tensor | None = None) -> Tensor:
        """The last layer's token embeddings (T, D); with `rows` those of one token of each sequence, by their numbers, (N, D)."""
        model = self._model
        types = {}
        if self._takes_types and tokens.token_type_ids is not None:
            types["token_type_ids"] = tokens.token_type_ids.unsqueeze(0)
        hidden: Tensor = model.embeddings(
            input_ids=tokens.input_ids.unsqueeze(0),
            position_ids=(tokens.positions + self._position_offset).unsqueeze(0),
            **types,
        ).squeeze(0)
        if hasattr(model, "embeddings_project"):
            hidden = model.embeddings_project(hidden)
        bias = bias_by_distance(model, tokens) if model.config.model_type == "mpnet" else None
        for layer in self._layers if rows is None else self._layers[:-1]:
            hidden = layer.bare(hidden, tokens, bias)
        return hidden if rows is None else read_last(model, hidden, Reading.of(tokens, rows), bias)


def _is_quiet(own: dict[str, Any]) -> bool:
    """Whether a module, by what it holds, is in inference mode and has no hook and no `forward` but those of this package."""
    forward, hooks = own.get("forward"), own["_forward_hooks"]
    if own["training"] or own["_forward_pre_hooks"] or (hooks and not all(map(captures, hooks.values()))):
        return False
    return forward is None or getattr(forward, "func", None) in (fast_linear, reads_by)
