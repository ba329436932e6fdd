"""What looks wrong with data is said before the first step, each with the fix to type; sound data is left in peace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset
from small import small_model

from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import CosineSimilarityLoss, MultipleNegativesRankingLoss
from likewise.training.data import symptoms as module
from likewise.training.data.symptoms import label_histogram, overlaps, symptoms

N = 100


def found(label: str | None = None, **columns: list[Any]) -> list[str]:
    data = Dataset.from_dict(columns)
    return symptoms(data, [name for name in columns if name != label], label, "the data")


def texts(start: str, number: int = N) -> list[str]:
    return [f"{start} of row {i} and more" for i in range(number)]


def test_sound_data_has_no_symptoms() -> None:
    labels = [0.1, 0.9] * (N // 2)
    assert found(a=texts("one"), b=texts("two")) == []
    assert found("score", a=texts("one"), b=texts("two"), score=labels) == []
    assert found(a=["the same", "the same"], b=["", "x"]) == []  # too few rows to tell


@pytest.mark.parametrize(
    ("columns", "says", "fix"),
    [
        ({"a": ["the same"] * N, "b": texts("two")}, "Column 'a' of the data says the same in every row", "remove_columns('a')"),
        ({"a": texts("one"), "b": ["", " ", *texts("two", N - 2)]}, "has 2 texts empty, the first in row 0", "row['b'].strip()"),
        ({"a": texts("one"), "b": [*texts("two", N - 5), *"vwxyz"]}, "has 5 texts of at most 2 characters, the first in row 95", "len(row['b']) > 2"),
        ({"a": texts("one"), "b": [*texts("two", N - 1), "x" * 30_000]}, "has 1 texts of more than 20,000 characters", "len(row['b']) <= 20000"),
        ({"a": texts("one"), "b": [*texts("two", N - 10), *[text.upper() for text in texts("one")[-10:]]]}, "say the same in 10.0% of the rows", "row['a'] != row['b']"),
        ({"a": texts("one", 50) * 2, "b": texts("two", 50) * 2}, "50.0% of the rows of the data are there already", "drop_duplicates(['a', 'b'])"),
    ],
)  # fmt: skip
def test_each_symptom_is_named_with_its_fix(columns: dict[str, list[Any]], says: str, fix: str) -> None:
    (warning,) = found(**columns)
    assert says in warning
    assert fix in warning


def test_labels_that_are_all_equal_are_named() -> None:
    (warning,) = found("score", a=texts("one"), b=texts("two"), score=[1.0] * N)
    assert "Every label in column 'score' of the data is 1.0" in warning


def test_texts_over_the_models_limit_are_counted_on_a_sample(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    long = ["cat " * 100 if i % 4 == 0 else text for i, text in enumerate(texts("one", 1000))]
    data = Dataset.from_dict({"a": long, "b": texts("two", 1000)})
    warnings = symptoms(data, ["a", "b"], None, "the data", model)
    (warning,) = [text for text in warnings if "longer than" in text]
    assert "of 200 texts in column 'a' of the data are longer than the 64 tokens" in warning
    assert "the longest 102" in warning


def test_of_large_data_the_first_rows_are_looked_at_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 50)
    (warning,) = found(a=["the same"] * 60, b=texts("two", 60))
    assert "the first 50 rows of the data" in warning


def test_a_stream_is_looked_at_as_far_as_its_first_rows() -> None:
    stream = IterableDataset.from_generator(
        lambda: ({"a": "the same", "b": f"text {i}"} for i in range(5000))
    )
    (warning,) = symptoms(stream, ["a", "b"], None, "the data")
    assert "Column 'a' of the first 1,000 rows of the data says the same" in warning


def test_rows_that_are_in_training_and_evaluation_data_are_found_whatever_the_columns_are_called() -> None:
    train = Dataset.from_dict({"a": texts("one"), "b": texts("two")})
    other = Dataset.from_dict({"x": [*texts("ONE", 30), *texts("new", 70)], "y": texts("two")})
    swapped = Dataset.from_dict({"a": texts("two"), "b": texts("one")})
    names = {"train ": ["a", "b"], "eval dev": ["x", "y"], "eval swapped": ["a", "b"]}
    (warning,) = overlaps({"": train}, {"dev": other, "swapped": swapped}, names)
    assert "30.0% of the rows of the evaluation data 'dev' are training data as well" in warning


def test_the_plan_has_the_same_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model(tmp_path / "model")
    data = Dataset.from_dict({"a": texts("one"), "b": texts("two"), "score": [1.0] * N})
    args = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), report_to="none", use_cpu=True, max_steps=1
    )
    with caplog.at_level(logging.WARNING):
        trainer = SentenceTransformerTrainer(
            model,
            args,
            train_dataset=data,
            eval_dataset=data.select(range(50)),
            loss=CosineSimilarityLoss(model),
        )
    assert "Every label in column 'score' of the training data is 1.0" in caplog.text
    trainer.train()
    plan = capsys.readouterr().out
    assert "  warning   Every label in column 'score' of the training data is 1.0" in plan
    assert "100.0% of the rows of the evaluation data are training data as well" in plan


def test_sound_data_is_planned_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(tmp_path / "model")
    data = Dataset.from_dict({"a": texts("one"), "b": texts("two")})
    args = SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), report_to="none", use_cpu=True, max_steps=1
    )
    SentenceTransformerTrainer(
        model, args, train_dataset=data, loss=MultipleNegativesRankingLoss(model)
    ).train()
    assert "warning" not in capsys.readouterr().out


def test_labels_are_counted_one_by_one_or_by_ranges() -> None:
    assert label_histogram([1, 0, 1]) == [("0", 1), ("1", 2)]
    assert label_histogram(["b", "a", "b"]) == [("a", 1), ("b", 2)]
    ranges = label_histogram([i / 100 for i in range(101)])
    assert (len(ranges), sum(count for _, count in ranges)) == (5, 101)
    assert ranges[0][0] == "0 to 0.2"
    assert label_histogram([[1.0], [2.0]]) == []
