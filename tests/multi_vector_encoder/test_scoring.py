"""Scores by tokens: those of the reference, with their gradients, in tiles and without padding."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import sentence_transformers.multi_vector_encoder.scoring as theirs
import torch
from torch import Tensor

from likewise.multi_vector_encoder import scoring
from likewise.multi_vector_encoder.packed_maxsim import packed_maxsim
from likewise.multi_vector_encoder.scoring import token_scores
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

ROWS, WAYS, SHAPE = 4, 3, (5, 7)
GENERATOR = torch.Generator().manual_seed(0)
QUERIES = torch.randn(ROWS, SHAPE[0], 8, generator=GENERATOR)
DOCUMENTS = torch.randn(ROWS, WAYS, SHAPE[1], 8, generator=GENERATOR)
QUERY_MASK = torch.arange(SHAPE[0]) < torch.tensor([5, 2, 1, 4])[:, None]
DOCUMENT_LENGTHS = torch.tensor([[7, 1, 3], [2, 7, 0], [5, 6, 4], [1, 1, 2]])
DOCUMENT_MASK = torch.arange(SHAPE[1]) < DOCUMENT_LENGTHS[..., None]
ALL = ["colbert_scores", "mean_colbert_scores", "xtr_scores"]
KD = ["colbert_kd_scores", "mean_colbert_kd_scores", "xtr_kd_scores"]
PAIRS = ["colbert_scores_pairwise", "mean_colbert_scores_pairwise", "xtr_scores_pairwise"]


def with_gradients(function: Any, queries: Tensor, documents: Tensor, **options: Any) -> list[Tensor]:
    queries, documents = queries.clone().requires_grad_(), documents.clone().requires_grad_()
    scores = function(queries, documents, **options)
    kept = scores > -1e8
    (scores[kept] * torch.arange(1.0, kept.sum() + 1)).sum().backward()
    assert queries.grad is not None
    assert documents.grad is not None
    return [scores.detach(), queries.grad, documents.grad]


def check(name: str, queries: Tensor, documents: Tensor, **options: Any) -> None:
    found = with_gradients(getattr(scoring, name), queries, documents, **options)
    expected = with_gradients(getattr(theirs, name), queries, documents, **options)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("chunk_elements", [None, 20])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ALL + KD)
def test_scores_and_gradients_are_the_references(name: str, masked: bool, chunk_elements: int | None) -> None:
    masks = {"queries_mask": QUERY_MASK, "documents_mask": DOCUMENT_MASK} if masked else {}
    check(name, QUERIES, DOCUMENTS, **masks, chunk_elements=chunk_elements)


@pytest.mark.parametrize("name", PAIRS)
def test_scores_of_pairs_are_the_references(name: str) -> None:
    masks = {"queries_mask": QUERY_MASK, "documents_mask": DOCUMENT_MASK[:, 0]}
    check(name, QUERIES, DOCUMENTS[:, 0], **masks)


@pytest.mark.parametrize("top_k", [1, 3, 8, 256])
@pytest.mark.parametrize("name", ["xtr_scores", "xtr_kd_scores"])
def test_only_the_nearest_tokens_count(name: str, top_k: int) -> None:
    check(name, QUERIES, DOCUMENTS, queries_mask=QUERY_MASK, documents_mask=DOCUMENT_MASK, top_k=top_k)
    kind = {"xtr_scores": "XTRScores", "xtr_kd_scores": "XTRKDScores"}[name]
    own, reference = getattr(scoring, kind)(top_k), getattr(theirs, kind)(top_k)
    assert own.get_config_dict() == reference.get_config_dict()
    torch.testing.assert_close(own(QUERIES, DOCUMENTS), reference(QUERIES, DOCUMENTS), rtol=1e-5, atol=1e-5)


def test_tokens_of_zeros_are_padding_where_there_is_no_mask() -> None:
    queries, documents = QUERIES * QUERY_MASK[..., None], DOCUMENTS * DOCUMENT_MASK[..., None]
    for name in ALL + KD:
        torch.testing.assert_close(
            getattr(scoring, name)(queries, documents), getattr(theirs, name)(queries, documents), rtol=1e-5, atol=1e-5
        )  # fmt: skip


def test_texts_without_padding_score_the_same() -> None:
    queries = TokenEmbeddings.from_padded(QUERIES, QUERY_MASK)
    columns = [TokenEmbeddings.from_padded(DOCUMENTS[:, j], DOCUMENT_MASK[:, j]) for j in range(WAYS)]
    masks = {"queries_mask": QUERY_MASK, "documents_mask": DOCUMENT_MASK}
    for name in ALL + KD:
        expected = getattr(theirs, name)(QUERIES, DOCUMENTS, **masks)
        for function in (
            getattr(scoring, name),
            partial(getattr(theirs, name)),
        ):  # a function from elsewhere is padded for
            found = token_scores.scored(function, queries, columns)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for function in (scoring.colbert_scores_pairwise, theirs.colbert_scores_pairwise):
        found = token_scores.scored_pairwise(function, queries, columns[0])
        expected = theirs.colbert_kd_scores(QUERIES, DOCUMENTS, **masks)[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_score_is_the_sum_of_the_largest_products() -> None:
    queries, documents = torch.eye(3)[[0, 1, 2]], torch.tensor([[2.0, 1, 0], [0, 5, -1], [3, 0, 7]])
    scores = packed_maxsim(queries, documents, [2, 1], [2, 0, 1])
    assert scores.tolist() == [[2 + 5, -1e9, 3 + 0], [0, -1e9, 7]]
    weighted = packed_maxsim(queries, documents, [2, 1], [2, 0, 1], weights=torch.tensor([0.5, 1, 2]))
    assert weighted[:, 0].tolist() == [6, 0]
    assert packed_maxsim(queries[:0], documents, [0], [3]).tolist() == [[0.0]]


def test_gradients_are_those_of_small_steps() -> None:
    queries, documents = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    queries.requires_grad_()
    documents.requires_grad_()
    full = with_small_tiles(queries, documents).double()
    weights = torch.randn_like(full)
    (full * weights).sum().backward()
    for tensor in (queries, documents):
        step = torch.zeros_like(tensor)
        step[1, 2] = 1e-3
        moved = [q if tensor is not q else q.detach() + step for q in (queries, documents)]
        difference = ((with_small_tiles(*moved).double() - full) * weights).sum() / 1e-3
        assert tensor.grad is not None
        torch.testing.assert_close(difference, tensor.grad[1, 2], rtol=1e-2, atol=1e-2)


def with_small_tiles(queries: Tensor, documents: Tensor) -> Tensor:
    return packed_maxsim(queries, documents, [2, 3], [3, 1, 3], tile_entries=4)


def test_half_precision_in_gives_float32_sums() -> None:
    scores = scoring.colbert_scores(QUERIES.bfloat16(), DOCUMENTS.bfloat16())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, scoring.colbert_scores(QUERIES, DOCUMENTS), rtol=0.05, atol=0.2)


def test_a_number_of_tokens_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1, but is 0"):
        scoring.xtr_scores(QUERIES, DOCUMENTS, top_k=0)
