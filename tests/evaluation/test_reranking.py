"""RerankingEvaluator: the reference's metrics, ties included, under its names, in its file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers.sentence_transformer.evaluation as reference
from evaluation_common import (
    HalfOnes,
    WordCounts,
    assert_same_constructor,
    assert_same_evaluation,
    setting_id,
)
from small import sentences

from likewise.evaluation import RerankingEvaluator
from likewise.similarity import dot_score

rng = random.Random(0)
TEXTS = sentences(200, seed=4, longest=6)
SAMPLES = [
    {
        "query": query,
        "positive": rng.sample(TEXTS, rng.randint(1, 5)),
        "negative": rng.sample(TEXTS, rng.randint(1, 12)),
    }
    for query in sentences(12, seed=5)
]
SETTINGS = [
    {},
    {"name": "trec"},
    {"at_k": 3},
    {"mrr_at_k": 2},
    {"similarity_fct": dot_score, "batch_size": 7},
    {"use_batched_encoding": False, "name": "one"},
    {"truncate_dim": 5},
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("RerankingEvaluator")


@pytest.mark.filterwarnings("ignore:.*mrr_at_k.*:DeprecationWarning")
@pytest.mark.parametrize("settings", SETTINGS, ids=setting_id)
def test_metrics_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "RerankingEvaluator", (SAMPLES,), settings, (model, reference_model), tmp_path
    )
    assert all(0 < value < 1 for value in metrics.values())


@pytest.mark.parametrize("settings", [{}, {"at_k": 2}, {"use_batched_encoding": False}], ids=setting_id)
def test_tied_documents_count_as_in_the_reference(settings: dict[str, Any], tmp_path: Path) -> None:
    assert_same_evaluation("RerankingEvaluator", (SAMPLES,), settings, (HalfOnes(), HalfOnes()), tmp_path)


def test_samples_may_be_a_dict_single_texts_and_partly_without_negatives(
    counts: WordCounts, tmp_path: Path
) -> None:
    samples = {
        "a": {"query": "a cat", "positive": ["cat"], "negative": ["dog", "rain"]},
        "b": {"query": "a cat", "positive": ["cat"], "negative": []},
        "c": {"query": "snow", "positive": [], "negative": ["dog"]},
    }
    assert_same_evaluation("RerankingEvaluator", (samples,), {}, (counts, counts), tmp_path)
    single = [{"query": "a cat", "positive": "cat", "negative": "dog"}]
    assert RerankingEvaluator(single)(counts)["map"] == 1.0


def test_a_list_worked_by_hand(counts: WordCounts) -> None:
    # Cosines with "cat dog": negative 1, positive 0.71, negative 0, positive 0: both 0s tie.
    samples = [{"query": "cat dog", "positive": ["cat", "tree"], "negative": ["dog cat", "snow"]}]
    found = RerankingEvaluator(samples, at_k=3)(counts)
    discount = [1.0, 0.6309297535714575, 0.5]  # 1 / log2(rank + 1)
    assert found == pytest.approx(
        {
            "map": (1 / 2 + 2 / 4) / 2,
            "mrr@3": 1 / 2,
            "ndcg@3": (discount[1] + discount[2] / 2) / (discount[0] + discount[1]),
        }
    )


def test_all_texts_are_embedded_in_two_calls_or_query_by_query(counts: WordCounts) -> None:
    RerankingEvaluator(SAMPLES)(counts)
    assert len(counts.encoded) == 2
    counts.encoded.clear()
    RerankingEvaluator(SAMPLES, use_batched_encoding=False)(counts)
    assert len(counts.encoded) == 2 * len(SAMPLES)


def test_samples_are_left_as_they_were() -> None:
    samples = [{"query": "a", "positive": "b", "negative": ["c"]}]
    RerankingEvaluator(samples)
    assert samples == [{"query": "a", "positive": "b", "negative": ["c"]}]
    assert reference.RerankingEvaluator(SAMPLES).samples == RerankingEvaluator(SAMPLES).samples


def test_no_rank_to_measure_at_is_refused() -> None:
    for rank in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"`at_k` must be a whole number of at least 1, but is {rank}"):
            RerankingEvaluator(SAMPLES, at_k=rank)  # type: ignore[arg-type]
    assert RerankingEvaluator(SAMPLES, at_k=np.int64(3)).primary == "ndcg@3"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([{"query": "a", "positive": ["b"]}], ValueError, r"Sample 0 must have `negative`, but has only \["),
        ([{"query": "a", "positive": ["b"], "negative": []}], ValueError, "None of the 1 `samples` has both"),
        ([{"query": None, "positive": ["b"], "negative": ["c"]}], TypeError, "The query of sample 0 must be"),
        ([{"query": "a", "positive": [None], "negative": ["c"]}], TypeError, "Each `positive` of sample 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RerankingEvaluator(samples)
