"""Mined negatives as the columns of a data set, in the formats that losses take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from likewise.model.kept import Array
from likewise.retrieval.candidates import Pairs
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
        build = self._triplets, self._tuples, self._labeled_pairs, self._labeled_lists
        return build[FORMATS.index(output_format)]()

    def _triplets(self) -> dict[str, list[Any]]:
        """A row for each pair and each of its query's negatives."""
        ids, scores = self.negatives.ids[self.pairs.query], self.negatives.scores[self.pairs.query]
        pair, rank = np.nonzero(ids >= 0)
        documents = np.stack([self.pairs.positive[pair], ids[pair, rank]], axis=1)
        columns = self._first(pair) | {"negative": _texts(self.pairs.documents, documents[:, 1])}
        both = np.stack([self.positive_scores[pair], scores[pair, rank]], axis=1)
        return columns | self._more(both.tolist(), documents.tolist())

    def _tuples(self) -> dict[str, list[Any]]:
        """A row for each pair whose query has all its negatives."""
        pair = np.flatnonzero((self.negatives.ids[self.pairs.query] >= 0).all(axis=1))
        query = self.pairs.query[pair]
        documents = np.column_stack([self.pairs.positive[pair], self.negatives.ids[query]])
        columns = self._first(pair)
        for rank, column in enumerate(documents.T[1:], start=1):
            columns[f"negative_{rank}"] = _texts(self.pairs.documents, column)
        both = np.column_stack([self.positive_scores[pair], self.negatives.scores[query]])
        return columns | self._more(both.tolist(), documents.tolist())

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
        return columns | self._more(scores[order].tolist(), documents[order].tolist(), plural="")

    def _labeled_lists(self) -> dict[str, list[Any]]:
        """A row for each pair whose query has negatives: a list of the positive and the negatives."""
        has_negative = self.negatives.ids >= 0
        pair = np.flatnonzero(has_negative[self.pairs.query].any(axis=1))
        documents, scores = [], []
        for p, q in zip(pair.tolist(), self.pairs.query[pair].tolist(), strict=True):
            some = has_negative[q]
            documents.append([int(self.pairs.positive[p]), *self.negatives.ids[q][some].tolist()])
            scores.append([float(self.positive_scores[p]), *self.negatives.scores[q][some].tolist()])
        columns = self._first(pair)
        columns[self.names[1]] = [[self.pairs.documents[i] for i in row] for row in documents]
        labels = {} if self.scored else {"labels": [[1] + [0] * len(row[1:]) for row in documents]}
        return columns | labels | self._more(scores, documents)

    def _first(self, pair: Array) -> dict[str, list[Any]]:
        """The columns of pairs."""
        return {
            self.names[0]: _texts(self.pairs.queries, self.pairs.query[pair]),
            self.names[1]: _texts(self.pairs.documents, self.pairs.positive[pair]),
        }

    def _more(self, scores: list[Any], ids: list[Any], plural: str = "s") -> dict[str, list[Any]]:
        """The columns of scores and ids that are asked for."""
        columns = {f"score{plural}": scores} if self.scored else {}
        return columns | ({f"id{plural}": ids} if self.with_ids else {})


def _texts(texts: list[str], rows: Array) -> list[str]:
    return [texts[row] for row in rows.tolist()]
