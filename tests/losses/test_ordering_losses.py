"""CoSENT and the batch triplet losses: equal to loops over their formulas, without a tensor for every combination."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_common import FixedModel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from likewise import losses

Distance = losses.BatchHardTripletLossDistanceFunction
MODEL: Any = FixedModel()


def rows_and_labels(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=generator), torch.randint(0, classes, (rows,), generator=generator)


@settings(max_examples=25)
@given(rows=st.integers(1, 8), classes=st.integers(1, 4), seed=st.integers(0, 1000))
def test_cosent_equals_a_double_loop_over_pairs_of_pairs(rows: int, classes: int, seed: int) -> None:
    first, labels = rows_and_labels(rows, classes, seed)
    second, _ = rows_and_labels(rows, classes, seed + 1)
    scores = (20 * torch.cosine_similarity(first, second)).tolist()
    terms = [
        math.exp(scores[j] - scores[i]) for i in range(rows) for j in range(rows) if labels[i] > labels[j]
    ]
    found = losses.CoSENTLoss(MODEL).compute([first, second], labels)
    assert found.item() == pytest.approx(math.log(1 + sum(terms)), rel=1e-4, abs=1e-6)


def test_cosent_of_many_pairs_takes_no_time_and_is_zero_where_all_are_in_order() -> None:
    labels = torch.linspace(0, 1, 50_000)
    angles = (1 - labels) * math.pi / 2
    first = torch.tensor([[1.0, 0.0]]).expand(50_000, 2)
    second = torch.stack([angles.cos(), angles.sin()], dim=1)
    start = time.perf_counter()
    losses.CoSENTLoss(MODEL).compute([first, second], labels)
    assert time.perf_counter() - start < 1  # a matrix of all pairs would take 10 GB
    apart = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert (
        losses.CoSENTLoss(MODEL).compute([apart[:1].expand(2, 2), apart], torch.tensor([1, 0])).item() < 1e-6
    )


@settings(max_examples=30)
@given(rows=st.integers(2, 9), classes=st.integers(1, 4), seed=st.integers(0, 1000), cosine=st.booleans())
def test_batch_triplets_equal_loops_over_triplets(rows: int, classes: int, seed: int, cosine: bool) -> None:
    embeddings, labels = rows_and_labels(rows, classes, seed)
    metric = Distance.cosine_distance if cosine else Distance.euclidean_distance
    d, margin = metric(embeddings).tolist(), 0.7
    every = range(rows)
    positives = {a: [p for p in every if labels[p] == labels[a] and p != a] for a in every}
    negatives = {a: [n for n in every if labels[n] != labels[a]] for a in every}
    terms = [d[a][p] - d[a][n] + margin for a in every for p in positives[a] for n in negatives[a]]
    active = [term for term in terms if term > 0]
    found = losses.BatchAllTripletLoss(MODEL, metric, margin).compute([embeddings], labels)
    assert found.item() == pytest.approx(sum(active) / max(len(active), 1), rel=1e-4, abs=1e-5)
    if all(negatives.values()) and any(positives.values()):
        hard = [
            max([0.0, *(d[a][p] for p in positives[a])]) - min(d[a][n] for n in negatives[a]) for a in every
        ]
        found = losses.BatchHardTripletLoss(MODEL, metric, margin).compute([embeddings], labels)
        assert found.item() == pytest.approx(sum(max(0, x + margin) for x in hard) / rows, rel=1e-4, abs=1e-5)
        found = losses.BatchHardSoftMarginTripletLoss(MODEL, metric).compute([embeddings], labels)
        assert found.item() == pytest.approx(sum(math.log1p(math.exp(x)) for x in hard) / rows, rel=1e-4)
        semi = []
        for a in every:
            for p in positives[a]:
                farther = [d[a][n] for n in negatives[a] if d[a][n] > d[a][p]]
                chosen = min(farther) if farther else max(d[a][n] for n in negatives[a])
                semi.append(max(0.0, d[a][p] - chosen + margin))
        found = losses.BatchSemiHardTripletLoss(MODEL, metric, margin).compute([embeddings], labels)
        assert found.item() == pytest.approx(sum(semi) / len(semi), rel=1e-4, abs=1e-5)


def test_no_tensor_has_an_entry_for_each_triplet() -> None:
    class Largest(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, Tensor):
                    self.entries = max(self.entries, tensor.numel())
            return result

    embeddings = torch.randn(60, 4, requires_grad=True)
    with Largest() as watch:
        losses.BatchAllTripletLoss(MODEL).compute([embeddings], torch.arange(60) % 2).backward()
    assert watch.entries <= 60 * 60


def test_distances_may_be_squared_and_have_the_references_misspelt_name() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert Distance.eucledian_distance(points).tolist() == [[0, 5], [5, 0]]
    assert Distance.euclidean_distance(points, squared=True).tolist() == [[0, 25], [25, 0]]


def test_equal_embeddings_have_finite_gradients() -> None:
    for name in ("BatchAllTripletLoss", "BatchHardTripletLoss", "BatchSemiHardTripletLoss"):
        embeddings = torch.ones(6, 4, requires_grad=True)
        getattr(losses, name)(MODEL).compute([embeddings], torch.arange(6) % 2).backward()
        assert embeddings.grad is not None
        assert torch.isfinite(embeddings.grad).all()
    triplet = [torch.ones(3, 4, requires_grad=True) for _ in range(3)]
    losses.TripletLoss(MODEL).compute(triplet).backward()
    assert all(torch.isfinite(column.grad).all() for column in triplet)  # type: ignore[union-attr]
