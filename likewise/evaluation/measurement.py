"""Measurement: a metric together with the items it was computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Statistic: TypeAlias = Callable[..., float]


def mean(values: Array | Sequence[float]) -> float:
    """The mean of (N,) values."""
    return float(np.mean(values, dtype=np.float64))


@dataclass(frozen=True)
class Measurement:
    """A number computed from N items (queries, pairs, triplets, ...), so that it can be computed from other samples too.

    Attributes:
        rows: One or more arrays with one row per item.
        statistic: Takes the arrays, returns the number.
        strata: (N,) int, the group an item is drawn within when items are drawn again; None for one group.
    """

    rows: tuple[Array, ...]
    statistic: Statistic = mean
    strata: Array | None = None

    @classmethod
    def fixed(cls, value: float) -> Measurement:
        """A number that no other sample of the items could give, such as a threshold over all pairs of a corpus."""
        return cls((), lambda: value)

    @classmethod
    def fixed_each(cls, values: Mapping[str, float]) -> dict[str, Measurement]:
        """Such numbers by name: what a metric function of somebody's own gives."""
        return {name: cls.fixed(value) for name, value in values.items()}

    @classmethod
    def largest(cls, measurements: Sequence[Measurement]) -> Measurement:
        """The largest of several numbers that were computed from the same items; NaN only where all are."""
        ends = np.cumsum([len(measurement.rows) for measurement in measurements]).tolist()
        starts = [0, *ends[:-1]]

        def statistic(*rows: Array) -> float:
            values = [m.statistic(*rows[a:b]) for m, a, b in zip(measurements, starts, ends, strict=True)]
            return max((value for value in values if value == value), default=float("nan"))

        return cls(tuple(row for measurement in measurements for row in measurement.rows), statistic)

    @classmethod
    def mean_of_means(
        cls, groups: Sequence[Array], aggregate: Callable[[list[float]], float] = mean
    ) -> Measurement:
        """The mean (or another aggregate) of the means of groups of (N_g,) values; items are drawn within their group."""
        strata = np.repeat(np.arange(len(groups)), [len(group) for group in groups])

        def statistic(values: Array, group: Array) -> float:
            return float(aggregate([mean(values[group == i]) for i in range(len(groups))]))

        return cls((np.concatenate(groups), strata), statistic, strata)

    @cached_property
    def value(self) -> float:
        """The number itself."""
        return self.statistic(*self.rows)
