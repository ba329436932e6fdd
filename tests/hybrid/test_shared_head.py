"""A masked language model's head on the transformer that others share: the numbers of each model alone, from one pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from small import sentences, small_model_folder

from likewise import (
    HybridEncoder,
    MultiVectorEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)
from likewise.engine.embed import Embed
from likewise.engine.vocabulary import TokenLogits
from likewise.hybrid import HybridLoss
from likewise.losses import MultipleNegativesRankingLoss
from likewise.modules import Dense, Normalize, Pooling, Transformer
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss

TEXTS = sentences(30, 1, 25)
TRAINERS: dict[str, Any] = {
    "dense": (SentenceTransformerTrainer, SentenceTransformerTrainingArguments),
    "sparse": (SparseEncoderTrainer, SparseEncoderTrainingArguments),
}
QUERIES, DOCUMENTS = (sentences(6, seed) for seed in (2, 3))
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dropout": 0.0},
    "mpnet": {},
    "roberta": {},
}


def small_mlm_folder(path: Path, architecture: str = "bert", seed: int = 0, **config: Any) -> str:
    settings = {"initializer_range": 0.3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return small_model_folder(path, architecture, seed, "ForMaskedLM", **settings | config)


def models_of(folder: str) -> dict[str, Any]:
    """Three models of a folder with a masked language model; each loads it by itself."""
    torch.manual_seed(0)
    tokens = [Transformer(folder), Dense(32, 8, module_input_name="token_embeddings")]
    normalised = Normalize("token_embeddings", "token_embeddings")
    return {
        "dense": SentenceTransformer(modules=[Transformer(folder), Pooling(32)], device="cpu"),
        "sparse": SparseEncoder(folder, device="cpu"),
        "late": MultiVectorEncoder(modules=[*tokens, normalised], device="cpu"),
    }


def losses_of(models: Any) -> dict[str, Any]:
    return {
        "dense": MultipleNegativesRankingLoss(models["dense"]),
        "sparse": SpladeLoss(
            models["sparse"], SparseMultipleNegativesRankingLoss(models["sparse"]), 0.1, 0.1
        ),
        "late": MultiVectorMultipleNegativesRankingLoss(models["late"]),
    }


def columns_of(model: HybridEncoder) -> list[dict[str, Any]]:
    return [dict(model["dense"].tokenize(texts)) for texts in (QUERIES, DOCUMENTS)]


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    np.testing.assert_allclose(found["dense"], expected["dense"], atol=1e-6)
    torch.testing.assert_close(
        found["sparse"].to_dense(), expected["sparse"].to_dense(), atol=5e-6, rtol=1e-5
    )
    torch.testing.assert_close(found["late"], expected["late"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_gives_what_it_gave_alone_from_one_pass(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = models_of(small_mlm_folder(tmp_path, architecture, **ARCHITECTURES[architecture]))
    expected = {name: model.encode_document(TEXTS) for name, model in models.items()}
    model = HybridEncoder(**models)
    assert models["dense"][0] is models["late"][0]
    assert models["dense"][0].auto_model.embeddings is models["sparse"][0].encoded.embeddings
    check_equal(model.encode_document(TEXTS), expected)
    assert models["sparse"][0].packs()
    assert models["dense"][0].encoder.packs()
    kind, seen = type(models["dense"][0].encoder), []
    run = kind.__call__
    monkeypatch.setattr(
        kind, "__call__", lambda self, tokens, *a, **k: seen.append(len(tokens)) or run(self, tokens, *a, **k)
    )
    check_equal(model.encode_document(TEXTS), expected)
    assert sum(seen) == len(TEXTS)
    monkeypatch.undo()
    check_equal({name: each.encode_document(TEXTS) for name, each in models.items()}, expected)


@pytest.mark.parametrize("order", [("sparse", "dense", "late"), ("late", "sparse", "dense")])
def test_the_order_of_the_models_changes_nothing(tmp_path: Path, order: tuple[str, ...]) -> None:
    models = models_of(small_mlm_folder(tmp_path))
    expected = {name: models[name].encode_query(TEXTS) for name in order}
    model = HybridEncoder(**{name: models[name] for name in order})
    check_equal(model.encode_query(TEXTS), expected)
    pool = model.start_multi_process_pool(["cpu"])
    check_equal(model.encode_query(TEXTS, pool=pool, chunk_size=7), expected)
    model.stop_multi_process_pool(pool)


def test_no_logits_of_all_tokens_are_made_whichever_form_the_texts_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = models_of(small_mlm_folder(tmp_path))
    expected = models["sparse"].encode(TEXTS).to_dense()
    model = HybridEncoder(**models)
    models["sparse"][0].packs()  # the trial makes some
    models["sparse"].splade_pooling_chunk_size = 3

    def refused(logits: TokenLogits) -> torch.Tensor:
        raise AssertionError("whole")

    monkeypatch.setattr(TokenLogits, "whole", refused)
    packed = model({"tokens": model.token_sequences(TEXTS).pack()})
    padded = model(dict(models["dense"].tokenize(TEXTS)))
    for found in (packed, padded):
        embeddings = found["hybrid_embedding"].by_name["sparse"]
        torch.testing.assert_close(embeddings.detach(), expected, atol=5e-6, rtol=1e-5)


def test_models_from_their_own_folders_share_again(tmp_path: Path) -> None:
    models = models_of(small_mlm_folder(tmp_path / "mlm"))
    expected = HybridEncoder(**models).encode(TEXTS)
    loaded = {}
    for name, model in models.items():
        model.save_pretrained(str(tmp_path / name), create_model_card=False)
        loaded[name] = type(model)(str(tmp_path / name), device="cpu")
    check_equal({name: model.encode(TEXTS) for name, model in loaded.items()}, expected)
    check_equal(HybridEncoder(**loaded).encode(TEXTS), expected)
    assert loaded["dense"][0].auto_model.encoder is loaded["sparse"][0].encoded.encoder


def test_a_head_that_is_not_known_runs_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = models_of(small_mlm_folder(tmp_path, "deberta-v2"))
    expected = {name: model.encode(TEXTS) for name, model in models.items()}
    check_equal(HybridEncoder(**models).encode(TEXTS), expected)
    assert "not known what the head of DebertaV2ForMaskedLM computes" in caplog.text


def test_a_hook_on_the_masked_language_model_sees_it_run(tmp_path: Path) -> None:
    models = models_of(small_mlm_folder(tmp_path))
    model = HybridEncoder(**models)
    expected, seen = model.encode(TEXTS), []
    handle = models["sparse"][0].auto_model.register_forward_hook(
        lambda module, inputs, output: seen.append(output.logits.shape[0])
    )
    check_equal(model.encode(TEXTS), expected)
    assert sum(seen) == len(TEXTS)
    handle.remove()


def test_what_cannot_be_shared_is_refused_in_words(tmp_path: Path) -> None:
    folder = small_mlm_folder(tmp_path / "one")
    other = models_of(small_mlm_folder(tmp_path / "two", seed=1))
    sparse = SparseEncoder(folder, device="cpu")
    with pytest.raises(
        ValueError, match=r"that of `dense` differs in its weights.*\. Build it of the folder of the one"
    ):
        HybridEncoder(dense=other["dense"], sparse=sparse)
    with pytest.raises(ValueError, match=r"that of `other` differs in its weights.*\. Build it on the first"):
        HybridEncoder(sparse=sparse, other=other["sparse"])
    shorter = [Transformer(folder, max_seq_length=7), Pooling(32)]
    with pytest.raises(ValueError, match=r"that of `dense` differs in its tokenizer"):
        HybridEncoder(sparse=sparse, dense=SentenceTransformer(modules=shorter, device="cpu"))
    layer = {"text": {"method": "forward", "method_output_name": ["hidden_states", 1]}}
    inner = [Transformer(folder, modality_config=layer), Pooling(32)]
    with pytest.raises(ValueError, match=r"`dense` must begin with a Transformer that gives its last layer"):
        HybridEncoder(sparse=sparse, dense=SentenceTransformer(modules=inner, device="cpu"))


# Training


@pytest.mark.parametrize("recompute_tokens", [None, 15])
def test_the_loss_and_its_gradients_are_the_sum_of_each_alone(
    tmp_path: Path, recompute_tokens: int | None
) -> None:
    # In double precision: where two tokens are nearly alike, rounding decides which is the largest, and gets the gradient.
    alone = {name: model.double() for name, model in models_of(small_mlm_folder(tmp_path)).items()}
    model = HybridEncoder(**{name: each.double() for name, each in models_of(str(tmp_path)).items()})
    parts = HybridLoss(model, losses_of(model))(columns_of(model), None, Embed(recompute_tokens))
    sum(parts.values()).backward()
    expected: dict[str, torch.Tensor] = {}
    for name, loss in losses_of(alone).items():
        value = loss(columns_of(model), None)
        value = value if isinstance(value, dict) else {"loss": value}
        for part, each in value.items():
            torch.testing.assert_close(parts[f"{name}_{part}"], each)
        sum(value.values()).backward()
        for key, parameter in alone[name].named_parameters():
            if parameter.grad is not None:
                key = key.replace("bert.", "") if key.startswith("0.") else f"{name}.{key}"
                expected[key] = expected.get(key, torch.zeros(())) + parameter.grad
    found = {}
    for name, each in model.models.items():
        for key, parameter in each.named_parameters():
            if parameter.grad is not None:
                key = key.replace("bert.", "") if key.startswith("0.") else f"{name}.{key}"
                found[key] = parameter.grad
    assert "0.auto_model.cls.predictions.transform.dense.weight" in found
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "settings"),
    [("dense", {}), ("dense", {"bf16": True}), ("dense", {"micro_batch_tokens": 40}), ("sparse", {})],
)
def test_the_first_models_trainer_trains_all_and_resumes(
    tmp_path: Path, first: str, settings: dict[str, Any]
) -> None:
    rows = Dataset.from_dict({"query": sentences(24, 7), "document": sentences(24, 8)})
    folder = small_mlm_folder(tmp_path / "mlm")

    def train(resume: bool = False) -> HybridEncoder:
        models = models_of(folder)
        model = HybridEncoder(
            **{name: models[name] for name in sorted(models, key=lambda name: name != first)}
        )
        trainer_class, args_class = TRAINERS[first]
        args = args_class(
            str(tmp_path / "run"), report_to="none", use_cpu=True, per_device_train_batch_size=8, max_steps=4,
            learning_rate=1e-3, lr_scheduler_type="constant", save_steps=2, disable_tqdm=True, **settings,
        )  # fmt: skip
        loss = HybridLoss(model, losses_of(model), teacher_weights={"dense": 1, "sparse": 0.3, "late": 1})
        trainer = trainer_class(model=model[first], args=args, train_dataset=rows, loss=loss)
        trainer.train(resume_from_checkpoint=resume)
        return model

    before, whole = HybridEncoder(**models_of(folder)), train()
    unmoved = [
        name
        for name, model in before.models.items()
        for (key, old), new in zip(model.named_parameters(), whole[name].parameters(), strict=True)
        if torch.equal(old, new) and "pooler" not in key
    ]
    assert unmoved == []
    head = whole["sparse"][0].auto_model.get_output_embeddings()
    assert head.weight is whole["dense"][0].auto_model.get_input_embeddings().weight
    (tmp_path / "run" / "checkpoint-4").rename(tmp_path / "kept")
    for one, other in zip(whole.parameters(), train(resume=True).parameters(), strict=True):
        assert torch.equal(one, other)
    whole["sparse"].save_pretrained(str(tmp_path / "sparse"), create_model_card=False)
    again = SparseEncoder(str(tmp_path / "sparse"), device="cpu").encode(TEXTS)
    torch.testing.assert_close(again.to_dense(), whole.encode(TEXTS)["sparse"].to_dense())


@pytest.mark.parametrize("before", ["", "dense", "sparse"])
@pytest.mark.parametrize("order", [("dense", "sparse", "dense"), ("sparse", "dense", "sparse")])
def test_each_layers_output_is_captured_once(before: str, order: tuple[str, ...], tmp_path: Path) -> None:
    models = models_of(small_mlm_folder(tmp_path))

    def captured(model: Any) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = (
            model[0].auto_model(input_ids=torch.tensor([[2, 5, 3]]), output_hidden_states=True).hidden_states
        )
        return found

    if before:
        captured(models[before])
    expected = [layer.detach() for layer in captured(models_of(str(tmp_path))["dense"])]
    hybrid = HybridEncoder(**models)
    for name in order:
        torch.testing.assert_close([layer.detach() for layer in captured(hybrid[name])], expected)


def test_models_that_are_refused_stay_as_they_were(tmp_path: Path) -> None:
    models = models_of(small_mlm_folder(tmp_path / "one"))
    other = SparseEncoder(small_mlm_folder(tmp_path / "other", seed=1), device="cpu")
    first_modules = [models[name][0] for name in ("dense", "late")]
    with pytest.raises(
        ValueError, match=r"differs in its weights.*Adapters, and weights in fewer bits, come"
    ):
        HybridEncoder(dense=models["dense"], late=models["late"], sparse=other)
    assert [models[name][0] for name in ("dense", "late")] == first_modules
