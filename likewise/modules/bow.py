"""BoW: a bag of words, one entry of the embedding for each word of a vocabulary; tf-idf with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.engine import TokenBatch, TokenSequences
from likewise.modules.base import Features, InputModule
from likewise.modules.text import Text, prepared
from likewise.modules.word_embeddings import one_text
from likewise.modules.word_tokenizers import WhitespaceTokenizer
from likewise.modules.word_weights import weights_of


class BoW(InputModule):
    """A bag of words.

    Args:
        vocab: The words; repeated ones count once. The embedding has their number of entries.
        word_weights: What an occurrence counts, by word (as it is, then in lower case).
        unknown_word_weight: What an occurrence of the vocabulary's other words counts.
        cumulative_term_frequency: Whether each occurrence counts, or only the first.
    """

    config_keys = ("vocab", "word_weights", "unknown_word_weight", "cumulative_term_frequency")

    save_in_root = False

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float] | None = None,
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        self.vocab = list(dict.fromkeys(vocab))
        self.word_weights = dict(word_weights or {})
        self.unknown_word_weight = unknown_word_weight
        self.cumulative_term_frequency = cumulative_term_frequency
        self.weights = weights_of(self.vocab, self.word_weights, unknown_word_weight)
        self.tokenizer = WhitespaceTokenizer(self.vocab, stop_words=(), do_lower_case=False)

    def get_sentence_embedding_dimension(self) -> int:
        """The number of words."""
        return len(self.vocab)

    get_embedding_dimension = get_sentence_embedding_dimension

    def token_sequences(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Word ids of texts."""
        return TokenSequences.from_lists(
            [self.tokenizer.tokenize(one_text(text)) for text in prepared(texts, prompt)]
        )

    def tokenize(self, texts: Sequence[Text], prompt: str | None = None) -> dict[str, Tensor]:
        """`sentence_embedding`, (N, V): nothing is left for `forward` to do."""
        return {"sentence_embedding": self._count(self.token_sequences(texts, prompt).pack())}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, V), in the caller's order, unless `tokenize` has."""
        if "tokens" in features:
            features["sentence_embedding"] = self._count(features["tokens"])
        return features

    def _count(self, tokens: TokenBatch) -> Tensor:
        counts = torch.zeros(len(tokens), len(self.vocab), device=tokens.device)
        weights = torch.tensor(self.weights, dtype=torch.float32, device=tokens.device)[tokens.input_ids]
        where = (tokens.sequence_of_token, tokens.input_ids)
        return tokens.restore(counts.index_put_(where, weights, accumulate=self.cumulative_term_frequency))

    def __repr__(self) -> str:
        return f"BoW({{'words': {len(self.vocab)}, 'cumulative_term_frequency': {self.cumulative_term_frequency}}})"
