"""What evaluators have in common: names, logs, csv files, the model card, evaluators of one's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers.sentence_transformer.evaluation as reference
from evaluation_common import WordCounts, rows_of

import likewise.evaluation as ours
from likewise.evaluation import (
    EmbeddingSimilarityEvaluator,
    MSEEvaluator,
    SentenceEvaluator,
    TripletEvaluator,
)
from likewise.evaluation.measurement import Measurement


class Length(SentenceEvaluator):
    """Measures nothing but the names of things."""

    primary = "length"
    csv_file = "length.csv"

    def __init__(self, name: str = "") -> None:
        self.name = name

    def measure(self, model: Any) -> dict[str, Measurement]:
        return {"length": Measurement((np.array([1.0, 3.0]),)), "width": Measurement.fixed(0.5)}


def test_the_names_are_the_references() -> None:
    # Evaluators of sparse models and cross-encoders, and what translates between old paths, are not here.
    theirs = {name for name in dir(reference) if name.endswith("Evaluator") or name == "SimilarityFunction"}
    assert len(theirs) > 10
    assert theirs <= set(ours.__all__)


def test_an_evaluator_of_ones_own_gets_names_files_and_the_model_card(
    counts: WordCounts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = []
    counts.model_card_data.set_evaluation_metrics = lambda *arguments: stored.append(arguments)
    evaluator = Length("x")
    with caplog.at_level(logging.INFO):
        assert evaluator(counts, str(tmp_path / "new"), 2, 7) == {"x_length": 2.0, "x_width": 0.5}
        evaluator(counts, str(tmp_path / "new"), 3)
        evaluator(counts)
    assert evaluator.primary_metric == "x_length"
    assert rows_of(tmp_path / "new/length.csv") == [
        ["epoch", "steps", "length", "width"],
        ["2", "7", "2.0", "0.5"],
        ["3", "-1", "2.0", "0.5"],
    ]
    assert stored[0] == (evaluator, {"x_length": 2.0, "x_width": 0.5}, 2, 7)
    assert [record.getMessage() for record in caplog.records] == [
        "Length in epoch 2 after step 7: x_length 2.0000, x_width 0.5000",
        "Length after epoch 3: x_length 2.0000, x_width 0.5000",
        "Length: x_length 2.0000, x_width 0.5000",
    ]


def test_the_primary_metric_is_known_before_the_first_call_where_it_can_be(counts: WordCounts) -> None:
    evaluator = TripletEvaluator(["a"], ["b"], ["c"], name="nli")
    evaluator.prepare(counts)
    assert evaluator.primary_metric == "nli_cosine_accuracy"
    assert counts.encoded == []


def test_a_call_of_ones_own_may_return_anything(counts: WordCounts) -> None:
    class Own(SentenceEvaluator):
        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            return self.prefix_name_to_metrics({"a": np.float32(1), "b": "text"}, "own")

    assert Own()(counts) == {"own_a": 1.0, "own_b": "text"}
    with pytest.raises(
        NotImplementedError, match="SentenceEvaluator has to override `__call__`, or `measure`"
    ):
        SentenceEvaluator()(counts)


def test_rows_with_other_columns_are_written_with_a_warning(
    counts: WordCounts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = (["cat", "dog", "sun"], ["cat dog", "tree", "sun"], [1.0, 0.0, 0.9])
    EmbeddingSimilarityEvaluator(*pairs)(counts, str(tmp_path))
    assert caplog.text == ""
    EmbeddingSimilarityEvaluator(*pairs, main_similarity="dot")(counts, str(tmp_path))
    assert (
        "has the columns ['epoch', 'steps', 'cosine_pearson', 'cosine_spearman'], but this row" in caplog.text
    )
    (path,) = tmp_path.glob("*.csv")
    assert len(rows_of(path)) == 3


@pytest.mark.parametrize("model", ["all-MiniLM-L6-v2", None])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=f"TripletEvaluator takes a model, but got {model!r}. Load it first"):
        TripletEvaluator(["a"], ["b"], ["c"])(model)


def test_slashes_in_names_are_none_in_names_of_files(counts: WordCounts, tmp_path: Path) -> None:
    texts = ["a cat", "two dogs"]
    for evaluator in (
        EmbeddingSimilarityEvaluator(texts, texts[::-1], [0, 1], name="ours/dev"),
        MSEEvaluator(texts, texts, counts, name="ours/dev"),
    ):
        assert all(key.startswith("ours/dev_") for key in evaluator(counts, str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {
        "mse_evaluation_ours_dev_results.csv",
        "similarity_evaluation_ours_dev_results.csv",
    }
