"""Weights in fewer bits are used only where they hold what they promise."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model, small_model_folder
from torch import nn

import likewise
from likewise import SentenceTransformer
from likewise.engine import reduced_linear
from likewise.engine.reduced_linear import REDUCED, Int8Product, multiply_in
from likewise.model.reduced_weights import WeightsProbe

TEXTS = sentences(12)
KINDS = ["int8, a scale for each token", "int8, shared scale", "bfloat16"]


def linears(model: SentenceTransformer) -> set[type]:
    return {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The types; int8 both ways, whatever the processor: for values that are small enough both are exact on any."""
    monkeypatch.setattr(reduced_linear, "has_int8_instructions", lambda: "each token" in request.param)
    return str(request.param).partition(",")[0]


def use(model: Any, kind: str, inputs: Any, **limits: float) -> WeightsProbe:
    """The trial; the test is skipped where this processor cannot multiply so."""
    found: WeightsProbe = getattr(model, f"use_{kind}_weights")(inputs, **limits)
    if "cannot multiply" in found.reason:
        pytest.skip(found.reason)
    return found


@pytest.fixture
def wide(tmp_path: Path, kind: str) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path, hidden_size=64, intermediate_size=256)
    return made


def test_they_are_taken_when_close_and_fast_enough_and_change_nothing_that_is_saved(
    wide: SentenceTransformer, kind: str, tmp_path: Path
) -> None:
    exact = wide.encode(TEXTS)
    found = use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0)
    assert found.used
    assert REDUCED[kind] in linears(wide)
    coarse = wide.encode(TEXTS)
    assert 0 < np.abs(coarse - exact).max() < 0.2
    assert 0.9 <= found.cosine < 1
    wide.save(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), exact, atol=1e-6)


@pytest.mark.parametrize(
    "family",
    [
        "CrossEncoder",
        "CrossEncoder of labels",
        "SparseEncoder",
        "SparseEncoder of words",
        "MultiVectorEncoder",
    ],
)
def test_models_of_all_families_compute_in_fewer_bits(tmp_path: Path, kind: str, family: str) -> None:
    head = "ForMaskedLM" if "words" in family else ""
    folder = small_model_folder(tmp_path / "small", head=head, hidden_size=64, intermediate_size=256)
    model: Any = getattr(likewise, family.split()[0])(
        str(Path(folder)), device="cpu", **({"num_labels": 3} if "labels" in family else {})
    )
    inputs: list[Any] = (
        [(text, TEXTS[-1 - i]) for i, text in enumerate(TEXTS)] if "Cross" in family else TEXTS
    )
    run = getattr(model, model.over_inputs)
    kwargs = {"activation_fn": nn.Identity(), "convert_to_tensor": True} if "Cross" in family else {}
    exact = run(inputs, **kwargs)
    # What a random head tells of pairs is hardly more than noise: its correlation is compared, and asked to be nothing.
    found = use(model, kind, inputs, min_cosine=-1, min_speedup=0.0)
    coarse = run(inputs, **kwargs)
    if family == "MultiVectorEncoder":
        cosines = [
            float(torch.cosine_similarity(a.flatten(), b.flatten(), 0))
            for a, b in zip(exact, coarse, strict=True)
        ]
    elif "Sparse" in family:
        cosines = torch.cosine_similarity(exact.to_dense(), coarse.to_dense()).tolist()
    else:
        columns = zip(exact.reshape(len(inputs), -1).T, coarse.reshape(len(inputs), -1).T, strict=True)
        cosines = [float(np.corrcoef(a, b)[0, 1]) for a, b in columns]
    assert found.cosine == pytest.approx(min(cosines), abs=1e-5)
    assert found.cosine < 1
    assert "Cross" in family or found.cosine > 0.9
    if "Cross" in family:
        model.set_keep_in_fp32_modules(
            [next(n for n, each in model.named_modules() if type(each) is REDUCED[kind])]
        )
        with pytest.raises(ValueError, match="pairs with several scores, but all have the same"):
            use(model, kind, inputs[:1] * 5)


@pytest.mark.skipif(not reduced_linear.has_int8_instructions(), reason="older processors may overflow")
def test_with_a_scale_for_each_token_a_text_does_not_depend_on_the_others(tmp_path: Path) -> None:
    model = small_model(tmp_path, hidden_size=64, intermediate_size=256)
    assert model.use_int8_weights(TEXTS, min_cosine=0.98, min_speedup=0.0).used
    together = model.encode(TEXTS)
    for text, embedding in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(model.encode(text), embedding, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_in_int8_is_the_product_of_rounded_numbers(bias: bool) -> None:
    # Whole numbers up to 127, so that both scales are 1; mostly small ones, which no processor overflows on.
    layer, input = nn.Linear(96, 80, bias=bias), torch.randint(-8, 9, (3, 70, 96)).float()
    layer.requires_grad_(False)
    layer.weight.copy_(torch.randint(-8, 9, layer.weight.shape))
    input[..., 0], layer.weight[:, 1] = 127, 127
    expected = layer(input)
    found = Int8Product.of(layer.weight, layer.bias)(input)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-3)


def test_a_gelu_behind_a_product_is_that_of_its_output_and_rows_of_zeros_give_the_bias(kind: str) -> None:
    layer, input = nn.Linear(96, 80), torch.randn(70, 96)
    input[3] = 0
    layer.requires_grad_(False)
    product = REDUCED[kind].make_product(layer.weight, layer.bias)
    plain = product(input, False).float()
    activated = product(input, True).float()
    torch.testing.assert_close(activated, torch.nn.functional.gelu(plain), rtol=0.01, atol=0.01)
    torch.testing.assert_close(plain[3], layer.bias, rtol=0.01, atol=1e-6)


def test_they_follow_the_weights_and_gradients_are_exact(wide: SentenceTransformer, kind: str) -> None:
    assert use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0).used
    before = wide.encode(TEXTS)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.mul_(1.1)
    assert np.abs(wide.encode(TEXTS) - before).max() > 0.01
    features = wide({"tokens": wide.token_sequences(TEXTS).pack()})
    features["sentence_embedding"].sum().backward()
    layer = wide[0].auto_model.encoder.layer[0].intermediate.dense
    assert type(layer) is REDUCED[kind]
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_cosine": 1.1}, "would change too much"),
        ({"min_cosine": 0.0, "min_speedup": 1e9}, "no gain on this processor"),
    ],
)
def test_those_that_disappoint_are_taken_back(
    wide: SentenceTransformer, kind: str, limits: dict[str, float], reason: str
) -> None:
    exact, kinds = wide.encode(TEXTS), linears(wide)
    found = use(wide, kind, TEXTS, **limits)
    assert not found.used
    assert reason in found.reason
    assert linears(wide) == kinds
    np.testing.assert_array_equal(wide.encode(TEXTS), exact)


def test_a_bias_alone_may_change(wide: SentenceTransformer, kind: str) -> None:
    assert use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0).used
    before = wide.encode(TEXTS)
    with torch.no_grad():
        wide[0].auto_model.encoder.layer[0].attention.self.value.bias += 1
    assert np.abs(wide.encode(TEXTS) - before).max() > 0.01


def test_copies_keep_the_type_and_leave_the_rounded_weights(wide: SentenceTransformer, kind: str) -> None:
    assert use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0).used
    expected = wide.encode(TEXTS)
    for copied in (copy.deepcopy(wide), pickle.loads(pickle.dumps(wide))):
        assert linears(copied) == linears(wide)
        np.testing.assert_allclose(copied.encode(TEXTS), expected, atol=0.01)


def test_one_type_follows_another_and_the_float_layers_come_back(
    wide: SentenceTransformer, kind: str
) -> None:
    exact = wide.encode(TEXTS)
    layers = [layer for layer in wide.modules() if type(layer) is nn.Linear]
    before = [dict(vars(layer)) for layer in layers]
    use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0)
    for layer in layers:
        multiply_in(layer, "int8")
        multiply_in(layer, None)
    assert [dict(vars(layer)) for layer in layers] == before
    np.testing.assert_array_equal(wide.encode(TEXTS), exact)


def test_layers_with_somebodys_own_forward_stay_as_they_are(wide: SentenceTransformer, kind: str) -> None:
    layer = wide[0].auto_model.encoder.layer[0].intermediate.dense
    layer.forward = lambda input: nn.functional.linear(input, layer.weight, layer.bias) + 1
    expected = wide.encode(TEXTS)
    assert use(wide, kind, TEXTS, min_cosine=0.9, min_speedup=0.0).used
    assert type(layer) is nn.Linear
    assert np.abs(wide.encode(TEXTS) - expected).max() < 0.2


@pytest.mark.parametrize("inputs", ["a text", []])
def test_without_a_list_of_texts_nothing_is_tried(wide: SentenceTransformer, kind: str, inputs: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Pass (a list of )?some hundred texts"):
        use(wide, kind, inputs)
