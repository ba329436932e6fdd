"""Metrics equal scikit-learn's and scipy's on random data, and cases worked by hand; ties and empty cases are decided."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.evaluation import metrics as m
from likewise.evaluation.measurement import Measurement

seeds = st.integers(0, 2**16)


def random_hits(seed: int, num_queries: int = 6, k: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) hits, and numbers of relevant documents of which some were not found."""
    rng = np.random.default_rng(seed)
    hits = rng.random((num_queries, k)) < rng.random((num_queries, 1))
    return hits, np.maximum(hits.sum(axis=1) + rng.integers(0, 4, num_queries), 1)


@settings(max_examples=60)
@given(seed=seeds, k=st.integers(1, 15))
def test_ranking_metrics_equal_slow_loops(seed: int, k: int) -> None:
    hits, num_relevant = random_hits(seed)
    for row, relevant, *found in zip(
        hits.tolist(),
        num_relevant.tolist(),
        m.accuracy_at_k(hits, k),
        m.precision_at_k(hits, k),
        m.recall_at_k(hits, num_relevant, k),
        m.reciprocal_rank_at_k(hits, k),
        m.ndcg_at_k(hits, num_relevant, k),
        m.average_precision_at_k(hits, num_relevant, k),
        strict=True,
    ):
        top = row[:k]
        ranks = [rank for rank, hit in enumerate(top, start=1) if hit]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, k) + 1))
        expected = [
            float(any(top)),
            sum(top) / k,
            sum(top) / relevant,
            1 / ranks[0] if ranks else 0.0,
            sum(1 / math.log2(rank + 1) for rank in ranks) / ideal,
            sum(sum(top[:rank]) / rank for rank in ranks) / min(relevant, k),
        ]
        assert found == pytest.approx(expected)


def test_ranking_metrics_by_hand() -> None:
    hits, relevant = np.array([[False, True, True, False]]), np.array([4])
    assert m.precision_at_k(hits, 3).tolist() == [2 / 3]
    assert m.precision_at_k(hits, 10).tolist() == [2 / 10]
    assert m.recall_at_k(hits, relevant, 2).tolist() == [1 / 4]
    assert m.reciprocal_rank_at_k(hits, 4).tolist() == [1 / 2]
    assert m.average_precision_at_k(hits, relevant, 100).tolist() == pytest.approx([(1 / 2 + 2 / 3) / 4])
    assert m.reciprocal_rank_at_k(hits, 1).tolist() == [0]


@settings(max_examples=60)
@given(seed=seeds, num_values=st.integers(1, 8), k=st.integers(1, 12))
def test_reranking_metrics_share_ties_as_scikit_learn_does(seed: int, num_values: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 15, size=5)
    query = np.repeat(np.arange(5), sizes)
    scores = rng.integers(0, num_values, len(query)).astype(np.float32)
    relevance = rng.random(len(query)) < 0.4
    relevance[np.cumsum(sizes) - sizes] = True
    lists = m.RankedLists.sort(scores, relevance, query, 5)
    ndcg, precision = m.list_ndcg_at_k(lists, k), m.list_average_precision(lists)
    reciprocal = m.list_reciprocal_rank_at_k(lists, k)
    for i in range(5):
        of_query = query == i
        labels, values = relevance[of_query], scores[of_query]
        assert ndcg[i] == pytest.approx(sk.ndcg_score([labels], [values], k=k))
        assert precision[i] == pytest.approx(sk.average_precision_score(labels, values))
        first = np.flatnonzero(labels[np.argsort(-values, kind="stable")])[0] + 1
        assert reciprocal[i] == pytest.approx(1 / first if first <= k else 0)


@settings(max_examples=50)
@given(seed=seeds, size=st.integers(2, 40), num_values=st.integers(1, 30))
def test_thresholds_are_the_best_that_there_are(seed: int, size: int, num_values: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, num_values, size).astype(np.float32) / 8
    labels = rng.integers(0, 2, size)
    labels[:2] = [0, 1]
    cuts = [*sorted(set(scores.tolist())), np.inf]
    accuracy, f1 = m.best_accuracy(scores, labels), m.best_f1(scores, labels)
    assert accuracy.value == pytest.approx(max(sk.accuracy_score(labels, scores >= cut) for cut in cuts))
    assert accuracy.value == pytest.approx(sk.accuracy_score(labels, scores >= accuracy.threshold))
    called = scores >= f1.threshold
    assert f1.value == pytest.approx(max(sk.f1_score(labels, scores >= cut) for cut in cuts))
    assert f1.value == pytest.approx(sk.f1_score(labels, called))
    assert f1.precision == pytest.approx(sk.precision_score(labels, called))
    assert f1.recall == pytest.approx(sk.recall_score(labels, called))


def test_a_threshold_never_lets_the_next_float_in() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    found = m.best_accuracy(np.array([high, low]), np.array([1, 0]))
    assert (found.value, found.threshold) == (1.0, high)


def test_without_a_positive_there_is_no_precision() -> None:
    assert m.average_precision(np.array([0.1, 0.2]), np.array([0, 0])) == 0.0
    assert m.matthews_correlation(np.array([1, 1]), np.array([0, 1])) == 0.0


def test_nothing_correlates_with_a_constant() -> None:
    assert math.isnan(m.spearman(np.ones(3), np.arange(3.0)))
    assert math.isnan(m.pearson(np.ones(3), np.arange(3.0)))
    largest = Measurement.largest([Measurement.fixed(value) for value in (math.nan, 0.25, math.nan, 0.5)])
    assert largest.value == 0.5
    assert math.isnan(Measurement.largest([Measurement.fixed(math.nan)]).value)


def test_mined_pairs_by_hand() -> None:
    # Right, wrong, right, wrong; of 3 duplicates one is not found.
    found = m.mined_pairs(np.array([0.9, 0.8, 0.7, 0.5]), np.array([True, False, True, False]), 3)
    assert found == pytest.approx(
        {
            "average_precision": (1 + 2 / 3) / 3,
            "f1": 2 * 2 / (3 + 3),
            "precision": 2 / 3,
            "recall": 2 / 3,
            "threshold": 0.6,
        }
    )


def test_mined_pairs_that_tie_enter_together() -> None:
    scores = np.array([0.9, 0.9, 0.5])
    orders = [
        m.mined_pairs(scores, np.array(hits), 1) for hits in ([True, False, False], [False, True, False])
    ]
    assert orders[0] == orders[1]
    assert orders[0]["average_precision"] == 0.5
