"""How a transformers model with a head meets a batch: packed where that gives the very same logits, padded elsewhere."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from torch import Tensor

from likewise.cross_encoder.heads import Head
from likewise.engine import TokenBatch
from likewise.engine.encoder import PackedEncoder
from likewise.engine.modes import is_watched_inside
from likewise.engine.trial import failure, one_trial, trial_batch

logger = logging.getLogger(__name__)


class PackedScorer:
    """Runs a transformers model with a head on packed batches.

    The encoder goes over the packed tokens, its last layer and the head over the one token of each sequence that it reads. The first batch
    decides whether this is done: three short sequences go this way and through the whole model, padded, and only if the
    logits agree is it taken. Otherwise the whole model gets every batch padded; and so it does while somebody else's hooks
    are registered on it or inside it.

    Args:
        model: The model.
        head: What comes behind the encoder; None where it is not known.
        packed: False keeps to the padded way.

    Attributes:
        reason: Why batches are padded, for the user; empty while they are packed or nothing has been tried.
    """

    def __init__(self, model: Any, head: Head | None, packed: bool = True) -> None:
        self.model = model
        self.head = head
        self.encoder = PackedEncoder(model.base_model, packed)
        self.reason = ""
        self._tried = False
        self._takes = frozenset(inspect.signature(model.forward).parameters)

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """The logits of a batch: (N, labels), or (N, 1, V) of a language model, in the caller's order."""
        if self.packs():
            return tokens.restore(self._packed(tokens))
        return self._padded(tokens)

    def packs(self) -> bool:
        """Whether batches go through packed now; tries it on the first call that nobody else's hooks watch."""
        if is_watched_inside(self.model):
            return False
        with one_trial:
            if not self._tried:
                self.reason = self._try_packing()
                self._tried = True
                name = type(self.model).__name__
                if self.reason:
                    logger.info("%s scores pairs in padded batches: %s.", name, self.reason)
                else:
                    logger.info("%s scores pairs packed, without padding.", name)
        return not self.reason

    def _try_packing(self) -> str:
        """Pack and pad three short sequences; why packing cannot be used, or an empty string."""
        model, name = self.model, type(self.model).__name__
        if self.head is None:
            return f"it is not known which tokens the head of {name} reads"
        if not self.encoder.packs():
            return self.encoder.reason
        num_types = getattr(model.config, "type_vocab_size", 0) if "token_type_ids" in self._takes else 0
        return failure(
            model,
            trial_batch(model, num_types),
            # In the encoder's type, by which they are as exact as can be: the head may compute in float32.
            lambda tokens: tokens.restore(self._packed(tokens)).to(model.dtype),
            lambda tokens: self._padded(tokens).to(model.dtype),
            "scores",
        )

    def _packed(self, tokens: TokenBatch) -> Tensor:
        assert self.head is not None
        return self.head(self.model, self.encoder, tokens)

    def _padded(self, tokens: TokenBatch) -> Tensor:
        """The whole model on padded rows; one by one where it has no padding token, which classifying decoders refuse."""
        pad_id = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        if pad_id is None and len(tokens) > 1:
            return tokens.restore(torch.cat([self._padded(one) for one in tokens.chunks(1)]))
        mask = tokens.padded_mask()
        extras: dict[str, Any] = {"use_cache": False} if "use_cache" in self._takes else {}
        if tokens.token_type_ids is not None and "token_type_ids" in self._takes:
            extras["token_type_ids"] = tokens.pad(tokens.token_type_ids)
        ids = tokens.pad(tokens.input_ids, 0 if pad_id is None else pad_id)
        logits: Tensor = self.model(input_ids=ids, attention_mask=mask, **extras).logits
        if logits.ndim == 3:  # a language model's, of every token
            last = mask.sum(dim=1) - 1
            logits = logits[torch.arange(len(last), device=last.device), last].unsqueeze(1)
        return logits
