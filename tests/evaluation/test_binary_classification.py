"""BinaryClassificationEvaluator: the reference's metrics and thresholds, under its names, in its file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from evaluation_common import HalfOnes, WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import BinaryClassificationEvaluator
from likewise.input_example import InputExample

FIRST, SECOND = sentences(80, seed=1), sentences(80, seed=2)
LABELS = random.Random(0).choices([0, 1], k=80)
ALL = ["cosine", "dot", "euclidean", "manhattan"]
SETTINGS = [
    {},
    {"name": "mrpc"},
    {"similarity_fn_names": ALL, "name": "mrpc"},
    {"similarity_fn_names": ["euclidean"]},
    {"truncate_dim": 5, "batch_size": 7},
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("BinaryClassificationEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_metrics_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    columns = (FIRST, SECOND, LABELS)
    metrics = assert_same_evaluation(
        "BinaryClassificationEvaluator", columns, settings, (model, reference_model), tmp_path
    )
    assert all(0 < value < 1 for key, value in metrics.items() if key.endswith(("accuracy", "f1", "ap")))


@pytest.mark.parametrize("settings", [{}, {"similarity_fn_names": ALL}], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_tied_pairs_are_called_alike_as_in_the_reference(
    settings: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    model = HalfOnes()
    scores = model.similarity_pairwise(model.encode(FIRST), model.encode(SECOND))
    assert len(scores.unique()) < 6
    columns = (FIRST, SECOND, random.Random(seed).choices([0, 1], k=80))
    assert_same_evaluation("BinaryClassificationEvaluator", columns, settings, (model, model), tmp_path)


def test_pairs_worked_by_hand(counts: WordCounts) -> None:
    # Cosines: 1 (positive), about 0.71 (positive), 0.5 (negative), 0 (negative).
    first = ["cat dog", "cat", "cat dog", "cat"]
    second = ["dog cat", "cat dog", "cat snow", "snow"]
    found = BinaryClassificationEvaluator(first, second, [1, 1, 0, 0])(counts)
    perfect = ("accuracy", "f1", "precision", "recall", "ap", "mcc")
    assert {key: found[f"cosine_{key}"] for key in perfect} == pytest.approx(dict.fromkeys(perfect, 1.0))
    half_way = (0.5**0.5 + 0.5) / 2
    assert found["cosine_accuracy_threshold"] == pytest.approx(half_way)
    assert found["cosine_f1_threshold"] == pytest.approx(half_way)


def test_a_text_that_repeats_is_embedded_once(counts: WordCounts) -> None:
    BinaryClassificationEvaluator(FIRST * 2, SECOND * 2, LABELS * 2)(counts)
    (encoded,) = counts.encoded
    assert sorted(encoded) == sorted(set(FIRST + SECOND))


def test_input_examples_become_pairs() -> None:
    examples = [InputExample(texts=[a, b], label=y) for a, b, y in zip(FIRST, SECOND, LABELS, strict=True)]
    evaluator = BinaryClassificationEvaluator.from_input_examples(examples, name="x")
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.labels) == (FIRST, SECOND, LABELS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], r"`labels` must be 0 and 1, both of them, but are \[0.0, 1.0, 2.0\]"),
        ([1, 1, 1], r"both of them, but are \[1.0\]. Map them"),
        ([0, 1], "`labels` must have one number for each of the 3 rows, but has 2"),
    ],
)
def test_labels_without_two_classes_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BinaryClassificationEvaluator(["a", "b", "c"], ["d", "e", "f"], labels)
