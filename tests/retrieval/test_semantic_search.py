"""`semantic_search` finds what the reference finds, whatever the arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from given_embeddings import parameters, vectors
from sentence_transformers import util

from likewise.retrieval import information_retrieval, paraphrase_mining_embeddings, semantic_search
from likewise.similarity import cos_sim, dot_score, euclidean_sim, manhattan_sim

QUERIES, CORPUS = vectors(23, 12, 0), vectors(140, 12, 1)


def assert_same_hits(found: Any, expected: Any) -> None:
    assert [[hit["corpus_id"] for hit in row] for row in found] == [
        [hit["corpus_id"] for hit in row] for row in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose([h["score"] for h in ours], [h["score"] for h in theirs], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_k": 140},
        {"top_k": 1000},
        {"query_chunk_size": 1, "corpus_chunk_size": 3},
        {"query_chunk_size": 7, "corpus_chunk_size": 50, "top_k": 60},
        {"query_chunk_size": 1000, "corpus_chunk_size": 139},
    ],
)
@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_hits_are_the_references(options: dict[str, Any], name: str) -> None:
    ours = {f.__name__: f for f in (cos_sim, dot_score, euclidean_sim, manhattan_sim)}[name]
    found = semantic_search(QUERIES, CORPUS, score_function=ours, **options)
    expected = util.semantic_search(QUERIES, CORPUS, score_function=getattr(util, name), **options)
    assert_same_hits(found, expected)


def test_a_function_of_ones_own_is_used() -> None:
    def first_number(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a[:, :1] * b[:, 0]

    assert_same_hits(
        semantic_search(QUERIES, CORPUS, score_function=first_number),
        util.semantic_search(QUERIES, CORPUS, score_function=first_number),
    )


def test_the_references_own_functions_are_used_as_they_are() -> None:
    for function in (util.cos_sim, util.dot_score):
        assert_same_hits(
            semantic_search(QUERIES, CORPUS, score_function=function),
            util.semantic_search(QUERIES, CORPUS, score_function=function),
        )


@pytest.mark.parametrize(
    ("queries", "corpus"),
    [
        (QUERIES.numpy(), CORPUS.numpy()),
        (list(QUERIES), list(CORPUS)),
        (QUERIES.tolist(), CORPUS.tolist()),
        (QUERIES[0], CORPUS),
        (QUERIES.half(), CORPUS.half()),
        (QUERIES.bfloat16(), CORPUS),
        (QUERIES.double(), CORPUS.double()),
        (QUERIES.clone().requires_grad_(), CORPUS.clone().requires_grad_()),
    ],
)
def test_arrays_lists_a_single_query_and_other_dtypes_are_taken(queries: Any, corpus: Any) -> None:
    def as_float(rows: Any) -> torch.Tensor:
        return torch.stack([torch.as_tensor(row).detach().float() for row in rows])

    rows = queries.unsqueeze(0) if isinstance(queries, torch.Tensor) and queries.dim() == 1 else queries
    assert_same_hits(semantic_search(queries, corpus), util.semantic_search(as_float(rows), as_float(corpus)))


def test_of_equal_scores_the_smaller_id_comes_first() -> None:
    corpus = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)
    hits = semantic_search(torch.tensor([[1.0, 1.0]]), corpus, top_k=5)[0]
    assert [hit["corpus_id"] for hit in hits] == [0, 1, 2, 3, 4]


def test_an_empty_corpus_gives_empty_lists_and_no_queries_give_none() -> None:
    assert semantic_search(torch.ones(2, 3), torch.empty(0, 3)) == [[], []]
    assert semantic_search(torch.empty(0, 3), torch.ones(2, 3)) == []


def test_scores_and_ids_are_plain_numbers() -> None:
    hit = semantic_search(QUERIES, CORPUS)[0][0]
    assert type(hit["corpus_id"]) is int
    assert type(hit["score"]) is float


def test_the_older_name_does_the_same() -> None:
    assert information_retrieval(QUERIES, CORPUS, top_k=3) == semantic_search(QUERIES, CORPUS, top_k=3)


def test_arguments_have_the_references_names_and_order() -> None:
    own, other = parameters(semantic_search), parameters(util.semantic_search)
    assert list(own) == list(other)
    # The reference's chunk of 100 queries bounds its memory; here larger tiles do.
    differing = {name for name in own if own[name] != other[name]}
    assert differing == {"query_chunk_size", "score_function"}


def test_a_single_document_no_hits_at_all_and_fewer() -> None:
    for corpus in (CORPUS[:1], CORPUS[0], CORPUS[0].numpy(), [CORPUS[0]]):
        assert semantic_search(QUERIES, corpus) == semantic_search(QUERIES, CORPUS[:1])
    assert semantic_search(QUERIES, CORPUS, top_k=0) == [[] for _ in QUERIES]
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 0, but is -1"):
        semantic_search(QUERIES, CORPUS, top_k=-1)


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size"])
@pytest.mark.parametrize("size", [0, "3"])
def test_sizes_below_one_are_refused(name: str, size: Any) -> None:
    for corpus in (CORPUS, CORPUS.to_sparse()):
        with pytest.raises(
            ValueError, match=f"`{name}` must be a whole number of at least 1, but is {size!r}"
        ):
            semantic_search(QUERIES, corpus, **{name: size})


def test_embeddings_and_functions_of_other_shapes_are_refused_in_words() -> None:
    one_by_one = [query[None] for query in QUERIES]
    with pytest.raises(ValueError, match=r"shapes \(number, size\), but are .*all texts in one list"):
        semantic_search(one_by_one, CORPUS)
    with pytest.raises(ValueError, match=r"shapes \(number, size\), but are .*all texts in one list"):
        semantic_search(QUERIES, [row[None] for row in CORPUS])
    with pytest.raises(TypeError, match=r"`score_function` must be a function .* but is 'cosine'"):
        semantic_search(QUERIES, CORPUS, score_function="cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [10**9, 2**70])
def test_more_documents_than_there_are_may_be_asked_for(top_k: int) -> None:
    rows = torch.eye(4)
    assert semantic_search(rows, rows, top_k=top_k) == semantic_search(rows, rows, top_k=4)
    assert paraphrase_mining_embeddings(rows, top_k=top_k) == paraphrase_mining_embeddings(rows, top_k=3)
