"""COO embeddings are compared and searched as dense ones are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from likewise import similarity
from likewise.retrieval import semantic_search
from likewise.retrieval.topk import top_k
from likewise.similarity import to_scipy_csr
from likewise.sparse_encoder import sparse_tensors

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch, told once

NAMES = ("cos_sim", "dot_score", "euclidean_sim", "manhattan_sim")


def embeddings(rows: int, seed: int = 0) -> Tensor:
    """(rows, 40), of which most entries are 0, and all of one row."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, 40, generator=generator)
    values = values * (torch.rand(rows, 40, generator=generator) > 0.8)
    values[rows // 2] = 0
    return values


@pytest.mark.parametrize("name", NAMES)
def test_sparse_embeddings_compare_as_dense_ones(name: str) -> None:
    reference = pytest.importorskip("sentence_transformers.util")
    first, second = embeddings(5), embeddings(7, 1)
    compare, pairwise = getattr(similarity, name), getattr(similarity, f"pairwise_{name}")
    expected, of_pairs = compare(first, second), pairwise(first, second[:5])
    for a, b in (
        (first.to_sparse(), second.to_sparse()),
        (first.to_sparse(), second),
        (first, second.to_sparse()),
    ):
        torch.testing.assert_close(
            compare(a, b), expected, atol=2e-3 if name == "euclidean_sim" else 1e-5, rtol=1e-4
        )
    torch.testing.assert_close(compare(first.to_sparse()[0], second), expected[:1], atol=2e-3, rtol=1e-4)
    found = pairwise(first.to_sparse(), second[:5].to_sparse())
    torch.testing.assert_close(found, of_pairs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        pairwise(first.to_sparse()[0], second.to_sparse()[0]), of_pairs[0], atol=1e-5, rtol=1e-4
    )
    for a, b in (
        (first[0], second),
        (second, first[0]),
        (first[:1], second),
        (second, first[:1]),
        (first[0], second[:1]),
    ):
        torch.testing.assert_close(
            pairwise(a.to_sparse(), b.to_sparse()), pairwise(a, b), atol=1e-5, rtol=1e-4
        )
    with pytest.raises(ValueError, match=r"shapes \(2, 40\) and \(3, 40\) cannot be compared row by row"):
        pairwise(first[:2].to_sparse(), second[:3].to_sparse())
    theirs = getattr(reference, f"pairwise_{name}")(first.to_sparse(), second[:5].to_sparse())
    torch.testing.assert_close(found, theirs.to_dense() if theirs.is_sparse else theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(100, 100), (2, 3)])
def test_search_of_sparse_embeddings_finds_what_that_of_dense_ones_finds(
    name: str, sizes: tuple[int, int]
) -> None:
    queries, documents = embeddings(5), embeddings(11, 1)
    score = getattr(similarity, name)
    expected = semantic_search(queries, documents, top_k=4, score_function=score)
    found = semantic_search(queries.to_sparse(), documents.to_sparse(), *sizes, top_k=4, score_function=score)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            [hit["score"] for hit in ours], [hit["score"] for hit in theirs], atol=2e-3, rtol=1e-4
        )
    (single,) = semantic_search(queries[0].to_sparse(), documents.to_sparse(), top_k=20)
    assert sorted(hit["corpus_id"] for hit in single) == list(range(11))
    nothing = [hit["corpus_id"] for hit in single if hit["score"] == 0]
    assert nothing == sorted(nothing)  # of equal scores the smaller number first


def test_rows_are_taken_all_at_once() -> None:
    values = embeddings(6)
    rows = sparse_tensors.rows_of(values.to_sparse())
    assert all(row.is_sparse and row.shape == (40,) for row in rows)
    torch.testing.assert_close(torch.stack([row.to_dense() for row in rows]), values)
    torch.testing.assert_close(torch.from_numpy(to_scipy_csr(values.to_sparse()).toarray()), values)


def test_the_search_takes_coo_embeddings_and_says_what_it_cannot_do_with_them() -> None:
    queries, documents = (torch.rand(n, 40).mul(torch.rand(n, 40) > 0.7) for n in (5, 30))
    found = top_k(queries.to_sparse(), documents.to_sparse(), 3, queries_per_tile=2, documents_per_tile=7)
    expected = top_k(queries, documents, 3)
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.scores, expected.scores)
    pairs = torch.tensor([0]), torch.tensor([1])
    with pytest.raises(ValueError, match="cannot be excluded from a search of COO embeddings"):
        top_k(queries.to_sparse(), documents.to_sparse(), 3, exclude=pairs)
