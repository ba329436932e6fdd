"""How sure is a metric, and is one model really better than another? Answers by drawing the items again.

Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap (percentile intervals); Noreen 1989,
Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Smucker, Allan and Carterette 2007,
https://doi.org/10.1145/1321440.1321528, for both in the evaluation of retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from likewise.evaluation.measurement import Array, Measurement

if TYPE_CHECKING:
    from likewise.evaluation.base import SentenceEvaluator
    from likewise.model.sentence_transformer import SentenceTransformer


@dataclass(frozen=True)
class Interval:
    """A number with a confidence interval.

    Attributes:
        value: The number, from the items as they are.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items.

    Attributes:
        first: The first model's number.
        second: The second model's number.
        difference: Second minus first, with its confidence interval.
        p_value: How often a difference at least as large, either way, comes about if each item's results are swapped
            between the models at random; from 0 to 1, small where the difference is not by chance.
    """

    first: float
    second: float
    difference: Interval
    p_value: float


def bootstrap_interval(
    measurement: Measurement, generator: np.random.Generator, level: float = 0.95, num_samples: int = 1000
) -> Interval:
    """A percentile confidence interval: items are drawn with replacement, each stratum keeping its size.

    Args:
        measurement: The metric and its items.
        generator: Draws the items.
        level: The share of samples inside the interval, between 0 and 1.
        num_samples: How often items are drawn.
    """
    _check(measurement, level, num_samples)
    found = _resampled([measurement], generator, num_samples)[0]
    return _interval(measurement.value, found, level)


def paired_test(
    first: Measurement,
    second: Measurement,
    generator: np.random.Generator,
    level: float = 0.95,
    num_samples: int = 1000,
) -> Comparison:
    """Compare one metric of two models, measured on the same items in the same order.

    Args:
        first: The metric of the first model.
        second: The metric of the second model.
        generator: Draws items and swaps.
        level: The share of samples inside the interval of the difference, between 0 and 1.
        num_samples: How often items are drawn, and how often they are swapped.
    """
    _check(first, level, num_samples)
    if [row.shape for row in first.rows] != [row.shape for row in second.rows]:
        raise ValueError(
            "The two models were measured on different items. Measure both with the same evaluator."
        )
    before, after = _resampled([first, second], generator, num_samples)
    difference = second.value - first.value
    swapped = _swapped(first, second, generator, num_samples)
    tolerance = 1e-12  # sums in another order are not a larger difference
    p_value = (1 + int((np.abs(swapped) >= abs(difference) - tolerance).sum())) / (num_samples + 1)
    return Comparison(first.value, second.value, _interval(difference, after - before, level), p_value)


def confidence_intervals(
    evaluator: SentenceEvaluator,
    model: SentenceTransformer,
    level: float = 0.95,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """An interval for every metric of an evaluator that is computed from items; by the metrics' full names."""
    generator = np.random.default_rng(seed)
    return {
        evaluator.full_name(key): bootstrap_interval(measurement, generator, level, num_samples)
        for key, measurement in evaluator.measure(model).items()
        if measurement.rows
    }


def compare_models(
    evaluator: SentenceEvaluator,
    first: SentenceTransformer,
    second: SentenceTransformer,
    level: float = 0.95,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """A paired test for every metric of an evaluator that both models have; by the metrics' full names."""
    generator = np.random.default_rng(seed)
    before, after = evaluator.measure(first), evaluator.measure(second)
    return {
        evaluator.full_name(key): paired_test(before[key], after[key], generator, level, num_samples)
        for key in before
        if key in after and before[key].rows
    }


def _check(measurement: Measurement, level: float, num_samples: int) -> None:
    if not measurement.rows:
        raise ValueError(
            "This metric is not computed from items that could be drawn again, so nothing is known of it."
        )
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, but is {level}. Pass 0.95 for 95 percent.")
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1, but is {num_samples}. A thousand is usual.")


def _resampled(
    measurements: list[Measurement], generator: np.random.Generator, num_samples: int
) -> list[Array]:
    """The metrics of items drawn with replacement, (num_samples,) each; the same items for all measurements."""
    strata = measurements[0].strata
    num_items = len(measurements[0].rows[0])
    groups = (
        [np.arange(num_items)] if strata is None else [np.flatnonzero(strata == s) for s in np.unique(strata)]
    )
    found = np.empty((len(measurements), num_samples))
    for i in range(num_samples):
        items = np.concatenate([group[generator.integers(len(group), size=len(group))] for group in groups])
        for j, measurement in enumerate(measurements):
            found[j, i] = measurement.statistic(*(row[items] for row in measurement.rows))
    return list(found)


def _swapped(
    first: Measurement, second: Measurement, generator: np.random.Generator, num_samples: int
) -> Array:
    """The differences after each item's results were swapped between the models, or not: (num_samples,)."""
    found = np.empty(num_samples)
    for i in range(num_samples):
        swap = generator.random(len(first.rows[0])) < 0.5
        rows = list(zip(first.rows, second.rows, strict=True))
        found[i] = second.statistic(*(np.where(swap, a, b) for a, b in rows)) - first.statistic(
            *(np.where(swap, b, a) for a, b in rows)
        )
    return found


def _interval(value: float, samples: Array, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)
