"""Paraphrase mining returns the reference's pairs."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from given_embeddings import parameters, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util
from small import sentences

from likewise.retrieval import paraphrase_mining, paraphrase_mining_embeddings
from likewise.similarity import dot_score, euclidean_sim

ROWS = vectors(40, 10, 0)


def assert_same_pairs(found: Any, expected: Any) -> None:
    assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
    np.testing.assert_allclose([pair[0] for pair in found], [pair[0] for pair in expected], atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 500},
        {"max_pairs": 1},
        {"max_pairs": 17, "top_k": 7},
        {"query_chunk_size": 1, "corpus_chunk_size": 1},
        {"query_chunk_size": 13, "corpus_chunk_size": 29, "top_k": 4},
        {"query_chunk_size": 13, "max_pairs": 40, "top_k": 4},
    ],
)
@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim"])
def test_pairs_are_the_references(options: dict[str, Any], name: str) -> None:
    ours = {"dot_score": dot_score, "euclidean_sim": euclidean_sim}.get(name)
    found = paraphrase_mining_embeddings(ROWS, **options, **({"score_function": ours} if ours else {}))
    expected = util.paraphrase_mining_embeddings(ROWS, **options, score_function=getattr(util, name))
    assert_same_pairs(found, expected)


@settings(max_examples=60)
@given(
    num_rows=st.integers(0, 25),
    top_k=st.integers(1, 30),
    max_pairs=st.integers(1, 60),
    query_chunk_size=st.integers(1, 30),
    corpus_chunk_size=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_with_ties_the_pairs_are_those_of_the_whole_matrix(
    num_rows: int, top_k: int, max_pairs: int, query_chunk_size: int, corpus_chunk_size: int, seed: int
) -> None:
    rows = torch.randint(-1, 2, (num_rows, 3), generator=torch.Generator().manual_seed(seed)).float()
    scores = (rows @ rows.T).numpy() if num_rows else np.zeros((0, 0))
    proposed = set()
    for i in range(num_rows):
        others = sorted((j for j in range(num_rows) if j != i), key=lambda j: (-scores[i, j], j))
        proposed |= {(-scores[i, j], min(i, j), max(i, j)) for j in others[:top_k]}
    expected = [[-score, i, j] for score, i, j in sorted(proposed)[:max_pairs]]
    found = paraphrase_mining_embeddings(
        rows, query_chunk_size, corpus_chunk_size, max_pairs, top_k, dot_score
    )
    assert found == expected


def test_a_model_embeds_the_texts_as_in_the_reference(model: Any, reference_model: Any) -> None:
    texts = list(dict.fromkeys(sentences(40, seed=1)))
    for options in ({}, {"prompt_name": "query"}, {"prompt": "river ", "truncate_dim": 8, "batch_size": 3}):
        found = paraphrase_mining(model, texts, top_k=3, max_pairs=30, **options)
        expected = util.paraphrase_mining(reference_model, texts, top_k=3, max_pairs=30, **options)
        assert_same_pairs(found, expected)


def test_numbers_are_plain_and_the_first_row_is_the_smaller() -> None:
    for score, i, j in paraphrase_mining_embeddings(ROWS, top_k=2):
        assert (type(score), type(i), type(j)) == (float, int, int)
        assert i < j


def test_arrays_and_lists_are_taken() -> None:
    expected = paraphrase_mining_embeddings(ROWS, top_k=2)
    assert paraphrase_mining_embeddings(ROWS.numpy(), top_k=2) == expected
    assert paraphrase_mining_embeddings(list(ROWS), top_k=2) == expected


def test_none_or_one_embedding_has_no_pairs() -> None:
    assert paraphrase_mining_embeddings(torch.empty(0, 4)) == []
    assert paraphrase_mining_embeddings(torch.ones(1, 4)) == paraphrase_mining_embeddings(torch.ones(4)) == []
    assert (
        paraphrase_mining_embeddings(ROWS, top_k=0) == paraphrase_mining_embeddings(ROWS, max_pairs=0) == []
    )


def test_no_texts_have_no_pairs(model: Any) -> None:
    assert paraphrase_mining_embeddings([]) == paraphrase_mining_embeddings(torch.empty(0)) == []
    assert paraphrase_mining(model, []) == []


def test_one_text_in_place_of_a_list_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"`sentences` must be a list of texts.*Pass \['a cat'\]"):
        paraphrase_mining(model, "a cat")  # type: ignore[arg-type]


def test_models_and_embeddings_that_it_cannot_compare_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"The embeddings must be dense, but are COO\."):
        paraphrase_mining_embeddings(ROWS.to_sparse())
    with pytest.raises(
        TypeError, match="`model` must be a model that embeds texts, but is 'all-MiniLM-L6-v2'"
    ):
        paraphrase_mining("all-MiniLM-L6-v2", ["a cat"])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"`score_function` must be a function of two batches, .*but is 'cos'"
    ):
        paraphrase_mining_embeddings(ROWS, score_function="cos")  # type: ignore[arg-type]
    for family in ("SparseEncoder", "MultiVectorEncoder"):
        model: Any = SimpleNamespace(encode=None, model_type=family)
        with pytest.raises(
            TypeError, match="`model` must give each text one dense embedding, but is a Simple"
        ):
            paraphrase_mining(model, ["a cat"])


@pytest.mark.parametrize("max_pairs", [5e5, float("inf"), 12.0, torch.tensor(12), np.int64(12)])
def test_the_most_pairs_may_be_any_number(max_pairs: Any) -> None:
    expected = util.paraphrase_mining_embeddings(ROWS, max_pairs=max_pairs, top_k=5)
    found = paraphrase_mining_embeddings(ROWS, max_pairs=max_pairs, top_k=torch.tensor(5))  # type: ignore[arg-type]
    assert_same_pairs(found, expected)
    for wrong in ("12", math.nan, None, True):
        with pytest.raises(ValueError, match="`max_pairs` must be a number of at least 0, but is "):
            paraphrase_mining_embeddings(ROWS, max_pairs=wrong)  # type: ignore[arg-type]


def test_a_row_that_is_not_finite_is_refused_by_its_number() -> None:
    rows = ROWS.clone()
    rows[5, 0] = torch.nan
    with pytest.raises(ValueError, match="Row 5 of the embeddings holds NaN or infinity"):
        paraphrase_mining_embeddings(rows, query_chunk_size=3)


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size", "max_pairs", "top_k"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`.*at least [01], but is -1"):
        paraphrase_mining_embeddings(ROWS, **{name: -1})


def test_arguments_have_the_references_names_order_and_defaults() -> None:
    for own, other in (
        (paraphrase_mining, util.paraphrase_mining),
        (paraphrase_mining_embeddings, util.paraphrase_mining_embeddings),
    ):
        ours, theirs = parameters(own), parameters(other)
        assert list(ours) == list(theirs)
        assert {name for name in ours if ours[name] != theirs[name]} <= {"score_function"}
