"""Contrastive tension: two copies, equal texts found without labels, and the loader of pairs."""

from __future__ import annotations

import math
import random
import warnings
from typing import Any

import pytest
import torch
from losses_common import assert_same_gradients, batch_of, gradients, texts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise import losses
from likewise.engine.embed import Embed


def test_without_labels_equal_texts_are_the_positives_as_in_the_reference(model: Any, folder: str) -> None:
    first, second = texts(6, 2)
    second[1], second[4] = first[1], first[4]
    loss = losses.ContrastiveTensionLoss(model)
    found = loss(batch_of(model, [first, second]))
    theirs = ReferenceModel(folder, device="cpu").eval()
    expected = reference.ContrastiveTensionLoss(theirs)(
        [theirs.preprocess(column) for column in (first, second)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    labelled = loss(batch_of(model, [first, second]), torch.tensor([0, 1, 0, 0, 1, 0]))
    torch.testing.assert_close(found, labelled)
    wanted = gradients(expected, theirs[0].auto_model)
    assert_same_gradients(gradients(labelled, model[0].auto_model), wanted)


def test_both_copies_are_trained_and_the_model_is_the_one_that_was_given(model: Any) -> None:
    for name, columns in (("ContrastiveTensionLoss", 2), ("ContrastiveTensionLossInBatchNegatives", 1)):
        loss = getattr(losses, name)(model)
        assert loss.model2 is loss.model is model
        assert not {id(p) for p in loss.model1.parameters()} & {id(p) for p in model.parameters()}
        found = gradients(loss(batch_of(model, texts(6, columns))), loss)
        assert any(key.startswith("model1.") and g.abs().max() > 0 for key, g in found.items())
        assert any(key.startswith("model.") and g.abs().max() > 0 for key, g in found.items())


def test_padded_columns_give_the_same_as_packed_ones(model: Any) -> None:
    columns = texts(6, 2)
    loss = losses.ContrastiveTensionLoss(model)
    padded = [model.tokenize(column) | {"extra": torch.ones(6)} for column in columns]
    labels = torch.arange(6) % 2
    torch.testing.assert_close(loss(padded, labels), loss(batch_of(model, columns), labels))


def test_rows_of_a_text_and_itself_give_the_references_loss_of_the_first_texts(
    model: Any, folder: str
) -> None:
    (column,) = texts(6, 1)
    loss = losses.ContrastiveTensionLossInBatchNegatives(model)
    theirs = ReferenceModel(folder, device="cpu").eval()
    features = [theirs.preprocess(column) for _ in range(2)]
    expected = reference.ContrastiveTensionLossInBatchNegatives(theirs)(features, None)
    torch.testing.assert_close(loss(batch_of(model, [column, column])), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss(batch_of(model, [column])), expected, rtol=1e-5, atol=1e-5)


def test_two_texts_of_a_row_are_two_views_whose_repetitions_can_be_masked(model: Any) -> None:
    first, second = texts(6, 2)
    loss = losses.ContrastiveTensionLossInBatchNegatives(model)
    assert not torch.equal(loss(batch_of(model, [first, second])), loss(batch_of(model, [first, first])))  # type: ignore[arg-type]
    second[3] = first[0]  # what belongs to row 3 belongs to row 0 too
    masked = losses.ContrastiveTensionLossInBatchNegatives(model, mask_duplicates=True)
    same = torch.ones(6, 4)
    value = masked.compute([same, same], **masked.context(batch_of(model, [first, second]), Embed()))
    assert value.item() == pytest.approx((4 * math.log(6) + 2 * math.log(5)) / 6)


def test_the_loader_pairs_one_text_with_itself_of_every_so_many_and_uses_each_once() -> None:
    sentences = [str(number) for number in range(100)]
    loader = losses.ContrastiveTensionDataLoader(sentences, batch_size=8, pos_neg_ratio=4)
    random.seed(0)
    batches = list(loader)
    assert len(batches) == len(loader) == 100 // 14
    used: list[str] = []
    for batch in batches:
        assert [example.label for example in batch] == [1, 0, 0, 0] * 2
        for example in batch:
            assert (example.texts[0] == example.texts[1]) == bool(example.label)
            used += set(example.texts)
    assert len(used) == len(set(used))
    assert sentences == [str(number) for number in range(100)]  # the caller's list stays as it is
    loader.collate_fn = len
    assert list(loader) == [8] * len(loader)
    assert str(batches[0][0]).startswith("<InputExample> label: 1, texts: ")


def test_the_length_of_the_loader_is_the_references() -> None:
    for number, size, ratio in ((100, 8, 4), (1000, 16, 8), (10, 8, 8), (15, 8, 8)):
        sentences = ["x"] * number
        theirs = reference.ContrastiveTensionDataLoader(list(sentences), size, ratio)
        assert len(losses.ContrastiveTensionDataLoader(sentences, size, ratio)) == len(theirs)
