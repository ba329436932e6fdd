"""Losses around losses: equal to the reference on a real model, around any loss, cached or not."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from losses_common import EXAMPLES, SIZE, Example, assert_same_gradients, batch_of, gradients, texts, total

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise import SentenceTransformer, losses
from likewise.engine.embed import Embed


def their_value(
    name: str, inner: str, arguments: Any, columns: list[list[str]], labels: Any, folder: str
) -> Any:
    """The reference's value and gradients, by the names of ours."""
    model = ReferenceModel(folder, device="cpu").eval()
    loss = getattr(reference, name)(model, getattr(reference, inner)(model), **arguments)
    random.seed(3)
    value = loss([model.preprocess(column) for column in columns], labels)
    encoder: torch.nn.Module = model[0].model if hasattr(model[0], "model") else model[0].auto_model
    return value, gradients(value, encoder)


PARITY = [
    ("AdaptiveLayerLoss", {}),
    ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "last_layer_weight": 0.5, "prior_layers_weight": 2.0}),
    ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "layer_weighting": "log", "kl_temperature": 0.5, "kl_div_weight": 3.0}),
    ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "layer_weighting": "linear", "kl_temperature": 0}),
    ("AdaptiveLayerLoss", {"n_layers_per_step": -1, "layer_weighting": lambda layer: 1.0 + layer}),
    ("MatryoshkaLoss", {"matryoshka_dims": [32, 8, 16], "matryoshka_weights": [1, 3, 2]}),
    ("MatryoshkaLoss", {"matryoshka_dims": [32, 8, 16], "n_dims_per_step": 1}),
    ("Matryoshka2dLoss", {"matryoshka_dims": [32, 16], "n_layers_per_step": -1, "n_dims_per_step": -1}),
    ("Matryoshka2dLoss", {"matryoshka_dims": [32, 16, 8]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), PARITY, ids=[f"{n}-{i}" for i, (n, _) in enumerate(PARITY)])
@pytest.mark.parametrize("inner", ["MultipleNegativesRankingLoss", "CoSENTLoss"])
def test_a_wrapper_equals_the_references(
    name: str, arguments: Any, inner: str, model: Any, folder: str
) -> None:
    columns = texts(6, 2)
    labels = torch.linspace(0, 1, 6) if inner == "CoSENTLoss" else None
    expected, expected_gradients = their_value(name, inner, arguments, columns, labels, folder)
    loss = getattr(losses, name)(model, getattr(losses, inner)(model), **arguments)
    random.seed(3)
    found = loss(batch_of(model, columns), labels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    ours = gradients(found, model[0].auto_model)
    assert_same_gradients(ours, expected_gradients)


@pytest.fixture(scope="module")
def every_loss(folder: str) -> dict[str, Any]:
    """Each loss that is none around another, all of one model; in double precision, so that no rounding is amplified."""
    model, guide = (SentenceTransformer(folder, device="cpu").eval().double() for _ in range(2))
    return {example.name: example.build(model, guide).double() for example in INNER}


WRAPPERS = {
    "none": lambda model, loss: loss,
    "MatryoshkaLoss": lambda model, loss: losses.MatryoshkaLoss(model, loss, [SIZE, 16]),
    "AdaptiveLayerLoss": lambda model, loss: losses.AdaptiveLayerLoss(model, loss, n_layers_per_step=-1),
    "Matryoshka2dLoss": lambda model, loss: losses.Matryoshka2dLoss(model, loss, [SIZE, 16], n_dims_per_step=-1, n_layers_per_step=-1),
    "Matryoshka around AdaptiveLayer": lambda model, loss: losses.MatryoshkaLoss(
        model, losses.AdaptiveLayerLoss(model, loss, n_layers_per_step=-1), [SIZE, 16]
    ),
}  # fmt: skip
INNER = [example for example in EXAMPLES if example.inner is None]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("example", INNER, ids=str)
def test_any_wrapper_works_around_any_loss_in_chunks_as_in_one_pass(
    example: Example, wrapper: str, every_loss: dict[str, Any]
) -> None:
    inner = every_loss[example.name]
    labels = example.labels
    loss = WRAPPERS[wrapper](inner.model, inner)
    batch = batch_of(inner.model, texts(8, example.columns, seed=1))
    expected = loss(batch, labels)
    assert torch.isfinite(total(expected))
    expected_gradients = gradients(expected, loss)
    assert any(gradient.abs().max() > 0 for gradient in expected_gradients.values())
    found = loss(batch, labels, Embed(30))
    torch.testing.assert_close(total(found), total(expected), rtol=1e-9, atol=1e-9)
    assert_same_gradients(gradients(found, loss), expected_gradients, rtol=1e-9)


def test_a_loss_over_layers_inside_another_is_refused(model: Any) -> None:
    inner = losses.AdaptiveLayerLoss(model, losses.CoSENTLoss(model))
    with pytest.raises(ValueError, match=r"a loss over layers already\. Keep one of them"):
        losses.AdaptiveLayerLoss(model, losses.MatryoshkaLoss(model, inner, [SIZE]))


def test_the_texts_are_embedded_once_whatever_the_number_of_sizes_and_layers(model: Any) -> None:
    calls = []
    batch = batch_of(model, texts(4, 2))
    model({"tokens": batch.tokens})  # the first call also tries whether the model can be packed
    handle = model[0].auto_model.register_forward_hook(lambda *_: calls.append(1))
    inner = losses.MultipleNegativesRankingLoss(model)
    losses.Matryoshka2dLoss(model, inner, [32, 16, 8, 4], n_layers_per_step=-1, n_dims_per_step=-1)(batch)
    losses.MatryoshkaLoss(model, inner, [32, 16, 8, 4])(batch)
    handle.remove()
    assert len(calls) == 2


def test_arguments_for_the_model_card_equal_the_references(model: Any, folder: str) -> None:
    theirs = ReferenceModel(folder, device="cpu")
    for name, arguments in PARITY:
        ours = getattr(losses, name)(model, losses.CoSENTLoss(model), **arguments)
        other = getattr(reference, name)(theirs, reference.CoSENTLoss(theirs), **arguments)
        assert ours.get_config_dict() == other.get_config_dict()
        assert ours.citation == other.citation
