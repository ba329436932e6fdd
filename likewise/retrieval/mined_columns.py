"""Mined negatives as the columns of a data set, in the formats that losses take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from likewise.retrieval.candidates import Pairs
from likewise.retrieval.embedding_blocks import Array
from likewise.retrieval.negatives import Negatives

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")


@dataclass(frozen=True)
class Mined:
    """What was mined.

    Attributes:
        pairs: The queries, documents and positives.
        positive_scores: (P,).
        negatives: The negatives of each query.
        names: What to call the columns of queries and positives.
        scored: Whether to add scores (in place of labels, where there are labels).
        with_ids: Whether to add `ids`: the rows of the documents.
    """

    pairs: Pairs
    positive_scores: Array
    negatives: Negatives
    names: tuple[str, str]
    scored: bool
    with_ids: bool

    def columns(self, output_format: str) -> dict[str, list[Any]]:
        """The columns of a data set, in one of FORMATS."""
        build = {
            "triplet": self._triplets,
            "n-tuple": self._tuples,
            "labeled-pair": self._labeled_pairs,
            "labeled-list": self._labeled_lists,
        }
        return build[output_format]()

    def _triplets(self) -> dict[str, list[Any]]:
        """A row for each pair and each of its query's negatives."""
        ids, scores = self.negatives.ids[self.pairs.query], self.negatives.scores[self.pairs.query]
        pair, rank = np.nonzero(ids >= 0)
        documents = np.stack([self.pairs.positive[pair], ids[pair, rank]], axis=1)
        columns = {
            self.names[0]: _texts(self.pairs.queries, self.pairs.query[pair]),
            self.names[1]: _texts(self.pairs.documents, documents[:, 0]),
            "negative": _texts(self.pairs.documents, documents[:, 1]),
        }
        both = np.stack([self.positive_scores[pair], scores[pair, rank]], axis=1)
        return columns | _extra(
            "scores" if self.scored else None, both, "ids" if self.with_ids else None, documents
        )

    def _tuples(self) -> dict[str, list[Any]]:
        """A row for each pair whose query has all its negatives."""
        pair = np.flatnonzero((self.negatives.ids[self.pairs.query] >= 0).all(axis=1))
        ids, scores = (
            self.negatives.ids[self.pairs.query[pair]],
            self.negatives.scores[self.pairs.query[pair]],
        )
        columns = {
            self.names[0]: _texts(self.pairs.queries, self.pairs.query[pair]),
            self.names[1]: _texts(self.pairs.documents, self.pairs.positive[pair]),
        }
        for rank, column in enumerate(ids.T, start=1):
            columns[f"negative_{rank}"] = _texts(self.pairs.documents, column)
        documents = np.column_stack([self.pairs.positive[pair], ids])
        both = np.column_stack([self.positive_scores[pair], scores])
        return columns | _extra(
            "scores" if self.scored else None, both, "ids" if self.with_ids else None, documents
        )

    def _labeled_pairs(self) -> dict[str, list[Any]]:
        """A row for each positive, then for each negative, of each query."""
        query, rank = np.nonzero(self.negatives.ids >= 0)
        queries = np.concatenate([self.pairs.query, query])
        documents = np.concatenate([self.pairs.positive, self.negatives.ids[query, rank]])
        labels = np.repeat([1, 0], [len(self.pairs.query), len(query)])
        scores = np.concatenate([self.positive_scores, self.negatives.scores[query, rank]])
        order = np.argsort(queries, kind="stable")
        columns = {
            self.names[0]: _texts(self.pairs.queries, queries[order]),
            self.names[1]: _texts(self.pairs.documents, documents[order]),
        }
        if not self.scored:
            columns["label"] = labels[order].tolist()
        return columns | _extra(
            "score" if self.scored else None, scores[order], "id" if self.with_ids else None, documents[order]
        )

    def _labeled_lists(self) -> dict[str, list[Any]]:
        """A row for each pair whose query has negatives: a list of the positive and the negatives."""
        has_negative = self.negatives.ids >= 0
        pair = np.flatnonzero(has_negative[self.pairs.query].any(axis=1))
        rows = zip(pair.tolist(), self.pairs.query[pair].tolist(), strict=True)
        kept = [
            (
                p,
                self.negatives.ids[q][has_negative[q]].tolist(),
                self.negatives.scores[q][has_negative[q]].tolist(),
            )
            for p, q in rows
        ]
        documents = [[int(self.pairs.positive[p]), *ids] for p, ids, _ in kept]
        columns: dict[str, list[Any]] = {
            self.names[0]: _texts(self.pairs.queries, self.pairs.query[pair]),
            self.names[1]: [[self.pairs.documents[i] for i in row] for row in documents],
        }
        if self.scored:
            columns["scores"] = [[float(self.positive_scores[p]), *scores] for p, _, scores in kept]
        else:
            columns["labels"] = [[1] + [0] * len(ids) for _, ids, _ in kept]
        return columns | ({"ids": documents} if self.with_ids else {})


def _texts(texts: list[str], rows: Array) -> list[str]:
    return [texts[row] for row in rows.tolist()]


def _extra(scores_name: str | None, scores: Array, ids_name: str | None, ids: Array) -> dict[str, list[Any]]:
    """The columns of scores and ids that are asked for."""
    columns = {} if scores_name is None else {scores_name: scores.tolist()}
    return columns | ({} if ids_name is None else {ids_name: ids.tolist()})
