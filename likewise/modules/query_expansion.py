"""What texts are tokenised for: a limit for queries and one for documents, and queries that are filled up.

Reference: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypedDict

from likewise.engine import TokenBatch
from likewise.engine.features import Padding
from likewise.modules.processing import ProcessingKwargs

QUERY, DOCUMENT = "query", "document"


class QueryExpansionConfig(TypedDict, total=False):
    """The dict of which a QueryExpansion is made, by its attributes."""

    strategy: Literal["fixed", "min"]
    attend: bool
    token: str | None
    length: int


@dataclass(frozen=True)
class QueryExpansion:
    """How queries are filled up with tokens that are scored like the others.

    Attributes:
        strategy: "fixed": every query has exactly `length` tokens, longer ones are cut; "min": at least so many.
        attend: Whether the query's own tokens see the added ones.
        token: What is added; None for the tokenizer's mask token, or else its end of sequence.
        length: Tokens, the special ones and the prompt's counted in.
    """

    strategy: Literal["fixed", "min"]
    attend: bool = False
    token: str | None = None
    length: int = 32

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> QueryExpansion:
        """From a dict, checked key by key."""
        if not isinstance(given, Mapping):
            raise ValueError(
                f"`query_expansion` must be a dict, e.g. {{'strategy': 'fixed', 'length': 32}}, but is {given!r}."
            )
        fits = {
            "strategy": given.get("strategy") in ("fixed", "min"),
            "attend": isinstance(given.get("attend", False), bool),
            "token": isinstance(given.get("token"), str | None),
            "length": type(given.get("length")) is int and given["length"] > 0,
        }
        wrong = [name for name, is_right in fits.items() if not is_right] + sorted(set(given) - set(fits))
        if wrong:
            raise ValueError(
                f"`query_expansion` has `{wrong[0]}={given.get(wrong[0])!r}`. It takes `strategy` ('fixed' or 'min'), `length` (a "
                "whole number of at least 1), `attend` (True or False) and `token` (a text), e.g. "
                "{'strategy': 'fixed', 'length': 32}."
            )
        return cls(**given)

    def token_id(self, tokenizer: Any) -> int:
        """The id of what is added, which the tokenizer must have."""
        token = self.token or tokenizer.mask_token or tokenizer.eos_token
        known: int | None = tokenizer.convert_tokens_to_ids(token)  # not `get_vocab`, which copies all of it
        if known is None or (known == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise ValueError(
                f"`query_expansion` fills queries up with {token!r}, but the tokenizer has no such token. "
                "Name one that it has: `query_expansion={..., 'token': ...}`."
            )
        return known


@dataclass(frozen=True)
class ByTask:
    """What depends on what a text is for.

    Attributes:
        query_length: Queries are cut at this many tokens; None for the limit of all texts.
        document_length: Documents likewise.
        expansion: How queries are filled up; None for not at all.

    Raises:
        ValueError: A length is no whole number of at least 1, or queries are cut below what they are filled up to.
    """

    query_length: int | None = None
    document_length: int | None = None
    expansion: QueryExpansion | None = None

    def __post_init__(self) -> None:
        for name in ("query_length", "document_length"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"`{name}` must be a whole number of at least 1 or None, but is {value!r}.")
        least = self.expansion.length if self.expansion else 0
        if self.query_length is not None and self.query_length < least:
            raise ValueError(
                f"`query_length={self.query_length}` is less than the {least} tokens to which `query_expansion` fills queries up. "
                "Drop `query_length`, or lower the expansion's `length`."
            )

    def processing(self, task: str | None, given: ProcessingKwargs) -> ProcessingKwargs:
        """The `processing_kwargs` for texts of a task, where these are given."""
        text = dict(given.get("text", {}))
        if task == QUERY and self.expansion is not None and self.expansion.strategy == "fixed":
            text["max_length"] = self.expansion.length
        elif task in (QUERY, DOCUMENT):
            limit = self.query_length if task == QUERY else self.document_length
            if limit is not None:
                text.setdefault("max_length", limit)
        return {**given, "text": text} if text else given

    def expand(self, tokens: TokenBatch, task: str | None, tokenizer: Any) -> TokenBatch:
        """The batch, filled up if it holds queries."""
        if task != QUERY or self.expansion is None:
            return tokens
        token_id, side = self.expansion.token_id(tokenizer), Padding.of(tokenizer).side
        return tokens.expanded(self.expansion.length, token_id, self.expansion.attend, side)

    def get_config_dict(self) -> dict[str, Any]:
        """What is set."""
        values = {
            "query_length": self.query_length,
            "document_length": self.document_length,
            "query_expansion": None if self.expansion is None else asdict(self.expansion),
        }
        return {name: value for name, value in values.items() if value is not None}
