"""Tokenization: texts to token ids, many at a time, cut at a maximum length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from likewise.engine import TokenSequences

BACKEND_PARTS = ("normalizer", "pre_tokenizer", "post_processor")
KEPT_TOKENS = 2**26  # of int32, 256 MiB
Text: TypeAlias = str | tuple[str, str] | list[str]


class Tokenization:
    """A tokenizer, set up to turn many texts into token ids at once.

    Args:
        tokenizer: A transformers tokenizer.
        do_lower_case: Whether texts are put in lower case first.
        max_length: Sequences are cut at this many tokens, the special ones counted in; None for no limit.
        truncation: Which text of a pair is cut: "longest_first", "only_first" or "only_second".
        add_special_tokens: Whether texts get the tokenizer's special tokens.

    Attributes:
        num_texts: How many texts have been tokenised.
        num_truncated: How many of them were longer than `max_length`.
        kept: Token ids of lists of texts that come again; None where none are kept.
    """

    kept: KeptTokens | None = None

    def __init__(
        self,
        tokenizer: Any,
        do_lower_case: bool = False,
        max_length: int | None = None,
        truncation: str = "longest_first",
        add_special_tokens: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.do_lower_case = do_lower_case
        self.max_length = max_length
        self.truncation = truncation
        self.add_special_tokens = add_special_tokens
        self.num_texts = 0
        self.num_truncated = 0
        self._prompt_lengths: dict[tuple[Any, ...], int] = {}
        self._own: tuple[Any, tuple[Any, ...], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # `_own` is made anew in no time; a pickle would hold the vocabulary twice.
        return {**self.__dict__, "_own": None}

    def __call__(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Token ids of the texts (strings, or pairs of strings), with a prompt in front (of a pair: of its first text)."""
        if self.kept is None:
            return self._tokenized(texts, prompt)
        return self.kept.get((*self.state, prompt or ""), texts, lambda: self._tokenized(texts, prompt))

    @property
    def token_settings(self) -> dict[str, Any]:
        """What decides the token ids of a text beside the tokenizer."""
        return {"max_length": self.max_length, "do_lower_case": self.do_lower_case}

    @property
    def state(self) -> tuple[Any, ...]:
        """What decides the token ids of a text: the tokenizer, what may be changed in it, and how it is used."""
        how = (*self.token_settings.values(), self.truncation, self.add_special_tokens)
        return (*tokenizer_state(self.tokenizer), *how)

    def _tokenized(self, texts: Sequence[Text], prompt: str | None) -> TokenSequences:
        wanted = prepared(texts, prompt, self.do_lower_case)
        with surrogates_in_words(wanted):
            ids, types, num_truncated = self._encode(wanted)
        sequences = TokenSequences.from_lists(ids, types)
        self.num_texts += len(wanted)
        self.num_truncated += num_truncated
        if not prompt:
            return sequences
        return replace(sequences, prompt_lengths=np.full(len(wanted), self._prompt_length(prompt), np.int64))

    def _encode(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None, int]:
        """Ids and types of the texts' tokens, and how many texts were cut."""
        return (self._encode_fast if getattr(self.tokenizer, "is_fast", False) else self._encode_slow)(texts)

    def _encode_fast(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None, int]:
        encodings = self._own_tokenizer().encode_batch_fast(texts, add_special_tokens=self.add_special_tokens)
        ids = [encoding.ids for encoding in encodings]
        full = [] if self.max_length is None else [e for e in encodings if len(e) >= self.max_length]
        num_truncated = sum(bool(encoding.overflowing) for encoding in full)
        has_pairs = any(not isinstance(text, str) for text in texts)
        has_types = has_pairs or (len(encodings) and any(encodings[0].type_ids))
        typed = has_types and "token_type_ids" in self.tokenizer.model_input_names
        return ids, [encoding.type_ids for encoding in encodings] if typed else None, num_truncated

    def _own_tokenizer(self) -> Any:
        """The tokenizer's Rust part with this limit and without padding, which nobody else has and nobody changes.

        The model's own is set anew by every call of `model.tokenizer(...)`, in whatever thread: its truncation may be
        another's in the middle of a batch, and tokenizers before 0.23 refuse ("Already borrowed") to be set while they
        encode. So this one shares its vocabulary, and is made again when something of it was replaced.
        """
        backend = self.tokenizer.backend_tokenizer
        state = (*backend_state(backend), self.max_length, self.truncation, self.tokenizer.truncation_side)
        known = self._own
        if known is not None and known[0] is backend and known[1] == state:
            return known[2]
        own = private_backend(backend)
        if self.max_length is not None:
            side = self.tokenizer.truncation_side
            own.enable_truncation(self.max_length, strategy=self.truncation, direction=side)
        self._own = (backend, state, own)  # in one piece, since other threads read it
        return own

    def _encode_slow(self, texts: list[Any]) -> tuple[list[list[int]], list[list[int]] | None, int]:
        """For tokenizers written in Python."""
        parts = [(text,) if isinstance(text, str) else text for text in texts]
        flat = [part for text in parts for part in text]
        read = self.tokenizer(flat, add_special_tokens=False, verbose=False) if flat else {"input_ids": ()}
        plain = iter(read["input_ids"])
        # Each text is read once; what it gets around it, and where it is cut, is a matter of its ids.
        options: dict[str, Any] = {"add_special_tokens": self.add_special_tokens, "verbose": False}
        if self.max_length is not None:
            options |= {"truncation": self.truncation, "max_length": self.max_length}
        special = [self.tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True)]
        ids, types, num_truncated = [], [], 0
        for text in parts:
            own = [next(plain) for _ in text]
            made = self.tokenizer.prepare_for_model(*own, **options)
            ids.append(made["input_ids"])
            types.append(made.get("token_type_ids"))
            whole = sum(map(len, own)) + self.add_special_tokens * special[len(text) - 1]
            num_truncated += self.max_length is not None and whole > self.max_length
        is_typed = len(flat) > len(parts) and None not in types
        return ids, types if is_typed else None, num_truncated

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt, a closing special token not counted."""
        key = (prompt, self.max_length)
        if key not in self._prompt_lengths:
            ids = self._encode(prepared([""], prompt, self.do_lower_case))[0][0]
            closing = bool(ids) and ids[-1] in self.tokenizer.all_special_ids
            self._prompt_lengths[key] = len(ids) - closing
        return self._prompt_lengths[key]


def tokenizer_state(tokenizer: Any) -> tuple[Any, ...]:
    """A tokenizer, as this very object, and what may be changed in it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [repr(getattr(backend, name, None)) for name in BACKEND_PARTS]
    return (_Same(tokenizer), len(tokenizer), getattr(tokenizer, "truncation_side", None), *parts)


class _Same:
    """Equal to itself alone, by its object; which lives as long, so that no other can take its place."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


class KeptTokens:
    """The token ids of lists of texts, for lists that come again; those that come after `KEPT_TOKENS` are not kept."""

    def __init__(self) -> None:
        self._sequences: dict[tuple[Any, ...], TokenSequences] = {}
        self._num_tokens = 0

    def get(
        self, way: tuple[Any, ...], texts: Sequence[Text], make: Callable[[], TokenSequences]
    ) -> TokenSequences:
        """The token ids of these texts, made if they are not there; `way` is what they depend on beside the texts."""
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


def backend_state(backend: Any) -> tuple[Any, ...]:
    """What of a tokenizer's Rust part may be changed, and decides what `private_backend` makes of it."""
    return (
        backend.get_vocab_size(with_added_tokens=True),
        backend.encode_special_tokens,
        *(repr(getattr(backend, name)) for name in BACKEND_PARTS),
    )


def private_backend(backend: Any) -> Any:
    """A tokenizer's Rust part over the same vocabulary, without limits and padding, which nobody else sets."""
    own = type(backend)(backend.model)
    for name in BACKEND_PARTS:
        part = getattr(backend, name)
        if part is not None:
            setattr(own, name, part)
    own.encode_special_tokens = backend.encode_special_tokens
    added = sorted(backend.get_added_tokens_decoder().items())
    for special, tokens in groupby((token for _, token in added), key=lambda token: token.special):
        (own.add_special_tokens if special else own.add_tokens)(list(tokens))
    if own.get_added_tokens_decoder().keys() != dict(added).keys():  # ids with gaps, say
        own = type(backend).from_str(backend.to_str())
        own.no_padding()
        own.no_truncation()
    return own


def prepared(
    texts: Sequence[Text], prompt: str | None = None, do_lower_case: bool = False
) -> list[str | tuple[str, str]]:
    """The texts (or `{"text": ...}`) with a prompt in front (of a pair: of its first text), in lower case if asked for."""
    if isinstance(texts, str):  # whose letters would be taken for texts
        raise TypeError(f"Expected a list of texts, but got the text {texts!r:.60}. Pass it in a list.")
    prompt = prompt or ""
    ready: list[str | tuple[str, str]] = []
    for row, text in enumerate(texts):
        # With its kind, as models of several take it.
        if isinstance(text, Mapping) and text.keys() == {"text"}:
            text = text["text"]
        if isinstance(text, str):
            ready.append((prompt + text).lower() if do_lower_case else prompt + text)
        elif isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(x, str) for x in text):
            first, second = prompt + text[0], text[1]
            ready.append((first.lower(), second.lower()) if do_lower_case else (first, second))
        else:
            raise _refused(row, text)
    return ready


def check_texts(texts: Sequence[Text]) -> None:
    """Refuse what `prepared` would, before anything is done."""
    for row, text in enumerate(texts):
        if type(text) is not str:
            try:
                prepared([text])
            except TypeError:
                raise _refused(row, text) from None


@contextmanager
def surrogates_in_words(texts: Iterable[str | Sequence[str]]) -> Iterator[None]:
    """Say which of these texts, or pairs, a tokenizer refuses for half a character in it, and what to do."""
    try:
        yield
    except (TypeError, UnicodeEncodeError):
        for part in (part for text in texts for part in ((text,) if isinstance(text, str) else text)):
            found = re.search(r"[\ud800-\udfff]", part)
            if found is not None:
                raise TypeError(
                    f"The text {part[max(0, found.start() - 30) : found.end() + 30]!r} holds {found[0]!r}, which is half a character "
                    "(a surrogate), as of a text that was cut or decoded wrongly. Mend it: "
                    "`text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`, or drop it."
                ) from None
        raise


def _refused(row: int, text: Any) -> TypeError:
    return TypeError(
        f"Text {row} is {text!r} ({type(text).__name__}); expected a string or a pair of strings. "
        "Convert or drop it before encoding."
    )
