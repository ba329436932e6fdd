"""SparseStaticEmbedding: each entry of the vocabulary that a text has, with a weight of its own; no transformer runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise import hub
from likewise.engine import TokenBatch, TokenSequences
from likewise.engine.features import Padding
from likewise.modules.base import MODULES, Features, InputModule, mask_of, read_json, read_weights
from likewise.modules.pretrained import NO_LIMIT, load_tokenizer
from likewise.modules.text import Text, prepared, surrogates_in_words


class SparseStaticEmbedding(InputModule):
    """The weights of a text's distinct tokens, special ones left out: queries of inference-free models.

    Args:
        tokenizer: A transformers tokenizer.
        weight: (V,) a weight for each entry of its vocabulary, such as its IDF; None for ones.
        frozen: Whether the weights are left as they are in training.

    Raises:
        ValueError: There is not one weight for each entry.

    Reference: Geng et al. 2024, Towards competitive search relevance for inference-free learned sparse retrievers,
    https://arxiv.org/abs/2411.04403.
    """

    saved_as = "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding"
    config_keys = ("frozen",)
    save_in_root = False

    def __init__(self, tokenizer: Any, weight: Tensor | None = None, frozen: bool = False) -> None:
        super().__init__()
        size = len(tokenizer.get_vocab())
        if weight is None:
            weight = torch.ones(size)
        if weight.ndim != 1 or len(weight) < size:
            raise ValueError(
                f"`weight` must hold a number for each of the tokenizer's {size} entries, but is of shape {tuple(weight.shape)}."
            )
        self.tokenizer = tokenizer
        self.weight = nn.Parameter(weight, requires_grad=not frozen)
        self.frozen = frozen
        self.num_dimensions = len(weight)

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens; None for no limit."""
        limit = int(self.tokenizer.model_max_length)
        return limit if limit < NO_LIMIT else None

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.tokenizer.model_max_length = NO_LIMIT if value is None else value

    def get_embedding_dimension(self) -> int:
        """V, the size of the vocabulary."""
        return self.num_dimensions

    get_sentence_embedding_dimension = get_embedding_dimension

    def token_sequences(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Token ids of texts, without special tokens."""
        if not len(texts):
            return TokenSequences.from_lists([])
        cut = self.max_seq_length is not None
        ready = prepared(texts, prompt)
        with surrogates_in_words(ready):
            made = self.tokenizer(ready, add_special_tokens=False, truncation=cut)
        return TokenSequences.from_lists(made["input_ids"])

    def tokenize(self, texts: Sequence[Text], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Padded features of texts: `input_ids` and `attention_mask` (N, L)."""
        return self.token_sequences(texts, prompt).pack().to_features(Padding.of(self.tokenizer))

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, V), in the caller's order; one that is there is multiplied by these weights."""
        tokens = features.get("tokens")
        if tokens is None:
            tokens = TokenBatch.from_padded(features["input_ids"], mask_of(features))
        present = self.weight.new_zeros(len(tokens), self.num_dimensions)
        present[tokens.sequence_of_token, tokens.input_ids] = 1
        found = tokens.restore(present) * self.weight
        before = features.get("sentence_embedding")
        features["sentence_embedding"] = found if before is None else found * before
        return features

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write tokenizer, weights and settings to a folder."""
        self.save_tokenizer(output_path)
        self.save_torch_weights(output_path, safe_serialization)
        self.save_config(output_path)

    @classmethod
    def from_json(cls, json_path: str, tokenizer: Any, **options: Any) -> SparseStaticEmbedding:
        """From a file of tokens and weights, `{"rain": 6.1, ...}`; tokens that it lacks weigh 0.

        Args:
            json_path: The file, or a model on the Hub that has an `idf.json`.
            tokenizer: The tokenizer that the tokens are of.
            **options: `frozen`; and `token`, `cache_folder`, `revision` and `local_files_only`, for the Hub.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else, or no token of this tokenizer.
        """
        where = {
            name: options.pop(name)
            for name in ("token", "cache_folder", "revision", "local_files_only")
            if name in options
        }
        path = (
            json_path
            if Path(json_path).is_file()
            else hub.load_file_path(str(json_path), "idf.json", **where)
        )
        if path is None:
            raise FileNotFoundError(
                f"There is no file {json_path}, nor a model of that name with an idf.json."
            )
        content = read_json(Path(path))
        if not isinstance(content, dict) or not all(isinstance(x, int | float) for x in content.values()):
            raise ValueError(f"{path} should hold an object of tokens and their weights. Restore the file.")
        vocabulary = tokenizer.get_vocab()
        weight = torch.zeros(len(vocabulary))
        known = [token for token in content if token in vocabulary]
        if not known:
            raise ValueError(f"{path} names no token of the tokenizer. Pass the one that it was made for.")
        weight[[vocabulary[token] for token in known]] = torch.tensor(
            [float(content[token]) for token in known]
        )
        return cls(tokenizer, weight, **options)

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> SparseStaticEmbedding:
        """Build from either saved form: weights, or a file of tokens and weights.

        Raises:
            ValueError: The file lies outside of the folder.
        """
        settings = cls.saved_settings(folder)
        tokenizer = load_tokenizer(str(folder), {"trust_remote_code": False})
        path = settings.pop("path", None)
        if path is not None:
            inside = Path(folder) / Path(path).name
            if not inside.is_file():
                raise ValueError(
                    f"The settings in {folder} name the weights {path!r}, which are not in that folder. Such a path is not "
                    "followed: move the file there."
                )
            return cls.from_json(str(inside), tokenizer, **settings)
        return cls(tokenizer, read_weights(folder)["weight"], **settings)

    def __repr__(self) -> str:
        return f"SparseStaticEmbedding({self.get_config_dict() | {'dim': self.num_dimensions}})"


IDF = MODULES["IDF"] = SparseStaticEmbedding
"""The name of SparseStaticEmbedding before 5.0 of the reference."""
