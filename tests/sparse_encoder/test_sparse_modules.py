"""Modules of sparse models: against the reference, and to folders and back both ways."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small import sentences, small_model_folder, small_tokenizer
from sparse_common import apart, small_mlm_folder
from torch import nn

from likewise.engine import TokenBatch
from likewise.engine.vocabulary import TokenLogits
from likewise.modules import Pooling, Transformer
from likewise.sparse_encoder import SparseEncoder
from likewise.sparse_encoder.modules import (
    IDF,
    MLMTransformer,
    Router,
    SparseAutoEncoder,
    SparseStaticEmbedding,
    SpladePooling,
)

reference = pytest.importorskip("sentence_transformers")
TEXTS = sentences(12, seed=5)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dropout": 0.0},
    "electra": {"embedding_size": 32},
    "mpnet": {},
    "roberta": {},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_logits_of_an_architecture_pool_to_what_the_reference_gives(
    tmp_path: Path, architecture: str
) -> None:
    folder = small_mlm_folder(tmp_path, architecture, **ARCHITECTURES[architecture])
    ours = SparseEncoder(folder, device="cpu")
    assert ours[0].packs()  # type: ignore[operator]
    assert apart(ours.encode(TEXTS), reference.SparseEncoder(folder, device="cpu").encode(TEXTS)) < 2e-5


def test_an_unknown_head_runs_padded_to_the_same_numbers(tmp_path: Path, caplog: Any) -> None:
    folder = small_mlm_folder(tmp_path, "deberta-v2")
    ours = SparseEncoder(folder, device="cpu")
    found = ours.encode(TEXTS)
    assert apart(found, reference.SparseEncoder(folder, device="cpu").encode(TEXTS)) < 1e-5
    assert "not known what the head of DebertaV2ForMaskedLM computes" in caplog.text


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_training_gives_the_gradients_of_the_reference(
    tmp_path: Path, strategy: str, activation: str
) -> None:
    folder = small_mlm_folder(tmp_path)
    theirs = reference.SparseEncoder(
        modules=[
            reference.sparse_encoder.modules.MLMTransformer(folder),
            reference.sparse_encoder.modules.SpladePooling(strategy, activation),
        ],
        device="cpu",
    ).train()
    ours = SparseEncoder(
        modules=[MLMTransformer(folder), SpladePooling(strategy, activation)],  # type: ignore[arg-type]
        device="cpu",
    ).train()
    packed = ours({"tokens": ours.token_sequences(TEXTS).pack()})
    assert isinstance(packed["token_embeddings"], TokenLogits)
    expected = theirs(theirs.preprocess(TEXTS))["sentence_embedding"]
    assert apart(packed["sentence_embedding"], expected) < 2e-5
    assert apart(ours(dict(ours.tokenize(TEXTS)))["sentence_embedding"], expected) < 2e-5
    packed["sentence_embedding"].square().sum().backward()
    expected.square().sum().backward()
    found = {
        name.replace("auto_model.", "model."): p.grad
        for name, p in ours.named_parameters()
        if p.grad is not None
    }
    wanted = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    rounding = 1e-5 * max(
        float(gradient.abs().max()) for gradient in wanted.values()
    )  # some are 0 but for it
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=rounding)


def test_a_module_of_ones_own_gets_whole_padded_logits(tmp_path: Path) -> None:
    class Widest(nn.Module):
        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            features["sentence_embedding"] = features["token_embeddings"].amax(dim=1)
            return features

    model = SparseEncoder(modules=[MLMTransformer(small_mlm_folder(tmp_path)), Widest()], device="cpu")
    assert model({"tokens": model.token_sequences(TEXTS).pack()})["sentence_embedding"].shape == (12, 121)


def test_a_hook_on_the_model_sees_padded_batches(tmp_path: Path) -> None:
    model = SparseEncoder(small_mlm_folder(tmp_path), device="cpu")
    before, shapes = model.encode(TEXTS), []
    handle = model.transformers_model.register_forward_hook(
        lambda module, inputs, output: shapes.append(output.logits.ndim)
    )
    assert apart(model.encode(TEXTS), before) < 2e-5
    assert set(shapes) == {3}
    handle.remove()


def test_a_model_without_a_head_gets_one_over_its_input_embeddings_and_says_so(
    tmp_path: Path, caplog: Any
) -> None:
    module = MLMTransformer(small_model_folder(tmp_path))
    assert "has no weights for" in caplog.text
    model = module.auto_model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("normalize", [False, True])
def test_an_auto_encoder_computes_what_the_reference_does_step_by_step(normalize: bool) -> None:
    torch.manual_seed(0)
    ours = SparseAutoEncoder(8, 32, k=3, k_aux=6, normalize=normalize, dead_threshold=3).train()
    theirs = reference.sparse_encoder.modules.SparseAutoEncoder(8, 32, 3, 6, normalize, 3).train()
    theirs.load_state_dict(ours.state_dict())
    for seed in range(4):
        given = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
        found = ours({"sentence_embedding": given.clone()})
        expected = theirs({"sentence_embedding": given.clone()})
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, msg=key)
        assert torch.equal(ours.stats_last_nonzero, theirs.stats_last_nonzero)
    with torch.inference_mode():
        for dims in (None, 1):
            found, expected = (
                module({"sentence_embedding": given.clone()}, max_active_dims=dims)
                for module in (ours, theirs)
            )
            torch.testing.assert_close(found["sentence_embedding"], expected["sentence_embedding"])


def test_a_static_embedding_weighs_each_distinct_token_once() -> None:
    tokenizer = small_tokenizer()
    weight = torch.rand(len(tokenizer))
    ours, theirs = (
        kind(copy.deepcopy(tokenizer), weight.clone())
        for kind in (SparseStaticEmbedding, reference.sparse_encoder.modules.SparseStaticEmbedding)
    )
    texts = [*TEXTS, "cat cat cat"]
    found = ours({"tokens": ours.token_sequences(texts).pack()})["sentence_embedding"]
    expected = theirs(theirs.preprocess(texts))["sentence_embedding"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours(ours.tokenize(texts))["sentence_embedding"], expected)
    assert (found[-1] != 0).sum() == 1
    found.sum().backward()
    assert ours.weight.grad is not None


def test_weights_come_from_a_file_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "idf.json"
    path.write_text(json.dumps({"cat": 2.5, "dog": 1.0, "nowhere": 3.0}))
    module = IDF.from_json(str(path), small_tokenizer(), frozen=True)
    vocabulary = module.tokenizer.get_vocab()
    assert module.weight[vocabulary["cat"]] == 2.5
    assert module.weight.sum() == 3.5
    assert not module.weight.requires_grad


def models(tmp_path: Path) -> dict[str, SparseEncoder]:
    folder = small_mlm_folder(tmp_path / "mlm")
    splade = [MLMTransformer(folder), SpladePooling("sum", "log1p_relu")]
    static = SparseStaticEmbedding(small_tokenizer(), torch.rand(121))
    csr = [
        Transformer(small_model_folder(tmp_path / "bert")),
        Pooling(32, "mean"),
        SparseAutoEncoder(32, 64, 4, 8),
    ]
    router = Router.for_query_document(query_modules=[static], document_modules=splade)
    return {
        "splade": SparseEncoder(modules=splade, device="cpu"),
        "csr": SparseEncoder(modules=csr, device="cpu"),
        "router": SparseEncoder(modules=[router], device="cpu", similarity_fn_name="cosine"),
    }


@pytest.mark.parametrize("kind", ["splade", "csr", "router"])
def test_a_folder_goes_to_the_reference_and_back(tmp_path: Path, kind: str) -> None:
    ours = models(tmp_path)[kind]
    expected = [encode(TEXTS) for encode in (ours.encode_query, ours.encode_document)]
    ours.save(str(tmp_path / "ours"))
    theirs = reference.SparseEncoder(str(tmp_path / "ours"), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    for model in (
        theirs,
        SparseEncoder(str(tmp_path / "theirs"), device="cpu"),
        SparseEncoder(str(tmp_path / "ours"), device="cpu"),
    ):
        found = [encode(TEXTS) for encode in (model.encode_query, model.encode_document)]
        assert max(apart(a, b) for a, b in zip(found, expected, strict=True)) < 2e-5
        assert model.similarity_fn_name == ours.similarity_fn_name
        assert model.max_active_dims == ours.max_active_dims
    assert (tmp_path / "ours" / "README.md").exists()


def test_a_dense_folder_gets_a_new_auto_encoder_of_the_references_sizes(tmp_path: Path, caplog: Any) -> None:
    from small import small_model

    small_model(tmp_path).save(str(tmp_path / "dense"))
    for folder, k in (("dense", 8), ("bert-0", 32)):
        module = list(SparseEncoder(str(tmp_path / folder), device="cpu"))[-1]
        assert isinstance(module, SparseAutoEncoder)
        assert (module.input_dim, module.hidden_dim, module.k) == (32, 128, k)
    assert "a new SparseAutoEncoder is put behind it" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpladePooling("mean"), "`pooling_strategy` must be 'max' or 'sum', but is 'mean'"),  # type: ignore[arg-type]
        (
            lambda: SpladePooling(activation_function="gelu"),
            "`activation_function` must be 'relu' or 'log1p_relu'",
        ),  # type: ignore[arg-type]
        (lambda: SpladePooling(chunk_size=1.5), "`chunk_size` must be a whole number"),  # type: ignore[arg-type]
        (lambda: SparseAutoEncoder(8, 16, k=17), r"`k` must be at least 1 and at most `hidden_dim` \(16\)"),
        (lambda: SparseAutoEncoder(8, 16, k=2), "`k_aux` must be at least 0 and at most"),
        (lambda: SparseStaticEmbedding(small_tokenizer(), torch.ones(3)), "a number for each of the"),
    ],
)
def test_what_a_module_cannot_be_is_refused_in_words(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_training_refuses_four_times_k_beyond_the_latents() -> None:
    module = SparseAutoEncoder(4, 8, k=3, k_aux=2)
    with pytest.raises(ValueError, match="Choose `k` of at most 2"):
        module({"sentence_embedding": torch.randn(2, 4)})


def test_padded_logits_in_the_features_are_pooled_too() -> None:
    golden = torch.tensor([[[1.0, -2.0], [3.0, 0.5], [9.0, 9.0]]])
    features = {"token_embeddings": golden, "attention_mask": torch.tensor([[1, 1, 0]])}
    found = SpladePooling()(features)["sentence_embedding"]
    torch.testing.assert_close(found, torch.tensor([[4.0, 1.5]]).log())
    empty = TokenBatch(torch.zeros(0).long(), torch.tensor([0]), torch.tensor([0]))
    found = SpladePooling()({"tokens": empty, "token_embeddings": torch.zeros(0, 2)})["sentence_embedding"]
    assert torch.equal(found, torch.zeros(1, 2))
