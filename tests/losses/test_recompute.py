"""Chunks that are recomputed: the same value and gradients as with all graphs kept, dropout on, in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from losses_common import assert_same_gradients, batch_of, gradients, texts
from torch import Tensor

from likewise import losses
from likewise.engine.embed import Embed


def kept_chunks(tokens: int) -> Embed:
    """The same chunks, with every graph kept."""
    return Embed(tokens, keep_tokens=10**9)


def test_the_gradients_are_those_of_one_pass(model: Any) -> None:
    batch = batch_of(model, texts(8, 3))
    loss = losses.MultipleNegativesRankingLoss(model)
    expected = loss(batch, embed=Embed())
    found = loss(batch, embed=Embed(20))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert_same_gradients(gradients(found, model), gradients(expected, model))


@pytest.mark.parametrize("keep_tokens", [0, None, 60])
def test_with_dropout_on_the_gradients_are_those_of_the_same_chunks_with_their_graphs_kept(
    model: Any, keep_tokens: int | None
) -> None:
    model.train()
    batch = batch_of(model, texts(8, 3))
    loss = losses.MultipleNegativesRankingLoss(model)
    torch.manual_seed(1)
    expected = gradients(loss(batch, embed=kept_chunks(20)), model)
    torch.manual_seed(1)
    found = gradients(loss(batch, embed=Embed(20, keep_tokens=keep_tokens)), model)
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    torch.manual_seed(2)
    other = gradients(loss(batch, embed=Embed(20, keep_tokens=keep_tokens)), model)
    assert not all(torch.equal(other[name], gradient) for name, gradient in expected.items())


def count_embeds(keep_tokens: int | None, model: Any) -> tuple[int, int]:
    """How often chunks are embedded, forward and in the backward pass."""
    calls: list[int] = []
    handle = model.register_forward_pre_hook(lambda *_: calls.append(1))
    (embeddings,) = Embed(20, keep_tokens=keep_tokens)(model, batch_of(model, texts(16, 1)))
    forward = len(calls)
    embeddings.square().sum().backward()
    handle.remove()
    model.zero_grad()
    return forward, len(calls) - forward


def test_as_many_of_the_last_chunks_as_allowed_keep_their_graph(model: Any) -> None:
    chunks = len(batch_of(model, texts(16, 1)).tokens.chunks(20))
    assert chunks > 3
    assert count_embeds(0, model) == (chunks, chunks)
    assert count_embeds(None, model) == (chunks, chunks - 1)
    assert count_embeds(10**6, model) == (chunks, 0)
    with torch.no_grad():
        assert not Embed(20)(model, batch_of(model, texts(2, 2)))[0].requires_grad


def test_a_sequence_longer_than_a_chunk_is_a_chunk_of_its_own_and_the_callers_order_is_restored(
    model: Any,
) -> None:
    batch = batch_of(model, texts(6, 1))
    torch.testing.assert_close(Embed(1)(model, batch), Embed()(model, batch), rtol=1e-5, atol=1e-6)


def test_large_batches_on_the_cpu_go_through_in_pieces_with_the_same_result(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(model, texts(8, 2))
    loss = losses.MultipleNegativesRankingLoss(model)
    expected = gradients(loss(batch), model)
    monkeypatch.setattr("likewise.engine.embed.CACHED_TOKENS", 20)
    assert_same_gradients(gradients(loss(batch), model), expected)


def test_less_memory_is_kept_for_the_backward_pass(model: Any) -> None:
    def kept(embed: Embed) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            value = loss(batch, embed=embed)
        value.detach()
        return sum(sizes.values())

    batch = batch_of(model, texts(40, 2))
    loss = losses.MultipleNegativesRankingLoss(model)
    weights = sum(p.untyped_storage().nbytes() for p in model.parameters())
    assert kept(Embed(32, keep_tokens=0)) < weights + kept(Embed()) / 8


CACHED = {
    "CachedMultipleNegativesRankingLoss": (
        "MultipleNegativesRankingLoss",
        3,
        {"directions": ("query_to_doc", "doc_to_doc")},
    ),
    "CachedMultipleNegativesSymmetricRankingLoss": ("MultipleNegativesSymmetricRankingLoss", 2, {}),
    "MegaBatchMarginLoss": ("MegaBatchMarginLoss", 2, {"positive_margin": 2.0, "negative_margin": -1.0}),
}


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("chunks", [{"mini_batch_size": 2}, {"mini_batch_num_tokens": 25}], ids=str)
def test_a_cached_spelling_equals_the_plain_loss_and_embeds_in_chunks(
    name: str, chunks: Any, model: Any
) -> None:
    plain, columns, arguments = CACHED[name]
    batch = batch_of(model, texts(8, columns))
    more = {"use_mini_batched_version": False} if plain == name else {}
    expected = getattr(losses, plain)(model, **arguments, **more)
    cached = getattr(losses, name)(model, **arguments, **chunks)
    assert_same_gradients(gradients(cached(batch), model), gradients(expected(batch), model))
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    cached(batch)
    handle.remove()
    assert len(calls) > 3


def test_the_trainers_choice_of_chunks_comes_before_the_losss_own(model: Any) -> None:
    batch = batch_of(model, texts(8, 2))
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=1)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    loss(batch, embed=Embed(10**6))
    handle.remove()
    assert len(calls) == 1


def test_chunks_follow_a_size_that_is_set_later(model: Any) -> None:
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    loss.mini_batch_size = 3
    assert losses.MatryoshkaLoss(model, loss, [32]).embed.recompute_rows == 3


def test_a_progress_bar_is_shown_on_request(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=1, show_progress_bar=True)
    loss(batch_of(model, texts(4, 2)))
    assert "Embed micro-batches" in capsys.readouterr().err


class Averages(torch.nn.Module):
    """A model whose features are padded numbers, with a number that all rows share."""

    takes_tokens = False

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features | {"sentence_embedding": self.layer(features["x"]) * features["scale"]}


def test_padded_features_are_cut_into_rows() -> None:
    model: Any = Averages()
    columns = [{"x": torch.randn(5, 3), "scale": 2.0} for _ in range(2)]
    sizes = []
    model.layer.register_forward_pre_hook(lambda layer, inputs: sizes.append(len(inputs[0])))
    found = []
    for loss in (
        losses.MultipleNegativesRankingLoss(model),
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
    ):
        model.zero_grad()
        value = loss(columns)
        value.backward()
        found.append((value.detach(), model.layer.weight.grad.clone()))
    assert sizes[:2] == [5, 5]
    assert max(sizes[2:]) == 2
    torch.testing.assert_close(found[1], found[0])


def test_what_cannot_be_cut_into_chunks_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="must be a whole number of at least 1, but is 0"):
        Embed(0)
    with pytest.raises(ValueError, match="`mini_batch_size` must be a whole number of at least 1, but is -3"):
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=-3)
    with pytest.raises(ValueError, match="`mini_batch_num_tokens` must be a whole number of at least 1"):
        losses.MegaBatchMarginLoss(model, mini_batch_num_tokens=0)
    flat: Any = [{"x": torch.ones(4, 3), "cuts": torch.tensor([0, 2])}] * 2
    with pytest.raises(ValueError, match=r"'cuts' has 2 rows, others 4\. Drop `micro_batch_tokens`"):
        losses.CoSENTLoss(Averages())(flat, torch.ones(2), embed=Embed(2))  # type: ignore[arg-type]
