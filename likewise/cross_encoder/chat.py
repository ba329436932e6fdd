"""ChatTemplate: a pair as two messages, a query and a document, in the words of the tokenizer's chat template.

So language models that were trained as rerankers (Qwen3-Reranker and others) meet their pairs. What the template writes behind
the texts ("... <|im_start|>assistant") is what the model answers to: where a pair is too long, its last tokens are those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FORMATS = ("flat", "structured")
ROLES = ("query", "document")
FLAT_MODEL_TYPES = frozenset({"apertus", "deepseek_v3", "gpt_oss", "seed_oss"})
"""Models whose templates look as if they took lists of parts, but take texts."""
SIGNS_OF_PARTS = ("content[0]", ".type", "'type'", '"type"', "message.content[")
"""What templates have in them that take a message's content as a list of parts, each with its type."""
PROBES = (("alpha", "bravo"), ("charlie", "bravo"), ("alpha", "foxtrot"))
"""A pair, and others of which one text differs: a role that a template passes over leaves the same words."""
FILLERS = ("0", "1 2 3 4")
EXAMPLE = "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}"


class ChatTemplate:
    """How pairs become messages.

    Args:
        message_format: "flat" where a message's content is a text, "structured" where it is a list of parts.
        options: Keyword arguments of `apply_chat_template`, such as `add_generation_prompt`; `restore_suffix=False` leaves cut
            pairs without what the template has at its end.

    Raises:
        ValueError: The format is unknown, or an option is one that the library sets by itself.
    """

    def __init__(self, message_format: str, options: Mapping[str, Any] | None = None) -> None:
        if message_format not in FORMATS:
            raise ValueError(
                f"The format of messages must be {' or '.join(map(repr, FORMATS))}, but is {message_format!r}."
            )
        self.message_format = message_format
        self.options = dict(options or {})
        own = {"padding", "truncation", "max_length", "return_tensors", "tokenize", "return_dict"}
        for name in sorted(own & set(self.options)):
            raise ValueError(
                f"`{name}` cannot be set for a chat template. Take it out; `max_seq_length` says where pairs are cut."
            )
        self._checked: tuple[str, str] | None = None
        self._suffixes: dict[tuple[str, str], list[int]] = {}

    @classmethod
    def fitting(
        cls, tokenizer: Any, model_type: str, options: Mapping[str, Any] | None = None
    ) -> ChatTemplate:
        """In the format that the tokenizer's template seems to take."""
        template = getattr(tokenizer, "chat_template", None)
        in_parts = not isinstance(template, str) or any(sign in template for sign in SIGNS_OF_PARTS)
        return cls("structured" if in_parts and model_type not in FLAT_MODEL_TYPES else "flat", options)

    @property
    def render_options(self) -> dict[str, Any]:
        """What `apply_chat_template` is given."""
        return {name: value for name, value in self.options.items() if name != "restore_suffix"}

    def settings(self, tokenizer: Any) -> str:
        """What decides the words of a pair."""
        return repr(
            (self.message_format, sorted(self.options.items()), getattr(tokenizer, "chat_template", None))
        )

    def messages(self, pair: str | tuple[str, str], prompt: str = "") -> list[dict[str, Any]]:
        """The messages of a pair (or of a single text, as the user's), with the prompt as the system's before them."""
        texts = [("user", pair)] if isinstance(pair, str) else list(zip(ROLES, pair, strict=True))
        if prompt:
            texts.insert(0, ("system", prompt))
        if self.message_format == "flat":
            return [{"role": role, "content": text} for role, text in texts]
        return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in texts]

    def render(self, tokenizer: Any, pairs: Sequence[str | tuple[str, str]], prompt: str = "") -> list[str]:
        """The words of each pair.

        Raises:
            ValueError: The template leaves out the query or the document, or fails.
        """
        if any(not isinstance(pair, str) for pair in pairs):
            why = self.failure(tokenizer)
            if why:
                raise ValueError(
                    f"The tokenizer's chat template cannot show a pair to the model: {why}. Set one that writes the messages of the "
                    f'roles "query" and "document", by `model.tokenizer.chat_template = ...`, with e.g. {EXAMPLE}'
                )
        return self._rendered(tokenizer, [self.messages(pair, prompt) for pair in pairs])

    def _rendered(self, tokenizer: Any, conversations: list[list[dict[str, Any]]]) -> list[str]:
        if not conversations:
            return []
        words: list[str] = tokenizer.apply_chat_template(conversations, tokenize=False, **self.render_options)
        return words

    def failure(self, tokenizer: Any) -> str:
        """Why the template cannot show a pair; empty where it can. Found by rendering, once for each template."""
        template = repr(getattr(tokenizer, "chat_template", None))
        if self._checked is None or self._checked[0] != template:
            self._checked = (template, self._failure(tokenizer))
        return self._checked[1]

    def _failure(self, tokenizer: Any) -> str:
        if getattr(tokenizer, "chat_template", None) is None:
            return "there is none"
        try:
            first, *others = self._rendered(tokenizer, [self.messages(pair) for pair in PROBES])
        except Exception as error:  # whatever a template does
            return f"it fails ({type(error).__name__}: {error})"
        missing = [role for role, words in zip(ROLES, others, strict=True) if words == first]
        return f"it leaves out the {' and the '.join(missing)}" if missing else ""

    def suffix(self, tokenizer: Any, is_pair: bool, prompt: str, encode: Any) -> list[int]:
        """The tokens that the template has behind the texts: those at the end of two renderings of different texts.

        Args:
            tokenizer: The tokenizer.
            is_pair: Whether they stand behind two texts, or one.
            prompt: The system's message.
            encode: Texts -> a list of ids for each, without special tokens.
        """
        if not self.options.get("restore_suffix", True):
            return []
        key = (self.settings(tokenizer), f"{is_pair} {prompt}")
        if key not in self._suffixes:
            fillers = [(filler, filler) if is_pair else filler for filler in FILLERS]
            first, second = encode(self._rendered(tokenizer, [self.messages(one, prompt) for one in fillers]))
            count = 0
            while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
                count += 1
            if count == min(len(first), len(second)):  # no text in it at all
                count = 0
            self._suffixes = {key: first[len(first) - count :]}  # of one prompt at a time
        return self._suffixes[key]
