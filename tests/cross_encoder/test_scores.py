"""Scores of pairs, by every architecture, against the reference on the same weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import ARCHITECTURES, PADDED, pairs_of_texts, reranker_folder
from small import small_tokenizer

from likewise import CrossEncoder
from likewise.cross_encoder.modules import Dense, LogitScore, Pooling, Transformer

PAIRS = pairs_of_texts(40)


def reference(*args: Any, **kwargs: Any) -> Any:
    import sentence_transformers

    return sentence_transformers.CrossEncoder(*args, device="cpu", **kwargs)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("num_labels", [1, 3])
def test_scores_equal_the_references(name: str, num_labels: int, tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, name, num_labels)
    model = CrossEncoder(folder, device="cpu")
    found, expected = model.predict(PAIRS), reference(folder).predict(PAIRS)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)
    assert np.ptp(expected) > 1e-3, "a model that tells no pair from another tests nothing"
    first: Any = model[0]
    assert first.runner.packs() == (name not in PADDED), first.runner.reason


@pytest.mark.parametrize("name", ["bert", "qwen3", "deberta"])
def test_one_pair_scores_as_it_does_among_others(name: str, tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path, name), device="cpu")
    together = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    alone = [model.predict(pair, activation_fn=torch.nn.Identity()) for pair in PAIRS]
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=5e-6)


def test_the_way_taken_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "likewise.cross_encoder.scorer")
    packed = CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu")
    padded = CrossEncoder(reranker_folder(tmp_path / "b", "deberta"), device="cpu")
    for model in (packed, padded, packed, padded):
        model.predict(PAIRS[:3], show_progress_bar=False)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "packed, without padding" in said[0]
    assert "padded" in said[1]
    assert "DebertaV2" in said[1]


def test_a_head_that_reads_other_tokens_is_caught_and_padded(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path)
    model = CrossEncoder(folder, device="cpu")
    first: Any = model[0]

    class Last(torch.nn.Module):
        """A pooler that reads the second token, which a packed batch does not hand to it."""

        def __init__(self, pooler: torch.nn.Module) -> None:
            super().__init__()
            self.pooler = pooler

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.pooler(hidden[:, min(1, hidden.shape[1] - 1) :])
            return pooled

    first.model.bert.pooler = Last(first.model.bert.pooler)
    expected = [first.model(**model.preprocess([pair])).logits.sigmoid().item() for pair in PAIRS[:6]]
    np.testing.assert_allclose(model.predict(PAIRS[:6]), expected, rtol=1e-5, atol=5e-6)
    assert "other scores" in first.runner.reason


def test_an_attention_of_the_users_choice_is_kept_and_padded(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path)
    model = CrossEncoder(folder, device="cpu", model_kwargs={"attn_implementation": "eager"})
    np.testing.assert_allclose(
        model.predict(PAIRS), CrossEncoder(folder, device="cpu").predict(PAIRS), rtol=1e-5, atol=5e-6
    )
    first: Any = model[0]
    assert "asked for" in first.runner.reason
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert-mean", "llama", "deberta"])
def test_gradients_equal_those_of_the_whole_padded_model(name: str, tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, name, num_labels=2)
    model, other = CrossEncoder(folder, device="cpu"), CrossEncoder(folder, device="cpu").model
    features = model.preprocess(PAIRS[:8])
    weights = torch.randn(8, 2)
    (model(dict(features))["scores"] * weights).sum().backward()
    (other(**features).logits * weights).sum().backward()
    for (key, ours), theirs in zip(model.model.named_parameters(), other.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None or not ours.grad.any(), key
        else:
            assert ours.grad is not None, key
            torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_half_precision_gives_float32_scores(name: str, tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, name)
    model = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    assert model.dtype == torch.bfloat16
    found = model.predict(PAIRS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, CrossEncoder(folder, device="cpu").predict(PAIRS), atol=0.1)


def test_a_decoder_that_pads_with_its_last_token_reads_the_one_before(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, "llama", pad_token_id=3)  # [SEP], the last of every pair
    small_tokenizer(model_max_length=64, pad_token="[SEP]", model_input_names=["input_ids"]).save_pretrained(
        folder
    )
    found = CrossEncoder(folder, device="cpu").predict(PAIRS)
    np.testing.assert_allclose(found, reference(folder).predict(PAIRS), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_a_language_model_scores_by_yes_and_no(name: str, tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path / "model", name, task="CausalLM")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no"])
    known = tokenizer.get_vocab()
    with pytest.raises(ValueError, match="'yes' and 'no'"):
        CrossEncoder(folder, device="cpu")
    model = CrossEncoder(
        modules=[
            Transformer(folder, transformer_task="text-generation"),
            LogitScore(known["cat"], known["dog"]),
        ],
        device="cpu",
    )
    assert model.num_labels == 1
    model.save(tmp_path / "saved")
    found = model.predict(PAIRS)
    np.testing.assert_allclose(
        CrossEncoder(str(tmp_path / "saved"), device="cpu").predict(PAIRS), found, rtol=1e-6
    )
    theirs = reference(str(tmp_path / "saved"))
    np.testing.assert_allclose(theirs.predict(PAIRS), found, rtol=1e-5, atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))
    again = CrossEncoder(str(tmp_path / "theirs"), device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), found, rtol=1e-5, atol=1e-5)


def test_modules_behind_an_encoder_give_the_scores(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path / "model", "qwen3", task="")
    dense = Dense(32, 1, activation_function=None, module_output_name="scores")
    first = Transformer(folder, transformer_task="feature-extraction")
    model = CrossEncoder(modules=[first, Pooling(32, "lasttoken"), dense], device="cpu")
    assert model.num_labels == 1
    found = model.predict(PAIRS)
    model.save(tmp_path / "saved")
    again = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), found, rtol=1e-6)
    theirs = reference(str(tmp_path / "saved"))
    np.testing.assert_allclose(theirs.predict(PAIRS), found, rtol=1e-5, atol=1e-5)
    theirs.save(str(tmp_path / "theirs"))
    again = CrossEncoder(str(tmp_path / "theirs"), device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), found, rtol=1e-5, atol=1e-5)


def test_a_hook_on_the_whole_model_or_its_head_sees_every_batch(tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path), device="cpu")
    expected = model.predict(PAIRS)
    seen: list[Any] = []
    for module in (model.model, model.model.classifier, model.model.bert):
        handle = module.register_forward_hook(lambda module, inputs, output: seen.append(module))
        np.testing.assert_allclose(model.predict(PAIRS), expected, rtol=1e-5, atol=5e-6)
        handle.remove()
        assert set(seen) == {module}
        seen.clear()
    np.testing.assert_array_equal(model.predict(PAIRS), expected)


def test_a_head_that_was_watched_at_first_is_tried_later(tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path), device="cpu")
    first: Any = model[0]

    class Second(torch.nn.Module):
        def __init__(self, pooler: torch.nn.Module) -> None:
            super().__init__()
            self.pooler = pooler

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.pooler(hidden[:, min(1, hidden.shape[1] - 1) :])
            return pooled

    first.model.bert.pooler = Second(first.model.bert.pooler)
    handle = first.model.bert.register_forward_hook(lambda module, inputs, output: None)
    expected = model.predict(PAIRS[:6])
    handle.remove()
    np.testing.assert_allclose(model.predict(PAIRS[:6]), expected, rtol=1e-5, atol=5e-6)
    assert "other scores" in first.runner.reason
