"""MultiVectorMask: which tokens of a text are scored in late interaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.modules.base import Features, Module
from likewise.modules.query_expansion import DOCUMENT, QUERY

logger = logging.getLogger(__name__)


class MultiVectorMask(Module):
    """Leaves tokens out of the scores: of documents, by default, those of a list of words.

    Tokens that were added to queries are scored. Special tokens and those of a prompt stay, unless they are listed.

    Args:
        skiplist_words: Words that are not scored, each one token of the vocabulary; others are dropped with a warning.
        skiplist_tasks: For texts of these tasks, one or several of them; texts without a task count as documents.
        keep_only_token_ids: If given, texts that are no queries are scored by tokens with these ids alone.
    """

    config_keys = ("skiplist_words", "skiplist_tasks", "keep_only_token_ids")
    forward_kwargs = frozenset({"task"})
    saved_as = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"

    def __init__(
        self,
        skiplist_words: Sequence[str] | None = None,
        *,
        skiplist_tasks: str | Sequence[str] | None = None,
        keep_only_token_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.skiplist_words = list(skiplist_words or [])
        self.skiplist_tasks = task_names(skiplist_tasks)
        self.keep_only_token_ids = None if keep_only_token_ids is None else list(keep_only_token_ids)
        self._skipped: list[int] = []

    def on_model_ready(self, model: Any) -> None:
        """Look the words up in the model's tokenizer."""
        self.resolve_with_tokenizer(model.tokenizer)

    def resolve_with_tokenizer(self, tokenizer: Any) -> None:
        """Look the words up; again, after `skiplist_words` or the tokenizer was changed."""
        self._skipped, unknown = [], []
        for word in self.skiplist_words:
            number = tokenizer.convert_tokens_to_ids(word)
            if number is None or (number == tokenizer.unk_token_id and word != tokenizer.unk_token):
                unknown.append(word)
            else:
                self._skipped.append(number)
        if unknown:
            logger.warning(
                "`skiplist_words` has %s, of which the tokenizer makes no single token each: they are scored like others.",
                ", ".join(map(repr, unknown)),
            )

    def forward(self, features: Features, task: str | None = None, **kwargs: Any) -> Features:
        """Set which tokens are scored: `scoring_mask` (T,) of packed features, `attention_mask` (N, L) of padded ones."""
        task = features.get("task") if task is None else task
        if "tokens" in features:
            ids: Tensor = features["tokens"].input_ids
            features["scoring_mask"] = self._scored(ids, torch.ones_like(ids, dtype=torch.bool), task)
        elif "input_ids" in features:
            mask = features["attention_mask"].bool()
            added = features.get("query_expansion_positions")
            if task == QUERY and added is not None:
                mask = mask | added.bool()
            features["attention_mask"] = self._scored(features["input_ids"], mask, task)
        return features

    def _scored(self, ids: Tensor, mask: Tensor, task: str | None) -> Tensor:
        if (task or DOCUMENT) in self.skiplist_tasks and self._skipped:
            mask = mask & ~torch.isin(ids, torch.tensor(self._skipped, device=ids.device))
        if task != QUERY and self.keep_only_token_ids:
            mask = mask & torch.isin(ids, torch.tensor(self.keep_only_token_ids, device=ids.device))
        return mask


def task_names(tasks: str | Sequence[str] | None) -> list[str]:
    """One task or several as a list; documents where none are said."""
    if tasks is None:
        return [DOCUMENT]
    return [tasks] if isinstance(tasks, str) else list(tasks)
