"""Streamed data sets train as others do: shuffled, without duplicates, mixed, skipped, with a length where one is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset, IterableDatasetDict, load_dataset
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.training.data.streams import StreamBatchSampler, StreamRows, known_length
from likewise.training.samplers.default import DefaultBatchSampler

Arguments = Callable[..., Any]


def stream_of(rows: int) -> IterableDataset:
    return Dataset.from_dict({"text": [str(n) for n in range(rows)]}).to_iterable_dataset(num_shards=2)


def read(sampler: StreamBatchSampler) -> list[list[str]]:
    return [sampler.rows[batch]["text"] for batch in sampler]


def sampler_of(rows: int, **options: Any) -> StreamBatchSampler:
    def make(window: Any, drop_last: bool, generator: torch.Generator) -> Any:
        return DefaultBatchSampler(window, 4, drop_last, generator=generator, seed=None)

    settings = {"batch_size": 4, "drop_last": False, "window": 20} | options
    return StreamBatchSampler(StreamRows(stream_of(rows), rows), make, **settings)


@pytest.mark.parametrize("rows", [3, 20, 21, 75, 80])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_row_comes_once_in_windows_that_are_shuffled(rows: int, drop_last: bool) -> None:
    sampler = sampler_of(rows, drop_last=drop_last)
    batches = read(sampler)
    assert len(batches) == len(sampler)
    texts = [int(text) for batch in batches for text in batch]
    assert sorted(set(texts)) == sorted(texts)
    assert len(texts) == (rows - rows % 4 if drop_last else rows)
    assert all(abs(place - text) < 2 * 20 for place, text in enumerate(texts))
    if rows > 40:
        assert texts != sorted(texts)
        sampler.set_epoch(1)
        assert read(sampler) != batches


def test_a_window_of_one_keeps_the_order() -> None:
    assert [int(text) for batch in read(sampler_of(30, window=1)) for text in batch] == list(range(30))


def test_a_length_is_known_where_the_source_tells(tmp_path: Path) -> None:
    stream = stream_of(30)
    assert known_length(stream) == 30
    assert known_length(stream.shuffle(seed=0, buffer_size=5).map(lambda row: row)) == 30
    assert known_length(stream.take(7)) == 7
    assert known_length(stream.take(70)) == 30
    assert known_length(stream.filter(lambda row: True)) is None
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "b"}\n' * 3, encoding="utf-8")
    assert known_length(load_dataset("json", data_files=str(path), split="train", streaming=True)) is None


def test_max_steps_is_not_needed_where_a_length_is_known(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    args = arguments(max_steps=-1, num_train_epochs=2)
    trainer = SentenceTransformerTrainer(
        model, args, triplets(30).to_iterable_dataset(), loss=losses.TripletLoss(model)
    )
    trainer.train()
    assert trainer.state.global_step == 2 * 4


def test_a_stream_without_a_length_needs_max_steps_and_starts_over(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    data = triplets(20).to_iterable_dataset().filter(lambda row: True)
    loss = losses.MultipleNegativesRankingLoss(model)
    with pytest.raises(
        ValueError, match=r"The training data is a stream whose length is not known.* `max_steps`"
    ):
        SentenceTransformerTrainer(model, arguments(max_steps=-1), data, loss=loss)
    trainer = SentenceTransformerTrainer(model, arguments(max_steps=7), data, loss=loss)
    trainer.train()
    assert trainer.state.global_step == 7


def test_streams_mix_with_other_data_sets(model: SentenceTransformer, arguments: Arguments) -> None:
    loss = {"a": losses.TripletLoss(model), "b": losses.CoSENTLoss(model)}
    known = {"a": triplets(24).to_iterable_dataset(), "b": scored_pairs(16)}
    trainer = SentenceTransformerTrainer(model, arguments(max_steps=-1, num_train_epochs=1), known, loss=loss)
    trainer.train()
    assert trainer.state.global_step == 3 + 2
    unknown = IterableDatasetDict(
        known | {"b": scored_pairs(16).to_iterable_dataset().filter(lambda row: True)}
    )
    with pytest.raises(
        ValueError, match=r"data set 'b' is a stream.*`multi_dataset_weights`, or .*round_robin"
    ):
        SentenceTransformerTrainer(model, arguments(), unknown, loss=loss)
    args = arguments(max_steps=9, multi_dataset_weights={"a": 1, "b": 2})
    trainer = SentenceTransformerTrainer(model, args, unknown, loss=loss)
    trainer.train()
    assert trainer.state.global_step == 9


def test_a_stream_without_duplicates_has_none_in_a_batch(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    rows = [{"anchor": f"a cat {n % 12}", "positive": f"the dog {n}"} for n in range(96)]
    seen: list[list[int]] = []

    class Watched(losses.MultipleNegativesRankingLoss):
        def forward(self, columns: Any, labels: Any = None, *args: Any) -> Any:
            seen.append([tuple(ids) for ids in columns[0]["input_ids"].tolist()])  # type: ignore[misc]
            return super().forward(columns, labels, *args)

    args = arguments(max_steps=-1, num_train_epochs=1, batch_sampler="no_duplicates", shuffle_buffer_size=40)
    model.tokenizer.add_tokens([str(n) for n in range(96)])
    data = Dataset.from_list(rows).to_iterable_dataset()
    model[0].auto_model.resize_token_embeddings(len(model.tokenizer))
    SentenceTransformerTrainer(model, args, data, loss=Watched(model)).train()
    assert len(seen) == 12
    assert all(len(set(batch)) == len(batch) for batch in seen)


def test_a_stream_can_be_evaluated_on(model: SentenceTransformer, arguments: Arguments) -> None:
    data = scored_pairs(20)
    loss = losses.CosineSimilarityLoss(model)
    both = [
        SentenceTransformerTrainer(model, arguments(), data, each, loss).evaluate()["eval_loss"]
        for each in (data, data.to_iterable_dataset())
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-6)
