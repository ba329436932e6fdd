"""For every architecture: packed equals padded, forward and backward, or the engine pads and says why."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
import transformers

from likewise.engine import TokenSequences
from likewise.engine.attention import NAME
from likewise.engine.encoder import PackedEncoder

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROBERTA = {"pad_token_id": 1, "bos_token_id": 0}
GEMMA = {
    "head_dim": 8,
    "num_key_value_heads": 2,
    "use_bidirectional_attention": True,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
}
MODERN = {
    "num_hidden_layers": 4,
    "local_attention": 6,
    "global_attn_every_n_layers": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {}),
    "roberta": ("RobertaModel", ROBERTA),
    "xlm-roberta": ("XLMRobertaModel", ROBERTA),
    "camembert": ("CamembertModel", ROBERTA),
    "electra": ("ElectraModel", {"embedding_size": 16}),
    "albert": ("AlbertModel", {"embedding_size": 16}),
    "distilbert": ("DistilBertModel", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "modernbert": ("ModernBertModel", MODERN),
    "nomic": ("NomicBertModel", {}),
    "eurobert": ("EuroBertModel", {"num_key_value_heads": 2, "mask_token_id": 3}),
    "jina-v3": ("JinaEmbeddingsV3Model", {}),
    "qwen3": ("Qwen3Model", {"num_key_value_heads": 2, "head_dim": 8}),
    "qwen3 with windows": (
        "Qwen3Model",
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "llama": ("LlamaModel", {"num_key_value_heads": 2}),
    "gemma3": ("Gemma3TextModel", GEMMA),
    "mpnet": ("MPNetModel", {}),
}
PADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "deberta": ("DebertaV2Model", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "t5": ("T5EncoderModel", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}),
    "megatron": ("MegatronBertModel", {}),
    "rembert": ("RemBertModel", {"input_embedding_size": 16, "output_embedding_size": 32}),
}
LENGTHS = (12, 3, 20, 7, 7, 1, 20)


def build(name: str) -> Any:
    class_name, settings = (PACKED | PADDED)[name]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    return model_class(model_class.config_class(**SMALL | settings)).eval()


def tokens_of(lengths: tuple[int, ...] = LENGTHS) -> Any:
    generator = torch.Generator().manual_seed(1)
    return TokenSequences.from_lists(
        [torch.randint(4, 97, (length,), generator=generator).tolist() for length in lengths]
    ).pack()


def padded(model: Any, tokens: Any) -> torch.Tensor:
    """The same batch through the untouched model, padded, by the plainest attention."""
    model.set_attn_implementation("eager")
    mask = tokens.padded_mask()
    ids = tokens.pad(tokens.input_ids, model.config.pad_token_id)
    return tokens.unpad(model(input_ids=ids, attention_mask=mask)[0], mask)


@pytest.mark.parametrize("name", PACKED)
def test_packed_equals_padded_forward_and_backward(name: str) -> None:
    model, tokens = build(name), tokens_of()
    reference = copy.deepcopy(model)
    encoder = PackedEncoder(model)
    assert encoder.packs(), encoder.reason
    found, expected = encoder(tokens)[0], padded(reference, tokens)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)
    weights = torch.randn(found.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (parameter_name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, parameter_name
        else:
            assert ours.grad is not None
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", PADDED)
def test_what_cannot_be_packed_is_padded_and_says_why(name: str) -> None:
    model, tokens = build(name), tokens_of()
    reference = copy.deepcopy(model)
    encoder = PackedEncoder(model)
    torch.testing.assert_close(encoder(tokens)[0], padded(reference, tokens), atol=5e-6, rtol=1e-5)
    assert not encoder.packs()
    assert type(model).__name__ in encoder.reason
    assert model.config._attn_implementation != NAME


@pytest.mark.parametrize("name", ["bert", "modernbert", "mpnet", "qwen3", "deberta"])
def test_every_layer_can_be_had(name: str) -> None:
    model, tokens = build(name), tokens_of()
    layers = PackedEncoder(model)(tokens, output_hidden_states=True)
    assert len(layers) == model.config.num_hidden_layers + 1
    assert all(layer.shape == (tokens.num_tokens, 32) for layer in layers)


def test_token_types_survive_for_pairs_of_texts() -> None:
    model = build("bert")
    sequences = TokenSequences.from_lists([[5, 6, 7, 8], [9, 10]], [[0, 0, 1, 1], [0, 1]])
    tokens = sequences.pack()
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    mask = tokens.padded_mask()
    types = tokens.pad(tokens.token_type_ids)
    expected = reference(input_ids=tokens.pad(tokens.input_ids), attention_mask=mask, token_type_ids=types)[0]
    torch.testing.assert_close(
        PackedEncoder(model)(tokens)[0], tokens.unpad(expected, mask), atol=5e-6, rtol=1e-5
    )
    plain = TokenSequences.from_lists([[5, 6, 7, 8], [9, 10]]).pack()
    assert not torch.allclose(PackedEncoder(model)(plain)[0], tokens.unpad(expected, mask), atol=1e-3)


def test_a_padded_batch_still_works_under_the_packed_attention() -> None:
    model, tokens = build("bert"), tokens_of()
    expected = padded(copy.deepcopy(model), tokens)
    assert PackedEncoder(model).packs()
    mask = tokens.padded_mask()
    found = model(input_ids=tokens.pad(tokens.input_ids), attention_mask=mask)[0]
    torch.testing.assert_close(tokens.unpad(found, mask), expected, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["modernbert", "qwen3 with windows", "gemma3"])
def test_rows_without_a_mask_keep_their_windows(name: str) -> None:
    model = build(name)
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    ids = torch.randint(4, 97, (2, 20))
    assert PackedEncoder(model).packs()
    expected = reference(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    torch.testing.assert_close(model(input_ids=ids)[0], expected, atol=5e-6, rtol=1e-5)


def test_a_model_that_does_not_heed_its_attention_is_caught_and_padded() -> None:
    class Deaf(transformers.BertModel):
        """Takes any attention's name, and never calls it."""

        def forward(
            self, input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any
        ) -> Any:
            name = self.config._attn_implementation
            self.config._attn_implementation = "eager"
            try:
                return super().forward(
                    input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids
                )
            finally:
                self.config._attn_implementation = name

    torch.manual_seed(0)
    model = Deaf(transformers.BertConfig(**SMALL)).eval()
    tokens = tokens_of()
    expected = padded(copy.deepcopy(model), tokens)
    encoder = PackedEncoder(model)
    torch.testing.assert_close(encoder(tokens)[0], expected, atol=5e-6, rtol=1e-5)
    assert "other numbers" in encoder.reason


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_recomputes_the_packed_layers() -> None:
    plain, checkpointed = build("bert"), build("bert")
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    tokens = tokens_of()
    gradients = []
    for model in (plain, checkpointed):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        PackedEncoder(model)(tokens)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_trial_leaves_the_random_state_and_the_mode_alone() -> None:
    model = build("bert").train()
    before = torch.get_rng_state()
    assert PackedEncoder(model).packs()
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_half_precision_runs_packed(name: str) -> None:
    model = build(name).to(torch.bfloat16)
    encoder = PackedEncoder(model)
    assert encoder.packs(), encoder.reason
    found = encoder(tokens_of())[0]
    assert found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", PACKED)
def test_the_first_batch_may_come_under_autocast(name: str) -> None:
    model, tokens = build(name).train(), tokens_of()
    encoder = PackedEncoder(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(tokens)[0]
    assert encoder.packs(), encoder.reason
    found.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [*PACKED, *PADDED])
def test_the_last_of_all_layers_is_the_output(name: str) -> None:
    encoder, tokens = PackedEncoder(build(name)), tokens_of()
    torch.testing.assert_close(encoder(tokens, output_hidden_states=True)[-1], encoder(tokens)[0])


@pytest.mark.parametrize("name", ["bert", "modernbert", "mpnet", "deberta"])
def test_sequences_without_tokens_are_passed_over(name: str) -> None:
    model = build(name)
    encoder = PackedEncoder(model)
    some, none = tokens_of((0, 4, 0, 6)), tokens_of((0, 0))
    found = encoder(some)[0]
    torch.testing.assert_close(found, encoder(tokens_of((4, 6)))[0])
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert encoder(none)[0].shape == (0, 32)
    assert len(encoder(none, output_hidden_states=True)) == model.config.num_hidden_layers + 1
    assert encoder(tokens_of(()))[0].shape == (0, 32)


def test_mpnet_knows_distances_far_beyond_its_exact_buckets() -> None:
    torch.manual_seed(0)
    config = transformers.MPNetConfig(**SMALL | {"max_position_embeddings": 400})
    model, tokens = transformers.MPNetModel(config).eval(), tokens_of((2, 150, 300))
    reference = copy.deepcopy(model)
    torch.testing.assert_close(
        PackedEncoder(model)(tokens)[0], padded(reference, tokens), atol=1e-5, rtol=1e-5
    )


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_layer_that_is_recomputed_draws_the_same_dropout(reentrant: bool) -> None:
    gradients = []
    for checkpoints in (False, True):
        model = build("bert").train()
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        encoder = PackedEncoder(model)
        assert encoder.packs()
        torch.manual_seed(5)
        encoder(tokens_of())[0].square().sum().backward()
        gradients.append([p.grad for p in model.encoder.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_attention_of_the_users_choice_is_kept_and_padded() -> None:
    model, tokens = build("bert"), tokens_of()
    model.set_attn_implementation("eager")
    encoder = PackedEncoder(model, packed=False)
    torch.testing.assert_close(encoder(tokens)[0], padded(copy.deepcopy(model), tokens))
    assert not encoder.packs()
    assert "asked for" in encoder.reason
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma3"])
def test_decoders_keep_no_cache(name: str) -> None:
    model = build(name)
    calls: list[dict[str, Any]] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True)
    encoder = PackedEncoder(model)
    encoder(tokens_of())
    assert calls
    assert all(call["use_cache"] is False for call in calls)


def test_a_model_of_another_process_knows_the_packed_attention() -> None:
    encoder = PackedEncoder(build("bert"))
    expected = encoder(tokens_of())[0]
    command = (
        "import pickle, sys; encoder, tokens = pickle.load(sys.stdin.buffer); "
        "assert encoder.packs(); pickle.dump(encoder(tokens)[0].detach(), sys.stdout.buffer)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        input=pickle.dumps((encoder, tokens_of())),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    torch.testing.assert_close(pickle.loads(done.stdout), expected.detach())
