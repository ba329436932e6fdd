"""Confidence intervals cover what they should, and the paired test tells chance from difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small import sentences

from likewise.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    ParaphraseMiningEvaluator,
    SequentialEvaluator,
    TripletEvaluator,
)
from likewise.evaluation.bootstrap import (
    bootstrap_interval,
    compare_models,
    confidence_intervals,
    paired_test,
)
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import spearman

FIRST, SECOND, THIRD = (sentences(80, seed=seed) for seed in (1, 2, 3))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = generator(1).normal(size=400)
    found = bootstrap_interval(Measurement((values,)), generator(), num_samples=3000)
    assert found.value == pytest.approx(values.mean())
    half_width = 1.96 * values.std() / 400**0.5
    assert found.high - found.value == pytest.approx(half_width, rel=0.1)
    assert found.value - found.low == pytest.approx(half_width, rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_promised() -> None:
    covered = 0
    for seed in range(200):
        hits = (generator(seed).random(100) < 0.3).astype(float)
        found = bootstrap_interval(Measurement((hits,)), generator(seed), level=0.9, num_samples=300)
        covered += found.low <= 0.3 <= found.high
    assert 0.83 <= covered / 200 <= 0.96


def test_items_are_drawn_within_their_group() -> None:
    # Groups without any spread: however they are drawn, their means stay.
    measurement = Measurement.mean_of_means([np.zeros(3), np.ones(20)])
    found = bootstrap_interval(measurement, generator(), num_samples=50)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_p_value_counts_swaps_that_differ_as_much() -> None:
    # Of the 8 ways to swap three results, one gives as large a difference, and one the opposite.
    first, second = (Measurement((np.array(values),)) for values in ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]))
    found = paired_test(first, second, generator(), num_samples=1000)
    assert (found.difference.value, found.p_value) == (1, 2 / 8)
    rng = generator(3)
    noise = Measurement((rng.normal(size=60),))
    better = Measurement((noise.rows[0] + 0.3 + 0.5 * rng.normal(size=60),))
    assert paired_test(noise, better, generator()).p_value < 0.01


def test_an_item_that_is_alone_in_its_group_is_drawn_each_time() -> None:
    measurement = Measurement.mean_of_means([np.array([1.0]), np.array([0.0])])
    found = bootstrap_interval(measurement, generator(), num_samples=50)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    measurement = Measurement.mean_of_means([np.array([1.0]), np.array([0.0, 1.0])])
    found = bootstrap_interval(measurement, generator(), num_samples=500)
    assert (found.value, found.low, found.high) == (0.75, 0.5, 1.0)


def test_equal_results_are_no_difference() -> None:
    x, y = generator(0).normal(size=30), generator(1).normal(size=30)
    measurement = Measurement((x, y), spearman)
    found = paired_test(measurement, measurement, generator(), num_samples=100)
    assert (found.difference.value, found.difference.low, found.difference.high, found.p_value) == (
        0,
        0,
        0,
        1,
    )


def evaluators() -> list[Any]:
    documents = {f"d{i}": text for i, text in enumerate(FIRST)}
    queries = {f"q{i}": text for i, text in enumerate(SECOND[:20])}
    relevant = {query: {f"d{i}", f"d{i + 30}"} for i, query in enumerate(queries)}
    return [
        EmbeddingSimilarityEvaluator(FIRST, SECOND, list(range(80)), name="sts"),
        TripletEvaluator(FIRST, SECOND, THIRD, name="nli", similarity_fn_names=["cosine", "dot"]),
        BinaryClassificationEvaluator(FIRST, SECOND, [0, 1] * 40),
        InformationRetrievalEvaluator(queries, documents, relevant),
    ]


@pytest.mark.parametrize("place", range(4))
def test_every_metric_has_an_interval_around_it(place: int, model: Any) -> None:
    evaluator = evaluators()[place]
    intervals = confidence_intervals(evaluator, model, num_samples=60)
    metrics = evaluator(model)
    assert set(intervals) == set(metrics)
    for key, interval in intervals.items():
        assert interval.value == metrics[key]
        assert interval.low <= interval.high
    assert intervals == confidence_intervals(evaluator, model, num_samples=60)
    assert intervals != confidence_intervals(evaluator, model, num_samples=60, seed=1)


def test_two_models_are_compared_on_all_metrics(model: Any, other_model: Any) -> None:
    evaluator = SequentialEvaluator(evaluators())
    found = compare_models(evaluator, model, other_model, num_samples=60)
    first, second = evaluator(model), evaluator(other_model)
    assert set(found) == set(first) - {"sequential_score"}
    for key, comparison in found.items():
        assert (comparison.first, comparison.second) == (first[key], second[key])
        assert comparison.difference.value == pytest.approx(second[key] - first[key])
        assert 0 < comparison.p_value <= 1


def test_what_cannot_be_drawn_again_has_no_interval(model: Any) -> None:
    evaluator = ParaphraseMiningEvaluator({"a": "cat", "b": "dog"}, [("a", "b")])
    assert confidence_intervals(evaluator, model) == {}
    with pytest.raises(ValueError, match="not computed from items that could be drawn again"):
        bootstrap_interval(Measurement.fixed(0.5), generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 95}, "`level` must be between 0 and 1, but is 95"),
        ({"num_samples": 0}, "at least 1, but is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(Measurement((np.arange(3.0),)), generator(), **settings)


def test_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="measured on different items"):
        paired_test(Measurement((np.zeros(3),)), Measurement((np.zeros(4),)), generator())
