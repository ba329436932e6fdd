"""Adapters load, switch, train and merge."""

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
from transformers import AutoModel

from likewise import SentenceTransformer
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


def test_adapters_need_a_transformer(model: SentenceTransformer) -> None:
    model.check_peft_compatible_model()
    assert model.has_peft_compatible_model()
    other = SentenceTransformer(modules=[Dense(3, 2)], device="cpu")
    assert not other.has_peft_compatible_model()
    refused = "Adapters are for models with a Transformer module, but the first is Dense"
    with pytest.raises(ValueError, match=refused):
        other.check_peft_compatible_model()
    with pytest.raises(ValueError, match=refused):
        other.add_adapter(None)


def test_compiled_models_give_the_same_embeddings(model: SentenceTransformer) -> None:
    expected = model.encode(TEXTS)
    model.compile(backend="eager", dynamic=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert type(model) is SentenceTransformer
