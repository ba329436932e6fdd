"""Tokenization: texts to token ids, many at a time, cut at a maximum length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from likewise.engine import TokenSequences

KEPT_TOKENS = 2**26  # of int32, 256 MiB
Text: TypeAlias = str | tuple[str, str] | list[str]


class Tokenization:
    """A tokenizer, set up to turn many texts into token ids at once.

    Args:
        tokenizer: A transformers tokenizer.
        do_lower_case: Whether texts are put in lower case first.
        max_length: Sequences are cut at this many tokens, the special ones counted in; None for no limit.

    Attributes:
        num_texts: How many texts have been tokenised.
        num_truncated: How many of them were longer than `max_length`.
        kept: Token ids of lists of texts that come again; None where none are kept.
    """

    kept: KeptTokens | None = None

    def __init__(self, tokenizer: Any, do_lower_case: bool = False, max_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.do_lower_case = do_lower_case
        self.max_length = max_length
        self.num_texts = 0
        self.num_truncated = 0
        self._prompt_lengths: dict[str, int] = {}

    def __call__(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Token ids of the texts, in their order.

        Args:
            texts: Strings, or pairs of strings.
            prompt: Put in front of each text (of a pair: of its first text).

        Raises:
            TypeError: Something is neither a string nor a pair of strings.
        """
        if self.kept is None:
            return self._tokenized(texts, prompt)
        way = (id(self.tokenizer), self.max_length, self.do_lower_case, prompt or "")
        return self.kept.get(way, texts, lambda: self._tokenized(texts, prompt))

    def _tokenized(self, texts: Sequence[Text], prompt: str | None) -> TokenSequences:
        wanted = prepared(texts, prompt, self.do_lower_case)
        ids, types = self._encode(wanted)
        sequences = TokenSequences.from_lists(ids, types)
        self.num_texts += len(wanted)
        if not prompt:
            return sequences
        prompt_lengths = np.full(len(wanted), self._prompt_length(prompt), np.int64)
        return TokenSequences(
            sequences.input_ids, sequences.offsets, sequences.token_type_ids, prompt_lengths
        )

    def _encode(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None]:
        return (self._encode_fast if getattr(self.tokenizer, "is_fast", False) else self._encode_slow)(texts)

    def _encode_fast(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None]:
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        if self.max_length is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(self.max_length, direction=self.tokenizer.truncation_side)
        encodings = backend.encode_batch_fast(texts, add_special_tokens=True)
        ids = [encoding.ids for encoding in encodings]
        if self.max_length is not None:
            limit = self.max_length
            self.num_truncated += sum(
                bool(e.overflowing) for e, i in zip(encodings, ids, strict=True) if len(i) >= limit
            )
        typed = "token_type_ids" in self.tokenizer.model_input_names and (
            any(not isinstance(text, str) for text in texts)
            or any(encodings[0].type_ids if encodings else ())
        )
        return ids, [encoding.type_ids for encoding in encodings] if typed else None

    def _encode_slow(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None]:
        """For tokenizers written in Python."""
        has_pairs = any(not isinstance(text, str) for text in texts)
        options = {"truncation": True, "max_length": self.max_length} if self.max_length is not None else {}
        encoded = self.tokenizer(texts, **options)
        if self.max_length is not None:
            lengths = map(len, self.tokenizer(texts, verbose=False)["input_ids"])
            self.num_truncated += sum(length > self.max_length for length in lengths)
        return encoded["input_ids"], encoded.get("token_type_ids") if has_pairs else None

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt, a closing special token not counted."""
        if prompt not in self._prompt_lengths:
            counted = self.num_truncated
            ids = self._encode(prepared([""], prompt, self.do_lower_case))[0][0]
            self.num_truncated = counted
            closing = bool(ids) and ids[-1] in self.tokenizer.all_special_ids
            self._prompt_lengths[prompt] = len(ids) - closing
        return self._prompt_lengths[prompt]


class KeptTokens:
    """The token ids of lists of texts, for lists that come again; those that come after `KEPT_TOKENS` are not kept."""

    def __init__(self) -> None:
        self._sequences: dict[tuple[Any, ...], TokenSequences] = {}
        self._num_tokens = 0

    def get(
        self, way: tuple[Any, ...], texts: Sequence[Text], make: Callable[[], TokenSequences]
    ) -> TokenSequences:
        """The token ids of these texts, made if they are not there.

        Args:
            way: What they depend on, beside the texts.
            texts: The texts.
            make: Tokenises the texts.
        """
        if not all(isinstance(text, str | tuple) for text in texts):
            return make()
        key = (way, tuple(texts))
        if key in self._sequences:
            return self._sequences[key]
        sequences = make()
        if self._num_tokens + len(sequences.input_ids) <= KEPT_TOKENS:
            self._num_tokens += len(sequences.input_ids)
            self._sequences[key] = sequences
        return sequences


@contextmanager
def keeping_tokens(modules: Iterable[Any], kept: KeptTokens) -> Iterator[None]:
    """Within this context the modules that tokenise look for token ids in `kept` first."""
    found = [m.tokenization for m in modules if isinstance(getattr(m, "tokenization", None), Tokenization)]
    for tokenization in found:
        tokenization.kept = kept
    try:
        yield
    finally:
        for tokenization in found:
            tokenization.kept = None


def prepared(
    texts: Sequence[Text], prompt: str | None = None, do_lower_case: bool = False
) -> list[str | tuple[str, str]]:
    """The texts with a prompt in front (of a pair: of its first text), in lower case if asked for.

    Raises:
        TypeError: Something is neither a string nor a pair of strings.
    """
    prompt = prompt or ""
    ready: list[str | tuple[str, str]] = []
    for row, text in enumerate(texts):
        if isinstance(text, str):
            ready.append((prompt + text).lower() if do_lower_case else prompt + text)
        elif (
            isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)
        ):
            first, second = prompt + text[0], text[1]
            ready.append((first.lower(), second.lower()) if do_lower_case else (first, second))
        else:
            raise TypeError(
                f"Text {row} is {text!r} ({type(text).__name__}); expected a string or a pair of strings. "
                "Convert or drop it before encoding."
            )
    return ready
