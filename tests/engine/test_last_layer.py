"""For those who read one token of each sequence: the same numbers and gradients as of the whole last layer."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from test_architectures import PADDED, build, tokens_of
from torch import Tensor, nn

from likewise.engine import TokenBatch
from likewise.engine.encoder import PackedEncoder
from likewise.engine.last_layer import ARCHITECTURES, Reading

READING = {
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "electra",
    "distilbert",
    "modernbert",
    "eurobert",
    "qwen3",
    "qwen3 with windows",
    "llama",
    "mpnet",
}
PLACES = ("first", "second to last", "last")


def rows_of(tokens: Any, place: str) -> Tensor:
    rows: Tensor = tokens.starts
    if place != "first":
        rows = rows + tokens.lengths - 1
    if place == "second to last":
        rows = torch.maximum(rows - 1, tokens.starts)
    return rows


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def computed_rows(model: Any) -> list[int]:
    """The tokens that each call of a linear layer is for, from now on."""
    counts: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        counts.append(inputs[0].numel() // inputs[0].shape[-1])

    count.__module__ = "torch"  # as the hooks of torch's own tools, which keep the packed way
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__:
            module.register_forward_hook(count)
    return counts


def check(encoder: PackedEncoder, tokens: Any, place: str) -> None:
    """What is read equals the rows of the whole layer, and so do all gradients, in float64."""
    encoder.model.double().zero_grad()
    model, rows = encoder.model, rows_of(tokens, place)
    whole = PackedEncoder(copy.deepcopy(model))
    found, expected = encoder.read(tokens, rows), whole(tokens)[0].index_select(0, rows)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    weights = torch.randn(found.shape, dtype=found.dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), whole.model.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(READING))
def test_what_is_read_equals_the_whole_layer_forward_and_backward(name: str, place: str) -> None:
    encoder, tokens = PackedEncoder(build(name)), tokens_of()
    encoder.read(tokens, tokens.starts)  # the trials
    check(encoder, tokens, place)
    counts = computed_rows(encoder.model)
    encoder.read(tokens, rows_of(tokens, place))
    assert counts[-1] == len(tokens), "the last norm is for the tokens that are read"
    assert max(counts) >= tokens.num_tokens


@pytest.mark.parametrize("name", ["albert", "nomic", "gemma3", *PADDED])
def test_other_architectures_compute_the_whole_layer(name: str) -> None:
    check(PackedEncoder(build(name)), tokens_of(), "last")


@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3", "mpnet"])
@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (5, 1, 40)])
def test_sequences_of_one_token(name: str, lengths: tuple[int, ...]) -> None:
    encoder = PackedEncoder(build(name))
    for place in PLACES:
        check(encoder, tokens_of(lengths), place)


@pytest.mark.parametrize("name", ["bert", "qwen3", "mpnet", "deberta"])
def test_an_empty_batch_and_an_empty_sequence(name: str) -> None:
    encoder = PackedEncoder(build(name))
    none = tokens_of(())
    assert encoder.read(none, none.starts).shape == (0, 32)
    some = tokens_of((0, 4, 6))
    found = encoder.read(some, some.starts)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[1:], encoder(some)[0].index_select(0, some.starts[1:]))


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet", "qwen3"])
def test_a_layer_around_the_keys_is_called(name: str) -> None:
    """As adapters do it: another module stands in the place of the linear layer, and adds to it."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.more = nn.Linear(base.in_features, base.out_features)

        def forward(self, hidden: Tensor) -> Tensor:
            found: Tensor = self.base(hidden) + self.more(hidden)
            return found

    encoder, tokens = PackedEncoder(build(name)), tokens_of()
    encoder.read(tokens, tokens.starts)
    last = {
        "bert": "encoder.layer.1.attention.self",
        "distilbert": "transformer.layer.1.attention",
        "mpnet": "encoder.layer.1.attention.attn",
        "qwen3": "layers.1.self_attn",
    }
    attention = encoder.model.get_submodule(last[name])
    for part, module in list(attention.named_children()):
        if isinstance(module, nn.Linear):
            setattr(attention, part, Adapted(module))
    for place in PLACES:
        check(encoder, tokens, place)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_an_adapter_of_peft_on_the_last_layer() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["query", "key", "value", "dense"], r=2, init_lora_weights=False)
    encoder = PackedEncoder(peft.get_peft_model(build("bert"), config).eval())
    counts = computed_rows(encoder.model)
    check(encoder, tokens_of(), "first")
    counts.clear()
    encoder.read(tokens_of(), tokens_of().starts)
    assert counts[-1] == len(tokens_of())


def test_a_pruned_key_layer_is_asked_for_its_keys() -> None:
    from torch.nn.utils import prune

    encoder, tokens = PackedEncoder(build("bert")), tokens_of()
    encoder.read(tokens, tokens.starts)
    key = encoder.model.encoder.layer[-1].attention.self.key
    prune.l1_unstructured(key, "weight", amount=0.5)
    with torch.no_grad():
        key.weight_orig.mul_(2.0)  # what a call of the layer takes up, and a look at its weight does not
    expected = encoder(tokens)[0].index_select(0, tokens.starts)
    torch.testing.assert_close(encoder.read(tokens, tokens.starts), expected, atol=2e-6, rtol=2e-6)


def test_a_hook_inside_sees_padded_batches() -> None:
    encoder, tokens = PackedEncoder(build("bert")), tokens_of()
    expected = encoder.read(tokens, tokens.starts)
    shapes: list[tuple[int, ...]] = []
    layer = encoder.model.encoder.layer[-1]
    handle = layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    found = encoder.read(tokens, tokens.starts)
    handle.remove()
    assert shapes == [(len(tokens), tokens.longest, 32)]
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)


def test_a_layer_that_is_taken_off_or_put_on_later() -> None:
    encoder, tokens = PackedEncoder(build("bert")), tokens_of()
    encoder.read(tokens, tokens.starts)
    layers = encoder.model.encoder.layer
    encoder.model.encoder.layer = nn.ModuleList([layers[1], layers[0]])
    check(encoder, tokens, "first")
    encoder.model.encoder.layer = nn.ModuleList([layers[0]])
    check(encoder, tokens, "first")
    encoder.model.encoder.layer = layers
    check(encoder, tokens, "first")


def test_a_layer_that_computes_something_else_is_caught() -> None:
    class Louder(transformers.models.bert.modeling_bert.BertLayer):
        """Twice what BERT's layer gives."""

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().forward(*args, **kwargs)

    model = build("bert")
    model.encoder.layer[-1].__class__ = Louder
    check(PackedEncoder(model), tokens_of(), "first")
    Louder.__module__ = "transformers.models.louder"
    model = build("bert")
    model.encoder.layer[-1].__class__ = Louder
    check(PackedEncoder(model), tokens_of(), "first")


@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3"])
def test_copies_and_pickles_read_with_their_own_weights(name: str) -> None:
    encoder, tokens = PackedEncoder(build(name)), tokens_of()
    expected = encoder.read(tokens, tokens.starts).detach()
    copies = [PackedEncoder(copy.deepcopy(encoder.model)), pickle.loads(pickle.dumps(encoder))]
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.add_(0.1)
    for other in copies:
        torch.testing.assert_close(other.read(tokens, tokens.starts), expected)
        torch.testing.assert_close(other(tokens)[0].index_select(0, tokens.starts), expected)


def test_dropout_keeps_what_is_expected_of_a_token() -> None:
    model = build("bert").train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    attention = model.encoder.layer[-1].attention.self
    attention.dropout.p = 0.5
    encoder, tokens = PackedEncoder(model), tokens_of((6, 9))
    seen: list[Tensor] = []
    dense = model.encoder.layer[-1].attention.output.dense
    forward = dense.forward

    def watched(attended: Tensor) -> Tensor:
        seen.append(attended.detach())
        return forward(attended)

    watched.__module__ = "torch"
    dense.forward = watched
    encoder.read(tokens, tokens.starts)  # the trials
    attention.dropout.p = 0.0
    encoder.read(tokens, tokens.starts)
    expected = seen[-1]
    attention.dropout.p = 0.5
    seen.clear()
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(4000):
            encoder.read(tokens, tokens.starts)
    draws = torch.stack(seen)
    assert draws.std(0).min() > 1e-3
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpoints in (False, True):
        model = without_dropout(build("bert")).train()
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        tokens = tokens_of()
        PackedEncoder(model).read(tokens, tokens.starts).square().sum().backward()
        gradients.append([p.grad for p in model.encoder.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", sorted(READING))
def test_half_precision_reads_too(name: str) -> None:
    model, tokens = build(name), tokens_of()
    expected = PackedEncoder(copy.deepcopy(model))(tokens)[0].index_select(0, tokens.starts)
    with torch.autocast("cpu", torch.bfloat16):
        found = PackedEncoder(model).read(tokens, tokens.starts)
    torch.testing.assert_close(found.float(), expected, atol=0.15, rtol=0.1)
    found.float().sum().backward()
    half = PackedEncoder(build(name).to(torch.bfloat16)).read(tokens, tokens.starts)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.3, rtol=0.1)


def test_a_reading_knows_what_its_tokens_see() -> None:
    tokens = tokens_of((2, 4))
    reading = Reading.of(tokens, torch.tensor([1, 3]))  # the last of the first, the second of the second
    assert reading.visible(False, None).tolist() == [[True, True, False, False], [True] * 4]
    assert reading.visible(True, None).tolist() == [[True, True, False, False], [True, True, False, False]]
    assert reading.visible(False, 2).tolist() == [[True, True, False, False], [True, True, True, False]]
    assert reading.visible(True, 1).tolist() == [[False, True, False, False], [False, True, False, False]]


def test_every_known_architecture_is_tested() -> None:
    assert ARCHITECTURES.keys() - {"qwen2"} <= READING


@pytest.mark.parametrize("name", ["bert", "mpnet", "modernbert", "qwen3 with windows"])
def test_one_long_sequence_among_short_ones_does_not_fill_them_all_up(name: str) -> None:
    lengths = torch.tensor([1, 2, 2, 3, 3, 4, 4, 5, 30])
    ids = torch.randint(5, 20, (int(lengths.sum()),), generator=torch.Generator().manual_seed(0))
    tokens = TokenBatch(ids, lengths, torch.arange(len(lengths)))
    blocks = Reading.of(tokens, tokens.starts).blocks
    assert blocks == ((0, 3, 2), (3, 8, 5), (8, 9, 30))
    assert sum((end - first) * longest for first, end, longest in blocks) <= 2 * tokens.num_tokens
    encoder = PackedEncoder(build(name))
    encoder.read(tokens, tokens.starts)  # the trials
    for place in PLACES:
        check(encoder, tokens, place)
