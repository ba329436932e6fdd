"""Tokenizers that know whole words: their token ids are places in a vocabulary, and unknown words are left out."""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from likewise.checked import needed
from likewise.modules.base import read_settings, write_json
from likewise.modules.stop_words import ENGLISH_STOP_WORDS


class WordTokenizer(ABC):
    """Cuts a text into words and gives the ids of those it knows."""

    config_file_name: ClassVar[str]

    def get_vocab(self) -> Sequence[str]:
        """The words by id."""
        return self.vocab

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take other words."""
        self.vocab = list(vocab)
        self.word2idx = {word: number for number, word in enumerate(self.vocab)}

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """The ids of a text's words."""

    @abstractmethod
    def get_config_dict(self) -> dict[str, Any]:
        """The settings that `save` writes and the constructor takes."""

    @property
    def token_settings(self) -> dict[str, Any]:
        """What decides the ids of a text."""
        return self.get_config_dict()

    def save(self, output_path: str | Path) -> None:
        """Write the settings to a folder."""
        write_json(Path(output_path) / self.config_file_name, self.get_config_dict())

    @classmethod
    def load(cls, input_path: str | Path) -> WordTokenizer:
        """Build from a folder that `save` wrote."""
        return cls(**read_settings(input_path, cls.config_file_name))


class _Vocabulary(WordTokenizer):
    """A word tokenizer with a vocabulary of its own, and words that it leaves out."""

    def __init__(
        self,
        vocab: Iterable[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
    ) -> None:
        self.stop_words = set(stop_words)
        self.do_lower_case = do_lower_case
        self.set_vocab(vocab)

    def _known_ids(self, words: Iterable[Sequence[str]]) -> list[int]:
        """The id of each word by the first of its forms that is known; stop words and unknown words are left out."""
        found = []
        for forms in words:
            form = next((f for f in forms if f in self.stop_words or (f and f in self.word2idx)), None)
            if form is not None and form not in self.stop_words:
                found.append(self.word2idx[form])
        return found

    def get_config_dict(self) -> dict[str, Any]:
        return {
            "vocab": list(self.word2idx),
            "stop_words": sorted(self.stop_words),
            "do_lower_case": self.do_lower_case,
        }


class WhitespaceTokenizer(_Vocabulary):
    """Cuts at white space. A word is looked up as it is, then without punctuation around it, then in lower case.

    Args:
        vocab: The words; a word's id is its place.
        stop_words: Words that are left out. Default: English function words and signs.
        do_lower_case: Whether texts are put in lower case first.
    """

    config_file_name = "whitespacetokenizer_config.json"

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text's words."""
        words = (text.lower() if self.do_lower_case else text).split()
        forms = ((word, (bare := word.strip(string.punctuation)), bare.lower()) for word in words)
        return self._known_ids(forms)


class PhraseTokenizer(_Vocabulary):
    """Cuts at words, and joins those that make up a phrase of the vocabulary, such as New_York. Needs nltk.

    A word is looked up as it is, then in lower case, then without punctuation around it.

    Args:
        vocab: The words and phrases; a word's id is its place.
        stop_words: Words that are left out. Default: English function words and signs.
        do_lower_case: Kept for saved folders; words are looked up in both cases anyway.
        ngram_separator: What stands between the words of a phrase in the vocabulary.
        max_ngram_length: Phrases of more words are not looked for.

    Raises:
        ImportError: nltk is not installed.
    """

    config_file_name = "phrasetokenizer_config.json"

    def __init__(
        self,
        vocab: Iterable[str] = (),
        stop_words: Iterable[str] = ENGLISH_STOP_WORDS,
        do_lower_case: bool = False,
        ngram_separator: str = "_",
        max_ngram_length: int = 5,
    ) -> None:
        self._cut = needed("nltk", "PhraseTokenizer cuts texts with nltk", "phrases").word_tokenize
        self.ngram_separator = ngram_separator
        self.max_ngram_length = max_ngram_length
        super().__init__(vocab, stop_words, do_lower_case)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Take other words and phrases."""
        super().set_vocab(vocab)
        separator = self.ngram_separator
        phrases = {
            word for word in self.vocab if separator and separator in word and separator * 2 not in word
        }
        lengths = {phrase: phrase.count(separator) + 1 for phrase in phrases}
        self.ngram_lookup = {phrase for phrase in phrases if lengths[phrase] <= self.max_ngram_length}
        self.ngram_lengths = {lengths[phrase] for phrase in self.ngram_lookup}

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text's words and phrases; longer phrases win."""
        words = self._cut(text, preserve_line=True)
        for length in sorted(self.ngram_lengths, reverse=True):
            words = self._joined(words, length)
        forms = ((word, (lower := word.lower()), lower.strip(string.punctuation)) for word in words)
        return self._known_ids(forms)

    def _joined(self, words: Sequence[str], length: int) -> list[str]:
        """The words, those of each known phrase of this length made one."""
        joined, start = [], 0
        while start < len(words):
            phrase = self.ngram_separator.join(words[start : start + length])
            known = next((form for form in (phrase, phrase.lower()) if form in self.ngram_lookup), None)
            whole = known is not None and start + length <= len(words)
            joined.append(known if whole and known is not None else words[start])
            start += length if whole else 1
        return joined

    def get_config_dict(self) -> dict[str, Any]:
        own = {"ngram_separator": self.ngram_separator, "max_ngram_length": self.max_ngram_length}
        return super().get_config_dict() | own


class TransformersTokenizerWrapper(WordTokenizer):
    """A transformers tokenizer, where a word tokenizer is expected.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def get_vocab(self) -> Sequence[str]:
        """The tokens by id."""
        return sorted(self.tokenizer.get_vocab(), key=self.tokenizer.get_vocab().__getitem__)

    def set_vocab(self, vocab: Iterable[str]) -> None:
        """Not possible: the tokenizer has its own words.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "A transformers tokenizer keeps its own vocabulary. Take a WhitespaceTokenizer instead."
        )

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text's tokens, special ones included."""
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def get_config_dict(self) -> dict[str, Any]:
        """Nothing: the tokenizer's files say it all."""
        return {}

    def save(self, output_path: str | Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(output_path)

    @classmethod
    def load(cls, input_path: str | Path) -> TransformersTokenizerWrapper:
        """Build from a folder that `save` wrote."""
        from likewise.modules.pretrained import load_tokenizer

        return cls(load_tokenizer(str(input_path), {}))


WORD_TOKENIZERS: dict[str, type[WordTokenizer]] = {
    kind.__name__: kind for kind in (WhitespaceTokenizer, PhraseTokenizer, TransformersTokenizerWrapper)
}
"""The tokenizers that a saved WordEmbeddings may name."""
