"""Every loss on batches of texts, from tokens to the encoder's gradients: equal to the reference."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from losses_common import EXAMPLES, Example, assert_same_gradients, batch_of, texts, total

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise import SentenceTransformer

Found = tuple[torch.Tensor, dict[str, torch.Tensor]]


def on_both(example: Example, folder: str, columns: list[list[str]], labels: Any) -> tuple[Found, Found]:
    """The value and the gradients of the encoder and of the loss's own weights, by this library and by the reference."""
    ours, guide = (SentenceTransformer(folder, device="cpu").eval() for _ in range(2))
    theirs, their_guide = (ReferenceModel(folder, device="cpu").eval() for _ in range(2))
    loss = example.build(ours, guide)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        their_loss = example.build(theirs, their_guide, reference)
    # What only the loss has was drawn at random.
    heads = {name: p for name, p in loss.named_parameters() if not name.startswith(("model", "loss"))}
    with torch.no_grad():
        for name, head in heads.items():
            their_loss.get_parameter(name).copy_(head)
    named = {name: p for name, p in ours[0].auto_model.named_parameters() if p.requires_grad} | heads
    random.seed(3)
    value = total(loss(batch_of(ours, columns), labels))
    value.backward()
    found = {name: p.grad for name, p in named.items() if p.grad is not None}
    random.seed(3)
    copies = 2 if example.name == "ContrastiveTensionLossInBatchNegatives" else 1
    their_value = total(their_loss([theirs.preprocess(column) for column in columns * copies], labels))
    their_value.backward()  # not `grad`: the cached losses compute theirs in a hook
    named = dict(theirs[0].auto_model.named_parameters()) | {
        name: their_loss.get_parameter(name) for name in heads
    }
    wanted = {name: p.grad for name, p in named.items() if p.grad is not None}
    return (value.detach(), found), (their_value.detach(), wanted)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_value_and_gradients_equal_the_references(example: Example, folder: str) -> None:
    columns = texts(8, example.columns, seed=1)
    (value, found), (expected, wanted) = on_both(example, folder, columns, example.labels)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert_same_gradients(found, wanted, rtol=3e-5)
