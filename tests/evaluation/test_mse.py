"""MSEEvaluator and MSEEvaluatorFromDataFrame: the reference's errors, under its names, in its files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset
from evaluation_common import WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import MSEEvaluator, MSEEvaluatorFromDataFrame
from likewise.evaluation.mse_from_dataframe import _parallel_texts

SOURCES, TARGETS = sentences(50, seed=1), sentences(50, seed=2)
ROWS = [{"en": a, "de": b, "fr": c} for a, b, c in zip(SOURCES, TARGETS, sentences(50, seed=3), strict=True)]
for place in random.Random(0).sample(range(50), 20):
    ROWS[place][random.Random(place).choice(["de", "fr"])] = random.Random(place).choice(["", "  "])
SETTINGS = [{}, {"name": "x"}, {"truncate_dim": 5, "batch_size": 7}, {"write_csv": False}]


@pytest.mark.parametrize("name", ["MSEEvaluator", "MSEEvaluatorFromDataFrame"])
def test_the_constructors_are_the_references(name: str) -> None:
    assert_same_constructor(name)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_errors_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "MSEEvaluator",
        lambda teacher: (SOURCES, TARGETS, teacher),
        settings,
        (model, reference_model),
        tmp_path,
    )
    assert next(iter(metrics.values())) < -1


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_errors_of_several_languages_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "MSEEvaluatorFromDataFrame",
        lambda teacher: (ROWS, teacher, [("en", "de"), ("en", "fr"), ("de", "de")]),
        settings,
        (model, reference_model),
        tmp_path,
    )
    assert next(iter(metrics.values())) < -1


def test_the_error_worked_by_hand(counts: WordCounts) -> None:
    # One text of three words against one of two: they differ by 1 in one of 8 numbers.
    found = MSEEvaluator(["cat cat dog", "rain"], ["cat dog", "rain"], counts)(counts)
    assert found == {"negative_mse": pytest.approx(-100 * (1 / 8) / 2)}


def test_a_student_like_its_teacher_has_no_error(model: Any, other_model: Any) -> None:
    assert MSEEvaluator(SOURCES, SOURCES, model)(model)["negative_mse"] == pytest.approx(0, abs=1e-9)
    assert MSEEvaluator(SOURCES, SOURCES, model)(other_model)["negative_mse"] < -1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda m: MSEEvaluator(["a"], ["b"]),
            TypeError,
            "`teacher_model` must be the model whose embeddings are the goal, but is None",
        ),
        (lambda m: MSEEvaluator(["a"], ["b", "c"], m), ValueError, "`source_sentences` has 1"),
        (
            lambda m: MSEEvaluatorFromDataFrame(pd.DataFrame([{"en": "a", "de": "b"}]), m, [("en", "de")]),  # type: ignore[arg-type]
            TypeError,
            r"`dataframe` must be a list of dicts, but has 'en'\. Of a frame of pandas pass `frame.to_dict\('records'\)`",
        ),
        (lambda m: MSEEvaluatorFromDataFrame([], m, []), ValueError, "`combinations` is empty"),
        (
            lambda m: MSEEvaluatorFromDataFrame([{"en": "a"}], m, [("en", "de")]),
            ValueError,
            r"Row 0 of `dataframe` must have the language 'de', but has \['en'\]",
        ),
        (
            lambda m: MSEEvaluatorFromDataFrame([{"en": "a", "de": " "}], m, [("en", "de")]),
            ValueError,
            "No row of `dataframe` has texts in both 'en' and 'de'",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make: Any, error: type[Exception], message: str, counts: WordCounts
) -> None:
    with pytest.raises(error, match=message):
        make(counts)


def test_a_student_of_another_size_is_refused_with_a_fix(counts: WordCounts, model: Any) -> None:
    with pytest.raises(ValueError, match=r"teacher's embeddings have 8 dimensions, the student's 32.*Dense"):
        MSEEvaluator(["cat"], ["dog"], counts)(model)


def test_a_data_set_of_parallel_texts_is_taken_too() -> None:
    rows = Dataset.from_list([{"en": "a", "de": "b"}, {"en": "c", "de": " "}])
    assert _parallel_texts(rows, "en", "de") == (["a"], ["b"])  # type: ignore[arg-type]
