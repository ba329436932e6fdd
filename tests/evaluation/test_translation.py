"""TranslationEvaluator: the reference's accuracies, under its names, in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation_common import HalfOnes, WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import TranslationEvaluator

SOURCES = sentences(60, seed=1, longest=8)
# Translations share most words with their source.
TARGETS = [
    " ".join([*text.split()[1:], other]) for text, other in zip(SOURCES, sentences(60, 2, 3), strict=True)
]
SETTINGS = [{}, {"name": "en-de"}, {"truncate_dim": 5, "batch_size": 7}, {"write_csv": False}]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("TranslationEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_accuracies_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    columns = (SOURCES, TARGETS)
    metrics = assert_same_evaluation(
        "TranslationEvaluator", columns, settings, (model, reference_model), tmp_path
    )
    assert all(0 < value < 1 for value in metrics.values())


def test_tied_texts_match_as_in_the_reference(tmp_path: Path) -> None:
    assert_same_evaluation("TranslationEvaluator", (SOURCES, TARGETS), {}, (HalfOnes(), HalfOnes()), tmp_path)


def test_an_equal_translation_elsewhere_is_right(counts: WordCounts) -> None:
    # "cat" has nothing in common with any target, and so finds the first, "dog", which is its translation.
    found = TranslationEvaluator(["cat", "dog", "snow"], ["dog", "dog", "snow"])(counts)
    assert found["src2trg_accuracy"] == 1.0
    assert found["trg2src_accuracy"] == pytest.approx(2 / 3)
    found = TranslationEvaluator(["cat", "cat"], ["cat", "cat"])(counts)
    assert found == {"src2trg_accuracy": 1.0, "trg2src_accuracy": 1.0, "mean_accuracy": 1.0}


def test_wrong_matches_are_printed_on_request(counts: WordCounts, capsys: pytest.CaptureFixture[str]) -> None:
    sources, targets = ["cat", "dog", "snow"], ["dog", "cat", "snow"]
    TranslationEvaluator(sources, targets)(counts)
    assert capsys.readouterr().out == ""
    TranslationEvaluator(sources, targets, print_wrong_matches=True)(counts)
    printed = capsys.readouterr().out
    assert "source 0 is most similar to target 1" in printed
    assert "source 2" not in printed


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="`source_sentences` has 1, `target_sentences` has 2"):
        TranslationEvaluator(["a"], ["b", "c"])
