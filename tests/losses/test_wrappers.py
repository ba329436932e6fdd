"""Losses around losses: equal to the reference on a real model, around any loss, cached or not."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from losses_common import assert_same_gradients, batch_of, gradients, texts, total

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise import SentenceTransformer, losses
from likewise.losses.recompute import recompute

SIZE = 32


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
    assert_same_gradients(ours, expected_gradients, rtol=3e-5)


@pytest.fixture(scope="module")
def every_loss(folder: str) -> dict[str, tuple[Any, int, Any]]:
    """Each loss for a batch of eight rows, all of one model: the loss, its columns, its labels."""
    model = SentenceTransformer(folder, device="cpu").eval()
    guide = SentenceTransformer(folder, device="cpu").eval()
    graded, classes, pairs = torch.linspace(0, 1, 8), torch.arange(8) % 3, torch.arange(8) % 2
    teacher = torch.randn(8, SIZE, generator=torch.Generator().manual_seed(0))
    scores = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    named: dict[str, tuple[Any, int, Any]] = {
        "MultipleNegativesRankingLoss": (losses.MultipleNegativesRankingLoss(model, mask_duplicates=True), 4, None),
        "MultipleNegativesSymmetricRankingLoss": (losses.MultipleNegativesSymmetricRankingLoss(model), 2, None),
        "CachedMultipleNegativesRankingLoss": (losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3), 3, None),
        "CachedMultipleNegativesSymmetricRankingLoss": (
            losses.CachedMultipleNegativesSymmetricRankingLoss(model, mini_batch_size=3), 2, None,
        ),
        "GISTEmbedLoss": (losses.GISTEmbedLoss(model, guide), 3, None),
        "CachedGISTEmbedLoss": (losses.CachedGISTEmbedLoss(model, guide, mini_batch_size=3), 4, None),
        "CoSENTLoss": (losses.CoSENTLoss(model), 2, graded),
        "AnglELoss": (losses.AnglELoss(model), 3, None),
        "CosineSimilarityLoss": (losses.CosineSimilarityLoss(model), 2, graded),
        "ContrastiveLoss": (losses.ContrastiveLoss(model), 2, pairs),
        "OnlineContrastiveLoss": (losses.OnlineContrastiveLoss(model, margin=1.5), 2, pairs),
        "TripletLoss": (losses.TripletLoss(model), 3, None),
        "BatchAllTripletLoss": (losses.BatchAllTripletLoss(model), 1, classes),
        "BatchHardTripletLoss": (losses.BatchHardTripletLoss(model), 1, classes),
        "BatchHardSoftMarginTripletLoss": (losses.BatchHardSoftMarginTripletLoss(model), 1, classes),
        "BatchSemiHardTripletLoss": (losses.BatchSemiHardTripletLoss(model), 1, classes),
        "MegaBatchMarginLoss": (losses.MegaBatchMarginLoss(model, 2.0, -1.0, mini_batch_size=3), 2, None),
        "MSELoss": (losses.MSELoss(model), 2, teacher),
        "EmbedDistillLoss": (losses.EmbedDistillLoss(model, projection_dim=SIZE), 2, teacher),
        "MarginMSELoss": (losses.MarginMSELoss(model), 4, scores),
        "DistillKLDivLoss": (losses.DistillKLDivLoss(model), 4, scores),
        "SoftmaxLoss": (losses.SoftmaxLoss(model, SIZE, 3), 2, classes),
        "GlobalOrthogonalRegularizationLoss": (losses.GlobalOrthogonalRegularizationLoss(model), 2, None),
        "ContrastiveTensionLoss": (losses.ContrastiveTensionLoss(model), 2, None),
        "ContrastiveTensionLossInBatchNegatives": (losses.ContrastiveTensionLossInBatchNegatives(model), 1, None),
        "DenoisingAutoEncoderLoss": (losses.DenoisingAutoEncoderLoss(model), 2, None),
    }  # fmt: skip
    return named


WRAPPERS = {
    "none": lambda model, loss: loss,
    "MatryoshkaLoss": lambda model, loss: losses.MatryoshkaLoss(model, loss, [SIZE, 16]),
    "AdaptiveLayerLoss": lambda model, loss: losses.AdaptiveLayerLoss(model, loss, n_layers_per_step=-1),
    "Matryoshka2dLoss": lambda model, loss: losses.Matryoshka2dLoss(model, loss, [SIZE, 16], n_dims_per_step=-1, n_layers_per_step=-1),
    "Matryoshka around AdaptiveLayer": lambda model, loss: losses.MatryoshkaLoss(
        model, losses.AdaptiveLayerLoss(model, loss, n_layers_per_step=-1), [SIZE, 16]
    ),
}  # fmt: skip
NAMES = [
    name for name in losses.__all__
    if name.endswith(("Loss", "Negatives")) and name not in ("AdaptiveLayerLoss", "MatryoshkaLoss", "Matryoshka2dLoss")
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", NAMES)
def test_any_wrapper_works_around_any_loss_in_chunks_as_in_one_pass(
    name: str, wrapper: str, every_loss: dict[str, tuple[Any, int, Any]]
) -> None:
    inner, columns, labels = every_loss[name]
    model = inner.model
    loss = WRAPPERS[wrapper](model, inner)
    batch = batch_of(model, texts(8, columns, seed=1))
    expected = loss(batch, labels)
    assert torch.isfinite(total(expected))
    expected_gradients = gradients(expected, loss)
    assert any(gradient.abs().max() > 0 for gradient in expected_gradients.values())
    found = loss(batch, labels, recompute(30))
    torch.testing.assert_close(total(found), total(expected), rtol=1e-5, atol=1e-6)
    assert_same_gradients(gradients(found, loss), expected_gradients, rtol=1e-4)


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
