"""Packed attention equals torch's own, sequence by sequence, forward and backward."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from likewise.engine import TokenBatch, TokenSequences, made_again
from likewise.engine.attention import (
    NAME,
    Scoring,
    _BlockAttention,
    _grouped_sdpa,
    packed_attention,
    packed_attention_forward,
    register,
)
from likewise.engine.blocks import blocks_of
from likewise.engine.layers import FEW_ROWS, FastDropout, FastGELU, FastLayerNorm, use_fast_layers
from likewise.engine.random import keep_mask

LENGTHS = (12, 3, 20, 7, 7, 1, 0, 20, 70, 130)
OPTIONS = [(False, None), (True, None), (False, 5), (True, 5)]


def batch_of(lengths: tuple[int, ...]) -> TokenBatch:
    return TokenSequences.from_lists([[1] * length for length in lengths]).pack()


def heads(
    tokens: TokenBatch, number: int, size: int, seed: int, dtype: torch.dtype = torch.float64
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens.num_tokens, number, size, generator=generator, dtype=dtype).requires_grad_()


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, tokens: TokenBatch, causal: bool, window: int | None
) -> Tensor:
    """The definition: each sequence alone."""
    outputs = []
    for start, length in zip(tokens.starts.tolist(), tokens.lengths.tolist(), strict=True):
        if not length:
            continue
        part = slice(start, start + length)
        place = torch.arange(length)
        distance = place[:, None] - place[None, :]
        visible = torch.ones(length, length, dtype=torch.bool)
        if causal:
            visible &= distance >= 0
        if window is not None:
            visible &= distance.abs() < window
        q_, k_, v_ = (t[part].transpose(0, 1) for t in (q, k, v))
        groups = q_.shape[0] // k_.shape[0]
        k_, v_ = k_.repeat_interleave(groups, 0), v_.repeat_interleave(groups, 0)
        outputs.append(scaled_dot_product_attention(q_, k_, v_, visible).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize(("causal", "window"), OPTIONS)
@pytest.mark.parametrize("way", ["groups", "blocks"])
def test_packed_attention_equals_each_sequence_alone(way: str, causal: bool, window: int | None) -> None:
    tokens = batch_of(LENGTHS)
    q, k, v = (heads(tokens, 4, 8, seed) for seed in range(3))
    expected = one_by_one(q, k, v, tokens, causal, window)
    how = Scoring(0.0, 8**-0.5, causal, window, None)
    if way == "groups":
        found = _grouped_sdpa(q, k, v, tokens, how)
    else:
        found = _BlockAttention.apply(q, k, v, None, blocks_of(tokens), how)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (q, k, v), gradient),
        torch.autograd.grad(expected, (q, k, v), gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_key_head_may_serve_several_query_heads() -> None:
    tokens = batch_of((5, 2, 9))
    q, k, v = heads(tokens, 6, 4, 0), heads(tokens, 2, 4, 1), heads(tokens, 2, 4, 2)
    torch.testing.assert_close(packed_attention(q, k, v, tokens), one_by_one(q, k, v, tokens, False, None))


def test_gradients_with_dropout_and_a_bias_by_distance_are_those_of_the_function() -> None:
    tokens = batch_of((2, 3, 5))
    q, k, v = (heads(tokens, 2, 3, seed) for seed in range(3))
    bias = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)

    def attention(*inputs: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same mask each time
        return packed_attention(*inputs[:3], tokens, dropout=0.3, scale=0.4, bias=inputs[3])

    assert torch.autograd.gradcheck(attention, (q, k, v, bias))


def test_a_bias_is_indexed_by_the_distance_from_query_to_key() -> None:
    tokens = batch_of((1, 4))
    q, k, v = (heads(tokens, 2, 3, seed) for seed in range(3))
    bias = torch.randn(2, 7, dtype=torch.float64)
    matrix = torch.stack([torch.stack([bias[:, j - i + 3] for j in range(4)], -1) for i in range(4)], -2)
    q_, k_, v_ = (t[1:].transpose(0, 1) for t in (q, k, v))
    expected = torch.cat([v[:1], scaled_dot_product_attention(q_, k_, v_, matrix).transpose(0, 1)])
    torch.testing.assert_close(packed_attention(q, k, v, tokens, bias=bias), expected)
    with torch.no_grad():
        torch.testing.assert_close(packed_attention(q, k, v, tokens, bias=bias), expected)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("causal", "window"), OPTIONS)
def test_what_is_unseen_is_so_with_gradients_and_without(
    causal: bool, window: int | None, with_bias: bool
) -> None:
    tokens = batch_of(LENGTHS)
    # In runs, so that some tokens see nothing at all.
    tokens = replace(tokens, unseen=torch.arange(tokens.num_tokens) % 20 < 12)
    q, k, v = (heads(tokens, 4, 8, seed) for seed in range(3))
    bias = torch.randn(4, 2 * tokens.longest - 1, dtype=torch.float64) if with_bias else None
    expected = packed_attention(q, k, v, tokens, causal=causal, window=window, bias=bias)
    with torch.no_grad():
        found = packed_attention(q, k, v, tokens, causal=causal, window=window, bias=bias)
        key = k + 100 * tokens.unseen[:, None, None]
        other = packed_attention(q, key, v, tokens, causal=causal, window=window, bias=bias)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(other, found)
    assert (found == 0).all(-1).all(-1).any()
    gradients = torch.autograd.grad(expected.square().sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[1][tokens.unseen].any()
    assert not gradients[0][(found == 0).all(-1)].any()


def test_dropout_keeps_the_expectation() -> None:
    tokens = batch_of((6, 9, 16))
    q, k, v = (heads(tokens, 2, 4, seed, torch.float32) for seed in range(3))
    torch.manual_seed(0)
    mean = torch.stack([packed_attention(q, k, v, tokens, dropout=0.25).detach() for _ in range(3000)]).mean(
        0
    )
    torch.testing.assert_close(mean, packed_attention(q, k, v, tokens).detach(), atol=0.06, rtol=0)


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_a_keep_mask_has_the_asked_share_of_zeros_and_mean_one(drop: float) -> None:
    torch.manual_seed(0)
    mask, factor = keep_mask((401, 503), drop, torch.empty(0))
    assert abs(float((mask == 0).float().mean()) - drop) < 0.005
    assert abs(float(mask.float().mean()) * factor - 1) < 0.02
    assert mask.unique().tolist() == [0, 1]


def test_a_keep_mask_follows_the_seed() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(keep_mask((100,), 0.5, torch.empty(0))[0])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.fixture(params=[True, False], ids=["oneDNN", "own"])
def one_dnn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products as processors with AVX-512 do them, and as others."""
    monkeypatch.setattr("likewise.engine.layers.ONE_DNN_IS_FAST", request.param)


@pytest.mark.usefixtures("one_dnn")
def test_fast_layers_compute_what_torch_computes() -> None:
    class Feed(torch.nn.Module):
        def __init__(self) -> None:
            from transformers.activations import ACT2FN

            super().__init__()
            self.dense = torch.nn.Linear(6, 10)
            self.intermediate_act_fn = ACT2FN["gelu"]
            self.norm = torch.nn.LayerNorm(10)
            self.dropout = torch.nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.dropout(self.norm(self.intermediate_act_fn(self.dense(x))))

    torch.manual_seed(0)
    plain, fast = Feed().eval(), Feed().eval()
    fast.load_state_dict(plain.state_dict())
    use_fast_layers(fast)
    assert [type(m) for m in fast.children()] == [torch.nn.Linear, FastGELU, FastLayerNorm, FastDropout]
    for shape in ((3, 6), (2, 3, 6), (0, 6), (FEW_ROWS + 1, 6), (2, FEW_ROWS, 6)):
        x = torch.randn(shape, requires_grad=True)
        with torch.no_grad():
            torch.testing.assert_close(fast(x), plain(x))
        torch.testing.assert_close(fast(x), plain(x))
        gradient = torch.randn(*shape[:-1], 10)
        for ours, theirs in zip(
            torch.autograd.grad(fast(x), (x, *fast.parameters()), gradient),
            torch.autograd.grad(plain(x), (x, *plain.parameters()), gradient),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs)
    assert list(fast.state_dict()) == list(plain.state_dict())


class Block(torch.nn.Module):
    """A feed-forward block of BERT's kind, behind a norm; into the outputs of what can be made again somebody may write."""

    def __init__(self, written: bool) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        self.norm = torch.nn.LayerNorm(6)
        self.dense, self.down = torch.nn.Linear(6, 10), torch.nn.Linear(10, 4)
        self.intermediate_act_fn = ACT2FN["gelu"]
        self.written = written
        torch.nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x * 2)
        self._write(normed)
        inner = self.intermediate_act_fn(self.dense(normed.view(-1, 6)))
        self._write(inner)
        return self.down(inner)

    def _write(self, output: Tensor) -> None:
        if self.written:
            with torch.no_grad():
                output.mul_(2)


def kept_by(function: Callable[[], Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
    """What a function gives, and what is kept for its gradients, by where it lies in memory."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return function(), kept


@pytest.mark.usefixtures("one_dnn")
@pytest.mark.parametrize("written", [False, True])
def test_what_a_gelu_and_a_norm_give_is_made_again_unless_somebody_wrote_into_it(written: bool) -> None:
    torch.manual_seed(0)
    plain, fast = Block(written), Block(written)
    fast.load_state_dict(plain.state_dict())
    use_fast_layers(fast)
    x, gradient = torch.randn(1, FEW_ROWS + 1, 6, requires_grad=True), torch.randn(FEW_ROWS + 1, 4)
    output, kept = kept_by(lambda: fast(x))
    found = torch.autograd.grad(output, (x, *fast.parameters()), gradient)
    expected = torch.autograd.grad(plain(x), (x, *plain.parameters()), gradient)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    sizes = [
        one.numel() // (FEW_ROWS + 1)
        for one in kept.values()
        if len(one.shape) > 1 and one.numel() > FEW_ROWS * 6
    ]
    assert sorted(sizes) == (
        [6, 6, 10, 10] if written else [6, 10]
    )  # what went in, alone or with what came out


def test_what_was_written_into_behind_a_frozen_norm_is_not_made_again_from() -> None:
    norm, layer = torch.nn.LayerNorm(6).requires_grad_(False), torch.nn.Linear(6, 4)
    use_fast_layers(torch.nn.Sequential(norm, layer))
    x = torch.randn(FEW_ROWS + 1, 6)
    normed = norm(x)
    expected = normed.clone()
    x.mul_(3)
    (found,) = torch.autograd.grad(layer(normed).sum(), layer.weight)
    torch.testing.assert_close(found, expected.sum(0).expand(4, 6))


def test_checkpoints_keep_no_more_than_their_inputs() -> None:
    norm, layer = torch.nn.LayerNorm(6), torch.nn.Linear(6, 6)
    use_fast_layers(torch.nn.Sequential(norm, layer))
    x = torch.randn(FEW_ROWS + 1, 6, requires_grad=True)
    known = len(made_again._recipes)
    output = checkpoint(lambda x: norm(layer(x)), x, use_reentrant=False)
    assert len(made_again._recipes) == known
    (found,) = torch.autograd.grad(output.square().sum(), x)
    (expected,) = torch.autograd.grad(norm(layer(x)).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_torch_func_sees_torchs_own_layers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Dropout(0.5)).train()
    use_fast_layers(model)
    x = torch.randn(FEW_ROWS + 1, 6)
    with torch.random.fork_rng():
        gradient = torch.func.grad(lambda x: model(x).sum())(x)
    assert gradient.shape == x.shape


@pytest.mark.usefixtures("one_dnn")
def test_a_frozen_linear_layer_keeps_no_input() -> None:
    layer = torch.nn.Linear(6, 10).requires_grad_(False)
    use_fast_layers(torch.nn.Sequential(layer))
    x = torch.randn(FEW_ROWS + 1, 6, requires_grad=True)
    output, kept = kept_by(lambda: layer(x))
    assert [tuple(one.shape) for one in kept.values()] == [(10, 6)]
    (found,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(found, layer.weight.sum(0).expand_as(x))


def test_attention_with_dropout_keeps_each_weight_and_a_byte_of_its_mask() -> None:
    tokens = batch_of((30, 33, 64))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    _, kept = kept_by(lambda: packed_attention(q, k, v, tokens, dropout=0.4))
    weights = sum(2 * block.count * block.length**2 for block in blocks_of(tokens).blocks)
    assert sum(one.numel() for one in kept.values() if one.dtype == torch.uint8) == weights
    assert (
        sum(one.numel() for one in kept.values() if one.ndim == 3 and one.shape[1] == one.shape[2]) == weights
    )


def test_a_copy_of_a_fast_linear_layer_computes_with_its_own_weights() -> None:
    layer, x = torch.nn.Linear(4, 3), torch.randn(FEW_ROWS + 1, 4)
    use_fast_layers(torch.nn.Sequential(layer))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert vars(copied)["forward"].args == (copied,)
        with torch.no_grad():
            copied.weight.zero_()
            copied.bias.fill_(2.0)
            assert (copied(x) == 2).all()
            assert not (layer(x) == 2).any()


def test_torchs_quantisation_finds_the_linear_layers_of_a_model_with_fast_ones() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 8)).eval()
    use_fast_layers(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves it to another package
        quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    assert all(type(layer).__module__.startswith("torch.ao") for layer in quantised)
    x = torch.randn(5, 64)
    torch.testing.assert_close(quantised(x), model(x), atol=0.1, rtol=0)
    assert not torch.equal(quantised(x), model(x))


def test_fast_layers_follow_autocast() -> None:
    layer = torch.nn.Linear(4, 4)
    use_fast_layers(torch.nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(FEW_ROWS + 1, 4)).dtype == torch.bfloat16


def with_the_same_mask(
    q: Tensor, k: Tensor, v: Tensor, tokens: TokenBatch, masks: list[Tensor], causal: bool, window: int | None
) -> Tensor:
    """Attention with dropout written out, sequence by sequence, with given masks (H, length, length)."""
    outputs = []
    pieces = (x.split(tokens.lengths.tolist()) for x in (q, k, v))
    for mask, q_, k_, v_ in zip(masks, *pieces, strict=True):
        place = torch.arange(len(q_))
        distance = place[:, None] - place[None, :]
        hidden = (causal & (distance < 0)) | (window is not None and distance.abs() >= (window or 0))
        scores = torch.einsum("qhd,khd->hqk", q_, k_) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1) * mask
        outputs.append(torch.einsum("hqk,khd->qhd", weights, v_))
    return torch.cat(outputs)


@pytest.mark.parametrize(("causal", "window"), OPTIONS)
def test_attention_with_dropout_is_plain_attention_with_the_mask_it_drew(
    monkeypatch: pytest.MonkeyPatch, causal: bool, window: int | None
) -> None:
    drawn: list[Tensor] = []

    def recording(*args: Any) -> tuple[Tensor, float]:
        kept, factor = keep_mask(*args)
        drawn.append(kept * factor)
        return kept, factor

    monkeypatch.setattr("likewise.engine.attention.keep_mask", recording)
    tokens = batch_of((3, 5, 8, 9, 12, 12, 40))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    found = packed_attention(q, k, v, tokens, dropout=0.4, causal=causal, window=window)
    masks: list[Tensor] = []
    rest, lengths = drawn[0], iter(tokens.lengths.tolist())
    for block in blocks_of(tokens).blocks:
        own, rest = rest.split(
            [block.count * 2 * block.length**2, len(rest) - block.count * 2 * block.length**2]
        )
        for mask in own.view(block.count, 2, block.length, block.length):
            length = next(lengths)
            masks.append(mask[:, :length, :length])
    expected = with_the_same_mask(q, k, v, tokens, masks, causal, window)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    ours = torch.autograd.grad(found, (q, k, v), gradient)
    for a, b in zip(ours, torch.autograd.grad(expected, (q, k, v), gradient), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("causal", "window"), OPTIONS)
def test_gradients_with_dropout_are_those_of_the_function(causal: bool, window: int | None) -> None:
    tokens = batch_of((1, 3, 6))
    q, k, v = heads(tokens, 4, 2, 0), heads(tokens, 2, 2, 1), heads(tokens, 2, 2, 2)
    window = window and 3

    def attention(*inputs: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same mask each time
        return packed_attention(*inputs, tokens, dropout=0.3, causal=causal, window=window)

    assert torch.autograd.gradcheck(attention, (q, k, v))


def test_dropout_draws_the_same_numbers_whether_gradients_are_wanted_or_not() -> None:
    tokens = batch_of((4, 7))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    outputs, states = [], []
    for wanted in (True, False):
        torch.manual_seed(1)
        with torch.set_grad_enabled(wanted):
            outputs.append(packed_attention(q, k, v, tokens, dropout=0.5).detach())
        states.append(torch.get_rng_state())
    assert torch.equal(*outputs)
    assert torch.equal(*states)


def test_a_second_derivative_through_dropout_is_refused_rather_than_wrong() -> None:
    tokens = batch_of((3,))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    (first,) = torch.autograd.grad(
        packed_attention(q, k, v, tokens, dropout=0.5).square().sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_half_precision_stays_near_double_precision() -> None:
    tokens = batch_of((5, 9, 30))
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        q, k, v = (heads(tokens, 2, 8, seed) for seed in range(3))
        halves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        results = []
        for inputs in ((q, k, v), halves):
            torch.manual_seed(0)
            bias = torch.linspace(-1, 1, 2 * 59).view(2, 59).to(inputs[0].dtype)
            output = packed_attention(*inputs, tokens, bias=bias)  # type: ignore[misc]
            results.append((output, *torch.autograd.grad(output.sum(), inputs)))
        for exact, half in zip(*results, strict=True):
            assert half.dtype == dtype
            torch.testing.assert_close(half.double(), exact, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_queries_that_autocast_left_in_float32_follow_it(dropout: float) -> None:
    tokens = batch_of((5, 9))
    q, k, v = (heads(tokens, 2, 8, seed, torch.float32) for seed in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        output = packed_attention(q, k, v.bfloat16(), tokens, dropout=dropout)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert q.grad is not None
    assert q.grad.dtype == torch.float32


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_batch_without_tokens_has_an_empty_output(dropout: float) -> None:
    tokens = batch_of((0, 0))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    assert packed_attention(q, k, v, tokens, dropout=dropout).shape == (0, 2, 4)


@pytest.mark.parametrize(
    ("layer", "call", "causal"),
    [(None, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_the_call_says_whether_it_is_causal_and_the_layer_where_it_does_not(
    layer: bool | None, call: bool | None, causal: bool
) -> None:
    module = torch.nn.Module()
    if layer is not None:
        module.is_causal = layer  # type: ignore[assignment]
    tokens = batch_of((2, 6))
    q, k, v = (heads(tokens, 2, 4, seed) for seed in range(3))
    row = [x.transpose(0, 1).unsqueeze(0) for x in (q, k, v)]
    found, weights = packed_attention_forward(module, *row, None, is_causal=call, token_batch=tokens)
    assert weights is None
    torch.testing.assert_close(found.squeeze(0), one_by_one(q, k, v, tokens, causal, None))


def test_what_packed_attention_does_not_know_is_refused() -> None:
    tokens = batch_of((2,))
    row = [heads(tokens, 2, 4, seed).transpose(0, 1).unsqueeze(0) for seed in range(3)]
    with pytest.raises(NotImplementedError, match="softcap"):
        packed_attention_forward(torch.nn.Module(), *row, None, softcap=30.0, token_batch=tokens)


def test_packed_rows_have_no_mask_and_padded_batches_the_ordinary_one() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface, BertConfig
    from transformers.masking_utils import create_bidirectional_mask

    register()
    assert NAME in AttentionInterface()
    assert NAME in AttentionMaskInterface()
    config = BertConfig(attn_implementation=NAME)
    embeddings = torch.zeros(2, 3, 4)
    assert create_bidirectional_mask(config, embeddings, None) is None
    mask = create_bidirectional_mask(config, embeddings, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.gpu
@pytest.mark.parametrize(("causal", "window"), OPTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_cuda_kernels_equal_each_sequence_alone(
    dtype: torch.dtype, tolerance: float, causal: bool, window: int | None
) -> None:
    lengths = tuple(length for length in LENGTHS if length)
    tokens = batch_of(lengths).to("cuda")
    q, k, v = (heads(tokens, 4, 32, seed).detach().to("cuda", dtype).requires_grad_() for seed in range(3))
    found = packed_attention(q, k, v, tokens, causal=causal, window=window)
    expected = one_by_one(q.cpu().double(), k.cpu().double(), v.cpu().double(), tokens, causal, window)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(found.cpu().double(), expected, atol=tolerance, rtol=tolerance)
    ours = torch.autograd.grad(found, (q, k, v), gradient.to("cuda", dtype))
    theirs = torch.autograd.grad(expected, (q, k, v), gradient)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.cpu().double(), b.cpu().double(), atol=3 * tolerance, rtol=3 * tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("causal", "window"), OPTIONS)
def test_cuda_kernels_equal_the_grouped_way_with_shared_key_heads(
    dtype: torch.dtype, causal: bool, window: int | None
) -> None:
    tokens = batch_of((3, 9, 9, 33, 120)).to("cuda")
    q, k, v = (
        heads(tokens, number, 64, number + seed).detach().to("cuda", dtype).requires_grad_()
        for seed, number in enumerate((8, 2, 2))
    )
    found = packed_attention(q, k, v, tokens, causal=causal, window=window)
    wide_k, wide_v = (x.repeat_interleave(4, dim=1) for x in (k, v))
    expected = _grouped_sdpa(q, wide_k, wide_v, tokens, Scoring(0.0, 64**-0.5, causal, window, None))
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    gradient = torch.randn_like(found)
    ours = torch.autograd.grad(found, (q, k, v), gradient)
    for a, b in zip(ours, torch.autograd.grad(expected, (q, k, v), gradient), strict=True):
        torch.testing.assert_close(a, b, atol=5 * tolerance, rtol=5 * tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_dropout_keeps_the_expectation(dtype: torch.dtype) -> None:
    tokens = batch_of((6, 9, 64)).to("cuda")
    q, k, v = (heads(tokens, 2, 32, seed).detach().to("cuda", dtype) for seed in range(3))
    mean = torch.stack([packed_attention(q, k, v, tokens, dropout=0.25).float() for _ in range(3000)]).mean(0)
    torch.testing.assert_close(mean, packed_attention(q, k, v, tokens).float(), atol=0.08, rtol=0)


@pytest.mark.gpu
def test_cuda_takes_what_autocast_left_in_float32() -> None:
    tokens = batch_of((6, 9, 64)).to("cuda")
    q, k, v = (heads(tokens, 2, 32, seed).detach().to("cuda", torch.float32) for seed in range(3))
    with torch.autocast("cuda", torch.bfloat16):
        found = packed_attention(q, k, v.bfloat16(), tokens)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), packed_attention(q, k, v, tokens), atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_attention_with_a_bias_and_dropout_has_finite_gradients(dtype: torch.dtype) -> None:
    tokens = batch_of((1, 6, 9, 64)).to("cuda")
    q, k, v = (heads(tokens, 2, 32, seed).detach().to("cuda", dtype).requires_grad_() for seed in range(3))
    bias = torch.randn(2, 127, device="cuda", dtype=dtype, requires_grad=True)
    output = packed_attention(q, k, v, tokens, dropout=0.1, bias=bias)
    for gradient in torch.autograd.grad(output.sum(), (q, k, v, bias)):
        assert torch.isfinite(gradient).all()
