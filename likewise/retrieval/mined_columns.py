"""Mined negatives as the columns of a data set, in the formats that losses take."""

from __future__ import annotations

from typing import Any

import numpy as np

from likewise.retrieval.blocks import Array
from likewise.retrieval.candidates import Pairs
from likewise.retrieval.negatives import Negatives

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


def as_columns(
    output_format: str,
    pairs: Pairs,
    positive_scores: Array,
    negatives: Negatives,
    names: tuple[str, str],
    output_scores: bool,
    output_ids: bool,
) -> dict[str, list[Any]]:
    """The columns of a data set.

    Args:
        output_format: One of FORMATS.
        pairs: The queries, documents and positives.
        positive_scores: (P,).
        negatives: The negatives of each query.
        names: What to call the columns of queries and positives.
        output_scores: Whether to add scores (in place of labels, where there are labels).
        output_ids: Whether to add `ids`: the rows of the documents.
    """
    build = {
        "triplet": _triplets,
        "n-tuple": _tuples,
        "labeled-pair": _labeled_pairs,
        "labeled-list": _labeled_lists,
    }
    return build[output_format](pairs, positive_scores, negatives, names, output_scores, output_ids)


def _triplets(
    pairs: Pairs,
    positive_scores: Array,
    negatives: Negatives,
    names: tuple[str, str],
    scored: bool,
    with_ids: bool,
) -> dict[str, list[Any]]:
    """A row for each pair and each of its query's negatives."""
    ids, scores = negatives.ids[pairs.query], negatives.scores[pairs.query]
    pair, rank = np.nonzero(ids >= 0)
    documents = np.stack([pairs.positive[pair], ids[pair, rank]], axis=1)
    columns = {
        names[0]: _texts(pairs.queries, pairs.query[pair]),
        names[1]: _texts(pairs.documents, documents[:, 0]),
        "negative": _texts(pairs.documents, documents[:, 1]),
    }
    both = np.stack([positive_scores[pair], scores[pair, rank]], axis=1)
    return columns | _extra("scores" if scored else None, both, "ids" if with_ids else None, documents)


def _tuples(
    pairs: Pairs,
    positive_scores: Array,
    negatives: Negatives,
    names: tuple[str, str],
    scored: bool,
    with_ids: bool,
) -> dict[str, list[Any]]:
    """A row for each pair whose query has all its negatives."""
    pair = np.flatnonzero((negatives.ids[pairs.query] >= 0).all(axis=1))
    ids, scores = negatives.ids[pairs.query[pair]], negatives.scores[pairs.query[pair]]
    columns = {
        names[0]: _texts(pairs.queries, pairs.query[pair]),
        names[1]: _texts(pairs.documents, pairs.positive[pair]),
    }
    for rank, column in enumerate(ids.T, start=1):
        columns[f"negative_{rank}"] = _texts(pairs.documents, column)
    documents = np.column_stack([pairs.positive[pair], ids])
    both = np.column_stack([positive_scores[pair], scores])
    return columns | _extra("scores" if scored else None, both, "ids" if with_ids else None, documents)


def _labeled_pairs(
    pairs: Pairs,
    positive_scores: Array,
    negatives: Negatives,
    names: tuple[str, str],
    scored: bool,
    with_ids: bool,
) -> dict[str, list[Any]]:
    """A row for each positive, then for each negative, of each query."""
    query, rank = np.nonzero(negatives.ids >= 0)
    queries = np.concatenate([pairs.query, query])
    documents = np.concatenate([pairs.positive, negatives.ids[query, rank]])
    labels = np.repeat([1, 0], [len(pairs.query), len(query)])
    scores = np.concatenate([positive_scores, negatives.scores[query, rank]])
    order = np.argsort(queries, kind="stable")
    columns = {
        names[0]: _texts(pairs.queries, queries[order]),
        names[1]: _texts(pairs.documents, documents[order]),
    }
    if not scored:
        columns["label"] = labels[order].tolist()
    return columns | _extra(
        "score" if scored else None, scores[order], "id" if with_ids else None, documents[order]
    )


def _labeled_lists(
    pairs: Pairs,
    positive_scores: Array,
    negatives: Negatives,
    names: tuple[str, str],
    scored: bool,
    with_ids: bool,
) -> dict[str, list[Any]]:
    """A row for each pair whose query has negatives: a list of the positive and the negatives."""
    found = negatives.ids >= 0
    pair = np.flatnonzero(found[pairs.query].any(axis=1))
    rows = zip(pair.tolist(), pairs.query[pair].tolist(), strict=True)
    kept = [(p, negatives.ids[q][found[q]].tolist(), negatives.scores[q][found[q]].tolist()) for p, q in rows]
    documents = [[int(pairs.positive[p]), *ids] for p, ids, _ in kept]
    columns: dict[str, list[Any]] = {
        names[0]: _texts(pairs.queries, pairs.query[pair]),
        names[1]: [[pairs.documents[i] for i in row] for row in documents],
    }
    if scored:
        columns["scores"] = [[float(positive_scores[p]), *scores] for p, _, scores in kept]
    else:
        columns["labels"] = [[1] + [0] * len(ids) for _, ids, _ in kept]
    return columns | ({"ids": documents} if with_ids else {})


def _texts(texts: list[str], rows: Array) -> list[str]:
    return [texts[row] for row in rows.tolist()]


def _extra(scores_name: str | None, scores: Array, ids_name: str | None, ids: Array) -> dict[str, list[Any]]:
    """The columns of scores and ids that are asked for."""
    found = {} if scores_name is None else {scores_name: scores.tolist()}
    return found | ({} if ids_name is None else {ids_name: ids.tolist()})
