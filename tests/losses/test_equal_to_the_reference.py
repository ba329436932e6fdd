"""Every loss and option against the reference: values and gradients, on random and on degenerate batches."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference

from losses_cases import CASES, SITUATIONS, SIZE, Case, binary, build, embeddings_for, small_models
from losses_common import FixedModel, total

from likewise import losses


def reference_value(loss: Any, model: FixedModel, embeddings: list[Tensor], labels: Tensor | None) -> Any:
    model.stored = embeddings
    return loss([{"column": number} for number in range(len(embeddings))], labels)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_equal_the_references(case: Case, situation: str) -> None:
    if case.inner and situation == "a zero vector":
        pytest.skip(
            "the reference normalises again for every size: the gradient of a zero vector is infinite"
        )
    embeddings = embeddings_for(case, situation)
    labels = None if case.labels is None else case.labels(len(embeddings[0]))
    model, guide = small_models(case)
    guide.stored = [
        torch.randn(len(e), 6, generator=torch.Generator().manual_seed(i)) for i, e in enumerate(embeddings)
    ]
    ours = build(losses, case, case.ours or {}, model, guide)
    theirs = build(reference, case, case.theirs or case.ours or {}, model, guide)
    heads = {name: p for name, p in theirs.named_parameters() if "classifier" in name or "projection" in name}
    with torch.no_grad():
        for name, parameter in heads.items():
            ours.get_parameter(name).copy_(parameter)
    context = {"guides": guide.stored} if case.guided else {}
    found = ours.compute(embeddings, labels, **context)
    expected = reference_value(theirs, model, embeddings, labels)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = sum(found.values()), sum(expected.values())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    wanted = [*embeddings, *heads.values()]
    own = [*embeddings, *(ours.get_parameter(name) for name in heads)]
    for mine, other in zip(
        torch.autograd.grad(found, own, allow_unused=True),
        torch.autograd.grad(expected, wanted, allow_unused=True),
        strict=True,
    ):
        other = torch.zeros_like(mine) if other is None else other
        mine = torch.zeros_like(other) if mine is None else mine
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()) + 1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_in_gives_finite_float32_out(case: Case, dtype: torch.dtype) -> None:
    embeddings = [e.detach().to(dtype).requires_grad_() for e in embeddings_for(case, "random")]
    labels = None if case.labels is None else case.labels(len(embeddings[0]))
    model, guide = small_models(case)
    loss = build(losses, case, case.ours or {}, model, guide)
    context = {"guides": [torch.randn(9, 6, dtype=dtype) for _ in embeddings]} if case.guided else {}
    value = loss.compute(embeddings, labels, **context)
    value = total(value)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    for gradient in torch.autograd.grad(value, embeddings):
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_for_the_model_card_equal_the_references(case: Case) -> None:
    model, guide = small_models(case)
    ours = build(losses, case, case.ours or {}, model, guide)
    theirs = build(reference, case, case.theirs or case.ours or {}, model, guide)
    assert ours.get_config_dict() == theirs.get_config_dict()
    assert ours.citation == getattr(theirs, "citation", "")


def test_contrastive_tension_equals_the_reference() -> None:
    torch.manual_seed(0)
    first, second = (torch.randn(8, SIZE, requires_grad=True) for _ in range(2))
    copied, model = FixedModel(SIZE), FixedModel(SIZE)
    copied.stored, model.stored = [first, first], [second, second]
    for name, labels in (
        ("ContrastiveTensionLoss", binary(8)),
        ("ContrastiveTensionLossInBatchNegatives", None),
    ):
        theirs = getattr(reference, name)(copy.deepcopy(FixedModel(SIZE)))
        theirs.model1, theirs.model2 = copied, model
        expected = theirs([{"column": 0}, {"column": 1}], labels)
        ours = getattr(losses, name)(FixedModel(SIZE))
        found = ours.compute([first, second], labels)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert ours.get_config_dict() == theirs.get_config_dict()
        assert ours.citation == theirs.citation
        own = [first, second, *([ours.logit_scale] if labels is None else [])]
        other = [first, second, *([theirs.logit_scale] if labels is None else [])]
        for mine, wanted in zip(
            torch.autograd.grad(found, own), torch.autograd.grad(expected, other), strict=True
        ):
            torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def test_every_public_name_of_the_reference_is_there_and_the_list_is_sorted() -> None:
    assert set(reference.__all__) == set(losses.__all__)
    assert losses.__all__ == sorted(losses.__all__)
    assert all(hasattr(losses, name) for name in losses.__all__)


@pytest.mark.parametrize(
    "name", [name for name in losses.__all__ if "Metric" not in name and "Function" not in name]
)
def test_arguments_and_defaults_are_the_references(name: str) -> None:
    ours, theirs = (
        dict(inspect.signature(getattr(module, name).__init__).parameters) for module in (losses, reference)
    )
    # Ours may take more, by name only.
    own = [given for given in ours.values() if given.name in theirs or given.kind is not given.KEYWORD_ONLY]
    assert [given.name for given in own] == list(theirs)
    for given, other in zip(own, theirs.values(), strict=True):
        mine, default = given.default, other.default
        if isinstance(default, nn.Module):
            assert mine is None  # made anew for each loss
        elif callable(default) and default is not inspect.Parameter.empty:
            assert default.__name__ in ("<lambda>", mine.__name__)
        else:
            assert mine == default or (mine is None and default is inspect.Parameter.empty)
