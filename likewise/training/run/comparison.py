"""Comparison: a sample's scores before and after a run, as numbers with intervals, histograms, changes and a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from likewise.evaluation import metrics
from likewise.evaluation.bootstrap import bootstrap_interval, paired_test
from likewise.evaluation.measurement import Array, Measurement
from likewise.evaluation.metrics import RankedLists
from likewise.training.data.sample import Sample

BINS = 40
MOST_CHANGES = 5  # queries that gained, and as many that lost
SHOWN = 3  # documents of each
MOST_ON_MAP = 240  # texts
LEAST_ON_MAP = 10
MOST_CLASSES = 5
MOST_CHARACTERS = 400  # of a text that is shown


def compared_metric(title: str, before: Measurement, after: Measurement) -> dict[str, Any]:
    """A metric before and after, each with its 95 % interval (NaN where it has no items); the change, and how often chance does that."""
    p_value = math.nan
    ends = [[value, math.nan, math.nan] for value in (before.value, after.value, after.value - before.value)]
    if before.rows and len(before.rows[0]) > 1:
        generator = np.random.default_rng(0)
        found = paired_test(before, after, generator)
        intervals = *(bootstrap_interval(one, generator) for one in (before, after)), found.difference
        ends = [[one.value, one.low, one.high] for one in intervals]
        p_value = found.p_value
    return {"metric": title, **dict(zip(("before", "after", "difference"), ends, strict=True)), "p": p_value}


def compared(
    sample: Sample, before: tuple[Array, Array | None], after: tuple[Array, Array | None]
) -> dict[str, Any]:
    """What a report shows of a sample, by what `Family.answers` gave for it before a run and after it."""
    scores = before[0], after[0]
    found: dict[str, Any] = {"where": sample.where, "kind": sample.kind, "metrics": [], "scores": []}
    if len(sample.pairs):
        groups = _groups(sample)
        found["histogram"] = _histogram(groups, scores)
        found["metrics"] = [compared_metric(title, *both) for title, both in _metrics(sample, scores).items()]
        found["changes"] = _changes(sample, scores)
        found["scores"] = _scores(sample, groups, scores)
    if before[1] is not None and after[1] is not None:
        found["map"] = _map(sample, before[1], after[1])
    return found


def _metrics(sample: Sample, scores: tuple[Array, Array]) -> dict[str, tuple[Measurement, Measurement]]:
    labels = sample.labels
    if sample.kind == "ranking":
        lists = [_lists(sample, some) for some in scores]
        found = {
            "MRR": [metrics.list_reciprocal_rank_at_k(one, len(labels)) for one in lists],
            "nDCG@10": [metrics.list_ndcg_at_k(one, 10) for one in lists],
            "accuracy@1": [metrics.list_reciprocal_rank_at_k(one, 1) for one in lists],
        }
        return {title: (Measurement((a,)), Measurement((b,))) for title, (a, b) in found.items()}
    if sample.kind == "classes" or np.ptp(labels) == 0:
        return {}
    is_binary = set(np.unique(labels)) <= {0.0, 1.0}
    title = "average precision" if is_binary else "Spearman"
    statistic = metrics.average_precision if is_binary else metrics.spearman
    one, other = (Measurement((some.astype(np.float64), labels), statistic) for some in scores)
    return {title: (one, other)}


def _lists(sample: Sample, scores: Array) -> RankedLists:
    return RankedLists.sort(scores, sample.labels, sample.pairs[:, 0], len(sample.queries))


def _groups(sample: Sample) -> dict[str, Array]:
    """(P,) bool for each kind of pair, by what it is called."""
    labels = sample.labels
    if sample.kind == "ranking":
        groups = {
            "positive": labels > 0,
            "negative": (labels == 0) & sample.is_given,
            "another row's": ~sample.is_given,
        }
    elif sample.kind == "classes" or len(np.unique(labels)) <= 2:
        groups = {f"label {value:.3g}": labels == value for value in np.unique(labels)[::-1][:MOST_CLASSES]}
    else:
        low, high = np.quantile(labels, [1 / 3, 2 / 3])
        groups = {f"label above {high:.3g}": labels > high, f"label up to {low:.3g}": labels <= low}
    return {name: group for name, group in groups.items() if group.any()}


def _histogram(groups: Mapping[str, Array], scores: tuple[Array, Array]) -> list[dict[str, Any]]:
    """The share of each kind of pair by score."""
    edges = np.histogram_bin_edges(np.concatenate(scores).astype(np.float64), BINS)
    return [
        {"when": when, "pairs": name, "from": float(edges[i]), "to": float(edges[i + 1]), "share": float(share)}
        for when, some in zip(("before", "after"), scores, strict=True)
        for name, group in groups.items()
        for i, share in enumerate(np.histogram(some[group], edges)[0] / group.sum())
        if share
    ]  # fmt: skip


def _scores(sample: Sample, groups: Mapping[str, Array], scores: tuple[Array, Array]) -> list[dict[str, Any]]:
    """Some given pairs with their scores before and after."""
    names = {
        int(i): name
        for name, group in groups.items()
        for i in np.flatnonzero(group & sample.is_given)[:MOST_ON_MAP]
    }
    found = []
    for i, name in names.items():
        query, document = sample.pairs[i]
        text = f"{_short(sample.queries[query])} | {_short(sample.documents[document])}"
        found.append(
            {"before": float(scores[0][i]), "after": float(scores[1][i]), "pairs": name, "text": text}
        )
    return found


def _short(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _changes(sample: Sample, scores: tuple[Array, Array]) -> dict[str, list[dict[str, Any]]]:
    """What gained and what lost most, with what was found."""
    show: Callable[..., dict[str, Any]]
    if sample.kind == "ranking":
        ranks = [_best_ranks(sample, some) for some in scores]
        gains, show = 1 / ranks[1] - 1 / ranks[0], _of_query
    elif sample.kind == "numbers":
        ranks = [_errors(sample, some) for some in scores]
        gains, show = ranks[0] - ranks[1], _of_pair
    else:
        return {}
    order = np.argsort(-gains, kind="stable")
    chosen = {"gained": order[:MOST_CHANGES], "lost": order[::-1][:MOST_CHANGES]}
    sign = {"gained": 1, "lost": -1}
    return {
        name: [show(sample, int(i), scores, ranks) for i in numbers if sign[name] * gains[i] > 0]
        for name, numbers in chosen.items()
    }


def _best_ranks(sample: Sample, scores: Array) -> Array:
    """(Q,) rank of each query's best relevant document, from 1; infinite where it has none."""
    lists = _lists(sample, scores)
    best = np.full(len(sample.queries), np.inf)
    relevant = lists.relevance > 0
    np.minimum.at(best, lists.query[relevant], lists.rank[relevant] + 1)
    return best


def _errors(sample: Sample, scores: Array) -> Array:
    """(P,) how far apart a pair's places by score and by label are, as a share of all pairs."""
    from scipy.stats import rankdata

    return np.asarray(np.abs(rankdata(scores) - rankdata(sample.labels)) / len(scores))


def _of_query(
    sample: Sample, query: int, scores: tuple[Array, Array], ranks: Sequence[Array]
) -> dict[str, Any]:
    own = np.flatnonzero(sample.pairs[:, 0] == query)
    found = {}
    for when, some in zip(("before", "after"), scores, strict=True):
        best = own[np.argsort(-some[own], kind="stable")][:SHOWN]
        found[when] = [
            (_short(sample.documents[sample.pairs[i, 1]]), float(some[i]), bool(sample.labels[i] > 0))
            for i in best
        ]
    wanted = [sample.documents[sample.pairs[i, 1]] for i in own if sample.labels[i] > 0]
    texts = {"query": _short(sample.queries[query]), "wanted": _short(wanted[0])}
    return texts | {"ranks": [int(rank[query]) for rank in ranks], "found": found}


def _of_pair(
    sample: Sample, pair: int, scores: tuple[Array, Array], ranks: Sequence[Array]
) -> dict[str, Any]:
    query, document = sample.pairs[pair]
    texts = {"query": _short(sample.queries[query]), "wanted": _short(sample.documents[document])}
    return texts | {"label": float(sample.labels[pair]), "scores": [float(some[pair]) for some in scores]}


def _map(sample: Sample, before: Array, after: Array) -> list[dict[str, Any]]:
    """Texts in the plane, so that neighbours stay neighbours; the second map starts from the first, to be alike.

    Reference: van der Maaten and Hinton 2008, https://jmlr.org/papers/v9/vandermaaten08a.html (t-SNE, cosine distance).
    """
    from sklearn.manifold import TSNE

    num_queries = len(sample.queries)
    alike = sample.labels > (np.median(sample.labels) if sample.kind == "numbers" else 0)
    linked = np.flatnonzero(alike & sample.is_given)[: MOST_ON_MAP // 2]
    pairs = [(int(a), num_queries + int(b)) for a, b in sample.pairs[linked]]
    numbers = [number for pair in pairs for number in pair] or list(range(min(num_queries, MOST_ON_MAP)))
    numbers = list(dict.fromkeys(numbers))
    if len(numbers) < LEAST_ON_MAP:
        return []
    places: Any = "pca"
    texts = [*sample.queries, *sample.documents]
    points = []
    for when, embeddings in (("before", before), ("after", after)):
        kept = embeddings[numbers].astype(np.float64)
        # As narrow as t-SNE begins by itself, or it could not leave the first map where texts have moved.
        start = places if isinstance(places, str) else places / places.std() * 1e-4
        tsne = TSNE(perplexity=min(30, len(numbers) // 4), metric="cosine", init=start, random_state=0)
        places = tsne.fit_transform(kept)
        scaled = places / np.abs(places).max()
        at = {number: scaled[i].tolist() for i, number in enumerate(numbers)}
        for pair, ends in enumerate(pairs or [(number,) for number in numbers]):
            for number in ends:
                kind = "query" if number < num_queries else "document"
                point = {"when": when, "x": at[number][0], "y": at[number][1], "pair": pair, "kind": kind}
                points.append(point | {"text": _short(texts[number], 160)})
    return points
