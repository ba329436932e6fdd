"""Token ids of texts that come again are read once, are the same, and take no more memory than they may."""

from __future__ import annotations

import random

import pytest

from likewise.cross_encoder.kept_texts import BYTES_OF_A_TEXT, KeptTexts


def encode(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


class Counting:
    """Encodes, and says how many texts it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> list[list[int]]:
        self.texts += texts
        return encode(texts)


@pytest.mark.parametrize("most_bytes", [0, 5_000, 2**28])
def test_ids_are_those_of_reading_each_text_anew(most_bytes: int) -> None:
    rng, kept, way = random.Random(0), KeptTexts(most_bytes), object()
    texts = ["", "é\ud800", *("".join(rng.choices("abc ", k=rng.randint(0, 60))) for _ in range(200))]
    for _ in range(60):
        asked = list(dict.fromkeys(rng.choices(texts, k=20)))
        found = kept.get(way, asked, encode)
        expected = encode(asked)
        assert [found.select([i]).input_ids.tolist() for i in range(len(asked))] == expected  # type: ignore[arg-type]
        assert kept.num_bytes <= most_bytes


def test_each_text_is_read_once() -> None:
    kept, way, reads = KeptTexts(), object(), Counting()
    kept.get(way, ["a", "b"], reads)
    kept.get(way, ["b", "c", "a"], reads)
    kept.get(way, ["c"], reads)
    assert reads.texts == ["a", "b", "c"]
    assert len(kept) == 3


def test_another_way_of_reading_forgets_all() -> None:
    kept, reads = KeptTexts(), Counting()
    kept.get(object(), ["a"], reads)
    kept.get(object(), ["a"], reads)
    assert reads.texts == ["a", "a"]
    assert len(kept) == 1


def test_what_comes_when_memory_is_full_is_read_again() -> None:
    kept, way, reads = KeptTexts(BYTES_OF_A_TEXT + 8), object(), Counting()
    kept.get(way, ["a"], reads)
    for _ in range(2):
        assert kept.get(way, ["b", "a"], reads).input_ids.tolist() == [98, 97]
    assert reads.texts == ["a", "b", "b"]
