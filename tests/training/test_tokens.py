"""Token ids are kept and found again, in memory that has a bound, or in a folder that is mapped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from small import sentences, small_model

from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.engine import TokenSequences
from likewise.losses import MultipleNegativesRankingLoss
from likewise.training.data import collation, reader, tokens
from likewise.training.data.family import Making
from likewise.training.data.plan import plan_data_set
from likewise.training.data.reader import DataSetReader
from likewise.training.data.texts import TEXTS
from likewise.training.data.tokens import TokenStore, mapped_tokens

ROWS = Dataset.from_dict({"anchor": [*"abcde"], "positive": [*"fghij"]})


def tokenised(values: Mapping[str, Any], with_types: bool, with_prompts: bool) -> TokenSequences:
    """Some tokens for each text; of rows with `d` or `e`, types and prompts too."""
    texts = [text for column in ("anchor", "positive") for text in values[column]]
    lengths = [1 + ord(text) % 5 for text in texts]
    marked = np.array([text in "deij" for text in texts])  # others have tokens of type 0, and no prompt
    return TokenSequences(
        np.concatenate([np.arange(n) + ord(text) for n, text in zip(lengths, texts, strict=True)]).astype(
            np.int32
        ),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.repeat(marked, lengths).astype(np.int32) if with_types and marked.any() else None,
        marked.astype(np.int64) if with_prompts and marked.any() else None,
    )


@pytest.mark.parametrize("with_types", [False, True])
@pytest.mark.parametrize("with_prompts", [False, True])
def test_a_file_gives_what_memory_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_types: bool, with_prompts: bool
) -> None:
    calls: list[int] = []

    def tokenise(values: Mapping[str, Any]) -> TokenSequences:
        calls.append(len(values["anchor"]))
        return tokenised(values, with_types, with_prompts)

    monkeypatch.setattr(tokens, "TOKENISED_ROWS", 3)
    file = mapped_tokens(ROWS, tokenise, tmp_path / "kept" / "all.arrow")
    assert calls == [3, 2]
    memory = TokenStore(ROWS, tokenise, 1000)
    memory(np.array([0, 1, 2]))
    for wanted in (np.array([4, 0, 0, 2]), np.arange(5), np.array([1])):
        for name in ("input_ids", "offsets", "lengths"):
            expected, found = (getattr(kept(wanted), name) for kept in (memory, file))
            np.testing.assert_array_equal(expected, found)
            assert expected.dtype == found.dtype
        for name in ("token_type_ids", "prompt_lengths"):  # memory has zeros for rows that have none
            expected, found = (getattr(kept(wanted), name) for kept in (memory, file))
            assert found is None or expected.dtype == found.dtype
            np.testing.assert_array_equal(
                0 if expected is None else expected, 0 if found is None else found, strict=False
            )
    again = mapped_tokens(ROWS, tokenise, tmp_path / "kept" / "all.arrow")
    assert calls == [3, 2, 3, 1, 1]  # those of memory, and none for the file
    np.testing.assert_array_equal(again(np.arange(5)).input_ids, memory(np.arange(5)).input_ids)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["all.arrow"]


def test_what_was_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(values: Mapping[str, Any]) -> TokenSequences:
        if "d" in values["anchor"]:
            raise KeyboardInterrupt
        return tokenised(values, False, False)

    monkeypatch.setattr(tokens, "TOKENISED_ROWS", 3)
    with pytest.raises(KeyboardInterrupt):
        mapped_tokens(ROWS, stopped, tmp_path / "all.arrow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bound", [40, 100])
def test_rows_beyond_the_bound_of_memory_are_tokenised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bound: int
) -> None:
    model, texts = small_model(tmp_path / "model"), sentences(24)
    texts[:4] = [
        text if bound == 40 else "a" for text in texts[:4]
    ]  # a first batch that is shorter than the others
    rows = Dataset.from_dict({"anchor": texts[:12], "positive": texts[12:]})
    plan = plan_data_set(rows, "", "training", MultipleNegativesRankingLoss(model))
    fresh = DataSetReader(rows, plan, Making(model, TEXTS))
    bounded = DataSetReader(rows, plan, Making(model, TEXTS), max_kept_tokens=bound)
    calls: list[int] = []

    def counted(model: Any, plan: Any, values: Mapping[str, Any]) -> TokenSequences:
        calls.append(len(values["anchor"]))
        return collation.tokenise(model, plan, values)

    monkeypatch.setattr(reader, "tokenise", counted)
    with caplog.at_level(logging.WARNING):
        for batch in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]) * 2:
            expected, found = fresh(batch)["columns"].tokens, bounded(batch)["columns"].tokens
            assert expected.input_ids.equal(found.input_ids)
            assert expected.lengths.equal(found.lengths)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "Memory does not hold the token ids of all training data"
    ]
    # Of three batches in two epochs: where the first one (read twice then) tells that not all fit, none are kept.
    assert len(calls) == 7 if bound == 40 else 3 < len(calls) < 6


@pytest.mark.parametrize(
    ("max_kept_tokens", "more"),
    [(0, {}), (100, {}), (100, {"max_steps": 2}), (100, {"num_train_epochs": 1}), (100, {"max_steps": 3})],
)
def test_token_ids_are_kept_or_not_as_the_arguments_say(
    tmp_path: Path, max_kept_tokens: int, more: dict[str, Any]
) -> None:
    model, texts = small_model(tmp_path / "model"), sentences(8)
    rows = Dataset.from_dict({"anchor": texts[:4], "positive": texts[4:]})
    trainer = SentenceTransformerTrainer(
        model,
        SentenceTransformerTrainingArguments(tmp_path / "run", max_kept_tokens=max_kept_tokens, **more),
        {"one": rows, "two": rows},
        loss=MultipleNegativesRankingLoss(model),
    )
    stores = [reader.tokens for reader in trainer.get_train_dataloader().dataset.readers]
    if not max_kept_tokens or more in (
        {"max_steps": 2},
        {"num_train_epochs": 1},
    ):  # no row comes a second time
        assert stores == [None, None]
    else:
        assert [store._most_tokens for store in stores] == [50, 50]


def test_a_negative_number_of_kept_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`max_kept_tokens` must be a whole number of at least 0, but is -1\. Drop it"
    ):
        SentenceTransformerTrainingArguments(tmp_path, max_kept_tokens=-1)
