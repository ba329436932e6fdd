"""Each module computes what the reference's does, on packed and on padded features, forward and backward."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer import modules as reference
from small import small_tokenizer
from torch import Tensor, nn

from likewise import models
from likewise.engine import TokenSequences

D = 6
LENGTHS = [4, 3, 6, 3]
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def features(prompt_length: int | None = None) -> tuple[dict[str, Any], dict[str, Any], Tensor]:
    """The same random token embeddings packed and padded, and the tensor (N, L, D) that both come from."""
    ids = [list(range(1, n + 1)) for n in LENGTHS]
    tokens = TokenSequences.from_lists(ids, None)
    if prompt_length is not None:
        lengths = torch.full((len(LENGTHS),), prompt_length).numpy()
        tokens = TokenSequences(tokens.input_ids, tokens.offsets, None, lengths)
    batch = tokens.pack()
    values = torch.randn(len(LENGTHS), max(LENGTHS), D, requires_grad=True)
    mask = batch.padded_mask()
    order = torch.argsort(batch.place)
    packed = {"tokens": batch, "token_embeddings": values[order][mask[order].bool()]}
    padded: dict[str, Any] = {"token_embeddings": values, "attention_mask": mask}
    if prompt_length is not None:
        padded["prompt_length"] = torch.tensor([prompt_length] * len(LENGTHS))
    return packed, padded, values


def compare(ours: nn.Module, theirs: nn.Module, prompt_length: int | None = None) -> None:
    """The two give the same sentence embeddings and gradients, ours on packed and on padded features."""
    packed, padded, values = features(prompt_length)
    expected = theirs(dict(padded))["sentence_embedding"]
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), values, retain_graph=True)
    for given in (packed, padded):
        found = ours(dict(given))["sentence_embedding"]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        (own,) = torch.autograd.grad((found * weights).sum(), values, retain_graph=True)
        torch.testing.assert_close(own, gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("prompt_length", [None, 0, 1, 2], ids="prompt of {}".format)
@pytest.mark.parametrize("include_prompt", [True, False], ids=["with prompt", "without"])
@pytest.mark.parametrize("mode", [*MODES, ["mean", "max"], ["cls", "lasttoken", "weightedmean"]], ids=str)
def test_pooling(mode: Any, include_prompt: bool, prompt_length: int | None) -> None:
    compare(
        models.Pooling(D, mode, include_prompt=include_prompt),
        reference.Pooling(D, mode, include_prompt=include_prompt),
        prompt_length,
    )


@pytest.mark.filterwarnings("ignore:The .pooling_mode_.* deprecated")
@pytest.mark.parametrize("modes", list(itertools.combinations(MODES, 2)), ids="+".join)
def test_pooling_by_its_older_arguments(modes: tuple[str, ...]) -> None:
    names = {mode: f"pooling_mode_{mode}" for mode in ("lasttoken", "mean_sqrt_len_tokens")}
    names["cls"] = "pooling_mode_cls_token"
    keys = {names.get(mode, f"pooling_mode_{mode}_tokens"): True for mode in modes}
    ours, theirs = models.Pooling(D, **keys), reference.Pooling(D, **keys)
    assert list(ours.modes) == list(theirs.pooling_mode)
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension() == 2 * D
    compare(ours, theirs)


@pytest.mark.parametrize("mode", MODES)
def test_a_text_of_nothing_but_its_prompt_gives_zeros(mode: str) -> None:
    packed, _, _ = features(prompt_length=3)
    found = models.Pooling(D, mode, include_prompt=False)(packed)["sentence_embedding"]
    assert found[1].eq(0).all()
    assert found[3].eq(0).all()
    assert found[[0, 2]].isfinite().all()


def test_padding_between_and_before_tokens_is_left_out() -> None:
    mask = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0]])
    padded = {"token_embeddings": torch.randn(2, 4, D), "attention_mask": mask}
    for mode in ("mean", "max"):
        found = models.Pooling(D, mode)(dict(padded))["sentence_embedding"]
        expected = reference.Pooling(D, mode)(dict(padded))["sentence_embedding"]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Dense", {"in_features": D, "out_features": 4}),
        ("Dense", {"in_features": D, "out_features": 4, "bias": False, "activation_function": nn.GELU()}),
        ("Dense", {"in_features": D, "out_features": 4, "use_residual": True}),
        ("Dense", {"in_features": D, "out_features": D, "use_residual": True, "activation_function": None}),
        ("Normalize", {}),
        ("LayerNorm", {"dimension": D}),
        ("Dropout", {"dropout": 0.5}),
    ],
    ids=str,
)
def test_modules_on_sentence_embeddings(name: str, arguments: dict[str, Any]) -> None:
    ours, theirs = getattr(models, name)(**arguments).eval(), getattr(reference, name)(**arguments).eval()
    ours.load_state_dict(theirs.state_dict())
    values = torch.randn(5, D, requires_grad=True)
    found, expected = (
        module({"sentence_embedding": values})["sentence_embedding"] for module in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(x.square().sum(), values, retain_graph=True)[0] for x in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_dropout_drops_only_in_training() -> None:
    dropout, values = models.Dropout(0.5), torch.ones(100, D)
    dropped = dropout.train()({"sentence_embedding": values})["sentence_embedding"]
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    assert torch.equal(dropout.eval()({"sentence_embedding": values})["sentence_embedding"], values)


def test_dense_takes_weights_and_other_features() -> None:
    weight, bias = torch.randn(2, D), torch.randn(2)
    dense = models.Dense(
        D, 2, activation_function=None, init_weight=weight, init_bias=bias,
        module_input_name="token_embeddings", module_output_name="token_scores",
    )  # fmt: skip
    values = torch.randn(7, D)
    found = dense({"token_embeddings": values})
    torch.testing.assert_close(found["token_scores"], values @ weight.T + bias)
    assert found["token_embeddings"] is values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Pooling(D, "average"), "`pooling_mode` must be .*'mean'.* but is 'average'"),
        (lambda: models.Pooling(), "`word_embedding_dimension`"),
        (lambda: models.Dense("32", 2), "`in_features` must be a whole number of at least 1, but is '32'"),
        (lambda: models.Dense(D, 0), "`out_features` must be a whole number of at least 1, but is 0"),
        (
            lambda: models.StaticEmbedding(small_tokenizer(), embedding_dim=0),
            "`embedding_dim` must be a whole",
        ),
        (
            lambda: models.Dense(D, 2, activation_function=torch.relu),
            "`activation_function` must be a torch module",
        ),
    ],
)
def test_wrong_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
