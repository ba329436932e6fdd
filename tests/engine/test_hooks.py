"""Whoever registers a hook inside a model sees padded batches, and changes what the reference's hooks would change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer as Reference
from small import small_model
from torch.nn.modules.module import register_module_forward_hook

from likewise.engine.modes import eval_mode, is_watched_inside, leave_training

TEXTS = ["bird", "a cat in the house", "the old ship moves over the river", "rain"]


def zero_first_position(module: Any, inputs: Any, output: Any) -> Any:
    hidden = (output[0] if isinstance(output, tuple) else output).clone()
    hidden[:, 0] = 0
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return small_model(tmp_path)


@contextmanager
def hooked(model: Any, hook: Callable[..., Any]) -> Iterator[None]:
    handle = model[0].auto_model.encoder.layer[0].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("is_warm", [False, True])
def test_a_hook_sees_one_padded_batch_and_no_trial(model: Any, is_warm: bool) -> None:
    if is_warm:
        model.encode("a cat")
    shapes: list[tuple[int, ...]] = []
    with hooked(model, lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))):
        model.encode(TEXTS)
    assert shapes == [(4, 9, 32)]
    model.encode(TEXTS)
    assert model[0].encoder.packs()
    assert len(shapes) == 1


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_a_hook_that_changes_a_layer_gives_the_references_embeddings(
    tmp_path: Path, architecture: str, is_warm: bool
) -> None:
    model = small_model(tmp_path, architecture)
    reference = Reference(str(tmp_path / f"{architecture}-0"), device="cpu")
    plain = model.encode(TEXTS) if is_warm else None
    with hooked(model, zero_first_position), hooked(reference, zero_first_position):
        found, expected = model.encode(TEXTS), reference.encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    after = model.encode(TEXTS)
    np.testing.assert_allclose(after, reference.encode(TEXTS), atol=2e-6)
    assert np.abs(after - found).max(axis=1).min() > 1e-3
    if plain is not None:
        np.testing.assert_array_equal(after, plain)


def test_the_rows_of_padded_features_come_to_a_hook_as_they_are_given(model: Any) -> None:
    features = model.tokenize(TEXTS)
    seen: list[torch.Tensor] = []
    expected = model.encode(TEXTS)
    handle = model[0].auto_model.embeddings.word_embeddings.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    found = model(dict(features))["sentence_embedding"]
    handle.remove()
    torch.testing.assert_close(seen[0], features["input_ids"])
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


def test_hooks_of_every_kind_are_seen_and_those_that_run_models_are_not(model: Any) -> None:
    encoder = model[0].auto_model
    layer = encoder.encoder.layer[1]
    assert not is_watched_inside(encoder)
    for register, hook in (
        (layer.register_forward_hook, zero_first_position),
        (layer.register_forward_hook, partial(zero_first_position)),
        (layer.register_forward_pre_hook, lambda module, inputs: None),
        (layer.register_full_backward_hook, lambda module, *grads: None),
        (layer.register_full_backward_pre_hook, lambda module, grads: None),
        (register_module_forward_hook, lambda module, inputs, output: None),
    ):
        handle = register(hook)
        assert is_watched_inside(encoder), register
        handle.remove()
        assert not is_watched_inside(encoder), register
    encoder(**model.tokenize(TEXTS), output_hidden_states=True)  # by hooks of transformers, which stay
    encoder.enable_input_require_grads()
    assert not is_watched_inside(encoder)
    layer.forward = partial(type(layer).forward, layer)
    assert not is_watched_inside(encoder)
    layer.forward = lambda *args, **kwargs: type(layer).forward(layer, *args, **kwargs)
    assert is_watched_inside(encoder)


def test_a_hook_on_a_module_of_the_model_sees_padded_features(model: Any) -> None:
    expected = model.encode(TEXTS)
    seen: list[dict[str, Any]] = []
    for module in (model[0], model[1]):
        seen.clear()
        handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(dict(inputs[0])))
        np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
        handle.remove()
        assert seen[0]["input_ids"].shape == seen[0]["attention_mask"].shape == (4, 9)
        assert "tokens" not in seen[0]


def test_what_a_hook_keeps_is_not_overwritten_by_the_activation_behind_it(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    kept: list[torch.Tensor] = []
    for either in (model, reference):
        dense = either[0].auto_model.encoder.layer[0].intermediate.dense
        dense.register_forward_hook(lambda module, inputs, output: kept.append(output))
        either.encode(TEXTS[:1])
    torch.testing.assert_close(kept[0], kept[1], atol=2e-6, rtol=0)


def test_a_hook_in_a_decoder_sees_padding_on_the_tokenizers_side(tmp_path: Path) -> None:
    model = small_model(tmp_path, "qwen3", num_key_value_heads=2, head_dim=8)
    model.tokenizer.padding_side = "left"
    expected = model.encode(TEXTS)
    seen: list[torch.Tensor] = []
    handle = model[0].auto_model.embed_tokens.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    handle.remove()
    assert (seen[0][:, -1] != model.tokenizer.pad_token_id).all()
    assert (seen[0][:, 0] == model.tokenizer.pad_token_id).any()


def test_a_gradient_hook_gets_the_gradient_of_padded_rows(model: Any) -> None:
    layer, shapes = model[0].auto_model.encoder.layer[0], []
    layer.register_full_backward_hook(lambda module, before, after: shapes.append(tuple(after[0].shape)))
    model(model.tokenize(TEXTS))["sentence_embedding"].sum().backward()
    assert shapes == [(4, 9, 32)]


def test_whatever_is_in_training_mode_leaves_it(model: Any) -> None:
    inside = model[0].auto_model.encoder.layer[1].output.dropout
    for part in (model, model[1], inside):
        model.eval()
        part.train()
        leave_training(model)
        assert not any(module.training for module in model.modules())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_module_in_evaluation_mode_is_not_told_again() -> None:
    class Counting(torch.nn.Linear):
        calls = 0

        def train(self, mode: bool = True) -> Any:
            self.calls += 1
            return super().train(mode)

    model = torch.nn.Sequential(Counting(2, 2))
    leave_training(model)
    leave_training(model)
    assert model[0].calls == 1
    model.append(torch.jit.script(torch.nn.Linear(2, 2)))  # which keeps its mode elsewhere
    leave_training(model)
    assert not model[1].training


def test_eval_mode_puts_every_module_back_also_after_an_error(model: Any) -> None:
    model.train()
    model[1].eval()
    with pytest.raises(ZeroDivisionError), eval_mode(model):
        1 // sum(module.training for module in model.modules())  # no module is
    assert model[0].auto_model.encoder.training
    assert not model[1].training


def test_the_trial_leaves_every_module_in_its_mode(model: Any) -> None:
    model.train()
    frozen = model[0].auto_model.encoder.layer[0].eval()
    model(dict(model.tokenize(TEXTS)))
    assert not frozen.training
    assert model[0].auto_model.encoder.layer[1].training


def test_a_model_that_pads_says_so_once_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 32, "is_encoder_decoder": False}
    model = small_model(tmp_path, "t5", **sizes)
    packed = small_model(tmp_path)
    with caplog.at_level(logging.INFO, "likewise.engine.encoder"):
        for _ in range(3):
            model.encode(TEXTS)
            packed.encode(TEXTS)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "T5EncoderModel gets padded batches, which take longer: " in caplog.text
        assert "takes no positions" in caplog.text
        caplog.clear()
        with hooked(packed, lambda module, inputs, output: None):
            packed.encode(TEXTS)
            packed.encode(TEXTS)
        assert [record.levelname for record in caplog.records] == ["INFO"]
        assert "somebody else's hooks" in caplog.text
