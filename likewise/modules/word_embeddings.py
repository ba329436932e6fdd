"""WordEmbeddings: one vector a word, looked up (GloVe, word2vec and the like)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from likewise.checked import positive
from likewise.engine import TokenSequences
from likewise.engine.features import Padding
from likewise.modules.base import Features, InputModule, read_weights, size_in
from likewise.modules.classes import OWN_PACKAGES, foreign_class, untrusted
from likewise.modules.text import Text, prepared
from likewise.modules.word_tokenizers import (
    WORD_TOKENIZERS,
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
    WordTokenizer,
)

PADDING_WORD = "PADDING_TOKEN"  # number 0, a vector of zeros


class WordEmbeddings(InputModule):
    """Looks up the vector of each word; the first module of models without a transformer.

    Args:
        tokenizer: A WordTokenizer, or a transformers tokenizer.
        embedding_weights: (V, D), the vector of each token id.
        update_embeddings: Whether the vectors are trained.
        max_seq_length: Texts are cut at this many words.

    Raises:
        ValueError: The tokenizer is of another kind, or there are fewer vectors than words.
    """

    config_file_name = "wordembedding_config.json"
    save_in_root = False

    def __init__(
        self,
        tokenizer: Any,
        embedding_weights: Tensor | np.ndarray[Any, Any] | Sequence[Any],
        update_embeddings: bool = False,
        max_seq_length: int = 1_000_000,
    ) -> None:
        super().__init__()
        if not isinstance(tokenizer, WordTokenizer):
            if not hasattr(tokenizer, "save_pretrained"):
                raise ValueError(
                    f"`tokenizer` must be a WordTokenizer or a transformers tokenizer, but is {type(tokenizer).__name__}."
                )
            tokenizer = TransformersTokenizerWrapper(tokenizer)
        as_list = isinstance(embedding_weights, list)
        weights = torch.as_tensor(np.asarray(embedding_weights) if as_list else embedding_weights)
        if len(weights) < len(tokenizer.get_vocab()):
            raise ValueError(
                f"There are {len(weights)} vectors for {len(tokenizer.get_vocab())} words. Pass one vector a word."
            )
        self.tokenizer: WordTokenizer = tokenizer
        self.emb_layer = nn.Embedding.from_pretrained(weights.float(), freeze=not update_embeddings)
        self.embeddings_dimension = int(weights.shape[1])
        self.update_embeddings = update_embeddings
        self.max_seq_length = positive(max_seq_length, "max_seq_length")

    get_word_embedding_dimension = get_embedding_dimension = size_in("embeddings_dimension")

    def token_sequences(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Word ids of texts, cut at the maximum length."""
        words = (self.tokenizer.tokenize(one_text(text)) for text in prepared(texts, prompt))
        return TokenSequences.from_lists([found[: self.max_seq_length] for found in words])

    def tokenize(self, texts: Sequence[Text], prompt: str | None = None) -> dict[str, Tensor]:
        """Padded features: `input_ids`, `attention_mask` (N, L) and `sentence_lengths` (N,)."""
        tokens = self.token_sequences(texts, prompt).pack()
        features: dict[str, Tensor] = tokens.to_features(Padding.of(self.tokenizer))
        if not tokens.longest:  # the reference pads to one word at least
            features = {name: nn.functional.pad(value, (0, 1)) for name, value in features.items()}
        return features | {"sentence_lengths": tokens.restore(tokens.lengths)}

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `token_embeddings`: (T, D) for packed features, (N, L, D) for padded ones."""
        ids = features["tokens"].input_ids if "tokens" in features else features["input_ids"]
        features["token_embeddings"] = self.emb_layer(ids)
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """What wordembedding_config.json holds."""
        kind = type(self.tokenizer)
        known = WORD_TOKENIZERS.get(kind.__name__) is kind
        package = "sentence_transformers.models.tokenizer" if known else kind.__module__
        if known and kind is TransformersTokenizerWrapper:
            package += ".WordTokenizer"
        return {
            "tokenizer_class": f"{package}.{kind.__name__}",
            "update_embeddings": self.update_embeddings,
            "max_seq_length": self.max_seq_length,
        }

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write settings, vectors and the tokenizer."""
        super().write_folder(folder, safe_serialization)
        self.tokenizer.save(folder)

    @classmethod
    def from_folder(
        cls, folder: str | Path, trust_remote_code: bool = False, **kwargs: Any
    ) -> WordEmbeddings:
        """Build from a folder. A tokenizer of one's own needs `trust_remote_code=True`."""
        settings = cls.saved_settings(folder)
        tokenizer_class = _tokenizer_class(str(settings.pop("tokenizer_class")), trust_remote_code, folder)
        weights = read_weights(folder)
        if "emb_layer.weight" not in weights:
            raise ValueError(
                f"The weights in {folder} lack `emb_layer.weight`. Copy or download the folder again."
            )
        return cls(tokenizer_class.load(folder), weights["emb_layer.weight"], **settings)

    @classmethod
    def from_text_file(
        cls,
        embeddings_file_path: str | Path,
        update_embeddings: bool = False,
        item_separator: str = " ",
        tokenizer: WordTokenizer | None = None,
        max_vocab_size: int | None = None,
    ) -> WordEmbeddings:
        """Read vectors from a text file, plain or .gz: a word and its numbers a line (GloVe; word2vec with its header).

        Args:
            embeddings_file_path: The file.
            update_embeddings: Whether the vectors are trained.
            item_separator: What stands between a word and its numbers.
            tokenizer: Gets the file's words as its vocabulary. Default: a WhitespaceTokenizer.
            max_vocab_size: Words that are read, from the top; None for all.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A line has more or fewer numbers than the first, or something that is no number.
        """
        words, vectors = [PADDING_WORD], []
        for word, vector in _lines(Path(embeddings_file_path), item_separator):
            words.append(word)
            vectors.append(vector)
            if max_vocab_size and len(vectors) >= max_vocab_size:
                break
        if not vectors:
            raise ValueError(
                f"{embeddings_file_path} holds no vectors. Expected a word and its numbers a line."
            )
        tokenizer = WhitespaceTokenizer() if tokenizer is None else tokenizer
        tokenizer.set_vocab(words)
        return cls(tokenizer, np.stack([np.zeros_like(vectors[0]), *vectors]), update_embeddings)

    def __repr__(self) -> str:
        return f"WordEmbeddings({self.get_config_dict()})"


def one_text(text: str | tuple[str, str]) -> str:
    """A pair of texts as one."""
    return text if isinstance(text, str) else " ".join(text)


def _lines(path: Path, separator: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each word of a file of vectors with its vector; the header of word2vec is passed over."""
    size = None
    opened: Any = partial(gzip.open, path, "rt") if path.suffix == ".gz" else path.open
    with opened(encoding="utf8") as file:
        for number, line in enumerate(file, 1):
            word, *entries = line.rstrip().split(separator)
            if size is None and len(entries) == 1:
                continue
            size = len(entries) if size is None else size
            if len(entries) != size:
                raise ValueError(
                    f"Line {number} of {path} has {len(entries)} numbers behind the word {word!r}, the first has {size}. "
                    "Correct or delete the line."
                )
            try:
                yield word, np.array(entries, dtype=np.float32)
            except ValueError as error:
                raise ValueError(
                    f"Line {number} of {path} ({word!r}) is not a word and numbers: {error}."
                ) from error


def _tokenizer_class(name: str, trusted: bool, folder: str | Path) -> type[WordTokenizer]:
    package, _, class_name = name.rpartition(".")
    if package.split(".")[0] in OWN_PACKAGES and class_name in WORD_TOKENIZERS:
        return WORD_TOKENIZERS[class_name]
    named_in = Path(folder) / WordEmbeddings.config_file_name
    if not trusted:
        raise untrusted(name, named_in)
    return cast(type[WordTokenizer], foreign_class(name, Path(folder), named_in))
