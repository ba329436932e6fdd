"""StaticEmbedding: the mean of its tokens' vectors is a text's embedding; no token sees another."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from likewise.checked import positive
from likewise.engine import TokenBatch, TokenSequences
from likewise.modules.base import Features, InputModule, mask_of, read_weights, save_weights, size_in
from likewise.modules.distillation import distil
from likewise.modules.find_folder import find_folder
from likewise.modules.text import Text, prepared, surrogates_in_words

TOKENIZER_FILE = "tokenizer.json"
SUBFOLDERS = ("", "0_StaticEmbedding")
"""Where model2vec and the reference keep a StaticEmbedding's files in a model's folder."""


class StaticEmbedding(InputModule):
    """Text embeddings as the mean of one vector a token: hundreds of times faster than a transformer.

    Args:
        tokenizer: A tokenizer of the tokenizers package, or a fast one of transformers.
        embedding_weights: (V, D) vectors to start from, one for each token id.
        embedding_dim: D, for vectors that start at random; not needed with `embedding_weights`.
        base_model: The model that the vectors come from, for the model card.

    Raises:
        ValueError: The tokenizer is of another kind or knows more tokens than there are vectors, or neither
            `embedding_weights` nor `embedding_dim` is given.

    Examples:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "rain": 1, "sun": 2}, unk_token="[UNK]"))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> StaticEmbedding(tokenizer, embedding_dim=8).embedding.weight.shape
        torch.Size([3, 8])
    """

    in_one_pass = True
    """Whether training embeds a batch at once: each pass makes a gradient as large as the whole table."""
    tokens_per_text = 1024
    """Tokens that `encode` gives a batch for each text of `batch_size`: a text costs next to nothing here."""

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: np.ndarray[Any, Any] | Tensor | None = None,
        embedding_dim: int | None = None,
        base_model: str | None = None,
    ) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(tokenizer, Tokenizer):
            raise ValueError(
                f"`tokenizer` must be a fast tokenizer, but is {type(tokenizer).__name__}. "
                "Load one with `tokenizers.Tokenizer.from_file` or `transformers.AutoTokenizer`."
            )
        size = tokenizer.get_vocab_size()
        if embedding_weights is not None:
            vectors = _floating(torch.as_tensor(embedding_weights))
            if vectors.dim() != 2 or len(vectors) < size:
                raise ValueError(
                    f"`embedding_weights` must hold a vector for each of the tokenizer's {size} tokens, but is of shape "
                    f"{tuple(vectors.shape)}. Use the tokenizer that the vectors were made with."
                )
            self.embedding = nn.EmbeddingBag.from_pretrained(vectors, freeze=False)
        elif embedding_dim is not None:
            self.embedding = nn.EmbeddingBag(size, positive(embedding_dim, "embedding_dim"))
        else:
            raise ValueError("Pass either `embedding_weights` or `embedding_dim`.")
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.num_embeddings = self.embedding.num_embeddings
        self.embedding_dim = self.embedding.embedding_dim
        self.base_model = base_model

    @property
    def max_seq_length(self) -> float:
        """No limit."""
        return math.inf

    get_sentence_embedding_dimension = get_embedding_dimension = size_in("embedding_dim")

    def token_sequences(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Token ids of texts, without special tokens."""
        ready = prepared(texts, prompt)
        with surrogates_in_words(ready):
            encodings = self.tokenizer.encode_batch_fast(ready, add_special_tokens=False)
        return TokenSequences.from_lists([encoding.ids for encoding in encodings])

    def tokenize(self, texts: Sequence[Text], prompt: str | None = None) -> dict[str, Tensor]:
        """`input_ids` (T,), the tokens of all texts end to end, and `offsets` (N,), where each text begins."""
        sequences = self.token_sequences(texts, prompt)
        return {
            "input_ids": torch.from_numpy(sequences.input_ids.astype(np.int64)),
            "offsets": torch.from_numpy(sequences.offsets[:-1]),
        }

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, D), in the caller's order; zeros for a text without tokens.

        Takes packed features, those of `tokenize`, or padded ones, where all ids are tokens without an `attention_mask`.
        """
        if "offsets" in features:
            features["sentence_embedding"] = self._means(features["input_ids"], features["offsets"])
            return features
        tokens: TokenBatch | None = features.get("tokens")
        if tokens is None:
            tokens = TokenBatch.from_padded(features["input_ids"], mask_of(features))
        starts = tokens.starts.to(tokens.device, non_blocking=True)
        features["sentence_embedding"] = tokens.restore(self._means(tokens.input_ids, starts))
        return features

    def _means(self, ids: Tensor, starts: Tensor) -> Tensor:
        """(T,) ids and (N,) places of first tokens -> (N, D)."""
        return embedding_bag(ids, self.embedding.weight, starts, mode="mean")

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write the vectors and tokenizer.json."""
        save_weights(self, folder, safe_serialization)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> StaticEmbedding:
        """Build from a folder that this library, the reference or model2vec wrote."""
        return cls(_read_tokenizer(Path(folder) / TOKENIZER_FILE), _read_vectors(folder))

    @classmethod
    def from_model2vec(cls, model_id_or_path: str | os.PathLike[str]) -> StaticEmbedding:
        """The vectors and the tokenizer of a model2vec model; the model2vec package is not needed.

        Args:
            model_id_or_path: A folder, or a name on the Hub.

        Raises:
            FileNotFoundError: There is no such model, or it holds no static vectors.
        """
        folder = find_folder(model_id_or_path)
        for subfolder in SUBFOLDERS:
            if (folder / subfolder / TOKENIZER_FILE).exists():
                static = cls.from_folder(folder / subfolder)
                static.base_model = os.fspath(model_id_or_path)
                return static
        raise FileNotFoundError(
            f"There is no {TOKENIZER_FILE} in {folder}, nor in its folder {SUBFOLDERS[1]}. Pass a model2vec model."
        )

    from_distillation = classmethod(distil)
    """`likewise.modules.distillation.distil`, to one of this class."""

    def __repr__(self) -> str:
        return f"StaticEmbedding({{'num_embeddings': {self.num_embeddings}, 'embedding_dim': {self.embedding_dim}}})"


def _read_tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    if not path.exists():
        raise FileNotFoundError(f"There is no {path}.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more precise
        raise ValueError(f"{path} is not a tokenizer ({error}). Copy or download it again.") from error


def _read_vectors(folder: str | Path) -> Tensor:
    """(V, D) from either form: the reference's, or model2vec's with its mapping and weights multiplied out."""
    weights = read_weights(folder)
    if "embedding.weight" in weights:
        return weights["embedding.weight"]
    if "embeddings" not in weights:
        raise ValueError(
            f"The weights in {folder} hold {', '.join(sorted(weights)) or 'nothing'}; expected `embedding.weight` or "
            "model2vec's `embeddings`. Pass the folder of a static model."
        )
    vectors = weights["embeddings"]
    if "mapping" in weights:
        vectors = vectors[weights["mapping"].long()]
    if "weights" in weights:
        vectors = _floating(vectors)
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        vectors = (vectors * weights["weights"].unsqueeze(1)).to(vectors.dtype)
    return vectors.contiguous()


def _floating(vectors: Tensor) -> Tensor:
    """Whole numbers, as model2vec's int8 models have, become float32; what can be trained stays as it is."""
    return vectors if vectors.is_floating_point() else vectors.float()
