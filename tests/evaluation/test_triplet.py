"""TripletEvaluator: the reference's accuracies, under its names, in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_common import WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import TripletEvaluator
from likewise.input_example import InputExample

COLUMNS = tuple(sentences(60, seed=seed) for seed in (1, 2, 3))
ALL = ["cosine", "dot", "euclidean", "manhattan"]
SETTINGS = [
    {},
    {"name": "nli"},
    {"main_similarity_function": "euclidean"},
    {"main_distance_function": "manhattan"},
    {"similarity_fn_names": ALL, "name": "nli"},
    {"similarity_fn_names": ["dot", "cosine"], "main_similarity_function": "cosine"},
    {"margin": 0.1, "similarity_fn_names": ALL},
    {"margin": {"cosine": 0.05, "manhattan": 2.0}, "similarity_fn_names": ALL},
    {"truncate_dim": 5, "batch_size": 7},
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("TripletEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_accuracies_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "TripletEvaluator", COLUMNS, settings, (model, reference_model), tmp_path
    )
    assert any(0 < value < 1 for value in metrics.values())


def test_a_name_from_the_hub_is_part_of_the_files_name(model: Any, tmp_path: Path) -> None:
    evaluator = TripletEvaluator(*COLUMNS, name="sentence-transformers/all-nli")
    assert list(evaluator(model, str(tmp_path))) == ["sentence-transformers/all-nli_cosine_accuracy"]
    assert [path.name for path in tmp_path.iterdir()] == [
        "triplet_evaluation_sentence-transformers_all-nli_results.csv"
    ]


@pytest.mark.parametrize("settings", [{}, {"similarity_fn_names": ALL}, {"truncate_dim": 2}], ids=str)
def test_ties_count_as_wrong_as_in_the_reference(
    settings: dict[str, Any], counts: WordCounts, tmp_path: Path
) -> None:
    anchors, positives, negatives = COLUMNS
    columns = (anchors, positives[:20] + anchors[20:40] * 2, negatives[:20] + anchors[20:40] + positives[:20])
    assert_same_evaluation("TripletEvaluator", columns, settings, (counts, counts), tmp_path)


def test_a_tie_is_wrong(counts: WordCounts) -> None:
    found = TripletEvaluator(["cat dog"] * 2, ["dog cat", "cat dog"], ["cat dog", "rain"])(counts)
    assert found == {"cosine_accuracy": 0.5}


def test_anchors_are_queries_and_the_others_documents(counts: WordCounts) -> None:
    roles = []
    counts.encode_query = lambda texts, **kw: roles.append(("query", texts)) or counts.encode(texts, **kw)
    counts.encode_document = lambda texts, **kw: (
        roles.append(("document", texts)) or counts.encode(texts, **kw)
    )
    TripletEvaluator(["a cat"], ["a dog"], ["rain"])(counts)
    assert roles == [("query", ["a cat"]), ("document", ["a dog", "rain"])]


def test_input_examples_become_triplets() -> None:
    examples = [InputExample(texts=list(row)) for row in zip(*COLUMNS, strict=True)]
    evaluator = TripletEvaluator.from_input_examples(examples)
    assert (evaluator.anchors, evaluator.positives, evaluator.negatives) == COLUMNS


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"similarity_fn_names": ["cos"]}, ValueError, "no similarity function 'cos'. Choose from cosine"),
        ({"margin": {"cos": 1}}, ValueError, "no similarity function 'cos'"),
        ({"margin": "wide"}, TypeError, "`margin` must be a number or a dict of numbers, but is 'wide'"),
        ({"margin": True}, TypeError, "`margin` must be a number or a dict of numbers, but is True"),
        ({"margin": {"cosine": "1"}}, ValueError, r"`margin\['cosine'\]` must be a number, but is '1'"),
    ],
)
def test_settings_without_meaning_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TripletEvaluator(*COLUMNS, **settings)


def test_a_margin_may_be_any_number(counts: WordCounts) -> None:
    expected = TripletEvaluator(*COLUMNS, margin=0.25)(counts)
    for margin in (np.float32(0.25), torch.tensor(0.25), dict.fromkeys(("cosine", "dot"), 0.25)):
        assert TripletEvaluator(*COLUMNS, margin=margin)(counts) == expected


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="`anchors` has 1, `positives` has 2, `negatives` has 1"):
        TripletEvaluator(["a"], ["b", "c"], ["d"])
