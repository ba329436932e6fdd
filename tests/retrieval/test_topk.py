"""Exact streaming top-k: equal to sorting the whole matrix, ties and cuts included."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from likewise.retrieval import Ranking, StreamingTopK, top_k, topk
from likewise.retrieval.products import Products
from likewise.retrieval.ranking_keys import at_least
from likewise.similarity import cos_sim, dot_score, euclidean_sim, manhattan_sim

FUNCTIONS = (cos_sim, dot_score, euclidean_sim, manhattan_sim)


def dense(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The K best of a whole matrix (Q, M), of equal scores the smaller id first; -inf and -1 for none."""
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(scores, ids, axis=1)
    ids = np.where(np.isfinite(found), ids, -1)
    missing = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(found, missing, constant_values=-np.inf), np.pad(ids, missing, constant_values=-1)


def test_a_product_in_bfloat16_errs_by_no_more_than_is_said() -> None:
    value = torch.tensor([[1 + 2.0**-8 - 1e-6]])  # rounded by nearly all that there is to round
    product = (value.bfloat16() @ value.bfloat16().T).float()
    lost = float((value.bfloat16().float() - value).abs())
    bound = StreamingTopK(value, 1, dot_score).products.error(value, float(value), torch.bfloat16, lost)
    assert (product - value * value).abs() <= bound


def test_of_many_equal_documents_the_first_are_found_without_scoring_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    num_scored = 0
    scores = Products.scores

    def counting(products: Products, queries: Tensor, documents: Tensor) -> Tensor:
        nonlocal num_scored
        num_scored += len(documents)
        return scores(products, queries, documents)

    monkeypatch.setattr(Products, "scores", counting)
    monkeypatch.setattr(topk, "MANY_QUERIES", 1)
    queries, kinds = whole_numbers(20, 6, 0), whole_numbers(5, 6, 1)
    kind = torch.randint(5, (4000,), generator=torch.Generator().manual_seed(2))
    documents = torch.cat([kinds[kind], whole_numbers(40, 6, 3)])
    expected = (queries @ documents.T).numpy()
    for size in (4040, 500, 3):
        assert_is_dense(top_k(queries, documents, 7, dot_score, documents_per_tile=size), expected, 7)
    assert num_scored < 3 * 20 * 4040 / 20  # three searches, a twentieth of all pairs
    # Ids that do not ascend decide as well, over several chunks, with excluded documents.
    ids = torch.randperm(4040, generator=torch.Generator().manual_seed(4))
    exclude = torch.arange(20).repeat_interleave(30), ids[:600]
    search = StreamingTopK(queries, 7, dot_score, exclude)
    for part in torch.arange(4040).split(1500):
        search.add(documents[part], ids[part])
    by_id = np.empty_like(expected)
    by_id[:, ids] = expected
    by_id[exclude] = -np.inf
    assert_is_dense(search.result(), by_id, 7)


def vectors(num_rows: int, size: int, seed: int) -> Tensor:
    return torch.randn(num_rows, size, generator=torch.Generator().manual_seed(seed))


def whole_numbers(num_rows: int, size: int, seed: int, largest: int = 2) -> Tensor:
    """Vectors of small whole numbers: their dot products are exact, and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, (num_rows, size), generator=generator).float()


def assert_is_dense(found: Ranking, scores: np.ndarray, k: int) -> None:
    expected_scores, expected_ids = dense(scores.astype(np.float32), k)
    np.testing.assert_array_equal(found.ids.numpy(), expected_ids)
    np.testing.assert_array_equal(found.scores.numpy(), expected_scores)


@settings(max_examples=150)
@given(
    num_queries=st.integers(0, 12),
    num_documents=st.integers(0, 90),
    size=st.integers(1, 5),
    k=st.integers(1, 100),
    queries_per_tile=st.integers(1, 14),
    documents_per_tile=st.integers(1, 100),
    cuts=st.lists(st.integers(0, 90), max_size=3),
    num_excluded=st.integers(0, 60),
    seed=st.integers(0, 2**16),
)
def test_any_cut_into_chunks_and_tiles_gives_what_sorting_the_matrix_gives(
    num_queries: int,
    num_documents: int,
    size: int,
    k: int,
    queries_per_tile: int,
    documents_per_tile: int,
    cuts: list[int],
    num_excluded: int,
    seed: int,
) -> None:
    queries, documents = whole_numbers(num_queries, size, seed), whole_numbers(num_documents, size, seed + 1)
    scores = queries.numpy() @ documents.numpy().T
    exclude = None
    if num_queries and num_documents:
        generator = torch.Generator().manual_seed(seed)
        exclude = (
            torch.randint(num_queries, (num_excluded,), generator=generator),
            torch.randint(num_documents, (num_excluded,), generator=generator),
        )
        scores[exclude[0].numpy(), exclude[1].numpy()] = -np.inf
    search = StreamingTopK(queries, k, dot_score, exclude, queries_per_tile, documents_per_tile)
    places = sorted({0, num_documents, *(min(cut, num_documents) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        search.add(documents[start:stop])
    assert_is_dense(search.result(), scores, k)


@settings(max_examples=60)
@given(
    num_documents=st.integers(1, 300),
    size=st.integers(1, 40),
    k=st.integers(1, 20),
    magnitude=st.sampled_from([1e-3, 1.0, 1e3]),
    function=st.sampled_from(FUNCTIONS),
    seed=st.integers(0, 2**16),
)
def test_scores_of_random_vectors_are_those_of_float64(
    num_documents: int,
    size: int,
    k: int,
    magnitude: float,
    function: Callable[[Tensor, Tensor], Tensor],
    seed: int,
) -> None:
    queries, documents = vectors(5, size, seed), magnitude * vectors(num_documents, size, seed + 1)
    found = top_k(queries, documents, k, function, queries_per_tile=3, documents_per_tile=37)
    scores = function(queries.double(), documents.double()).numpy()
    expected, _ = dense(scores, k)
    tolerance = {"rtol": 2e-5, "atol": 2e-5 * max(1.0, magnitude)}
    is_found = found.ids.numpy() >= 0
    of_ids = np.take_along_axis(scores, found.ids.clamp(min=0).numpy(), axis=1)
    np.testing.assert_allclose(found.scores.numpy(), expected, **tolerance)
    np.testing.assert_allclose(found.scores.numpy()[is_found], of_ids[is_found], **tolerance)
    for row in found.ids[:, : min(k, num_documents)].tolist():
        assert len(set(row)) == len(row)


@pytest.mark.parametrize("is_faster", [False, True])
@pytest.mark.parametrize("function", [cos_sim, dot_score, euclidean_sim])
def test_many_documents_are_found_as_in_float64(
    function: Callable[[Tensor, Tensor], Tensor], is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks and tiles, with thresholds from samples; and queries that must not find what the samples hold.
    monkeypatch.setattr(topk, "bfloat16_is_faster", lambda device: is_faster)
    monkeypatch.setattr(topk, "CHUNK_BYTES", 2**20)
    queries, documents = vectors(600, 48, 0), vectors(20_000, 48, 1)
    scores = function(queries.double(), documents.double())
    hidden = torch.stack([*scores[:3].topk(6000).indices, *torch.randint(20_000, (4, 6000))])
    exclude = torch.arange(7).repeat_interleave(6000), hidden.reshape(-1)
    scores[exclude] = -torch.inf
    best = scores.topk(10)
    found = top_k(queries, documents, 10, function, exclude)
    torch.testing.assert_close(found.scores.double(), best.values, rtol=1e-5, atol=1e-5)
    assert (found.ids == best.indices).float().mean() > 0.9999


@pytest.mark.parametrize("is_faster", [False, True])
def test_distances_of_near_duplicates_keep_their_digits(
    is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "bfloat16_is_faster", lambda device: is_faster)
    queries = 10 + vectors(300, 64, 0)
    documents = torch.cat([vectors(3000, 64, 1), queries + 1e-3 * vectors(300, 64, 2), queries[:100]])
    found = top_k(queries, documents, 2, euclidean_sim)
    exact = euclidean_sim(queries.double(), documents.double())
    torch.testing.assert_close(found.scores.double(), exact.topk(2).values, rtol=1e-5, atol=1e-9)
    assert torch.equal(found.ids, exact.topk(2).indices)
    assert (found.scores[:100, 0] == 0).all()


@pytest.mark.parametrize("is_faster", [False, True])
def test_products_rounded_to_bfloat16_change_nothing(
    is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "TILE_ELEMENTS", 4096)
    monkeypatch.setattr(topk, "bfloat16_is_faster", lambda device: is_faster)
    monkeypatch.setattr(topk, "QUERIES_WORTH_ROUNDING", 1)
    # Close neighbours, which bfloat16 cannot tell apart, are what the second look is for.
    centre = vectors(1, 64, 0)
    queries, documents = centre + 1e-3 * vectors(30, 64, 1), centre + 1e-3 * vectors(3000, 64, 2)
    found = top_k(queries, documents, 5)
    exact = cos_sim(queries.double(), documents.double())
    torch.testing.assert_close(found.scores.double(), exact.topk(5).values, rtol=0, atol=5e-7)
    assert (exact.gather(1, found.ids) >= exact.topk(5).values[:, -1:] - 1e-6).all()


@pytest.mark.parametrize("is_faster", [False, True])
def test_a_thousand_equal_documents_come_in_the_order_of_their_ids(
    is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "TILE_ELEMENTS", 512)
    monkeypatch.setattr(topk, "bfloat16_is_faster", lambda device: is_faster)
    monkeypatch.setattr(topk, "QUERIES_WORTH_ROUNDING", 1)
    documents = vectors(1, 24, 1).expand(1000, 24).clone()
    for function in FUNCTIONS:
        found = top_k(vectors(7, 24, 0), documents, 9, function)
        assert found.ids.tolist() == [list(range(9))] * 7
        assert (found.scores == found.scores[:, :1]).all()


def test_ties_go_to_the_smaller_id_and_not_to_the_earlier_document() -> None:
    search = StreamingTopK(torch.ones(1, 2), 3, dot_score)
    search.add(torch.ones(2, 2), ids=torch.tensor([40, 7]))
    search.add(torch.ones(2, 2), ids=torch.tensor([3, 2**32 - 2]))
    assert search.result().ids.tolist() == [[3, 7, 40]]


def test_the_largest_id_and_minus_zero_keep_their_places() -> None:
    search = StreamingTopK(torch.ones(1, 1), 3, dot_score)
    search.add(torch.tensor([[0.0], [-0.0], [-1.0]]), ids=torch.tensor([2**32 - 2, 5, 1]))
    found = search.result()
    assert found.ids.tolist() == [[5, 2**32 - 2, 1]]
    assert found.scores.tolist() == [[0.0, 0.0, -1.0]]


def test_excluded_pairs_are_never_found_even_where_nothing_else_is() -> None:
    exclude = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    found = top_k(torch.eye(2), torch.eye(2), 2, exclude=exclude)
    assert found.ids.tolist() == [[-1, -1], [0, -1]]
    assert found.scores.tolist() == [[-torch.inf, -torch.inf], [0.0, -torch.inf]]


def test_queries_that_are_added_to_again_go_on() -> None:
    queries, documents = vectors(3, 8, 0), vectors(60, 8, 1)
    search = StreamingTopK(queries, 4)
    for part in documents.split(7):
        search.add(part)
        search.result()
    whole = top_k(queries, documents, 4)
    assert torch.equal(search.result().ids, whole.ids)
    assert torch.equal(search.result().scores, whole.scores)


@pytest.mark.parametrize("function", [cos_sim, manhattan_sim])
def test_every_pair_is_reported_once(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    reported: list[int] = []
    search = StreamingTopK(vectors(500, 8, 0), 4, function, report=reported.append)
    for part in (
        torch.zeros(700, 8),
        vectors(900, 8, 1),
    ):  # equal documents, of which there are too many to tell apart
        search.add(part)
    assert sum(reported) == 500 * 1600


def test_a_memory_map_lists_and_half_precision_give_what_tensors_give(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    queries, documents = vectors(3, 8, 0).half().float(), vectors(60, 8, 1).half().float()
    expected = top_k(queries, documents, 5)
    path = tmp_path_factory.mktemp("map") / "documents.npy"
    np.save(path, documents.numpy())
    for other in (np.load(path, mmap_mode="r"), documents.numpy(), list(documents), documents.half()):
        found = top_k(queries, other, 5)
        assert torch.equal(found.ids, expected.ids)
        assert torch.equal(found.scores, expected.scores)


def test_zero_vectors_score_zero_and_do_not_spoil_the_rest() -> None:
    documents = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = top_k(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), documents, 3)
    assert found.ids.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert found.scores.tolist() == [[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]]


def test_the_arguments_are_left_as_they_were() -> None:
    queries, documents = vectors(3, 8, 0), vectors(9, 8, 1)
    before = queries.clone(), documents.clone()
    top_k(queries, documents, 2, euclidean_sim, exclude=(torch.tensor([0]), torch.tensor([0])))
    assert torch.equal(queries, before[0])
    assert torch.equal(documents, before[1])


def test_nothing_to_search_gives_empty_places() -> None:
    found = top_k(torch.ones(2, 3), torch.empty(0, 3), 2)
    assert found.ids.tolist() == [[-1, -1]] * 2
    assert top_k(torch.empty(0, 3), torch.ones(2, 3), 2).ids.shape == (0, 2)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"k": 1, "queries_per_tile": 0},
            "`queries_per_tile` must be a whole number of at least 1, but is 0",
        ),
        (
            {"k": 1, "documents_per_tile": -2},
            "`documents_per_tile` must be a whole number of at least 1, but is -2",
        ),
    ],
)
def test_sizes_below_one_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top_k(torch.ones(1, 2), torch.ones(1, 2), **sizes)


def test_none_are_found_where_none_are_asked_for_and_fewer_cannot_be() -> None:
    assert top_k(torch.ones(2, 3), torch.ones(4, 3), 0).ids.shape == (2, 0)
    with pytest.raises(ValueError, match="`k` must be a whole number of at least 0, but is -1"):
        top_k(torch.ones(1, 2), torch.ones(1, 2), -1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_row_that_is_not_finite_is_refused_by_its_number(
    function: Callable[[Tensor, Tensor], Tensor], value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "CHUNK_BYTES", 2**12)
    queries, documents = vectors(3, 8, 0), vectors(900, 8, 1)
    documents[701, 3] = value
    search = StreamingTopK(queries, 4, function)
    search.add(documents[:100])
    with pytest.raises(ValueError, match=r"embedding of document 701 holds NaN or infinity.*Drop that row"):
        search.add(documents[100:])
    with pytest.raises(ValueError, match="embedding of query 1 holds NaN or infinity"):
        top_k(torch.cat([queries[:1], documents[701:702]]), documents[:9], 4, function)


def test_long_documents_make_no_bound_loose(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = vectors(8, 96, 0), 10_000 * vectors(4000, 96, 1)
    scored: list[int] = []
    settle = StreamingTopK._settle
    monkeypatch.setattr(StreamingTopK, "_settle", lambda *args: scored.append(settle(*args)) or scored[-1])
    found = top_k(queries, documents, 5, dot_score)
    assert torch.equal(found.ids, (queries @ documents.T).topk(5).indices)
    assert sum(scored) < 8 * 10


def test_large_numbers_are_no_infinity() -> None:
    large = torch.full((3, 8), 3e38)
    assert top_k(large[:1], large, 2, manhattan_sim).ids.tolist() == [[0, 1]]


def test_a_function_that_returns_nan_is_refused() -> None:
    def broken(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T).masked_fill(b[:, 0] == 7, torch.nan)

    documents = vectors(20, 4, 0)
    documents[13, 0] = 7
    with pytest.raises(ValueError, match="`score_function` returned NaN for finite embeddings"):
        top_k(vectors(2, 4, 1), documents, 3, broken)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_of_bfloat16_none_that_reaches_the_bound_is_passed_by(shift: float) -> None:
    scores = (vectors(40, 300, 0) + shift).bfloat16()
    bounds = (vectors(40, 1, 1) / 2 + shift).contiguous()  # of both signs, or all positive
    row, column = at_least(scores, bounds)
    found = torch.zeros(scores.shape, dtype=torch.bool)
    found[row, column] = True
    reach = scores.float() >= bounds
    assert 0 < reach.sum() < reach.numel() / 2 + 2000
    assert bool((found | ~reach).all())
    assert bool(
        (scores.float()[found & ~reach] >= (bounds * (1 - 2**-7)).expand_as(scores)[found & ~reach]).all()
    )
    assert bool((row.diff() >= 0).all())


def test_embeddings_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(number, size\), but are \(1, 3\) and \(1, 2\).*same model"):
        top_k(torch.ones(1, 3), torch.ones(1, 2), 1)
