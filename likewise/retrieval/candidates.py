"""Candidates for hard negatives: the documents closest to each query that are not among its positives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from likewise.model.kept import Array, Blocks
from likewise.retrieval.topk import StreamingTopK, slices

PAIRS_AT_A_TIME = 2**16


@dataclass(frozen=True)
class Pairs:
    """(query, positive) pairs, each distinct query and document once.

    Attributes:
        queries: Q texts, in the order in which they first appear.
        documents: M texts: the corpus, then the positives that are not in it.
        query: (P,) int64, the query of each pair; ascending.
        positive: (P,) int64, its positive, a row of `documents`; no query has one twice.
    """

    queries: list[str]
    documents: list[str]
    query: Array
    positive: Array

    @classmethod
    def of(cls, anchors: Sequence[str], positives: Sequence[str], corpus: Sequence[str] | None) -> Pairs:
        """From the columns of a data set; of pairs that repeat one counts."""
        documents = list(dict.fromkeys([*(corpus or ()), *positives]))
        queries = list(dict.fromkeys(anchors))
        document_row = {text: i for i, text in enumerate(documents)}
        query_row = {text: i for i, text in enumerate(queries)}
        pairs = dict.fromkeys(
            (query_row[a], document_row[p]) for a, p in zip(anchors, positives, strict=True)
        )
        query, positive = np.array(list(pairs), dtype=np.int64).T
        order = np.argsort(query, kind="stable")
        return cls(queries, documents, query[order], positive[order])


@dataclass(frozen=True)
class Candidates:
    """What was found for Q queries with P positives in all.

    Attributes:
        ids: (Q, K) int64, rows of the documents, best first; -1 for none.
        scores: (Q, K) float32, -inf for none.
        positive_scores: (P,) float32, the scores of the pairs.
    """

    ids: Array
    scores: Array
    positive_scores: Array


def find_candidates(
    encoder: Any,
    pairs: Pairs,
    embedded: tuple[Sequence[Array], Sequence[Array]],
    k: int,
    exclude_positives: bool,
    blocks: Blocks,
    name: str,
    show_progress_bar: bool = False,
) -> Candidates:
    """The K documents most similar to each query.

    Args:
        encoder: Its `similarity` and `similarity_pairwise` score, on its `device`.
        pairs: The queries, documents and positives.
        embedded: The queries' embeddings, and the documents', in blocks of `blocks.size` rows.
        k: How many documents per query.
        exclude_positives: Whether a query's positives are left out.
        blocks: Where the results are kept, ...
        name: ... and under which name.
        show_progress_bar: Whether to show how many pairs were compared. Not for work that is done elsewhere.
    """
    from tqdm.auto import tqdm

    total = len(pairs.queries) * len(pairs.documents)
    bar = tqdm(total=total, desc="Searching", unit=" pairs", unit_scale=True, disable=not show_progress_bar)
    report = bar.update if show_progress_bar else None
    queries, documents = embedded
    device, score = encoder.device, encoder.similarity  # only these are sent to other machines
    query, positive = torch.from_numpy(pairs.query), torch.from_numpy(pairs.positive)

    def search(rows: slice) -> Array:
        inside = (query >= rows.start) & (query < rows.stop)
        excluded = (query[inside] - rows.start, positive[inside]) if exclude_positives else None
        embeddings = torch.from_numpy(np.array(queries[rows.start // blocks.size])).to(device)
        search = StreamingTopK(embeddings, k, score, excluded, report=report)
        for block in documents:
            search.add(block)
        ranking = search.result()
        # Two kinds of numbers in one array: every float32 and every row number is exact as float64.
        return np.stack([ranking.ids.double().cpu().numpy(), ranking.scores.double().cpu().numpy()], axis=1)

    with bar:
        kept = np.concatenate(blocks.compute(name, len(pairs.queries), search))
    positive_scores = []
    for rows in slices(len(pairs.query), PAIRS_AT_A_TIME):
        sides = (queries, pairs.query[rows]), (documents, pairs.positive[rows])
        both = (_rows(side, numbers, blocks.size).to(device) for side, numbers in sides)
        positive_scores.append(torch.as_tensor(encoder.similarity_pairwise(*both)).detach().float().cpu())
    return Candidates(
        kept[:, 0].astype(np.int64), kept[:, 1].astype(np.float32), torch.cat(positive_scores).numpy()
    )


def within_rank(pairs: Pairs, candidates: Candidates, k: int) -> Candidates:
    """Without the candidates that do not rank among the best K if the query's positives, which were left out, count too."""
    rank = np.tile(np.arange(candidates.ids.shape[1]), (len(candidates.ids), 1))
    for rows in slices(len(pairs.query), PAIRS_AT_A_TIME):
        query = pairs.query[rows]
        is_above = candidates.positive_scores[rows, None] > candidates.scores[query]
        np.add.at(rank, query, is_above)
    is_within = rank < k
    return Candidates(
        np.where(is_within, candidates.ids, -1),
        np.where(is_within, candidates.scores, np.float32(-np.inf)),
        candidates.positive_scores,
    )


def score_with_cross_encoder(
    pairs: Pairs, candidates: Candidates, predict: Callable[[list[tuple[str, str]]], Any]
) -> Candidates:
    """The candidates with a cross-encoder's scores. All pairs go through it in one stream, sorted by length.

    Args:
        pairs: The queries, documents and positives.
        candidates: What was found.
        predict: Scores a list of (query, document) pairs.
    """
    rows, columns = np.nonzero(candidates.ids >= 0)
    query = np.concatenate([rows, pairs.query])
    document = np.concatenate([candidates.ids[rows, columns], pairs.positive])
    query_length = np.array([len(text) for text in pairs.queries])
    document_length = np.array([len(text) for text in pairs.documents])
    order = np.argsort(-(query_length[query] + document_length[document]), kind="stable")
    all_scores = np.empty(len(order), dtype=np.float32)
    for window in slices(len(order), PAIRS_AT_A_TIME):
        batch = order[window]
        texts = zip(query[batch].tolist(), document[batch].tolist(), strict=True)
        scores = predict([(pairs.queries[q], pairs.documents[d]) for q, d in texts])
        all_scores[batch] = torch.as_tensor(scores).float().cpu().numpy().reshape(-1)
    scores = np.full(candidates.scores.shape, -np.inf, dtype=np.float32)
    scores[rows, columns] = all_scores[: len(rows)]
    return Candidates(candidates.ids, scores, all_scores[len(rows) :])


def _rows(blocks: Sequence[Array], rows: Array, size: int) -> torch.Tensor:
    """Some rows of an array that is cut into blocks of `size` rows."""
    wanted = np.empty((len(rows), blocks[0].shape[1]), dtype=np.float32)
    for i, block in enumerate(blocks):
        inside = rows // size == i
        wanted[inside] = block[rows[inside] - i * size]
    return torch.from_numpy(wanted)
