"""How sure is a metric, and is one model really better than another? Answers by drawing the items again.

Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap (percentile intervals); Noreen 1989,
Computer-Intensive Methods for Testing Hypotheses (approximate randomisation); Smucker, Allan and Carterette 2007,
https://doi.org/10.1145/1321440.1321528, for both in the evaluation of retrieval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from likewise.checked import positive
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.measurement import Array, Measurement
from likewise.types import Encoder


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
    rows, statistic = measurement.rows, measurement.statistic
    return _interval(
        measurement, lambda items: statistic(*(row[items] for row in rows)), generator, level, num_samples
    )


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
    size = len(first.rows[0])  # item i of the second model is size + i
    rows = [np.concatenate(both) for both in zip(first.rows, second.rows, strict=True)]

    def difference(before: Array, after: Array) -> float:
        was, now = ([row[items] for row in rows] for items in (before, after))
        return second.statistic(*now) - first.statistic(*was)

    from scipy.stats import permutation_test

    swapped = permutation_test(
        (np.arange(size), np.arange(size, 2 * size)),
        difference,
        permutation_type="samples",
        vectorized=False,
        n_resamples=num_samples,
        batch=_batch(size),
        random_state=generator,
    )
    interval = _interval(first, lambda items: difference(items, size + items), generator, level, num_samples)
    return Comparison(first.value, second.value, interval, float(swapped.pvalue))


def confidence_intervals(
    evaluator: SentenceEvaluator, model: Encoder, level: float = 0.95, num_samples: int = 1000, seed: int = 0
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
    first: Encoder,
    second: Encoder,
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
    positive(num_samples, "num_samples", "A thousand is usual.")


def _interval(
    measurement: Measurement,
    statistic: Callable[[Array], float],
    generator: np.random.Generator,
    level: float,
    num_samples: int,
) -> Interval:
    """The percentile interval of a statistic of the numbers of items, which are drawn again within the measurement's strata."""
    from scipy.stats import bootstrap

    size = len(measurement.rows[0])
    strata = np.zeros(size) if measurement.strata is None else measurement.strata
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    alone = [group for group in groups if len(group) == 1]  # whoever is alone is drawn each time
    several = [group for group in groups if len(group) > 1]
    value = statistic(np.arange(size))
    if not several:
        return Interval(value, value, value)
    found = bootstrap(
        several,
        lambda *drawn: statistic(np.concatenate([*alone, *drawn])),
        vectorized=False,
        n_resamples=num_samples,
        batch=_batch(size),
        confidence_level=level,
        method="percentile",
        random_state=generator,
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def _batch(size: int) -> int:
    """So many samples of `size` items are drawn at a time: 32 MiB of numbers."""
    return max(1, 2**22 // size)
