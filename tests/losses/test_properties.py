"""What holds for every loss and any batch: the order of rows, the norms under cosine, chunks, devices' tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_cases import CASES, Case, build, embeddings_for, small_models
from losses_common import EXAMPLES, Example, assert_same_gradients, batch_of, gradients, texts, total
from torch import Tensor

from likewise import SentenceTransformer, losses
from likewise.engine.embed import Embed

few = settings(max_examples=4)


def value_of(case: Case) -> Any:
    """A function from embeddings and the numbers of their rows to the value of a case's loss."""
    loss = build(losses, case, case.ours or {}, *small_models(case))
    labels = None if case.labels is None else case.labels(9)
    guides = [torch.randn(9, 6, generator=torch.Generator().manual_seed(i)) for i in range(case.columns)]

    def value(embeddings: list[Tensor], rows: Tensor) -> Tensor:
        context = {"guides": [guide[rows] for guide in guides]} if case.guided else {}
        own = labels if labels is None else labels[rows]
        return total(loss.compute([e.detach()[rows] for e in embeddings], own, **context))

    return value


@pytest.mark.parametrize("case", CASES, ids=str)
@few
@given(order=st.permutations(range(9)))
def test_the_order_of_the_rows_changes_nothing(case: Case, order: list[int]) -> None:
    value, embeddings = value_of(case), embeddings_for(case, "random")
    expected = value(embeddings, torch.arange(9))
    torch.testing.assert_close(value(embeddings, torch.tensor(order)), expected, rtol=1e-5, atol=1e-5)


COSINE = (
    "GISTEmbedLoss", "CoSENTLoss", "CosineSimilarityLoss", "MegaBatchMarginLoss", "AnglELoss", "MatryoshkaLoss",
    "GlobalOrthogonalRegularizationLoss", "MultipleNegativesSymmetricRankingLoss",
)  # fmt: skip
BY_COSINE = [
    case for case in CASES
    if case.name in COSINE
    or (case.name == "MultipleNegativesRankingLoss" and "similarity_fct" not in (case.ours or {}))
    or (case.name in ("ContrastiveLoss", "OnlineContrastiveLoss") and "distance_metric" not in (case.ours or {}))
]  # fmt: skip


@pytest.mark.parametrize("case", BY_COSINE, ids=str)
@few
@given(norms=st.lists(st.floats(0.05, 50), min_size=9, max_size=9))
def test_under_cosine_the_norms_of_embeddings_change_nothing(case: Case, norms: list[float]) -> None:
    value, embeddings, rows = value_of(case), embeddings_for(case, "random"), torch.arange(9)
    scaled = [e * torch.tensor(norms)[:, None] for e in embeddings]
    torch.testing.assert_close(value(scaled, rows), value(embeddings, rows), rtol=1e-5, atol=2e-5)


INNER = [example for example in EXAMPLES if example.inner is None]


@pytest.fixture(scope="module")
def every_loss(folder: str) -> dict[str, Any]:
    """Each loss, all of one model; in double precision, so that no rounding is amplified."""
    model, guide = (SentenceTransformer(folder, device="cpu").eval().double() for _ in range(2))
    return {example.name: example.build(model, guide).double() for example in EXAMPLES}


@pytest.mark.parametrize("example", INNER, ids=str)
@few
@given(micro_batch_tokens=st.integers(1, 150), keep_tokens=st.integers(0, 150), seed=st.integers(0, 100))
def test_chunks_of_any_size_give_the_value_and_gradients_of_one_pass(
    example: Example, every_loss: dict[str, Any], micro_batch_tokens: int, keep_tokens: int, seed: int
) -> None:
    loss = every_loss[example.name]
    batch = batch_of(loss.model, texts(8, example.columns, seed))
    expected = loss(batch, example.labels, Embed(10**9))
    found = loss(batch, example.labels, Embed(micro_batch_tokens, keep_tokens=keep_tokens))
    torch.testing.assert_close(total(found), total(expected), rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(found, loss), gradients(expected, loss), rtol=1e-8)


@pytest.mark.parametrize("example", INNER, ids=str)
def test_with_dropout_on_recomputed_gradients_equal_the_plain_ones_to_the_bit(
    example: Example, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.engine.embed.CACHED_TOKENS", 24)  # in pieces on the CPU, their graphs kept
    model, guide = (SentenceTransformer(folder, device="cpu") for _ in range(2))
    loss = example.build(model, guide)
    model.train()
    batch = batch_of(model, texts(8, example.columns, seed=1))
    torch.manual_seed(1)
    expected = gradients(loss(batch, example.labels, Embed()), loss)
    torch.manual_seed(1)
    found = gradients(loss(batch, example.labels, Embed(24)), loss)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
