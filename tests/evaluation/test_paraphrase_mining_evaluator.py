"""ParaphraseMiningEvaluator: the reference's metrics, under its names, in its file."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from evaluation_common import WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import ParaphraseMiningEvaluator
from likewise.evaluation.paraphrase_mining import transitive_closure

rng = random.Random(0)
# So few that no two of their 435 pairs score within a rounding error of each other, on whatever processor.
TEXTS = {f"t{i}": text for i, text in enumerate(dict.fromkeys(sentences(30, seed=1)))}
PAIRS = [tuple(rng.sample(list(TEXTS), 2)) for _ in range(60)]
NESTED: dict[str, dict[str, bool]] = defaultdict(lambda: defaultdict(bool))
for a, b in PAIRS:
    NESTED[a][b] = NESTED[b][a] = True
SETTINGS = [
    {},
    {"name": "quora"},
    {"add_transitive_closure": True},
    {"top_k": 3, "max_pairs": 50},
    {"query_chunk_size": 7, "corpus_chunk_size": 20, "batch_size": 5},
    {"truncate_dim": 5},
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("ParaphraseMiningEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "duplicates", [{"duplicates_list": PAIRS}, {"duplicates_dict": NESTED}], ids=["list", "dict"]
)
def test_metrics_names_and_file_are_the_references(
    settings: dict[str, Any], duplicates: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "ParaphraseMiningEvaluator", (TEXTS,), settings | duplicates, (model, reference_model), tmp_path
    )
    assert any(0 < value < 1 for value in metrics.values())


def test_pairs_worked_by_hand(counts: WordCounts) -> None:
    # Cosines: ab 1, cd about 0.71, all others 0. Known: ab, and ce, which is not among the best.
    texts = {"a": "cat dog", "b": "dog cat", "c": "tree", "d": "tree snow", "e": "the"}
    assert len({tuple(counts.row(word)) for word in ("cat", "dog", "tree", "snow", "the")}) == 5
    found = ParaphraseMiningEvaluator(texts, [("b", "a"), ("c", "e")], max_pairs=2)(counts)
    assert found == pytest.approx(
        {
            "average_precision": 1 / 2,
            "f1": 2 / 3,
            "precision": 1.0,
            "recall": 1 / 2,
            "threshold": (1 + 0.5**0.5) / 2,
        }
    )


def test_nothing_found_is_zero(counts: WordCounts) -> None:
    texts = {"a": "cat", "b": "cat", "c": "rain", "d": "snow"}
    found = ParaphraseMiningEvaluator(texts, [("c", "d")], max_pairs=1)(counts)
    assert found == dict.fromkeys(["average_precision", "f1", "precision", "recall", "threshold"], 0.0)


def test_pairs_with_unknown_ids_and_of_a_text_with_itself_do_not_count(counts: WordCounts) -> None:
    texts = {"a": "cat", "b": "cat"}
    found = ParaphraseMiningEvaluator(texts, [("a", "b"), ("a", "z"), ("a", "a")])(counts)
    assert (found["recall"], found["average_precision"]) == (1.0, 1.0)


def test_the_transitive_closure_links_all_of_a_group() -> None:
    found = transitive_closure([(1, 2), (3, 2), (5, 6), (7, 8), (8, 5), (9, 9)])
    assert sorted(map(sorted, found)) == [
        [1, 2],
        [1, 3],
        [2, 3],
        [5, 6],
        [5, 7],
        [5, 8],
        [6, 7],
        [6, 8],
        [7, 8],
    ]


def test_without_duplicates_there_is_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no duplicates among `sentences_map`"):
        ParaphraseMiningEvaluator({"a": "x"}, [("a", "b")])
    with pytest.raises(TypeError, match="Row 0 of `sentences_map` must be a text, but is None"):
        ParaphraseMiningEvaluator({"a": None}, [("a", "b")])
