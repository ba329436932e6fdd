"""Batch samplers, and the mixing of several data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import ConcatDataset
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.training.run.arguments import Exhausted
from likewise.training.samplers.default import DefaultBatchSampler, GroupByLabelBatchSampler
from likewise.training.samplers.multi_dataset import ProportionalBatchSampler, RoundRobinBatchSampler
from likewise.training.samplers.no_duplicates import NoDuplicatesBatchSampler

Arguments = Callable[..., Any]


def values(rows: Any) -> list[set[str]]:
    return [set(row.values()) for row in rows]


def messy(rows: int, vocabulary: int, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    return Dataset.from_dict(
        {name: [f"text {n}" for n in random.integers(0, vocabulary, rows)] for name in ("anchor", "positive")}
    )


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("rows", "vocabulary"), [(200, 5000), (200, 400), (60, 40), (7, 3)])
def test_no_duplicates_has_its_exact_length_and_no_value_twice(
    rows: int, vocabulary: int, processes: int, drop_last: bool
) -> None:
    data = messy(rows, vocabulary)
    sampler = NoDuplicatesBatchSampler(data, 8, drop_last, num_processes=processes)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        used = [row for batch in batches for row in batch]
        assert len(set(used)) == len(used)
        for first in range(0, len(batches) - processes + 1, processes):
            joined = [row for batch in batches[first : first + processes] for row in batch]
            found = [value for row in joined for value in set(data[row].values())]
            if all(len(batch) == 8 for batch in batches[first : first + processes]):
                assert len(set(found)) == len(found)
        for batch in batches:
            found = [value for row in batch for value in set(data[row].values())]
            assert len(set(found)) == len(found)


def test_no_duplicates_hashes_values_once_whatever_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    data = messy(60, 40)
    plain = list(NoDuplicatesBatchSampler(data, 8, False))
    assert list(NoDuplicatesBatchSampler(data, 8, False, None, None, 0, True)) == plain
    assert not caplog.records
    assert (
        list(NoDuplicatesBatchSampler(data, 8, False, precompute_hashes=True, precompute_num_proc=2)) == plain
    )
    assert "`precompute_num_proc` and `precompute_batch_size` have no effect" in caplog.text


def test_no_duplicates_looks_past_case_and_white_space_when_asked() -> None:
    data = Dataset.from_dict({"anchor": ["A cat", "a  cat ", "A\tCAT", "dog"], "positive": list("abcd")})
    for fold, most in ((False, 4), (True, 2)):
        sampler = NoDuplicatesBatchSampler(data, 4, False, fold=fold)
        assert max(map(len, sampler)) == most


def test_group_by_label_gives_every_batch_two_labels_with_two_rows_each() -> None:
    labels = [0] * 30 + [1] * 20 + [2] * 9 + [3]
    data = Dataset.from_dict({"text": [f"text {n}" for n in range(60)], "label": labels})
    sampler = GroupByLabelBatchSampler(data, 8, False, ["label"])
    batches = list(sampler)
    assert len(batches) == len(sampler)
    for batch in batches:
        counts = Counter(labels[row] for row in batch)
        assert len(counts) >= 2
        assert min(counts.values()) >= 2


@pytest.mark.parametrize("labels", [[], [1, 1, 1], [1, 1, 2]])
def test_labels_that_make_no_groups_are_counted_in_the_refusal(labels: list[int]) -> None:
    data = Dataset.from_dict({"text": ["a"] * len(labels), "label": labels})
    found = f"{int(bool(labels))} of the {len(set(labels))} labels in the data have two"
    with pytest.raises(ValueError, match=f"needs two labels with two rows each, but {found}"):
        GroupByLabelBatchSampler(data, 4, False, valid_label_columns=["label"])


def test_labels_are_those_of_the_rows_that_were_chosen() -> None:
    data = Dataset.from_dict({"text": [""] * 40, "label": [i % 4 for i in range(40)]})
    chosen = data.shuffle(seed=3).select(range(5, 37))
    for batch in GroupByLabelBatchSampler(chosen, 4, False, valid_label_columns=["label"]):
        assert min(Counter(chosen[batch]["label"]).values()) >= 2


def mixed(kind: Any, sizes: list[int], processes: int = 1, **options: Any) -> tuple[Any, list[int]]:
    """A sampler over data sets of these sizes, batches of 4, and which data set each batch comes from."""
    data = [Dataset.from_dict({"text": [str(n) for n in range(size)]}) for size in sizes]
    generator = torch.Generator()
    samplers = [DefaultBatchSampler(each, 4, False, generator=generator, seed=None) for each in data]
    joined: Any = ConcatDataset(data)  # type: ignore[arg-type]
    sampler = kind(joined, samplers, generator, 0, num_processes=processes, **options)
    ends = np.cumsum(sizes)
    sources = []
    for batch in sampler:
        source = {int(np.searchsorted(ends, row, side="right")) for row in batch}
        assert len(source) == 1
        sources.append(source.pop())
    assert len(sources) == len(sampler)
    return sampler, sources


@pytest.mark.parametrize(
    ("kind", "sizes", "options", "counts"),
    [
        (ProportionalBatchSampler, [40, 20, 4], {}, [10, 5, 1]),
        (RoundRobinBatchSampler, [40, 20, 8], {}, [2, 2, 2]),
        (RoundRobinBatchSampler, [40, 20, 8], {"exhausted": "restart"}, [10, 10, 10]),
        (RoundRobinBatchSampler, [40, 20, 8], {"exhausted": "drop"}, [10, 5, 2]),
        (ProportionalBatchSampler, [40, 20], {"weights": [1, 1]}, [5, 5]),
        (ProportionalBatchSampler, [40, 20], {"weights": [1, 3], "exhausted": "restart"}, [10, 30]),
        (ProportionalBatchSampler, [400, 4], {"temperature": 2, "exhausted": "restart"}, [100, 10]),
        (ProportionalBatchSampler, [400, 40], {"temperature": 1e9}, [10, 10]),
        (ProportionalBatchSampler, [40, 20], {"weights": [1, 3], "num_batches": 40}, [10, 30]),
        (RoundRobinBatchSampler, [40, 20], {"num_batches": 40}, [20, 20]),
    ],
)
def test_data_sets_come_as_often_as_weights_temperature_and_exhaustion_say(
    kind: Any, sizes: list[int], options: dict[str, Any], counts: list[int]
) -> None:
    _, sources = mixed(kind, sizes, **options)
    assert [sources.count(i) for i in range(len(sizes))] == counts


def test_processes_train_on_the_same_data_set_at_any_time() -> None:
    for kind in (ProportionalBatchSampler, RoundRobinBatchSampler):
        _, sources = mixed(kind, [40, 28], processes=2)
        assert sources
        assert sources[::2] == sources[1::2]


def test_what_starts_over_is_shuffled_anew() -> None:
    data = [Dataset.from_dict({"text": [str(n) for n in range(size)]}) for size in (64, 16)]
    generator = torch.Generator()
    samplers = [DefaultBatchSampler(each, 8, False, generator=generator, seed=None) for each in data]
    joined: Any = ConcatDataset(data)  # type: ignore[arg-type]
    batches = list(RoundRobinBatchSampler(joined, samplers, generator, exhausted=Exhausted.RESTART))
    small = [tuple(batch) for batch in batches if batch[0] >= 64]
    assert len(small) == 8
    assert len(set(small)) == 8
    for first in range(0, 8, 2):
        assert sorted(small[first] + small[first + 1]) == list(range(64, 80))


class InOrder(DefaultBatchSampler):
    """Rows in their order."""

    def __iter__(self) -> Any:
        rows = list(range(len(self.dataset)))  # type: ignore[arg-type]
        return (rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size))


@pytest.mark.parametrize("way", ["class", "function", "override"])
def test_samplers_of_ones_own_are_used(way: str, model: SentenceTransformer, arguments: Arguments) -> None:
    seen: list[Any] = []

    class Watched(losses.MultipleNegativesRankingLoss):
        def forward(self, columns: Any, labels: Any = None, *args: Any) -> Any:
            seen.append(columns[0]["input_ids"].tolist())
            return super().forward(columns, labels, *args)

    class Own(SentenceTransformerTrainer):
        def get_batch_sampler(
            self, dataset: Any, batch_size: int, drop_last: bool, *args: Any, **kwargs: Any
        ) -> Any:
            return InOrder(dataset, batch_size, drop_last)

    def make(dataset: Any, batch_size: int, drop_last: bool, *args: Any, **kwargs: Any) -> Any:
        return InOrder(dataset, batch_size, drop_last, *args, **kwargs)

    kind = Own if way == "override" else SentenceTransformerTrainer
    chosen = {"class": {"batch_sampler": InOrder}, "function": {"batch_sampler": make}, "override": {}}[way]
    data = triplets(32)
    trainer = kind(model, arguments(max_steps=2, **chosen), data, loss=Watched(model))
    trainer.train()
    expected = [model.tokenize(data["anchor"][i : i + 8])["input_ids"].tolist() for i in (0, 8)]
    assert seen == expected


def test_weights_reach_the_run_and_the_plan(
    model: SentenceTransformer, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: Counter[str] = Counter()

    class Counted(losses.MultipleNegativesRankingLoss):
        def forward(self, columns: Any, labels: Any = None, *args: Any) -> Any:
            seen[f"{len(columns)} columns"] += 1
            return super().forward(columns, labels, *args)

    data = {"three": triplets(32), "two": triplets(32).select_columns(["anchor", "positive"])}
    args = arguments(
        max_steps=-1, num_train_epochs=1, multi_dataset_weights={"three": 3, "two": 1},
        multi_dataset_exhausted="restart",
    )  # fmt: skip
    SentenceTransformerTrainer(model, args, data, loss=Counted(model)).train()
    assert seen == {"3 columns": 12, "2 columns": 4}
    assert (
        "proportional to weights (three 3, two 1); where a data set is exhausted: restart"
        in capsys.readouterr().out
    )


def test_three_kinds_of_scores_share_nothing_but_the_model(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    data = {"a": triplets(16), "b": scored_pairs(16)}
    loss = {"a": losses.TripletLoss(model), "b": losses.CoSENTLoss(model)}
    trainer = SentenceTransformerTrainer(model, arguments(max_steps=-1, num_train_epochs=1), data, loss=loss)
    trainer.train()
    assert trainer.state.global_step == 4
