"""Inference without modules: the same numbers to the bit, and only while the model is what it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_architectures import PADDED, build, tokens_of
from torch import nn

from likewise.engine.bare_model import BareModel
from likewise.engine.encoder import PackedEncoder
from likewise.engine.post_norm import PARTS
from likewise.engine.reduced_linear import REDUCED, Int8Linear, multiply_in


def encoder_of(name: str = "bert") -> PackedEncoder:
    """One that has packed and compared, so that it goes without modules from now on."""
    encoder = PackedEncoder(build(name).eval())
    with torch.no_grad():
        encoder(tokens_of())
        assert encoder._bare_model() is not None
    return encoder


def goes_bare(encoder: PackedEncoder) -> bool:
    with torch.no_grad():
        return encoder._bare_model() is not None


@pytest.mark.parametrize("name", sorted(PARTS))
@torch.no_grad()
def test_the_numbers_are_those_of_the_modules_to_the_bit(name: str) -> None:
    encoder = encoder_of(name)
    bare = encoder._bare_model()
    assert bare is not None
    tokens = tokens_of()
    assert bare(tokens).equal(encoder._packed(tokens)[0])
    assert encoder(tokens)[0].equal(bare(tokens))
    last = tokens.starts + tokens.lengths - 1
    for rows in (tokens.starts, last):
        read = encoder.read(tokens, rows)
        torch.testing.assert_close(read, bare(tokens).index_select(0, rows), atol=1e-5, rtol=1e-5)
        assert read.equal(bare(tokens, rows))


@pytest.mark.parametrize("name", ["modernbert", "qwen3", *sorted(PADDED)[:1]])
def test_other_architectures_keep_their_modules(name: str) -> None:
    encoder = PackedEncoder(build(name).eval())
    with torch.no_grad():
        encoder(tokens_of())
        encoder(tokens_of())
    assert not goes_bare(encoder)


def test_gradients_and_mixed_precision_take_the_modules() -> None:
    encoder = encoder_of()
    assert encoder._bare_model() is None
    encoder(tokens_of())[0].sum().backward()
    assert all(weight.grad is not None for weight in encoder.model.encoder.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert encoder._bare_model() is None
    assert goes_bare(encoder)


def put_hook(model: Any) -> Any:
    return model.encoder.layer[0].attention.register_forward_hook(lambda *args: None)


def put_pre_hook_everywhere(model: Any) -> Any:
    return nn.modules.module.register_module_forward_pre_hook(lambda *args: None)


def put_forward(model: Any) -> Any:
    layer = model.encoder.layer[0].output
    layer.forward = lambda hidden, added: added
    return layer


def put_layer(model: Any) -> Any:
    model.encoder.layer[0].output.dense = nn.Sequential(model.encoder.layer[0].output.dense)


def put_fewer_layers(model: Any) -> Any:
    model.encoder.layer = model.encoder.layer[:1]


def train_one(model: Any) -> Any:
    model.encoder.layer[0].output.dropout.train()


@pytest.mark.parametrize(
    "change", [put_hook, put_pre_hook_everywhere, put_forward, put_layer, put_fewer_layers, train_one]
)
def test_a_changed_model_takes_its_modules(change: Callable[[Any], Any]) -> None:
    encoder = encoder_of()
    put = change(encoder.model)
    assert not goes_bare(encoder)
    tokens = tokens_of()
    if change is not train_one:
        with torch.no_grad():
            expected = PackedEncoder(encoder.model)(tokens)[0]
            assert encoder(tokens)[0].equal(expected)
    if hasattr(put, "remove"):
        put.remove()
        assert goes_bare(encoder)


def test_hooks_that_are_there_from_the_start_are_not_called_by_a_trial() -> None:
    encoder = PackedEncoder(build("bert").eval())
    calls: list[int] = []
    with torch.no_grad():
        encoder(tokens_of())
        handle = encoder.model.encoder.register_forward_hook(lambda *args: calls.append(1))
        assert encoder._bare_model() is None
        assert not calls
        handle.remove()
        assert encoder._bare_model() is not None


@torch.no_grad()
def test_new_weights_and_int8_weights_are_those_that_count() -> None:
    encoder = encoder_of()
    tokens = tokens_of()
    before = encoder(tokens)[0]
    dense = encoder.model.encoder.layer[0].intermediate.dense
    dense.weight = nn.Parameter(dense.weight * 2)
    doubled = encoder(tokens)[0]
    assert not doubled.equal(before)
    assert doubled.equal(encoder._packed(tokens)[0])
    dense.forward_before = vars(dense).pop("forward", None)
    dense.__class__ = Int8Linear
    assert goes_bare(encoder)
    assert not encoder(tokens)[0].equal(doubled)
    assert encoder(tokens)[0].equal(encoder._packed(tokens)[0])


@pytest.mark.parametrize("kind", sorted(REDUCED))
@pytest.mark.parametrize("name", sorted(PARTS))
@torch.no_grad()
def test_layers_in_fewer_bits_give_what_the_modules_give(name: str, kind: str) -> None:
    encoder, tokens = encoder_of(name), tokens_of()
    exact = encoder(tokens)[0]
    for module in encoder.model.modules():
        if type(module) is nn.Linear:
            multiply_in(module, kind)
    try:
        encoder._packed(tokens)
    except RuntimeError as error:  # older processors
        pytest.skip(str(error))
    assert goes_bare(encoder)
    found = encoder(tokens)[0]
    assert encoder._bare.is_exact == (kind == "int8")
    size = exact.norm()
    assert 0 < (found - exact).norm() < 0.1 * size
    assert (found - encoder._packed(tokens)[0]).norm() < (1e-5 if kind == "int8" else 0.02) * size
    # What is no float32 takes the float weights, there too.
    wide = encoder.model.double()
    assert goes_bare(encoder)
    torch.testing.assert_close(encoder(tokens)[0], exact.double(), atol=1e-4, rtol=0.0)
    assert wide.dtype == torch.float64


def test_hooks_that_capture_all_layers_once_do_not_end_it() -> None:
    encoder, tokens = encoder_of(), tokens_of()
    with torch.no_grad():
        before = encoder(tokens)[0]
        layers = encoder(tokens, output_hidden_states=True)
        assert any(module._forward_hooks for module in encoder.model.modules())
        assert goes_bare(encoder)
        assert encoder(tokens)[0].equal(before)
        assert encoder(tokens, output_hidden_states=True)[-1].equal(layers[-1])


def test_copies_go_their_own_way() -> None:
    encoder = encoder_of()
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        with torch.no_grad():
            bare = other._bare_model()
        assert bare is not None
        assert bare._model is other.model
    encoder.model.double()
    with torch.no_grad():
        assert encoder(tokens_of())[0].dtype == torch.float64


def test_a_model_with_a_part_of_somebody_else_is_not_taken() -> None:
    class Own(nn.Dropout):
        pass

    model = build("bert").eval()
    assert BareModel.of(model, 0) is not None
    model.encoder.layer[0].output.dropout = Own()
    assert BareModel.of(model, 0) is None
