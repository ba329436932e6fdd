"""What a run's report tells: a sample of the data as its loss takes it, before and after."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from small import sentences, small_model, small_model_folder

from likewise import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.cross_encoder import losses as pair_losses
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.sample import MOST_ROWS, Sample, sample_of
from likewise.training.run.comparison import compared

pytest.importorskip("vl_convert")


def plan(*roles: str, label: str | None = None, has_classes: bool = False) -> DataSetPlan:
    texts = tuple(f"column{i}" for i in range(len(roles)))
    return DataSetPlan("", texts, label, ("",) * len(roles), roles, "Loss", None, has_classes=has_classes)


def sampled(columns: list[list[Any]], made: DataSetPlan, costs: bool = False) -> Sample:
    data = Dataset.from_dict(
        dict(zip([*made.texts, *([made.label] if made.label else [])], columns, strict=True))
    )
    found = sample_of(data, made, "the data", costs)
    assert found is not None
    return found


def test_pairs_are_a_ranking_among_the_other_rows_documents() -> None:
    found = sampled(
        [["a", "b", "a"], ["1", "2", "3"], ["2", "9", "9"]], plan("anchor", "positive", "negative")
    )
    assert (found.kind, found.queries, found.where) == ("ranking", ["a", "b"], "3 of 3 rows of the data")
    named = {
        (found.queries[q], found.documents[d]): (label, given)
        for (q, d), label, given in zip(found.pairs.tolist(), found.labels, found.is_given, strict=True)
    }
    assert named == {
        ("a", "1"): (1, True), ("a", "3"): (1, True), ("a", "2"): (0, True), ("a", "9"): (0, True),
        ("b", "2"): (1, True), ("b", "9"): (0, True), ("b", "1"): (0, False), ("b", "3"): (0, False),
    }  # fmt: skip


def test_where_pairs_cost_only_some_are_made() -> None:
    texts = sentences(150)
    columns = [texts, [f"{text}!" for text in texts]]
    assert len(sampled(columns, plan("anchor", "positive")).pairs) == len(set(texts)) ** 2
    assert len(sampled(columns, plan("anchor", "positive"), costs=True).pairs) < 10 * len(texts)


def test_a_label_makes_pairs_numbers_and_a_repeated_query_with_both_a_ranking() -> None:
    named = plan("one", "two", label="score")
    assert sampled([["a", "b"], ["c", "d"], [0.1, 0.9]], named).kind == "numbers"
    assert sampled([["a", "b"], ["c", "d"], [0, 1]], plan("one", "two", label="label", has_classes=True)).kind == "classes"  # fmt: skip
    found = sampled([["a", "a", "b", "b"], ["c", "d", "e", "f"], [0, 1, 0, 0]], named)
    assert (found.kind, found.queries, found.labels.tolist()) == ("ranking", ["a"], [0, 1])


def test_lists_of_documents_are_a_ranking() -> None:
    found = sampled([["a", "b"], [["c", "d"], ["e"]], [[0, 2], [1]]], plan("query", "list", label="label"))
    assert (found.kind, found.labels.tolist(), found.pairs.tolist()) == (
        "ranking",
        [0, 1, 1],
        [[0, 0], [0, 1], [1, 2]],
    )


def test_single_texts_have_no_pairs_and_other_things_no_sample() -> None:
    assert len(sampled([["a", "b"]], plan("sentence")).pairs) == 0
    data = Dataset.from_dict({"column0": [1, 2], "column1": ["a", "b"]})
    assert sample_of(data, plan("anchor", "positive"), "the data", False) is None


def test_a_sample_is_bounded_and_spread_and_a_streams_first_rows() -> None:
    texts = [f"text {i}" for i in range(5000)]
    found = sampled([texts, texts], plan("anchor", "positive"))
    assert len(found.queries) == MOST_ROWS
    assert {"text 0", "text 9", "text 4750"} <= set(found.queries)
    stream = IterableDataset.from_generator(lambda: ({"column0": text, "column1": text} for text in texts))
    streamed = sample_of(stream, plan("anchor", "positive"), "the data", False)
    assert streamed is not None
    assert streamed.where == "the first rows of the data"


def test_what_gained_and_what_lost_is_told_with_what_was_found() -> None:
    found = sampled([["a", "b"], ["1", "2"]], plan("anchor", "positive"))  # pairs: a1, a2, b1, b2
    before, after = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0.7, 0.3, 0.6, 0.4])
    shown = compared(found, (before, None), (after, None))
    assert [row["before"][0] for row in shown["metrics"]] == pytest.approx(
        [0.75, (1 + 1 / np.log2(3)) / 2, 0.5]
    )
    (gained,), (lost,) = shown["changes"]["gained"], shown["changes"]["lost"]
    assert (gained["query"], gained["ranks"], lost["query"], lost["ranks"]) == ("a", [2, 1], "b", [1, 2])
    assert gained["found"]["before"] == [("2", 0.9, False), ("1", 0.1, True)]
    shares = [
        bar["share"] for bar in shown["histogram"] if (bar["when"], bar["pairs"]) == ("after", "positive")
    ]
    assert shares == [0.5, 0.5]


@pytest.fixture
def rows() -> Dataset:
    texts = sentences(60, longest=6)
    return Dataset.from_dict({"a": texts, "b": [f"{text} {text}" for text in texts]})


def test_a_run_writes_a_report_that_shows_what_it_did(tmp_path: Path, rows: Dataset) -> None:
    model = small_model(tmp_path / "model")
    args = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), report_to="none", use_cpu=True, num_train_epochs=2, logging_steps=1,
        learning_rate=1e-2, report=True, per_device_train_batch_size=20, save_strategy="no",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.report is not None
    told = trainer.report.told
    assert told["sample"]["is_trained_on"]
    assert {name for name, _ in told["facts"]} >= {
        "training time",
        "tokens a second",
        "padding avoided",
        "most memory",
    }
    assert dict(told["plan"])["train"] == "60 rows: anchor=a, positive=b -> MultipleNegativesRankingLoss"
    assert len(told["sample"]["map"]) == 2 * 2 * len(set(rows["a"]))
    written = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "anchor=a, positive=b -&gt; MultipleNegativesRankingLoss" in written
    assert "model = SentenceTransformer(" in written


def test_without_the_argument_there_is_no_report(tmp_path: Path, rows: Dataset) -> None:
    model = small_model(tmp_path / "model")
    args = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), report_to="none", use_cpu=True, max_steps=1
    )
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.report is None
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_report_changes_no_number_of_the_run(tmp_path: Path, rows: Dataset) -> None:
    found = []
    for report in (False, True):
        model = small_model(tmp_path / "model")
        args = SentenceTransformerTrainingArguments(
            str(tmp_path / "out"),
            report_to="none",
            use_cpu=True,
            max_steps=4,
            report=report,
            save_strategy="no",
        )
        SentenceTransformerTrainer(
            model, args, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
        ).train()
        found.append(model.encode(["a cat"]))
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    ("columns", "loss"),
    [
        ({"q": ["a cat", "a dog"] * 10, "d": sentences(20), "label": [1, 0] * 10}, "BinaryCrossEntropyLoss"),
        ({"q": sentences(20), "d": sentences(20, 1)}, "MultipleNegativesRankingLoss"),
        ({"q": sentences(9), "d": [["a cat", "a dog"]] * 9, "label": [[1, 0]] * 9}, "LambdaLoss"),
        ({"q": sentences(20), "d": sentences(20, 1), "label": [0, 1] * 10}, "CrossEntropyLoss"),
    ],
)
def test_rerankers_have_reports_of_scores(tmp_path: Path, columns: dict[str, Any], loss: str) -> None:
    folder = small_model_folder(tmp_path / "plain")
    model = CrossEncoder(folder, num_labels=2 if loss == "CrossEntropyLoss" else 1, device="cpu")
    args = CrossEncoderTrainingArguments(
        str(tmp_path / "out"), report_to="none", use_cpu=True, max_steps=2, report=True, save_strategy="no"
    )
    trainer = CrossEncoderTrainer(
        model, args, train_dataset=Dataset.from_dict(columns), loss=getattr(pair_losses, loss)(model)
    )
    trainer.train()
    assert trainer.report is not None
    sample = trainer.report.told["sample"]
    assert sample["scores"]
    assert "map" not in sample
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_report_that_fails_does_not_take_the_model_with_it(
    tmp_path: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = small_model(tmp_path / "model")
    args = SentenceTransformerTrainingArguments(str(tmp_path / "file"), report_to="none", use_cpu=True, max_steps=1, report=True)  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
    )
    monkeypatch.setattr("likewise.report.page.page", lambda told: 1 / 0)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "The report could not be written (ZeroDivisionError" in caplog.text


def test_without_the_extra_a_report_is_refused_before_the_first_step(
    tmp_path: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.report.charts.is_installed", lambda: False)
    model = small_model(tmp_path / "model")
    args = SentenceTransformerTrainingArguments(str(tmp_path), report_to="none", use_cpu=True, report=True)
    trainer = SentenceTransformerTrainer(
        model, args, train_dataset=rows, loss=losses.MultipleNegativesRankingLoss(model)
    )
    with pytest.raises(ImportError, match=r'pip install "likewise\[report\]"'):
        trainer.train()
    assert trainer.state.global_step == 0
