"""What of a transformers model's output is taken by name, where that is not its last layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from likewise.engine import TokenBatch
from likewise.engine.features import Padding
from likewise.modules.base import Features
from likewise.modules.saved_arguments import LAST_LAYER

TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"


def check_output(backend: str, path: tuple[str | int, ...], is_layer: bool, becomes: str) -> None:
    """Refuse an output that cannot become the feature that it should.

    Args:
        backend: What computes.
        path: The output's keys, one within the other.
        is_layer: Whether it is the output of a layer.
        becomes: The feature.
    """
    named = ".".join(map(str, path))
    if becomes not in (TOKENS, SENTENCE) or (is_layer and becomes != TOKENS):
        raise ValueError(
            f"A Transformer cannot make {becomes!r} of {named!r}: layers become {TOKENS!r}, other outputs that or {SENTENCE!r}. "
            "Correct `module_output_name` or `modality_config`."
        )
    if backend != "torch" and path != LAST_LAYER:
        raise ValueError(
            f"A graph gives the last layer only, but {named!r} is to be taken. Load with `backend='torch'`."
        )


def add_output(
    model: Any, features: Features, path: tuple[str | int, ...], becomes: str, padding: Padding
) -> Features:
    """Add to the features, packed or padded, what the transformers model itself gives by name, computed on a padded batch.

    Args:
        model: The transformers model.
        features: Packed or padded.
        path: The output's keys, one within the other.
        becomes: The feature that it becomes, whose shape it must have.
        padding: How the tokenizer pads.
    """
    tokens: TokenBatch | None = features.get("tokens")
    padded: Mapping[str, Any] = features if tokens is None else tokens.to_features(padding)
    taken = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")
    accepted = inspect.signature(model.forward).parameters
    given = {name: padded[name] for name in taken if name in padded and name in accepted}
    found: Any = model(**given, return_dict=True)
    for name in path:
        found = found[name]
    if not isinstance(found, Tensor) or found.ndim != (2 if becomes == SENTENCE else 3):
        kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"{'.'.join(map(str, path))!r} of a {type(model).__name__} is {kind} and cannot be {becomes!r}. Correct "
            "`modality_config` or `module_output_name`."
        )
    if tokens is not None and found.ndim == 3:
        found = tokens.unpad(found, tokens.padded_mask(padding.side))
    features[becomes] = found
    return features
