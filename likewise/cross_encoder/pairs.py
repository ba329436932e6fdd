"""Pairs of texts to token ids: each distinct text once, then joined as the tokenizer's own template says.

A reranker sees a query with many documents. Tokenised as pairs, the query is read again for each of them. Here every
distinct text is tokenised once, and `[CLS] query [SEP] document [SEP]` is put together from arrays. The template is
learned by a few probes, which are compared with the tokenizer's own pairs; where they differ, pairs are left to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np

from likewise.checked import one_of
from likewise.cross_encoder.chat import ChatTemplate
from likewise.cross_encoder.given_pairs import Pair, checked_pairs
from likewise.cross_encoder.kept_texts import KeptTexts
from likewise.engine import TokenSequences
from likewise.engine.token_sequences import IntArray
from likewise.modules.text import backend_state, private_backend, surrogates_in_words, tokenizer_state

TRUNCATIONS = ("longest_first", "only_second")
PROBE_TEXTS = ("a b a", "c")
CHECKED_PAIRS = (("a", "b b"), ("", "b"), ("a", ""), ("b 1 a a a a a", " a"), (" b", "a a a a a"))


class PairTokenization:
    """A tokenizer, set up to turn many pairs of texts into token ids at once.

    Args:
        tokenizer: A transformers tokenizer.
        max_length: Pairs are cut at this many tokens, the special ones counted in; None for no limit.
        truncation: What is cut: "longest_first" the longer text, then both; "only_second" the second alone.
        chat: Shows pairs as messages in the tokenizer's chat template; None joins them as the tokenizer does.

    Attributes:
        num_texts: How many pairs have been tokenised.
        num_truncated: How many of them were longer than `max_length`.
        do_lower_case: Whether texts, and the prompt, are put in lower case first.
        texts: Token ids of texts that were read before; None where none are kept.
    """

    do_lower_case = False
    texts: KeptTexts | None = None

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None = None,
        truncation: str = "longest_first",
        chat: ChatTemplate | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.chat = chat
        self.max_length = max_length
        self.truncation = truncation
        self.num_texts = 0
        self.num_truncated = 0
        self._lock = RLock()  # a tokenizer's backend keeps its limits as state
        self._own: tuple[Any, tuple[Any, ...], Any] | None = None
        self._template: tuple[tuple[str, str], PairTemplate | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name not in ("_lock", "texts")}
        return kept | {"_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=RLock())

    @property
    def truncation(self) -> str:
        """What is cut of pairs that are too long."""
        return self._truncation

    @truncation.setter
    def truncation(self, value: str) -> None:
        one_of(value, "truncation", TRUNCATIONS)
        if self.chat is not None and value != "longest_first":
            raise ValueError(
                f"`truncation={value!r}` is for pairs that the tokenizer joins, but this model shows them in a chat template, which "
                "is cut at its end. Drop it, or cut the documents first."
            )
        self._truncation = value

    @property
    def token_settings(self) -> dict[str, Any]:
        """What decides the token ids of a pair beside the tokenizer."""
        return {
            "max_length": self.max_length,
            "truncation": self.truncation,
            "do_lower_case": self.do_lower_case,
            "chat": None if self.chat is None else self.chat.settings(self.tokenizer),
        }

    @property
    def state(self) -> tuple[Any, ...]:
        """What decides the token ids of a pair: the tokenizer, what may be changed in it, and how it is used."""
        return (*tokenizer_state(self.tokenizer), *self.token_settings.values())

    def __call__(self, inputs: Sequence[Pair], prompt: str | None = None) -> TokenSequences:
        """Token ids of the pairs, in their order.

        Args:
            inputs: Pairs of strings; single strings are taken too.
            prompt: Put in front of each pair's first text; in a chat template the system's message.

        Raises:
            TypeError: Something is neither a string nor a pair of strings.
            ValueError: A pair has more or less than two texts, or there is not a token in it; a chat template leaves one out.
        """
        pairs = checked_pairs(inputs, "" if self.chat is not None else prompt or "")
        if self.do_lower_case:
            pairs = [
                pair.lower() if isinstance(pair, str) else (pair[0].lower(), pair[1].lower())
                for pair in pairs
            ]
        with self._lock, surrogates_in_words(pairs):
            if self.chat is None:
                sequences, num_truncated = self._tokenized(pairs)
            else:
                sequences, num_truncated = self._in_chat(self.chat, pairs, prompt or "")
            self.num_texts += len(pairs)
            self.num_truncated += num_truncated
        if len(pairs) and not sequences.lengths.min():
            row = int(sequences.lengths.argmin())
            raise ValueError(
                f"Pair {row} has no token: {inputs[row]!r}. Drop it, or take a tokenizer that adds special tokens."
            )
        return sequences

    def _tokenized(self, pairs: list[Any]) -> tuple[TokenSequences, int]:
        all_pairs = all(not isinstance(pair, str) for pair in pairs)
        if not getattr(self.tokenizer, "is_fast", False):
            return self._by_slow_calls(pairs)
        template = self._known_template() if all_pairs and pairs else None
        if template is None:
            return self._by_calls(pairs)
        return self._joined(pairs, template)

    def _own_backend(self) -> Any:
        """The tokenizer's Rust part for this object alone: calls of the tokenizer, in whatever thread, set its own."""
        backend = self.tokenizer.backend_tokenizer
        state = backend_state(backend)
        if self._own is None or self._own[0] is not backend or self._own[1] != state:
            self._own = (backend, state, private_backend(backend))
        return self._own[2]

    def _known_template(self) -> PairTemplate | None:
        state = (repr(self.tokenizer.backend_tokenizer.post_processor), str(self.tokenizer.truncation_side))
        if self._template is None or self._template[0] != state:
            self._template = (state, learned_template(self.tokenizer))
        return self._template[1]

    def _joined(self, pairs: list[tuple[str, str]], template: PairTemplate) -> tuple[TokenSequences, int]:
        """Tokenise each distinct text once and join them."""
        number: dict[str, int] = {}
        rows = np.fromiter(
            (number.setdefault(text, len(number)) for pair in pairs for text in pair),
            np.int64,
            2 * len(pairs),
        ).reshape(-1, 2)
        of_before = self.texts  # once: another thread may put it away meanwhile
        if of_before is None:
            texts = TokenSequences.from_lists(self._encoded(list(number)))
        else:
            self._own_backend()  # made anew where what it does has changed
            texts = of_before.get(self._own, list(number), self._encoded)
        whole = texts.lengths[rows]  # (N, 2)
        kept = whole
        if self.max_length is not None:
            room = max(0, self.max_length - template.num_special)
            if self.truncation == "only_second":
                for row in np.flatnonzero((whole[:, 0] >= room) & (whole[:, 1] > 0))[:1].tolist():
                    raise self._long_first(row, pairs[row])
            kept = kept_lengths(whole, room, self.truncation)
        starts = texts.offsets[:-1][rows]
        if self.tokenizer.truncation_side == "left":
            starts = starts + whole - kept
        sequences = template.join(texts.input_ids, starts, kept)
        if "token_type_ids" not in self.tokenizer.model_input_names:
            sequences = TokenSequences(sequences.input_ids, sequences.offsets)
        return sequences, int((kept < whole).any(axis=1).sum())

    def _by_calls(self, pairs: list[Any]) -> tuple[TokenSequences, int]:
        """The tokenizer's own pairs."""
        backend = self._own_backend()
        backend.no_truncation()
        if self.max_length is not None and self.truncation == "longest_first":
            backend.enable_truncation(self.max_length, direction=self.tokenizer.truncation_side)
        encodings = backend.encode_batch(pairs, add_special_tokens=True)
        if self.max_length is not None and self.truncation == "only_second":
            for row, (encoding, pair) in enumerate(zip(encodings, pairs, strict=True)):
                others = sum(number != 1 for number in encoding.sequence_ids)
                if (
                    not isinstance(pair, str)
                    and len(encoding) > self.max_length
                    and others >= self.max_length
                ):
                    raise self._long_first(row, pair)
            strategy = "longest_first" if all(isinstance(pair, str) for pair in pairs) else "only_second"
            backend.enable_truncation(
                self.max_length, strategy=strategy, direction=self.tokenizer.truncation_side
            )
            encodings = backend.encode_batch(pairs, add_special_tokens=True)
        num_truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        typed = "token_type_ids" in self.tokenizer.model_input_names
        return (
            TokenSequences.from_lists(
                [encoding.ids for encoding in encodings],
                [encoding.type_ids for encoding in encodings] if typed else None,
            ),
            num_truncated,
        )

    def _in_chat(self, chat: ChatTemplate, pairs: list[Any], prompt: str) -> tuple[TokenSequences, int]:
        """The pairs in the chat template's words, cut at the end; the template's own end is then put back."""
        encodings = self._encoded(chat.render(self.tokenizer, pairs, prompt))
        ids, num_truncated = [], 0
        for pair, whole in zip(pairs, encodings, strict=True):
            limit = self.max_length
            if limit is None or len(whole) < limit:
                ids.append(whole)
                continue
            num_truncated += len(whole) > limit
            cut = whole[:limit] if self.tokenizer.truncation_side == "right" else whole[-limit:]
            suffix = chat.suffix(self.tokenizer, not isinstance(pair, str), prompt, self._encoded)[-limit:]
            ids.append([*cut[: limit - len(suffix)], *suffix])
        return TokenSequences.from_lists(ids), num_truncated

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        """Ids of whole texts, without special tokens."""
        if not getattr(self.tokenizer, "is_fast", False):
            return [
                self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts
            ]
        backend = self._own_backend()
        backend.no_truncation()
        return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _long_first(self, row: int, pair: Any) -> ValueError:
        return ValueError(
            f"The first text of pair {row} alone fills `max_length` ({self.max_length} tokens), so that "
            f"`truncation='only_second'` leaves nothing of the second: {pair[0][:80]!r}. Raise `max_length`, or cut the "
            "longest text first."
        )

    def _by_slow_calls(self, pairs: list[Any]) -> tuple[TokenSequences, int]:
        """For tokenizers written in Python."""
        ids, types, num_truncated = [], [], 0
        for pair in pairs:
            texts = (pair,) if isinstance(pair, str) else pair
            strategy = self.truncation if len(texts) == 2 else "longest_first"
            limit = {} if self.max_length is None else {"truncation": strategy, "max_length": self.max_length}
            encoded = self.tokenizer(*texts, return_token_type_ids=True, **limit)
            ids.append(encoded["input_ids"])
            types.append(encoded["token_type_ids"])
            if self.max_length is not None and len(ids[-1]) >= self.max_length:
                num_truncated += len(self.tokenizer(*texts, verbose=False)["input_ids"]) > self.max_length
        typed = "token_type_ids" in self.tokenizer.model_input_names
        return TokenSequences.from_lists(ids, types if typed else None), num_truncated


@dataclass(frozen=True)
class PairTemplate:
    """How a tokenizer joins two texts: special tokens before, between and after them, and a type for each part.

    Attributes:
        special: The ids before the first text, between the two, and after the second.
        special_types: The token types of these ids.
        text_types: The token type of the first text, and of the second.
    """

    special: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    special_types: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    text_types: tuple[int, int]

    @property
    def num_special(self) -> int:
        """How many tokens the template adds."""
        return sum(map(len, self.special))

    def join(self, input_ids: IntArray, starts: IntArray, lengths: IntArray) -> TokenSequences:
        """Pairs of pieces of `input_ids`: (N, 2) starts and lengths, of the first text and the second."""
        fixed = np.array([i for part in self.special for i in part], np.int32)
        fixed_types = np.array([i for part in self.special_types for i in part], np.int32)
        sizes = np.array([len(part) for part in self.special], np.int64)
        fixed_starts = len(input_ids) + np.cumsum(sizes) - sizes
        num_pairs = len(starts)
        # (N, 5): special, first text, special, second text, special; each a piece of the pool.
        piece_starts = np.empty((num_pairs, 5), np.int64)
        piece_lengths = np.empty((num_pairs, 5), np.int64)
        piece_starts[:, 0::2], piece_lengths[:, 0::2] = fixed_starts, sizes
        piece_starts[:, 1::2], piece_lengths[:, 1::2] = starts, lengths
        ends = piece_lengths.reshape(-1).cumsum()
        source = np.arange(ends[-1] if num_pairs else 0)
        source += np.repeat(
            piece_starts.reshape(-1) - (ends - piece_lengths.reshape(-1)), piece_lengths.reshape(-1)
        )
        pool = np.concatenate([input_ids, fixed])
        types = np.repeat(
            np.tile([0, self.text_types[0], 0, self.text_types[1], 0], num_pairs), piece_lengths.reshape(-1)
        )
        is_fixed = source >= len(input_ids)
        types[is_fixed] = fixed_types[source[is_fixed] - len(input_ids)]
        offsets = np.concatenate([[0], ends[4::5]])
        return TokenSequences(pool[source], offsets, types.astype(np.int32))


@contextmanager
def keeping_texts(modules: Iterable[Any], kept: KeptTexts) -> Iterator[None]:
    """Within this context the modules that tokenise pairs look for the token ids of their texts in `kept` first."""
    tokenizations = [getattr(module, "tokenization", None) for module in modules]
    found = [one for one in tokenizations if isinstance(one, PairTokenization)]
    for tokenization in found:
        tokenization.texts = kept
    try:
        yield
    finally:
        for tokenization in found:
            tokenization.texts = None


def kept_lengths(lengths: IntArray, room: int, truncation: str = "longest_first") -> IntArray:
    """How many tokens of each pair's two texts are kept where there is room for `room`: (N, 2) -> (N, 2)."""
    if truncation == "only_second":
        first = np.minimum(lengths[:, 0], room)
        return np.stack([first, np.minimum(lengths[:, 1], room - first)], axis=1)
    shorter, longer = lengths.min(axis=1), lengths.max(axis=1)
    fits = shorter + longer <= room
    new_longer = np.where(shorter > room, shorter, np.maximum(shorter, room - shorter))
    both = shorter + new_longer > room  # neither text is short: half each, the odd token for the longer one
    new_shorter = np.where(both, room // 2, shorter)
    new_longer = np.where(both, room // 2 + room % 2, new_longer)
    shorter, longer = np.where(fits, shorter, new_shorter), np.where(fits, longer, new_longer)
    first_is_longer = lengths[:, 0] > lengths[:, 1]
    return np.stack(
        [np.where(first_is_longer, longer, shorter), np.where(first_is_longer, shorter, longer)], axis=1
    )


def learned_template(tokenizer: Any) -> PairTemplate | None:
    """The template of a fast tokenizer's pairs; None where it does more than join two texts."""
    backend = private_backend(tokenizer.backend_tokenizer)
    template = _read_template(backend.encode(*PROBE_TEXTS))
    if template is None:
        return None
    for pair in CHECKED_PAIRS:
        own = [backend.encode(text, add_special_tokens=False).ids for text in pair]
        lengths = np.array([[len(ids) for ids in own]])
        texts = np.array([*own[0], *own[1]], np.int32)
        for room in (None, 1, 4, 5):
            kept = lengths if room is None else kept_lengths(lengths, room)
            starts = np.array([[0, len(own[0])]])
            if tokenizer.truncation_side == "left":
                starts = starts + lengths - kept
            if room is None:
                backend.no_truncation()
            else:
                backend.enable_truncation(room + template.num_special, direction=tokenizer.truncation_side)
            found, expected = template.join(texts, starts, kept), backend.encode(*pair)
            backend.no_truncation()
            assert found.token_type_ids is not None
            if (found.input_ids.tolist(), found.token_type_ids.tolist()) != (expected.ids, expected.type_ids):
                return None
    return template


def _read_template(encoding: Any) -> PairTemplate | None:
    """The template behind one pair's encoding, as far as a pair can show it."""
    parts: list[list[int]] = [[], [], [], [], []]
    part = 0
    for place, number in enumerate(encoding.sequence_ids):
        wanted = {None: part + part % 2, 0: 1, 1: 3}[number]
        if wanted < part or wanted > 4:
            return None
        part = wanted
        parts[part].append(place)
    types = [[encoding.type_ids[place] for place in places] for places in parts]
    if any(len(set(types[i])) != 1 for i in (1, 3)):
        return None
    ids = [[encoding.ids[place] for place in places] for places in parts]
    return PairTemplate(
        (tuple(ids[0]), tuple(ids[2]), tuple(ids[4])),
        (tuple(types[0]), tuple(types[2]), tuple(types[4])),
        (types[1][0], types[3][0]),
    )
