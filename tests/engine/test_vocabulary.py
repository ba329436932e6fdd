"""Pooled logits of a vocabulary, against the same over all logits at once."""

from __future__ import annotations

import pytest
import torch

from likewise.engine import TokenBatch
from likewise.engine.vocabulary import TokenLogits, pooled_logits

LENGTHS = [0, 1, 3, 3, 7, 20]


def batch_of(lengths: list[int]) -> TokenBatch:
    return TokenBatch(
        torch.zeros(sum(lengths), dtype=torch.long), torch.tensor(lengths), torch.arange(len(lengths))
    )


def given(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((sum(LENGTHS), 5), (40, 5), (40,))
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def slow(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, pooling: str, twice: bool
) -> torch.Tensor:
    """Sequence by sequence, over whole logits, as the formula is written."""
    rows = []
    for part in (hidden @ weight.T + bias).split(LENGTHS):
        weights = torch.log(1 + part.clamp(min=0))
        weights = torch.log(1 + weights) if twice else weights
        if not len(part):
            rows.append(weights.new_zeros(40))
        else:
            rows.append(weights.max(dim=0).values if pooling == "max" else weights.sum(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [1, 4, 9, 1000])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_values_and_gradients_are_those_of_whole_logits_however_they_are_cut(
    pooling: str, twice: bool, chunk: int
) -> None:
    ours, theirs = given(), given()
    found = pooled_logits(TokenLogits(*ours), batch_of(LENGTHS), pooling, twice, chunk)  # type: ignore[arg-type]
    expected = slow(*theirs, pooling, twice)  # type: ignore[call-arg]
    torch.testing.assert_close(found, expected)
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with torch.no_grad():
        again = pooled_logits(TokenLogits(*ours), batch_of(LENGTHS), pooling, twice, chunk)  # type: ignore[arg-type]
    assert torch.equal(again, found)


def test_a_layer_without_bias_and_frozen_weights_do_too() -> None:
    hidden, weight, _ = given()
    found = pooled_logits(TokenLogits(hidden, weight.detach(), None), batch_of(LENGTHS), "max", False)
    found.sum().backward()
    gradient, hidden.grad = hidden.grad, None
    slow(hidden, weight.detach(), torch.zeros(40, dtype=hidden.dtype), "max", False).sum().backward()
    torch.testing.assert_close(gradient, hidden.grad)


def test_half_precision_in_gives_finite_gradients_of_its_type() -> None:
    ours = given(torch.bfloat16)
    pooled_logits(TokenLogits(*ours), batch_of(LENGTHS), "max", True).sum().backward()
    for tensor in ours:
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.bfloat16
        assert tensor.grad.isfinite().all()


def test_no_sequences_give_no_rows() -> None:
    hidden, weight, bias = given()
    found = pooled_logits(TokenLogits(hidden[:0], weight, bias), batch_of([]), "max", False)
    assert found.shape == (0, 40)


def test_no_tensor_of_tokens_times_vocabulary_is_kept_for_the_backward_pass() -> None:
    tokens, size, vocabulary = 600, 4, 5000
    hidden = torch.randn(tokens, size, requires_grad=True)
    weight = torch.randn(vocabulary, size, requires_grad=True)
    largest = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        pooled_logits(TokenLogits(hidden, weight, None), batch_of([300, 300]), "max", False).sum().backward()
    assert largest == 4 * vocabulary or largest == 2 * vocabulary  # the weight, or the rows
