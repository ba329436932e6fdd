"""Layers that compute in float32 in a model of bfloat16: as in the reference, in both forms of a folder, and never where it cannot be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cross_common import reranker_folder
from sentence_transformers import CrossEncoder as Reference
from torch import nn

from likewise import CrossEncoder

HEAD = "0.model.classifier"
PAIRS = [("a man eats", f"{word} is eaten") for word in ("bread", "rice", "soup", "a pear", "an apple")]
HALF = {"dtype": torch.bfloat16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(reranker_folder(tmp_path_factory.mktemp("reranker")))


def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.predict(PAIRS, activation_fn=nn.Identity(), convert_to_tensor=True)
    return found


def is_rounded(scores: torch.Tensor) -> bool:
    """Whether the scores are numbers that bfloat16 has."""
    return torch.equal(scores.bfloat16().float(), scores)


def test_scores_are_those_of_the_reference_and_of_float32(folder: Path) -> None:
    model, plain = (
        CrossEncoder(str(folder), device="cpu", model_kwargs=HALF, keep_in_fp32_modules=names)
        for names in ([HEAD], None)
    )
    reference = Reference(str(folder), device="cpu", model_kwargs=HALF, keep_in_fp32_modules=[HEAD])
    assert not is_rounded(logits(model))
    assert is_rounded(logits(plain))
    assert model.get_submodule(HEAD).weight.dtype == torch.bfloat16
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=2e-2)
    assert model.fingerprint() != plain.fingerprint()
    model.set_keep_in_fp32_modules([])
    assert torch.equal(logits(model), logits(plain))
    assert model.fingerprint() == plain.fingerprint()


def test_folders_keep_the_names_for_both_libraries(folder: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", model_kwargs=HALF, keep_in_fp32_modules=[HEAD])
    model.save_pretrained(str(tmp_path / "ours"))
    reference = Reference(str(tmp_path / "ours"), device="cpu", model_kwargs=HALF)
    assert reference.keep_in_fp32_modules == [HEAD]
    reference.save_pretrained(str(tmp_path / "theirs"))
    again = CrossEncoder(str(tmp_path / "theirs"), device="cpu", model_kwargs=HALF)
    assert again.keep_in_fp32_modules == [HEAD]
    assert torch.equal(logits(again), logits(model))
    none = CrossEncoder(str(tmp_path / "ours"), device="cpu", model_kwargs=HALF, keep_in_fp32_modules=[])
    assert is_rounded(logits(none))


def test_training_under_autocast_computes_the_head_in_float32(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", keep_in_fp32_modules=[HEAD]).train()
    head = model.get_submodule(HEAD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(torch.randn(3, head.in_features, dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert head.weight.grad is not None


def test_what_cannot_be_done_is_refused_and_changes_nothing(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    before = logits(model)
    with pytest.raises(ValueError, match="must be a list of modules' names, but is '0"):
        model.set_keep_in_fp32_modules("0.model")
    with pytest.raises(ValueError, match=r"takes linear layers, but 0\.model is a Bert"):
        model.set_keep_in_fp32_modules(["0.model"])
    with pytest.raises(AttributeError, match="nothing"):
        model.set_keep_in_fp32_modules([HEAD, "0.model.nothing"])
    head = model.get_submodule(HEAD)
    head.forward = lambda input: nn.functional.linear(input, head.weight, head.bias)
    with pytest.raises(ValueError, match="which somebody gave a `forward` of its own"):
        model.set_keep_in_fp32_modules([HEAD])
    assert model.keep_in_fp32_modules == []
    torch.testing.assert_close(logits(model), before)


def test_the_copy_that_an_adapter_trains_computes_in_float32_too(folder: Path) -> None:
    peft = pytest.importorskip("peft")
    model = CrossEncoder(str(folder), device="cpu", model_kwargs=HALF)
    model.add_adapter(peft.LoraConfig(target_modules=["query"], r=2))
    model.set_keep_in_fp32_modules([HEAD])
    assert not is_rounded(logits(model))
