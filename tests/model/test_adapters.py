"""Adapters load, switch, train and merge; int8 weights are used only where they hold what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from sentence_transformers import SentenceTransformer as Reference
from small import sentences, small_model, small_model_folder
from torch import nn
from transformers import AutoModel

import likewise
from likewise import SentenceTransformer
from likewise.model import int8
from likewise.model.int8 import Int8Linear
from likewise.models import Dense

TEXTS = sentences(12)


def lora(model: Any, name: str, seed: int) -> None:
    model.add_adapter(LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False), name)
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if "lora_" in key and f".{name}." in key:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path)
    return made


def test_adapters_switch_and_merge_and_leave_no_trace(model: SentenceTransformer) -> None:
    plain = model.encode(TEXTS)
    lora(model, "first", 1)
    first = model.encode(TEXTS)
    lora(model, "second", 2)
    model.set_adapter("second")
    second = model.encode(TEXTS)
    assert model.active_adapters() == ["second"]
    assert model.active_adapter() == "second"
    assert min(np.abs(a - b).max() for a, b in ((plain, first), (first, second), (plain, second))) > 1e-3
    model.disable_adapters()
    np.testing.assert_allclose(model.encode(TEXTS), plain, atol=1e-6)
    model.enable_adapters()
    model.set_adapter("first")
    np.testing.assert_allclose(model.encode(TEXTS), first, atol=1e-6)
    assert all("lora_" in name for name in model.get_adapter_state_dict())
    model.delete_adapter("second")
    assert not any("second" in name for name in model.state_dict())
    model.merge_adapters()
    np.testing.assert_allclose(model.encode(TEXTS), first, atol=2e-6)
    assert not any("lora" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="The model has no adapters"):
        model.merge_adapters()


def test_a_merged_model_is_saved_whole(model: SentenceTransformer, tmp_path: Path) -> None:
    lora(model, "first", 1)
    model.merge_adapters()
    model.save(tmp_path / "merged")
    expected = model.encode(TEXTS)
    for library in (SentenceTransformer, Reference):
        np.testing.assert_allclose(
            library(str(tmp_path / "merged"), device="cpu").encode(TEXTS), expected, atol=2e-6
        )


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
def test_a_saved_adapter_loads_with_its_base(tmp_path: Path) -> None:
    base = small_model_folder(tmp_path / "base")
    model = SentenceTransformer(base, device="cpu")
    model[0].auto_model.config._name_or_path = base
    lora(model, "default", 1)
    expected = model.encode(TEXTS)
    model.save(tmp_path / "adapted")
    assert (tmp_path / "adapted" / "adapter_config.json").exists()
    assert not (tmp_path / "adapted" / "model.safetensors").exists()
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(tmp_path / "adapted")).eval()
    with torch.no_grad():
        found = theirs(**model.tokenize(TEXTS[:1]))[0].mean(dim=1)[0]
    np.testing.assert_allclose(found, expected[0], atol=2e-6)
    again = SentenceTransformer(tmp_path / "adapted", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-6)
    plain = SentenceTransformer(base, device="cpu")
    plain.load_adapter(tmp_path / "adapted")
    np.testing.assert_allclose(plain.encode(TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("damage", ["cut", "no base", "empty weights"])
def test_a_damaged_adapter_gives_one_error_that_names_its_place(tmp_path: Path, damage: str) -> None:
    base = small_model_folder(tmp_path / "base")
    model = SentenceTransformer(base, device="cpu")
    model[0].auto_model.config._name_or_path = base
    lora(model, "default", 1)
    folder = tmp_path / "adapted"
    model.save(folder)
    config = folder / "adapter_config.json"
    if damage == "cut":
        config.write_bytes(config.read_bytes()[:100])
    elif damage == "no base":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    else:
        (folder / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises((ValueError, OSError)) as caught:
        SentenceTransformer(folder, device="cpu")
    assert str(folder) in str(caught.value)


def test_adapters_need_a_transformer() -> None:
    model = SentenceTransformer(modules=[Dense(3, 2)], device="cpu")
    with pytest.raises(
        ValueError, match="Adapters are for models with a Transformer module, but the first is Dense"
    ):
        model.add_adapter(None)


def test_compiled_models_give_the_same_embeddings(model: SentenceTransformer) -> None:
    expected = model.encode(TEXTS)
    model.compile(backend="eager", dynamic=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert type(model) is SentenceTransformer


# Int8 weights


def linears(model: SentenceTransformer) -> set[type]:
    return {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)}


@pytest.fixture(params=[False, True], ids=["shared scale", "a scale for each token"])
def per_token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to multiply in int8, whatever the processor; for values that are small enough both are exact on any."""
    monkeypatch.setattr(int8, "has_int8_instructions", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def wide(tmp_path: Path, per_token: bool) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path, hidden_size=64, intermediate_size=256)
    return made


def test_int8_weights_are_taken_when_close_and_fast_enough_and_change_nothing_that_is_saved(
    wide: SentenceTransformer, tmp_path: Path
) -> None:
    exact = wide.encode(TEXTS)
    found = wide.use_int8_weights(TEXTS, min_cosine=0.9, min_speedup=0.0)
    if not found.used:
        assert "cannot multiply in int8" in found.reason
        pytest.skip(found.reason)
    assert Int8Linear in linears(wide)
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
def test_models_of_all_families_compute_in_int8(tmp_path: Path, per_token: bool, family: str) -> None:
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
    found = model.use_int8_weights(inputs, min_cosine=-1, min_speedup=0.0)
    if not found.used:
        assert "cannot multiply in int8" in found.reason
        pytest.skip(found.reason)
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
            [next(n for n, each in model.named_modules() if type(each) is Int8Linear)]
        )
        with pytest.raises(ValueError, match="pairs with several scores, but all have the same"):
            model.use_int8_weights(inputs[:1] * 5)


@pytest.mark.skipif(not int8.has_int8_instructions(), reason="older processors may overflow")
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
    found = int8._Int8Weight.of(layer.weight, layer.bias).multiply(input)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-3)


def test_int8_weights_follow_the_weights_and_gradients_are_exact(wide: SentenceTransformer) -> None:
    found = wide.use_int8_weights(TEXTS, min_cosine=0.9, min_speedup=0.0)
    if not found.used:
        pytest.skip(found.reason)
    before = wide.encode(TEXTS)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.mul_(1.1)
    assert np.abs(wide.encode(TEXTS) - before).max() > 0.01
    features = wide({"tokens": wide.token_sequences(TEXTS).pack()})
    features["sentence_embedding"].sum().backward()
    layer = wide[0].auto_model.encoder.layer[0].intermediate.dense
    assert isinstance(layer, Int8Linear)
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_cosine": 1.1}, "would change too much"),
        ({"min_cosine": 0.0, "min_speedup": 1e9}, "no gain on this processor"),
    ],
)
def test_int8_weights_that_disappoint_are_taken_back(
    wide: SentenceTransformer, limits: dict[str, float], reason: str
) -> None:
    exact, kinds = wide.encode(TEXTS), linears(wide)
    found = wide.use_int8_weights(TEXTS, **limits)
    assert not found.used
    assert reason in found.reason or "cannot multiply" in found.reason
    assert linears(wide) == kinds
    np.testing.assert_array_equal(wide.encode(TEXTS), exact)
