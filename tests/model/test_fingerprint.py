"""A model's fingerprint changes with everything that changes its embeddings, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import sentences, small_model, small_model_folder, small_tokenizer
from torch import nn

from likewise import CrossEncoder, SentenceTransformer
from likewise.engine.reduced_linear import REDUCED, multiply_in
from likewise.model.fingerprint import quick_key
from likewise.models import BoW, Dense, Normalize, Pooling, Router, StaticEmbedding

TEXTS = sentences(12)


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return small_model(tmp_path, dropout=False)


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight": lambda model: next(model.parameters()).detach()[0].add_(1e-3),
    "a pooling mode": lambda model: setattr(model[1], "modes", ("cls",)),
    "the prompt in pooling": lambda model: model.set_pooling_include_prompt(False),
    "a module more": lambda model: model.append(Normalize()),
    "an activation": lambda model: model.append(Dense(32, 32, activation_function=nn.LeakyReLU(0.1))),
    "the limit of tokens": lambda model: setattr(model, "max_seq_length", 7),
    "lower case": lambda model: setattr(model[0].tokenization, "do_lower_case", True),
    "a token more": lambda model: model.tokenizer.add_tokens(["xyzzy"]),
    "the side that is cut": lambda model: setattr(model.tokenizer, "truncation_side", "left"),
    "a prompt's text": lambda model: model.prompts.__setitem__("query", "a "),
    "the default prompt": lambda model: setattr(model, "default_prompt_name", "query"),
    "truncate_dim": lambda model: setattr(model, "truncate_dim", 8),
    "similarity": lambda model: setattr(model, "similarity_fn_name", "dot"),
    "fewer layers": lambda model: setattr(
        model[0].auto_model.encoder, "layer", model[0].auto_model.encoder.layer[:1]
    ),
    "an epsilon": lambda model: setattr(model[0].auto_model.embeddings.LayerNorm, "eps", 1e-3),
    "a configuration": lambda model: setattr(model[0].auto_model.config, "hidden_act", "relu"),
    "a hook": lambda model: model[0].auto_model.register_forward_hook(lambda *call: None),
    "half precision": lambda model: model.half(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_embeddings_changes_the_fingerprint(name: str, model: Any) -> None:
    before, quick = model.fingerprint(), quick_key(model)
    CHANGES[name](model)
    assert model.fingerprint() != before
    assert quick_key(model) != quick


def test_changes_that_torch_does_not_count_are_seen(model: Any) -> None:
    weight = next(model.parameters())
    before, version = model.fingerprint(), weight._version
    weight.data[0].add_(1)
    assert weight._version == version
    changed = model.fingerprint()
    assert changed != before
    weight.detach().numpy()[1] = 7
    assert model.fingerprint() not in (before, changed)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "modernbert", "t5"])
def test_using_saving_and_loading_a_model_keep_its_fingerprint(architecture: str, tmp_path: Path) -> None:
    model = small_model(tmp_path, architecture)
    before, quick = model.fingerprint(), quick_key(model)
    model.encode(TEXTS)
    model.encode(TEXTS, output_value="token_embeddings", normalize_embeddings=True)
    model.tokenize(TEXTS[:3])
    model.train()
    model(model.tokenize(TEXTS[:3]))
    assert (model.fingerprint(), quick_key(model)) == (before, quick)
    model.save(str(tmp_path / "saved"), create_model_card=False)
    assert SentenceTransformer(str(tmp_path / "saved"), device="cpu").fingerprint() == before
    assert small_model(tmp_path, architecture, seed=1).fingerprint() != before


def test_modules_of_every_kind_have_one(tmp_path: Path) -> None:
    def made(route: str, vocabulary: list[str]) -> list[SentenceTransformer]:
        towers = {"query": list(small_model(tmp_path)), "document": list(small_model(tmp_path, seed=1))}
        torch.manual_seed(0)
        return [
            SentenceTransformer(modules=[Router(towers, default_route=route)], device="cpu"),
            SentenceTransformer(modules=[BoW(vocabulary)], device="cpu"),
            SentenceTransformer(
                modules=[StaticEmbedding(small_tokenizer().backend_tokenizer, embedding_dim=8)], device="cpu"
            ),
        ]

    once, again = ([model.fingerprint() for model in made("query", ["a", "cat"])] for _ in range(2))
    assert once == again
    other = [model.fingerprint() for model in made("document", ["cat", "a"])]
    assert [a == b for a, b in zip(once, other, strict=True)] == [False, False, True]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks for a name that transformers gives up
def test_adapters_that_are_used_count(model: Any) -> None:
    peft = pytest.importorskip("peft")
    plain = model.fingerprint()
    config = peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    model.add_adapter(config)
    used = model.fingerprint()
    model.encode(TEXTS)
    assert model.fingerprint() == used != plain
    model.disable_adapters()
    assert model.fingerprint() not in (used, plain)
    model.enable_adapters()
    assert model.fingerprint() == used


def test_layers_in_fewer_bits_count(model: Any) -> None:
    found = {model.fingerprint()}
    for kind in REDUCED:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                multiply_in(module, kind)
        found.add(model.fingerprint())
    assert len(found) == 1 + len(REDUCED)


def test_the_layer_that_is_taken_counts_and_being_used_does_not(model: Any) -> None:
    last = model.fingerprint()
    model[0]._output = ("hidden_states", 2)
    inner = model.fingerprint()
    assert inner != last
    model.encode(TEXTS[:2])
    assert model.fingerprint() == inner


def test_hooks_of_the_libraries_beneath_do_not_count(model: Any) -> None:
    before = model.fingerprint()
    model[0].auto_model.register_forward_hook(torch.nn.Identity())
    assert model.fingerprint() == before


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_decides_the_scores_of_a_reranker_counts(tmp_path: Path) -> None:
    folder = small_model_folder(tmp_path / "reranker", "bert", num_labels=1)
    model = CrossEncoder(folder, device="cpu", activation_fn=nn.LeakyReLU(0.5))
    found = [(model.fingerprint(), quick_key(model))]
    for name, value in (
        ("max_length", 7),
        ("truncation", "only_second"),
        ("activation_fn", nn.LeakyReLU(0.1)),
    ):
        setattr(model, name, value)
        found.append((model.fingerprint(), quick_key(model)))
    assert len({key for key, _ in found}) == 4
    assert len({quick for _, quick in found}) == 4


def test_the_quick_key_sees_buffers_and_tensors_without_a_counter(model: Any) -> None:
    model[1].register_buffer("scale", torch.ones(2))
    before = quick_key(model)
    model[1].scale.mul_(2)
    assert quick_key(model) != before
    with torch.inference_mode():
        model[1].scale = torch.ones(2)
        before = quick_key(model)
        model[1].scale.mul_(2)
        assert quick_key(model) != before


def test_pooling_alone_has_one_too() -> None:
    assert len(SentenceTransformer(modules=[Pooling(4)], device="cpu").fingerprint()) == 32
