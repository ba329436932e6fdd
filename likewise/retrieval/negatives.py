"""Choose hard negatives among candidates: filters, ranks, and a sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from likewise.checked import number, one_of, positive
from likewise.model.kept import Array
from likewise.retrieval.candidates import Candidates, Pairs


@dataclass(frozen=True)
class Choice:
    """Which candidates to take as negatives: arguments of `mine_hard_negatives`.

    Attributes:
        range_min: See there, as for the next three.
        filters: `absolute_margin`, `relative_margin`, `max_score`, `min_score`, those that are set, in this order.

    Raises:
        ValueError: A number is out of its range, or they contradict each other.
    """

    range_min: int
    range_max: int
    num_negatives: int
    sampling_strategy: str
    filters: dict[str, float]

    def __post_init__(self) -> None:
        positive(self.num_negatives, "num_negatives")
        for name in ("range_min", "range_max"):
            positive(getattr(self, name), name, "Drop it to take the default.", least=0)
        for name, value in self.filters.items():
            number(value, name, "Drop it to leave it out.")
        if self.range_min >= self.range_max:
            raise ValueError(
                f"`range_min` must be smaller than `range_max`, but they are {self.range_min} and "
                f"{self.range_max}. Raise `range_max`."
            )
        if self.num_negatives > self.range_max - self.range_min:
            raise ValueError(
                f"`num_negatives` is {self.num_negatives}, but from rank {self.range_min} to {self.range_max} there are "
                f"only {self.range_max - self.range_min} candidates. Raise `range_max` or lower `num_negatives`."
            )
        one_of(self.sampling_strategy, "sampling_strategy", ("top", "random"))


@dataclass(frozen=True)
class Negatives:
    """The negatives of Q queries.

    Attributes:
        ids: (Q, num_negatives) int64, rows of the documents, best first; -1 for none.
        scores: (Q, num_negatives) float32; -inf for none.
        skipped: How many candidates each filter dropped.
        num_candidates: How many candidates there were.
    """

    ids: Array
    scores: Array
    skipped: dict[str, int] = field(default_factory=dict)
    num_candidates: int = 0


def choose(pairs: Pairs, candidates: Candidates, choice: Choice, generator: np.random.Generator) -> Negatives:
    """Drop candidates that a filter refuses, skip the first `range_min`, and take the best or a random sample."""
    scores = candidates.scores.copy()
    num_candidates = int(np.isfinite(scores).sum())
    # The query's weakest positive decides, which is the cautious choice.
    positive = np.full(len(scores), np.inf, dtype=np.float32)
    np.minimum.at(positive, pairs.query, candidates.positive_scores)
    skipped = {}
    for name, value in choice.filters.items():
        refused = _refused(name, value, scores, positive[:, None]) & np.isfinite(scores)
        scores[refused] = -np.inf
        skipped[name] = int(refused.sum())
    order = np.argsort(-scores, axis=1, kind="stable")[:, choice.range_min : choice.range_max]
    scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates.ids, order, axis=1)
    if choice.sampling_strategy == "random":
        draw = np.where(np.isfinite(scores), generator.random(scores.shape), np.inf)
        drawn = np.argsort(draw, axis=1)[:, : choice.num_negatives]
        drawn.sort(axis=1)  # by rank again, thus by score
        scores, ids = np.take_along_axis(scores, drawn, axis=1), np.take_along_axis(ids, drawn, axis=1)
    scores, ids = scores[:, : choice.num_negatives], ids[:, : choice.num_negatives]
    return Negatives(np.where(np.isfinite(scores), ids, -1), scores, skipped, num_candidates)


def _refused(name: str, value: float, scores: Array, positive: Array) -> Array:
    """(Q, K) bool: the candidates that a filter drops. `positive` is (Q, 1)."""
    limits = {
        "absolute_margin": lambda: scores + np.float32(value) > positive,
        "relative_margin": lambda: scores > positive - np.abs(positive) * np.float32(value),
        "max_score": lambda: scores > value,
        "min_score": lambda: scores < value,
    }
    return limits[name]()
