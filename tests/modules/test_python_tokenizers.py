"""Tokenizers that are written in Python: each text is read once, whatever its length, and the ids are the tokenizer's own."""

from __future__ import annotations

from typing import Any

import pytest
from small import SPECIAL, WORDS, sentences
from transformers import PreTrainedTokenizer

from likewise.modules.text import Tokenization

TEXTS = ["", *sentences(6, longest=12)]
PAIRS = list(zip(TEXTS, sentences(7, seed=1), strict=True))


class PythonTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Splits at spaces, and remembers what it was given."""

    def __init__(self, model_input_names: list[str]) -> None:
        self.words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
        self.read: list[str] = []
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        super().__init__(**dict(zip(names, SPECIAL, strict=True)), model_input_names=model_input_names)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return dict(self.words)

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        self.read.append(text)
        return text.split()

    def _convert_token_to_id(self, token: str) -> int:
        return self.words.get(token, 1)

    def build_inputs_with_special_tokens(
        self, first: list[int], second: list[int] | None = None
    ) -> list[int]:
        return [2, *first, 3] + ([] if second is None else [*second, 3])

    def create_token_type_ids_from_sequences(
        self, first: list[int], second: list[int] | None = None
    ) -> list[int]:
        return [0] * (len(first) + 2) + ([] if second is None else [1] * (len(second) + 1))


@pytest.mark.parametrize("names", [["input_ids"], ["input_ids", "token_type_ids"]])
@pytest.mark.parametrize("limit", [None, 6, 100])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_each_text_is_read_once_and_its_ids_are_the_tokenizers(
    names: list[str], limit: int | None, texts: list[Any]
) -> None:
    tokenizer = PythonTokenizer(names)
    assert not tokenizer.is_fast
    tokenization = Tokenization(tokenizer, max_length=limit)
    found = tokenization(texts)
    parts = [part for text in texts for part in ([text] if isinstance(text, str) else text) if part]
    assert tokenizer.read == parts
    limits = {} if limit is None else {"truncation": True, "max_length": limit}
    expected = tokenizer(texts, **limits)
    whole = tokenizer(texts)["input_ids"]
    rows = [found.input_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert rows == expected["input_ids"]
    assert tokenization.num_truncated == sum(
        len(ids) > len(cut) for ids, cut in zip(whole, expected["input_ids"], strict=True)
    )
    if texts is PAIRS and "token_type_ids" in names:
        types = found.token_type_ids
        assert types is not None
        assert types.tolist() == [kind for row in expected["token_type_ids"] for kind in row]
    else:
        assert found.token_type_ids is None


def test_no_texts_have_no_tokens() -> None:
    assert len(Tokenization(PythonTokenizer(["input_ids"]), max_length=6)([]).offsets) == 1
