"""Sample: a bounded number of a data set's rows, by which a model is shown as it was before a run and as it is after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from likewise.evaluation.measurement import Array
from likewise.training.data.checks import first_rows
from likewise.training.data.columns import is_transformed

if TYPE_CHECKING:
    from likewise.training.data.data_set_plan import DataSetPlan

MOST_ROWS = 200
BLOCK_ROWS = 10  # neighbours that are taken together, since they often share a query
MOST_OTHERS = 8  # documents of other queries for each query, where a pair is a pass through the model
Kind = Literal["ranking", "numbers", "classes", "texts"]


@dataclass(frozen=True)
class Sample:
    """Pairs of texts, and what the data says of them."""

    where: str  # the rows, in words
    # "ranking": each query has documents, some of which are relevant (label 1); "numbers": labels say how
    # alike the texts of a pair are; "classes": labels are classes; "texts": there are texts and no pairs.
    kind: Kind
    queries: list[str]  # Q texts
    documents: list[str]  # M texts
    pairs: Array  # (P, 2) int: the numbers of a query and of a document, by ascending query
    labels: Array  # (P,) float
    # (P,) bool: whether the data itself has this pair; others are of a query and a document of other rows.
    is_given: Array
    prompts: tuple[str, str] = ("", "")  # what stands in front of queries and of documents in training
    routes: tuple[str | None, ...] | None = None  # theirs through a Router; None without one


def sample_of(dataset: Any, plan: DataSetPlan, where: str, each_pair_costs: bool) -> Sample | None:
    """Rows evenly spread over a data set (the first ones of a stream), paired as its loss takes them; None where cells are no texts.

    Where each pair costs a pass through the model, only some pairs are made. `where` is the data set, in words.
    """
    rows = first_rows(dataset)
    rows = rows if is_transformed(rows) else rows.with_format(None)  # plain texts and numbers
    step = BLOCK_ROWS * max(1, -(-len(rows) // MOST_ROWS))
    cells: Mapping[str, list[Any]] = rows.select([i for i in range(len(rows)) if i % step < BLOCK_ROWS])[:]
    columns = [list(cells[name]) for name in plan.texts]
    labels = None if plan.label is None else list(cells[plan.label])
    found = _pairs(columns, labels, plan)
    if found is None:
        return None
    kind, firsts, seconds, values = found
    queries, documents = list(dict.fromkeys(firsts)), list(dict.fromkeys(seconds))
    # Equal texts are one.
    ones, others = ({text: place for place, text in enumerate(texts)} for texts in (queries, documents))
    given = {(ones[a], others[b]): v for a, b, v in zip(firsts, seconds, values, strict=kind != "texts")}
    made = {} if kind != "ranking" or labels is not None else _made(given, len(documents), each_pair_costs)
    both = dict(sorted((made | given).items()))
    return Sample(
        f"{len(columns[0]):,} of {len(dataset):,} rows of {where}" if hasattr(dataset, "__len__") else f"the first rows of {where}",
        kind, queries, documents,
        np.array(list(both), dtype=np.int64).reshape(-1, 2), np.array(list(both.values()), dtype=np.float64),
        np.array([pair in given for pair in both], dtype=bool),
        (plan.prompts[0], plan.prompts[-1]), plan.routes and (plan.routes[0], plan.routes[-1]),
    )  # fmt: skip


def _pairs(
    columns: Sequence[list[Any]], labels: list[Any] | None, plan: DataSetPlan
) -> tuple[Kind, list[str], list[str], list[float]] | None:
    """What the pairs are, their first and second texts, and their labels."""
    first, others = columns[0], columns[1:]
    if labels is not None and len(others) == 1 and all(isinstance(cell, list) for cell in others[0]):
        rows = list(zip(first, others[0], labels, strict=True))  # a query with its documents
        texts = [
            (query, text, float(v > 0))
            for query, some, values in rows
            for text, v in zip(some, values, strict=True)
        ]
        return _checked("ranking", texts)
    if "positive" in plan.roles and len(others):
        made = [
            (*pair, float(place == 0))
            for place, other in reversed([*enumerate(others)])
            for pair in zip(first, other, strict=True)
        ]
        return _checked("ranking", made)
    if labels is not None and len(others) == 1 and not isinstance(labels[0], list):
        # 0 and 1 are a ranking where a first text comes with two others or more, on average.
        repeats = set(labels) == {0, 1} and 2 * len(set(first)) <= len(first)
        kind: Kind = "classes" if plan.has_classes else "ranking" if repeats else "numbers"
        return _checked(kind, list(zip(first, others[0], map(float, labels), strict=True)))
    every = [(text, text, 0.0) for column in columns for text in column]
    found = _checked("texts", every)
    return None if found is None else ("texts", found[1], [], [])


def _checked(
    kind: Kind, rows: list[tuple[Any, Any, float]]
) -> tuple[Kind, list[str], list[str], list[float]] | None:
    """The rows by column, of a ranking those whose query has an answer; or None where they are no texts."""
    if not all(isinstance(text, str) for row in rows for text in row[:2]):
        return None
    answered = {query for query, _, label in rows if label > 0}
    rows = [row for row in rows if kind != "ranking" or row[0] in answered]
    if not rows:
        return None
    firsts, seconds, labels = (list(column) for column in zip(*rows, strict=True))
    return kind, firsts, seconds, labels


def _made(
    given: Mapping[tuple[int, int], float], num_documents: int, each_pair_costs: bool
) -> dict[tuple[int, int], float]:
    """Pairs of a query with documents of other rows, which are taken for irrelevant."""
    generator = np.random.default_rng(0)
    made: dict[tuple[int, int], float] = {}
    for query in dict.fromkeys(query for query, _ in given):
        some = min(MOST_OTHERS, num_documents)
        others: Any = range(num_documents)
        if each_pair_costs:
            others = generator.choice(num_documents, some, replace=False)
        made |= {(query, int(document)): 0.0 for document in others}
    return made
