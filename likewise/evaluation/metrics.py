"""Metrics as pure, vectorised functions. Each takes NumPy arrays and returns numbers from 0 to 1 unless it says otherwise.

Three kinds of input:
- hits: (Q, K) bool, whether the document at each rank is relevant, best rank first; with (Q,) numbers of relevant
  documents. Metrics are returned for every query, (Q,): their mean is the figure that is usually reported.
- lists: the scores and relevance of documents that were given for each query (reranking), end to end, with the query
  that each belongs to. Ties within a list are shared fairly, as scikit-learn does it.
- pairs: (N,) scores with (N,) labels.

What scikit-learn and scipy have for one list they do. Hits and lists of many queries are done here, all at once: list by list,
scikit-learn takes half a millisecond for each, seconds for the ten thousand queries of a usual test set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from likewise.evaluation.measurement import Array

# Ranked hits


def accuracy_at_k(hits: Array, k: int) -> Array:
    """1 for a query with a relevant document among the best k, else 0: (Q, K) -> (Q,)."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def precision_at_k(hits: Array, k: int) -> Array:
    """The share of relevant documents among the best k: (Q, K) -> (Q,)."""
    found: Array = hits[:, :k].sum(axis=1)
    return found / k


def recall_at_k(hits: Array, num_relevant: Array, k: int) -> Array:
    """The share of a query's relevant documents that are among the best k: (Q, K), (Q,) -> (Q,)."""
    found: Array = hits[:, :k].sum(axis=1)
    return found / num_relevant


def reciprocal_rank_at_k(hits: Array, k: int) -> Array:
    """One over the rank of the first relevant document, 0 if it is beyond rank k: (Q, K) -> (Q,)."""
    top = hits[:, :k]
    return np.where(top.any(axis=1), 1 / (top.argmax(axis=1) + 1), 0.0)


def ndcg_at_k(hits: Array, num_relevant: Array, k: int) -> Array:
    """Normalised discounted cumulative gain with relevance 0 or 1: (Q, K), (Q,) -> (Q,).

    A relevant document at rank r gains 1 / log2(r + 1); the sum is divided by that of the best order possible.

    Reference: Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418.
    """
    top = hits[:, :k]
    gains: Array = top @ discounts(top.shape[1])
    return gains / _ideal_gains(num_relevant, k)


def average_precision_at_k(hits: Array, num_relevant: Array, k: int) -> Array:
    """The mean precision at the ranks of the relevant documents, those beyond rank k counting 0: (Q, K), (Q,) -> (Q,)."""
    top = hits[:, :k]
    precisions = top.cumsum(axis=1) / np.arange(1, top.shape[1] + 1)
    total: Array = (precisions * top).sum(axis=1)
    return total / np.minimum(num_relevant, k)


def discounts(k: int) -> Array:
    """1 / log2(rank + 1) for the ranks 1 to k."""
    ranks = np.arange(1, k + 1)
    return np.asarray(1 / np.log2(ranks + 1))


def _ideal_gains(num_relevant: Array, k: int) -> Array:
    """What the best order of each query gains: all relevant documents first."""
    totals: Array = np.concatenate([[0.0], discounts(k).cumsum()])
    return totals[np.minimum(num_relevant, k)]


# Lists to rerank


@dataclass(frozen=True)
class RankedLists:
    """Lists of scored documents, one for each query, sorted by descending score; equal scores keep their order.

    Attributes:
        relevance: (N,) float, 0 or 1, in sorted order, list after list.
        query: (N,) int, the list each document belongs to; 0 to Q - 1.
        rank: (N,) int, from 0, within its list.
        first: (N,) int, where the run of documents that tie with this one begins.
        last: (N,) int, where it ends (inclusive).
        num_queries: Q.
    """

    relevance: Array
    query: Array
    rank: Array
    first: Array
    last: Array
    num_queries: int

    @classmethod
    def sort(cls, scores: Array, relevance: Array, query: Array, num_queries: int) -> RankedLists:
        """From (N,) scores, (N,) relevance and the (N,) ascending queries they belong to."""
        order = np.lexsort((-scores, query))
        scores, relevance, query = scores[order], relevance[order].astype(np.float64), query[order]
        sizes = np.bincount(query, minlength=num_queries)
        rank = np.arange(len(query)) - np.repeat(sizes.cumsum() - sizes, sizes)
        is_new = np.ones(len(query), dtype=bool)
        is_new[1:] = (query[1:] != query[:-1]) | (scores[1:] != scores[:-1])
        starts = np.flatnonzero(is_new)
        run = is_new.cumsum() - 1
        last = np.append(starts[1:], len(query)) - 1
        return cls(relevance, query, rank, starts[run], last[run], num_queries)

    def sums(self, values: Array) -> Array:
        """The sum of (N,) values over each list: (Q,)."""
        return np.bincount(self.query, weights=values, minlength=self.num_queries)


def list_reciprocal_rank_at_k(lists: RankedLists, k: int) -> Array:
    """One over the rank of each list's first relevant document, 0 if it is beyond rank k: (Q,).

    Tied documents rank in the order in which they were given.
    """
    found = (lists.relevance > 0) & (lists.rank < k)
    best = np.zeros(lists.num_queries)
    np.maximum.at(best, lists.query[found], 1 / (lists.rank[found] + 1))
    return best


def list_ndcg_at_k(lists: RankedLists, k: int) -> Array:
    """Normalised discounted cumulative gain of each list, averaged over all orders of tied documents: (Q,).

    Reference: McSherry and Najork 2008, https://doi.org/10.1007/978-3-540-78646-7_38.
    """
    totals = np.concatenate([[0.0], lists.relevance.cumsum()])
    tied_mean = (totals[lists.last + 1] - totals[lists.first]) / (lists.last + 1 - lists.first)
    discount = np.where(lists.rank < k, 1 / np.log2(lists.rank + 2), 0.0)
    num_relevant = lists.sums(lists.relevance).astype(np.int64)
    return lists.sums(tied_mean * discount) / _ideal_gains(num_relevant, k)


def list_average_precision(lists: RankedLists) -> Array:
    """Average precision of each list; documents that tie enter together: (Q,)."""
    totals = np.concatenate([[0.0], lists.relevance.cumsum()])
    before = totals[np.arange(len(lists.query)) - lists.rank]  # relevant documents of earlier lists
    last_rank = lists.rank + lists.last - np.arange(len(lists.query))
    precision = (totals[lists.last + 1] - before) / (last_rank + 1)
    return lists.sums(precision * lists.relevance) / lists.sums(lists.relevance)


def reranking_metrics(scores: Array, relevance: Sequence[Array], k: int) -> dict[str, Array]:
    """`map`, `mrr@k` and `ndcg@k` of each list, from (N,) scores and the relevance of each list's documents, list after list."""
    sizes = [len(some) for some in relevance]
    query = np.repeat(np.arange(len(sizes)), sizes)
    lists = RankedLists.sort(scores, np.concatenate(relevance), query, len(sizes))
    return {
        "map": list_average_precision(lists),
        f"mrr@{k}": list_reciprocal_rank_at_k(lists, k),
        f"ndcg@{k}": list_ndcg_at_k(lists, k),
    }


# Scored pairs


@dataclass(frozen=True)
class Thresholded:
    """The best threshold for calling pairs positive, and how good it is; a pair is positive if it scores at least that.

    Attributes:
        value: The accuracy or F1 at the threshold.
        threshold: A score.
        precision: At the threshold.
        recall: At the threshold.
    """

    value: float
    threshold: float
    precision: float
    recall: float


def best_accuracy(scores: Array, labels: Array) -> Thresholded:
    """The threshold with the highest accuracy: (N,) scores, larger for positives, and (N,) labels 0 or 1."""
    return _best(scores, labels, lambda right, wrong: (right + wrong[-1] - wrong) / len(labels))


def best_f1(scores: Array, labels: Array) -> Thresholded:
    """The threshold with the highest F1: (N,) scores, larger for positives, and (N,) labels 0 or 1."""
    return _best(scores, labels, lambda right, wrong: 2 * right / np.maximum(right + wrong + right[-1], 1))


def _best(scores: Array, labels: Array, quality: Callable[[Array, Array], Array]) -> Thresholded:
    """The first, thus highest, threshold with the largest quality, 0 where none is above 0.

    Thresholds that make a difference lie above all scores, then below each distinct score in turn; `quality` is told how many
    positives and how many others reach each of them.
    """
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], labels[order] > 0
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    distinct = scores[ends]
    threshold = distinct.copy()
    threshold[:-1] = (distinct[:-1] + distinct[1:]) / 2
    # Half-way between two neighbouring floats may round to the lower one, which would let that one in.
    threshold[:-1] = np.where(threshold[:-1] == distinct[1:], distinct[:-1], threshold[:-1])
    above_all = np.nextafter(distinct[:1], np.array(np.inf, dtype=scores.dtype))
    right, wrong = (np.concatenate([[0], which.cumsum()[ends]]) for which in (positive, ~positive))
    values = quality(right, wrong)
    i = int(values.argmax())
    precision, recall = (right[i] / max(total, 1) for total in (right[i] + wrong[i], right[-1]))
    return Thresholded(
        float(values[i]), float(np.append(above_all, threshold)[i]), float(precision), float(recall)
    )


def average_precision(scores: Array, labels: Array) -> float:
    """Average precision of one list of (N,) scores with (N,) labels 0 or 1; 0 without a positive."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels > 0, scores)) if labels.any() else 0.0


def matthews_correlation(predicted: Array, labels: Array) -> float:
    """Correlation of (N,) predictions with (N,) labels, both 0 or 1: from -1 to 1; 0 if one of them is constant."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels > 0, predicted > 0))


def pearson(x: Array, y: Array) -> float:
    """Linear correlation of two (N,) arrays, from -1 to 1; NaN if one of them is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, x, y)


def spearman(x: Array, y: Array) -> float:
    """Correlation of the ranks of two (N,) arrays, from -1 to 1; ties share their mean rank; NaN if one is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, x, y)


def _correlation(function: Callable[..., Any], x: Array, y: Array) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # scipy says so too, but warns at each of a thousand samples
        return float("nan")
    return float(function(x, y).statistic)


# Mined pairs


def mined_pairs(scores: Array, is_duplicate: Array, num_duplicates: int) -> dict[str, float]:
    """How well mined pairs agree with known duplicates.

    Args:
        scores: (P,), descending.
        is_duplicate: (P,) bool.
        num_duplicates: All known duplicates, whether mined or not.

    Returns:
        `average_precision`, and `f1`, `precision`, `recall` at the `threshold` with the best F1; all 0 where no
        duplicate was mined. Pairs that tie enter together.
    """
    names = ("average_precision", "f1", "precision", "recall", "threshold")
    if not is_duplicate.any():
        return dict.fromkeys(names, 0.0)
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    correct = is_duplicate.cumsum()[ends]
    precision, recall = correct / (ends + 1), correct / num_duplicates
    f1 = 2 * correct / (ends + 1 + num_duplicates)
    best = int(f1.argmax())
    following = scores[np.minimum(ends[best] + 1, len(scores) - 1)]
    return {
        "average_precision": float((precision * np.diff(correct, prepend=0)).sum() / num_duplicates),
        "f1": float(f1[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "threshold": (float(scores[ends[best]]) + float(following)) / 2,
    }
