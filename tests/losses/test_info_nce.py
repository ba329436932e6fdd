"""The tiled InfoNCE: equal to a double loop, whatever the tiles, in memory and operations that grow with the batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_common import FixedModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from likewise.losses import MultipleNegativesRankingLoss, info_nce
from likewise.losses.info_nce import Direction
from likewise.similarity import cos_sim, dot_score, euclidean_sim

ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def embeddings(columns: int, rows: int, size: int = 6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, size, generator=generator).requires_grad_() for _ in range(columns)]


def ranking_loss(**arguments: Any) -> MultipleNegativesRankingLoss:
    return MultipleNegativesRankingLoss(FixedModel(), **arguments)  # type: ignore[arg-type]


def slow_loss(columns: list[Tensor], directions: tuple[str, ...], separate: bool, scale: float) -> float:
    """The formula, pair by pair."""
    rows = len(columns[0])
    documents = [(row, column[row]) for column in columns[1:] for row in range(rows)]
    losses = []
    for i in range(rows):
        query, positive = columns[0][i], columns[1][i]
        sums = {}
        for name in directions:
            left = query if name.startswith("query") else positive
            others = documents if name.endswith("doc") else list(enumerate(columns[0]))
            if name in ("query_to_query", "doc_to_doc"):
                others = [(j, other) for j, other in others if j != i]
            sums[name] = sum(
                math.exp(scale * torch.cosine_similarity(left, d, dim=0).item()) for _, d in others
            )
        own = scale * torch.cosine_similarity(query, positive, dim=0).item()
        parts = list(sums.values()) if separate else [sum(sums.values())]
        losses.append(sum(math.log(part) for part in parts) / len(parts) - own)
    return sum(losses) / rows


BOTH_WAYS = ("query_to_doc", "doc_to_query")
SUMS = [(ALL[:1], False), (ALL, False), (BOTH_WAYS, False), (ALL[:1], True), (BOTH_WAYS, True)]


@pytest.mark.parametrize(("directions", "separate"), SUMS, ids=str)
def test_the_loss_equals_a_double_loop_over_its_formula(directions: tuple[str, ...], separate: bool) -> None:
    columns = embeddings(4, 5)
    mode = "per_direction" if separate else "joint"
    found = ranking_loss(directions=directions, partition_mode=mode, scale=3.0).compute(columns)
    assert found.item() == pytest.approx(slow_loss(columns, directions, separate, 3.0), rel=1e-5)


def test_equal_embeddings_cost_the_logarithm_of_the_number_of_candidates() -> None:
    same = torch.ones(7, 4)
    assert float(ranking_loss().compute([same, same, same])) == pytest.approx(math.log(14))
    everything = ranking_loss(directions=ALL).compute([same, same, same])
    assert everything.item() == pytest.approx(math.log(14 + 6 + 7 + 12))


def test_a_wide_margin_costs_nothing_and_the_loss_is_never_negative() -> None:
    apart = torch.eye(6)
    assert 0 <= float(ranking_loss(scale=100.0).compute([apart, apart])) < 1e-6


@settings(max_examples=40)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(2, 4),
    entries=st.integers(1, 60),
    separate=st.booleans(),
    number=st.integers(1, 4),
    similarity=st.sampled_from([cos_sim, dot_score, euclidean_sim]),
    hardness=st.sampled_from([None, "in_batch_negatives", "hard_negatives", "all_negatives"]),
    masked=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_tiles_of_any_size_give_the_loss_and_gradients_of_one(
    rows: int, columns: int, entries: int, separate: bool, number: int, similarity: Any, hardness: Any, masked: bool, seed: int
) -> None:  # fmt: skip
    directions = ("query_to_doc", "doc_to_query") if separate else ALL[:number]
    loss = ranking_loss(
        directions=directions, partition_mode="per_direction" if separate else "joint", similarity_fct=similarity, scale=2.0,
        hardness_mode=hardness, hardness_strength=2.0 if hardness else 0.0, mask_duplicates=masked,
    )  # fmt: skip
    inputs = embeddings(columns, rows, seed=seed)
    ids = (
        torch.randint(0, 6, (columns, rows), generator=torch.Generator().manual_seed(seed))
        if masked
        else None
    )
    expected = loss.compute(inputs, ids=ids)
    wanted = torch.autograd.grad(expected, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(info_nce, "CPU_TILE_ENTRIES", entries)
        found = loss.compute(inputs, ids=ids)
        gradients = torch.autograd.grad(found, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for mine, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(rows=st.integers(2, 9), seed=st.integers(0, 10_000), factor=st.floats(0.01, 100.0))
def test_the_order_of_rows_and_under_cosine_the_norms_change_nothing(
    rows: int, seed: int, factor: float
) -> None:
    loss = ranking_loss(directions=ALL, hardness_mode="all_negatives", hardness_strength=1.0)
    inputs = embeddings(3, rows, seed=seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    expected = loss.compute(inputs)
    torch.testing.assert_close(loss.compute([e[order] for e in inputs]), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.compute([e * factor for e in inputs]), expected, rtol=1e-5, atol=1e-5)


class _Watch(TorchDispatchMode):
    """Counts operations, and notes the largest tensor they give."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.largest = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations += 1
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


def watched(rows: int, entries: int, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> _Watch:
    monkeypatch.setattr(info_nce, "CPU_TILE_ENTRIES", entries)
    inputs = embeddings(3, rows)
    with _Watch() as watch:
        ranking_loss(**arguments).compute(inputs).backward()
    return watch


@pytest.mark.parametrize("similarity", [cos_sim, euclidean_sim])
def test_the_matrix_of_all_scores_is_never_built(similarity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 256  # all scores of all directions: 256 * 1,536
    watch = watched(rows, 16_384, monkeypatch, directions=ALL, similarity_fct=similarity)
    assert watch.largest <= 16_384


def test_the_number_of_operations_grows_linearly_with_the_number_of_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two, four, eight = (watched(64, 64 * 128 // tiles, monkeypatch).operations for tiles in (2, 4, 8))
    assert eight - four == 2 * (four - two)


def test_sums_are_taken_in_float32_under_half_precision_and_under_autocast() -> None:
    # 4,096 candidates of equal score: in bfloat16 a sum of ones stops at 256.
    same = torch.ones(4096, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ranking_loss().compute([same[:4], same[:4], *[same[i : i + 4] for i in range(4, 4096, 4)]])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(4096), rel=1e-6)


def test_a_learnt_scale_gets_its_gradient_and_frozen_candidates_get_none() -> None:
    queries, documents = (e.detach() for e in embeddings(2, 5))
    scale = torch.tensor(3.0, requires_grad=True)
    rows = torch.arange(5)
    info_nce.info_nce([Direction(queries, documents)], rows, scale=scale).backward()
    expected = torch.tensor(3.0, requires_grad=True)
    torch.nn.functional.cross_entropy(expected * queries @ documents.T, rows).backward()
    torch.testing.assert_close(scale.grad, expected.grad)
    assert documents.grad is None


def test_a_similarity_with_weights_of_its_own_trains_them_and_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(info_nce, "CPU_TILE_ENTRIES", 20)
    bilinear = torch.nn.Linear(6, 6, bias=False)

    def similarity(queries: Tensor, documents: Tensor) -> Tensor:
        return bilinear(queries) @ documents.T

    inputs = embeddings(2, 5)
    loss = ranking_loss(similarity_fct=similarity, directions=("query_to_doc", "doc_to_query"), scale=1.0)
    found = loss.compute(inputs)
    scores = similarity(*inputs)
    expected = (torch.cat([scores, scores.T], dim=1).logsumexp(dim=1) - scores.diagonal()).mean()
    torch.testing.assert_close(found, expected)
    mine, other = (torch.autograd.grad(value, bilinear.weight)[0] for value in (found, expected))
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
