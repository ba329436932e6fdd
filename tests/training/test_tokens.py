"""Token ids are kept and found again, in memory that has a bound, or in a folder that is mapped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from small import sentences, small_model

from likewise.engine import TokenSequences
from likewise.losses import MultipleNegativesRankingLoss
from likewise.training.data import reader, tokens
from likewise.training.data.family import Making
from likewise.training.data.plan import plan_data_set
from likewise.training.data.reader import DataSetReader
from likewise.training.data.texts import TEXTS
from likewise.training.data.tokens import TokenStore, load_tokens, save_tokens

ROWS = [np.array([0, 1, 2]), np.array([3, 4])]


def pieces(with_types: bool = False, with_prompts: bool = False) -> list[tuple[Any, TokenSequences]]:
    """Two columns of five rows, in two pieces of which only the last has types and prompts."""
    rng, made = np.random.default_rng(0), []
    for rows in ROWS:
        lengths = rng.integers(1, 7, 2 * len(rows))
        total, is_last = int(lengths.sum()), rows is ROWS[-1]
        made.append(
            (
                rows,
                TokenSequences(
                    rng.integers(0, 99, total).astype(np.int32),
                    np.concatenate([[0], np.cumsum(lengths)]),
                    rng.integers(0, 2, total).astype(np.int32) if with_types and is_last else None,
                    np.ones(2 * len(rows), np.int64) if with_prompts and is_last else None,
                ),
            )
        )
    return made


@pytest.mark.parametrize("with_types", [False, True])
@pytest.mark.parametrize("with_prompts", [False, True])
def test_a_folder_gives_what_memory_gives(tmp_path: Path, with_types: bool, with_prompts: bool) -> None:
    made = pieces(with_types, with_prompts)
    memory = TokenStore(5, 2)
    for rows, sequences in made:
        memory.add(rows, sequences)
    save_tokens(tmp_path / "kept", 5, 2, made)
    folder = load_tokens(tmp_path / "kept")
    for wanted in (np.array([4, 0, 0, 2]), np.arange(5)):
        for name in ("input_ids", "offsets", "token_type_ids", "prompt_lengths"):
            expected, found = (getattr(store.get(wanted), name) for store in (memory, folder))
            assert (expected is None) == (found is None)
            np.testing.assert_array_equal(expected, found)
            assert expected is None or expected.dtype == found.dtype
    assert isinstance(folder._ids.base, np.memmap)
    assert not len(folder.missing(np.arange(5)))


def test_a_folder_that_another_process_wrote_meanwhile_stays(tmp_path: Path) -> None:
    def slow() -> Iterator[tuple[Any, TokenSequences]]:
        yield pieces()[0]
        save_tokens(tmp_path / "kept", 5, 2, pieces())
        yield pieces()[1]

    save_tokens(tmp_path / "kept", 5, 2, slow())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert len(load_tokens(tmp_path / "kept").get(np.arange(5))) == 10


def test_what_was_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> Iterator[tuple[Any, TokenSequences]]:
        yield pieces()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_tokens(tmp_path / "kept", 5, 2, stopped())
    assert list(tmp_path.iterdir()) == []


def test_rows_beyond_the_bound_of_memory_are_tokenised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, texts = small_model(tmp_path / "model"), sentences(24)
    rows = Dataset.from_dict({"anchor": texts[:12], "positive": texts[12:]})
    plan = plan_data_set(rows, "", "training", MultipleNegativesRankingLoss(model))
    fresh = DataSetReader(rows, plan, Making(model), TEXTS, False)
    monkeypatch.setattr(tokens, "MOST_TOKENS", 40)
    bounded = DataSetReader(rows, plan, Making(model), TEXTS, True)
    with caplog.at_level(logging.WARNING):
        for batch in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]) * 2:
            expected, found = fresh(batch)["columns"].tokens, bounded(batch)["columns"].tokens
            assert expected.input_ids.equal(found.input_ids)
            assert expected.lengths.equal(found.lengths)
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "Memory holds the token ids of a part of the training data only"
    ]
    assert bounded.store is not None
    assert 0 < len(bounded.store.missing(np.arange(12))) < 12


def test_a_folder_is_written_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = small_model(tmp_path / "model"), sentences(20)
    rows = Dataset.from_dict({"anchor": texts[:10], "positive": texts[10:]})
    plan = plan_data_set(rows, "", "training", MultipleNegativesRankingLoss(model))
    expected = DataSetReader(rows, plan, Making(model), TEXTS, True)(range(10))["columns"].tokens
    monkeypatch.setattr(reader, "TOKENISED_ROWS", 3)
    kept = DataSetReader(rows, plan, Making(model), TEXTS, True, str(tmp_path / "tokens"))
    assert kept(range(10))["columns"].tokens.input_ids.equal(expected.input_ids)
