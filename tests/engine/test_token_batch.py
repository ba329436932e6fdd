"""TokenSequences, TokenBatch and ColumnBatch keep every token in its sequence and every sequence in its place."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import small_tokenizer
from torch import Tensor

from likewise.engine import ColumnBatch, TokenBatch, TokenSequences
from likewise.engine.features import FEATURES, Padding
from likewise.engine.token_batch import chunked_lengths

settings.register_profile("short", max_examples=50)
settings.load_profile("short")

LISTS = st.lists(st.lists(st.integers(1, 1000), max_size=9), max_size=8)
SOME_LISTS = st.lists(st.lists(st.integers(1, 1000), max_size=9), min_size=1, max_size=8)


def sequences_of(lists: list[list[int]]) -> TokenSequences:
    """With token types and prompt lengths that can be told from the ids."""
    sequences = TokenSequences.from_lists(lists, [[token % 2 for token in ids] for ids in lists])
    prompts = np.array([min(len(ids), 2) for ids in lists], np.int64)
    return TokenSequences(sequences.input_ids, sequences.offsets, sequences.token_type_ids, prompts)


def lists_of(batch: TokenBatch, per_token: Tensor | None = None) -> list[list[int]]:
    """Each sequence's values, in the caller's order."""
    pieces = (batch.input_ids if per_token is None else per_token).split(batch.lengths.tolist())
    return [pieces[place].tolist() for place in batch.place.tolist()]


def check(batch: TokenBatch, lists: list[list[int]]) -> None:
    """All that must hold for a batch of these sequences."""
    assert lists_of(batch) == lists
    assert batch.token_type_ids is not None
    assert batch.prompt_lengths is not None
    assert lists_of(batch, batch.token_type_ids) == [[token % 2 for token in ids] for ids in lists]
    assert batch.restore(batch.prompt_lengths).tolist() == [min(len(ids), 2) for ids in lists]
    assert batch.lengths.tolist() == sorted(map(len, lists))
    assert len(batch) == len(lists)
    assert batch.num_tokens == sum(map(len, lists))
    assert batch.longest == max(map(len, lists), default=0)
    assert lists_of(batch, batch.positions) == [list(range(len(ids))) for ids in lists]
    assert sum(length * count for length, count in batch.groups) == batch.num_tokens
    assert [length for length, _ in batch.groups] == sorted({len(ids) for ids in lists if ids})
    ends = batch.cumulative_lengths
    assert ends.dtype == torch.int32
    assert torch.equal(ends[1:] - ends[:-1], batch.lengths.int())
    assert torch.equal(batch.starts, ends[:-1].long())


@given(LISTS)
def test_packing_keeps_every_token_and_sorts_by_length(lists: list[list[int]]) -> None:
    check(sequences_of(lists).pack(), lists)


@given(LISTS)
def test_padding_and_taking_it_off_give_the_tokens_back(lists: list[list[int]]) -> None:
    batch = sequences_of(lists).pack()
    padded, mask = batch.pad(batch.input_ids, -1), batch.padded_mask()
    assert padded.shape == mask.shape == (len(lists), batch.longest)
    for row, places, ids in zip(padded.tolist(), mask.tolist(), lists, strict=True):
        assert row == ids + [-1] * (batch.longest - len(ids))
        assert places == [1] * len(ids) + [0] * (batch.longest - len(ids))
    assert torch.equal(batch.unpad(padded, mask), batch.input_ids)


@given(SOME_LISTS, st.booleans())
def test_a_padded_batch_packs_whichever_side_its_padding_is_on(lists: list[list[int]], left: bool) -> None:
    longest = max(map(len, lists)) + 1
    ids, mask = torch.full((len(lists), longest), 7), torch.zeros(len(lists), longest, dtype=torch.long)
    for row, tokens in enumerate(lists):
        part = slice(longest - len(tokens), longest) if left else slice(0, len(tokens))
        ids[row, part], mask[row, part] = torch.tensor(tokens, dtype=torch.long), 1
    prompts = torch.tensor([min(len(tokens), 2) for tokens in lists])
    batch = TokenBatch.from_padded(ids, mask, ids % 2, prompts)
    check(batch, lists)
    assert torch.equal(batch.unpad(ids, mask), batch.input_ids)


def test_one_prompt_length_holds_for_all_rows_of_a_padded_batch() -> None:
    mask = torch.ones(3, 4, dtype=torch.long)
    for given_length in (2, torch.tensor(2), torch.tensor([2])):
        batch = TokenBatch.from_padded(mask, mask, prompt_length=given_length)
        assert batch.prompt_lengths is not None
        assert batch.prompt_lengths.tolist() == [2, 2, 2]


@given(LISTS, st.integers(1, 30))
def test_chunks_stay_within_the_budget_and_join_to_the_batch(lists: list[list[int]], budget: int) -> None:
    batch = sequences_of(lists).pack()
    chunks = batch.chunks(budget)
    assert all(chunk.num_tokens <= budget or len(chunk) == 1 for chunk in chunks)
    assert torch.equal(torch.cat([chunk.input_ids for chunk in chunks]), batch.input_ids)
    firsts = torch.cat([chunk.restore(chunk.lengths) for chunk in chunks])
    assert batch.restore(firsts).tolist() == list(map(len, lists))
    for chunk in chunks:
        check(chunk, lists_of(chunk))


@given(st.lists(st.integers(0, 20), max_size=20), st.integers(1, 40))
def test_runs_of_sequences_are_cut_as_late_as_the_budget_allows(lengths: list[int], budget: int) -> None:
    slices = list(chunked_lengths(lengths, lambda: budget))
    assert [i for part in slices for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part, after in itertools.pairwise(slices):
        assert sum(lengths[part]) <= budget or part.stop - part.start == 1
        assert sum(lengths[part]) + lengths[after.start] > budget


@given(LISTS, st.data())
def test_selected_sequences_come_in_the_order_asked_for(lists: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, max(len(lists) - 1, 0)), max_size=10 if lists else 0))
    chosen = sequences_of(lists).select(np.array(rows, np.int64))
    check(chosen.pack(), [lists[row] for row in rows])


@given(SOME_LISTS, SOME_LISTS)
def test_joined_sequences_come_one_part_after_the_other(
    first: list[list[int]], second: list[list[int]]
) -> None:
    joined = TokenSequences.concatenate([sequences_of(first), sequences_of(second)])
    check(joined.pack(), first + second)
    assert joined.lengths.tolist() == [len(ids) for ids in first + second]


def test_a_part_without_types_or_prompts_counts_as_zeros() -> None:
    plain = TokenSequences.from_lists([[4, 5]])
    assert TokenSequences.concatenate([plain, plain]).token_type_ids is None
    joined = TokenSequences.concatenate([plain, sequences_of([[7, 8, 9]])]).pack()
    assert joined.token_type_ids is not None
    assert joined.prompt_lengths is not None
    assert joined.token_type_ids.tolist() == [0, 0, 1, 0, 1]
    assert joined.prompt_lengths.tolist() == [0, 2]


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_columns_are_padded_each_by_its_own_longest_text(
    columns: int, rows: int, data: st.DataObject
) -> None:
    ids = st.lists(st.integers(1, 9), min_size=1, max_size=6)
    lists = data.draw(st.lists(ids, min_size=columns * rows, max_size=columns * rows))
    batch = ColumnBatch(sequences_of(lists).pack(), columns)
    assert (len(batch), batch.num_rows) == (columns, rows)
    for number, features in enumerate(batch):
        own = lists[number * rows : (number + 1) * rows]
        assert features["input_ids"].shape == (rows, max(map(len, own)))
        kept = [
            row[mask.bool()].tolist()
            for row, mask in zip(features["input_ids"], features["attention_mask"], strict=True)
        ]
        assert kept == own
        assert features["prompt_length"].tolist() == [min(len(ids), 2) for ids in own]
    parts = batch.split(torch.arange(columns * rows))
    assert [part.tolist() for part in parts] == [
        list(range(c * rows, (c + 1) * rows)) for c in range(columns)
    ]


def test_what_a_model_adds_to_a_columns_features_does_not_stay_in_the_batch() -> None:
    batch = ColumnBatch(sequences_of([[1, 2], [3]]).pack(), 2)
    batch[0]["sentence_embedding"] = torch.zeros(1)
    assert "sentence_embedding" not in batch[0]
    assert [list(column) for column in batch[:1]] == [
        ["input_ids", "attention_mask", "token_type_ids", "prompt_length"]
    ]


def test_a_batch_on_another_device_keeps_lengths_and_order() -> None:
    batch = sequences_of([[1, 2], [3]]).pack().to("meta")
    assert batch.device.type == "meta"
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.device.type == "meta"
    assert batch.lengths.tolist() == [1, 2]
    columns = ColumnBatch(sequences_of([[1, 2], [3]]).pack(), 2, torch.zeros(2, 1, dtype=torch.long)).to(
        "meta"
    )
    assert columns.ids is not None
    assert columns.ids.device.type == columns.tokens.device.type == "meta"


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_features_are_those_of_the_tokenizer(side: Any) -> None:
    tokenizer = small_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    tokenizer.pad_token, tokenizer.padding_side = "[MASK]", side
    columns = [["a cat sees the dog", "rain"], ["the sun", "a"]]
    expected = [tokenizer(texts, padding=True, return_tensors="pt") for texts in columns]
    ids = [row for column in columns for row in tokenizer(column)["input_ids"]]
    padding = Padding.of(tokenizer)
    batch = ColumnBatch(TokenSequences.from_lists(ids).pack(), 2, paddings=(padding, padding))
    for found, wanted in zip(batch, expected, strict=True):
        assert set(found) == set(wanted)
        for key, values in wanted.items():
            torch.testing.assert_close(found[key], values)
    hidden = torch.randn(batch.tokens.num_tokens, 5)
    features = batch.tokens.to_features(padding, token_embeddings=hidden, sentence_embedding=torch.ones(4, 5))
    assert features["token_embeddings"].shape == (4, 7, 5)
    torch.testing.assert_close(
        batch.tokens.unpad(features["token_embeddings"], features["attention_mask"]), hidden
    )
    assert set(features) <= set(FEATURES)
