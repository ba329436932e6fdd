"""Pooling: one embedding per sequence out of the embeddings of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likewise.checked import one_of, positive
from likewise.engine import TokenBatch
from likewise.modules.base import Features, Module, size_in, to_packed, write_json

# Several modes are concatenated in this order. The values are the boolean keys of the saved form.
SAVED_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class Pooling(Module):
    """Pools token embeddings to one embedding per sequence.

    Args:
        word_embedding_dimension: D, the size of a token embedding.
        pooling_mode: One mode or several, whose results are concatenated: `cls` (the first token), `max`, `mean`,
            `mean_sqrt_len_tokens` (sum over the square root of the length), `weightedmean` (weights 1, 2, 3, ...;
            Muennighoff 2022, https://arxiv.org/abs/2202.08904) and `lasttoken`. A text without tokens gets zeros.
        pooling_mode_cls_token: True selects the mode; so do the other booleans. Without any, and without
            `pooling_mode`, the mode is `mean`.
        pooling_mode_max_tokens: See above.
        pooling_mode_mean_tokens: See above.
        pooling_mode_mean_sqrt_len_tokens: See above.
        pooling_mode_weightedmean_tokens: See above.
        pooling_mode_lasttoken: See above.
        include_prompt: Whether a prompt's tokens are pooled as well. Tokens behind it keep their weights.
        embedding_dimension: The newer name of `word_embedding_dimension`.

    Raises:
        ValueError: A mode is unknown, D is not given, or a boolean is none.
    """

    config_keys = ("word_embedding_dimension", *SAVED_KEYS.values(), "include_prompt")
    POOLING_MODES = tuple(SAVED_KEYS)

    def __init__(
        self,
        word_embedding_dimension: int | None = None,
        pooling_mode: str | Sequence[str] | None = None,
        pooling_mode_cls_token: bool = False,
        pooling_mode_max_tokens: bool = False,
        pooling_mode_mean_tokens: bool = False,
        pooling_mode_mean_sqrt_len_tokens: bool = False,
        pooling_mode_weightedmean_tokens: bool = False,
        pooling_mode_lasttoken: bool = False,
        include_prompt: bool = True,
        *,
        embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        given = embedding_dimension if word_embedding_dimension is None else word_embedding_dimension
        dimension = positive(given, "word_embedding_dimension")
        if pooling_mode is None:
            chosen = (
                pooling_mode_cls_token, pooling_mode_max_tokens, pooling_mode_mean_tokens,
                pooling_mode_mean_sqrt_len_tokens, pooling_mode_weightedmean_tokens, pooling_mode_lasttoken,
            )  # fmt: skip
            if not all(isinstance(wanted, bool) for wanted in chosen):
                raise ValueError(f"The pooling modes must be true or false, but are {chosen}.")
            modes = tuple(compress(SAVED_KEYS, chosen)) or ("mean",)
        else:
            modes = (pooling_mode,) if isinstance(pooling_mode, str) else tuple(pooling_mode)
        for mode in modes:
            one_of(mode, "pooling_mode", SAVED_KEYS)
        self.word_embedding_dimension = dimension
        self.modes = modes
        self.include_prompt = include_prompt

    @property
    def embedding_dimension(self) -> int:
        """D, the size of a token embedding."""
        return self.word_embedding_dimension

    @property
    def pooling_mode(self) -> str | tuple[str, ...]:
        """The mode, or the modes where there are several."""
        return self.modes[0] if len(self.modes) == 1 else self.modes

    @property
    def pooling_output_dimension(self) -> int:
        """The size of a sentence embedding."""
        return len(self.modes) * self.word_embedding_dimension

    get_sentence_embedding_dimension = get_embedding_dimension = size_in("pooling_output_dimension")

    def get_pooling_mode_str(self) -> str:
        """The modes, joined by '+'."""
        return "+".join(self.modes)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, modes * D), in the caller's order."""
        tokens, token_embeddings = to_packed(features)
        pooled = [self._pool(mode, tokens, token_embeddings, features) for mode in self.modes]
        features["sentence_embedding"] = tokens.restore(torch.cat(pooled, dim=-1))
        return features

    def _pool(self, mode: str, tokens: TokenBatch, values: Tensor, features: Features) -> Tensor:
        """(T, D) -> (N, D), both in packed order; sums are taken in at least float32."""
        lengths, kept = tokens.device_lengths, None
        if not self.include_prompt and tokens.prompt_lengths is not None:
            prompts = torch.minimum(tokens.prompt_lengths, tokens.lengths).to(values.device)
            kept = tokens.positions >= prompts[tokens.sequence_of_token]
            lengths = lengths - prompts
        if mode == "cls" and "cls_token_embeddings" in features:
            return _in_packed_order(features["cls_token_embeddings"], tokens)
        if mode in ("cls", "lasttoken"):
            last = (tokens.starts + tokens.lengths - 1).to(values.device)
            return _token_at(values, last + 1 - lengths if mode == "cls" else last, lengths)
        if mode == "max":
            return _segment_max(values, tokens, kept) * (lengths > 0).unsqueeze(1).to(values.dtype)
        exact = torch.promote_types(values.dtype, torch.float32)
        weights = (tokens.positions + 1).to(exact) if mode == "weightedmean" else None
        if kept is not None:
            weights = kept.to(exact) if weights is None else weights * kept
        weighed = values.to(exact) if weights is None else values * weights.unsqueeze(1)
        total = _segment_sum(weighed, tokens)
        if "token_weights_sum" in features:  # a WordWeights module has multiplied the token embeddings
            weight = _in_packed_order(features["token_weights_sum"], tokens).to(total.dtype).unsqueeze(1)
        elif weights is None:
            weight = lengths.to(exact).unsqueeze(1)
        else:
            weight = _segment_sum(weights.unsqueeze(1), tokens)
        weight = weight.clamp(min=1e-9)
        return (total / (weight.sqrt() if mode == "mean_sqrt_len_tokens" else weight)).to(values.dtype)

    def get_config_dict(self) -> dict[str, Any]:
        """The saved form that every reader understands."""
        modes = {key: mode in self.modes for mode, key in SAVED_KEYS.items()}
        return {key: modes[key] if key in modes else getattr(self, key) for key in self.config_keys}

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write config.json. Modes in an unusual order need the newer form, in which they are listed."""
        config = self.get_config_dict()
        if self.modes != tuple(mode for mode in SAVED_KEYS if mode in self.modes):
            config = {
                "embedding_dimension": self.word_embedding_dimension,
                "pooling_mode": self.pooling_mode,
                "include_prompt": self.include_prompt,
            }
        write_json(folder / self.config_file_name, config)

    def __repr__(self) -> str:
        return f"Pooling({self.get_config_dict()})"


def _in_packed_order(per_sequence: Tensor, tokens: TokenBatch) -> Tensor:
    """(N, ...) in the caller's order -> (N, ...) in packed order."""
    return per_sequence[torch.argsort(tokens.place).to(per_sequence.device)]


def _token_at(values: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
    """(T, D) and (N,) places -> (N, D); zeros for a sequence without tokens."""
    if not len(values):
        return values.new_zeros(len(place), values.shape[1])
    chosen = values.index_select(0, place.clamp(0, len(values) - 1))
    return chosen * (lengths > 0).unsqueeze(1).to(values.dtype)


def _segment_sum(values: Tensor, tokens: TokenBatch) -> Tensor:
    """Sum the tokens of each sequence: (T, D) -> (N, D)."""
    if values.is_cuda:  # index_add is much faster on the CPU, but adds in no fixed order on CUDA
        return torch.segment_reduce(values, "sum", lengths=tokens.device_lengths, axis=0, unsafe=True)
    if len(tokens) == 1:
        return values.sum(0, keepdim=True)
    sums = values.new_zeros(len(tokens), values.shape[1])
    return sums.index_add(0, tokens.sequence_of_token, values)


def _segment_max(values: Tensor, tokens: TokenBatch, kept: Tensor | None) -> Tensor:
    """The largest value of each sequence in each dimension: (T, D) -> (N, D)."""
    lowest = torch.finfo(values.dtype).min
    if kept is not None:
        values = values.masked_fill(~kept.unsqueeze(1), lowest)
    return torch.segment_reduce(
        values, "max", lengths=tokens.device_lengths, axis=0, unsafe=True, initial=lowest
    )
