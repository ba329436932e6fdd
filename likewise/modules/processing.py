"""How texts are tokenised beyond the maximum length: `processing_kwargs`, as a module keeps them and as one call gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

from likewise.modules.text import Tokenization

KINDS = ("common", "text", "audio", "image", "video", "chat_template")
TRUNCATIONS = ("longest_first", "only_first", "only_second")
NO_TRUNCATION = (False, "do_not_truncate")
PADDINGS = (True, False, "longest", "max_length", "do_not_pad")
WITHOUT_EFFECT = ("return_tensors", "return_attention_mask", "verbose")
FITTING: dict[str, Callable[[Any], bool]] = {
    "max_length": lambda value: value is None or (type(value) is int and value > 0),
    "truncation": lambda value: value is True or value in (*NO_TRUNCATION, *TRUNCATIONS),
    "add_special_tokens": lambda value: isinstance(value, bool),
    "padding": lambda value: value in PADDINGS,
    "padding_side": lambda value: value in (None, "left", "right"),
    "pad_to_multiple_of": lambda value: value is None or (type(value) is int and value > 0),
}
"""Whether a value is one that the argument of this name can have."""
KEPT_WAYS = 8  # of tokenising: most programs have one or two
_choosing = Lock()

ProcessingKwargs = Mapping[str, Mapping[str, Any]]
"""Keyword arguments of the tokenizer's call by kind of input: `{"text": {"max_length": 128}}`; "common" is for all."""


@dataclass(frozen=True)
class Processing:
    """What `processing_kwargs` say for texts.

    Attributes:
        max_length: Texts are cut at this many tokens; None for the module's own limit.
        truncation: Which text of a pair is cut; None to cut nothing.
        add_special_tokens: Whether texts get the tokenizer's special tokens.
        to_max_length: Whether padded features are as wide as the longest that a text may be.
        multiple: Padded features are a multiple of so many wide.
        side: Where padded features have their padding; None for the tokenizer's side.
    """

    max_length: int | None = None
    truncation: str | None = "longest_first"
    add_special_tokens: bool = True
    to_max_length: bool = False
    multiple: int = 1
    side: Literal["left", "right"] | None = None

    @classmethod
    def of(cls, kwargs: ProcessingKwargs) -> Processing:
        """Read `processing_kwargs`, which are checked."""
        check_processing_kwargs(kwargs)
        given = {**kwargs.get("common", {}), **kwargs.get("text", {})}
        truncation = given.get("truncation", True)
        return cls(
            given.get("max_length"),
            None if truncation in NO_TRUNCATION else "longest_first" if truncation is True else truncation,
            given.get("add_special_tokens", True),
            given.get("padding") == "max_length",
            given.get("pad_to_multiple_of") or 1,
            given.get("padding_side"),
        )

    @property
    def is_usual(self) -> bool:
        """Whether texts are tokenised as without any."""
        return (self.max_length, self.truncation, self.add_special_tokens) == (None, "longest_first", True)

    def limit(self, max_seq_length: int | None) -> int | None:
        """At how many tokens texts are cut, where the module's own limit is this."""
        if self.truncation is None:
            return None
        return max_seq_length if self.max_length is None else self.max_length

    def width(self, longest: int, max_seq_length: int | None) -> int:
        """How wide padded features are whose longest text has this many tokens."""
        fixed = self.max_length if self.max_length is not None else max_seq_length
        width = max(longest, fixed) if self.to_max_length and fixed is not None else longest
        return -(-width // self.multiple) * self.multiple


def check_processing_kwargs(kwargs: Any) -> None:
    """Refuse what cannot be honoured: an unknown kind or argument, a value not of its kind."""
    if not isinstance(kwargs, Mapping) or not all(isinstance(part, Mapping) for part in kwargs.values()):
        raise ValueError(
            f'`processing_kwargs` must be a dict of dicts, e.g. {{"text": {{"max_length": 128}}}}, but is {kwargs!r}.'
        )
    unknown = [kind for kind in kwargs if kind not in KINDS]
    if unknown:
        raise ValueError(
            f"`processing_kwargs` has {', '.join(map(repr, unknown))}; it takes {', '.join(KINDS)}. Put arguments of the "
            'tokenizer\'s call under "text".'
        )
    if kwargs.get("chat_template"):
        raise ValueError(
            "`processing_kwargs` has arguments for a chat template, but texts are embedded as they are here. Take "
            '"chat_template" out.'
        )
    for key, value in {**kwargs.get("common", {}), **kwargs.get("text", {})}.items():
        if key not in WITHOUT_EFFECT and not (key in FITTING and FITTING[key](value)):
            raise ValueError(
                f"`processing_kwargs` has `{key}={value!r}` for texts, which is not known here. It takes max_length, "
                f"truncation (True, False, {', '.join(TRUNCATIONS)}), add_special_tokens, padding, padding_side and pad_to_multiple_of."
            )


def merged(own: ProcessingKwargs, of_call: ProcessingKwargs | None) -> ProcessingKwargs:
    """A module's `processing_kwargs` with those of one call over them, argument by argument."""
    check_processing_kwargs(of_call or {})
    kinds = {**own, **(of_call or {})}
    return {kind: {**own.get(kind, {}), **(of_call or {}).get(kind, {})} for kind in kinds}


def kept_tokenization(
    known: dict[tuple[Any, ...], Tokenization], processing: Processing, tokenization: Tokenization
) -> Tokenization:
    """What tokenises texts this way, for the tokenizer as it is now; the last few are kept in `known`."""
    key = (processing, *tokenization.state)
    with _choosing:
        if key not in known:
            known[key] = Tokenization(
                tokenization.tokenizer,
                tokenization.do_lower_case,
                processing.limit(tokenization.max_length),
                processing.truncation or "longest_first",
                processing.add_special_tokens,
            )
            if len(known) > KEPT_WAYS:
                del known[next(iter(known))]
        return known[key]
