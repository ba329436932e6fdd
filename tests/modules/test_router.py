"""Router: each task's texts take their own tower, as in the reference; folders are exchanged both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.sentence_transformer import modules as reference
from small import sentences, small_model, small_model_folder, small_tokenizer

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
    models,
)

TEXTS = sentences(10)
D = 32


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model_folder(tmp_path_factory.mktemp("plain"))


def towers(library: Any, plain: str) -> tuple[list[Any], list[Any]]:
    torch.manual_seed(3)
    vectors = torch.randn(len(small_tokenizer()), D)
    query = [library.StaticEmbedding(small_tokenizer().backend_tokenizer, vectors)]
    return query, [library.Transformer(plain), library.Pooling(D, "mean")]


@pytest.fixture
def model(plain: str) -> SentenceTransformer:
    router = models.Router.for_query_document(*towers(models, plain))
    return SentenceTransformer(modules=[router, models.Normalize()], device="cpu")


@pytest.fixture
def other(plain: str) -> Any:
    router = reference.Router.for_query_document(*towers(reference, plain))
    return Reference(modules=[router, reference.Normalize()], device="cpu")


def test_each_task_takes_its_tower_as_in_the_reference(model: SentenceTransformer, other: Any) -> None:
    for name in ("encode_query", "encode_document", "encode"):
        found, expected = getattr(model, name)(TEXTS), getattr(other, name)(TEXTS)
        np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(model.encode(TEXTS, task="query"), model.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.encode(TEXTS), model.encode_document(TEXTS), atol=1e-6)
    assert np.abs(model.encode_query(TEXTS) - model.encode_document(TEXTS)).max() > 0.1
    names = {name.replace("auto_model", "model") for name in model.state_dict()}
    assert names == {name.replace("auto_model", "model") for name in other.state_dict()}
    assert model.get_embedding_dimension() == D
    assert model.takes_tokens


def test_texts_with_their_task_are_taken_as_an_asym_took_them(model: SentenceTransformer) -> None:
    found = model.encode([{"query": text} for text in TEXTS])
    np.testing.assert_allclose(found, model.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.encode({"query": TEXTS[0]}), model.encode_query(TEXTS[0]), atol=1e-6)
    with pytest.raises(ValueError, match="must all have the same one, but these have document, query"):
        model.encode([{"query": "a"}, {"document": "b"}])


def test_folders_are_exchanged_with_the_reference_both_ways(
    model: SentenceTransformer, other: Any, tmp_path: Path
) -> None:
    model.save(tmp_path / "ours")
    other.save(str(tmp_path / "theirs"))
    theirs = Reference(str(tmp_path / "ours"), device="cpu")
    again = SentenceTransformer(tmp_path / "theirs", device="cpu")
    for name in ("encode_query", "encode_document", "encode"):
        expected = getattr(other, name)(TEXTS)
        np.testing.assert_allclose(getattr(theirs, name)(TEXTS), expected, atol=2e-6)
        np.testing.assert_allclose(getattr(again, name)(TEXTS), expected, atol=2e-6)


def legacy_asym(folder: Path, plain: str) -> Path:
    """An Asym behind a shared transformer, as the reference before 5.0 wrote it."""
    dense = {name: models.Dense(D, 8) for name in ("QRY", "DOC")}
    parts = [models.Transformer(plain), models.Pooling(D), models.Asym({n: [m] for n, m in dense.items()})]
    SentenceTransformer(modules=parts, device="cpu").save(folder)
    (asym,) = folder.glob("2_*")
    content = json.loads((asym / "router_config.json").read_text())
    (asym / "router_config.json").unlink()
    content["parameters"] = {"allow_empty_key": True}
    (asym / "config.json").write_text(json.dumps(content))
    listing = json.loads((folder / "modules.json").read_text())
    listing[2]["type"] = "sentence_transformers.models.Asym"
    (folder / "modules.json").write_text(json.dumps(listing))
    return folder


def test_a_legacy_asym_behind_a_transformer_is_read_as_the_reference_reads_it(
    plain: str, tmp_path: Path
) -> None:
    folder = legacy_asym(tmp_path / "asym", plain)
    ours, theirs = SentenceTransformer(folder, device="cpu"), Reference(str(folder), device="cpu")
    for task in ("QRY", "DOC"):
        np.testing.assert_allclose(ours.encode(TEXTS, task=task), theirs.encode(TEXTS, task=task), atol=2e-6)
    assert np.abs(ours.encode(TEXTS, task="QRY") - ours.encode(TEXTS, task="DOC")).max() > 0.01


def test_a_module_of_two_routes_is_saved_once_and_stays_one(plain: str, tmp_path: Path) -> None:
    shared = models.Transformer(plain)
    router = models.Router({"a": [shared, models.Pooling(D, "cls")], "b": [shared, models.Pooling(D, "max")]})
    SentenceTransformer(modules=[router], device="cpu").save(tmp_path / "model")
    assert len(list((tmp_path / "model").rglob("model.safetensors"))) == 1
    again = SentenceTransformer(tmp_path / "model", device="cpu")
    assert again[0].sub_modules["a"][0] is again[0].sub_modules["b"][0]


def test_routes_are_found_by_mapping_then_by_name_then_by_default(plain: str, tmp_path: Path) -> None:
    query, document = towers(models, plain)
    mappings = {("query", "text"): "fast", ("question", None): "fast", (None, "image"): "slow"}
    router = models.Router({"fast": query, "slow": document}, None, False, mappings)
    assert [router.route(task) for task in ("query", "question", "slow")] == ["fast", "fast", "slow"]
    assert router.route("anything", "image") == "slow"
    with pytest.raises(ValueError, match=r"no route for texts without a task.*fast, slow"):
        router.route()
    with pytest.raises(ValueError, match="no route for `task='answer'`"):
        router.route("answer")
    router.save(tmp_path)
    assert models.Router.load(tmp_path).route_mappings == router.route_mappings
    expected = reference.Router.load(str(tmp_path)).route_mappings
    assert router.route_mappings == expected


def test_limits_and_prompts_reach_the_towers(model: SentenceTransformer) -> None:
    model.max_seq_length = 5
    assert model[0].sub_modules["document"][0].max_seq_length == 5
    long = " ".join(["cat"] * 9)
    np.testing.assert_allclose(model.encode_document(long), model.encode_document("cat cat cat"), atol=1e-6)
    model.prompts["query"] = "a red "
    np.testing.assert_allclose(model.encode_query("car"), model.encode("a red car", task="query"), atol=1e-6)


def test_a_route_that_there_is_not_is_refused_when_the_trainer_is_made(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    data = Dataset.from_dict({"question": TEXTS[:8], "answer": TEXTS[:8]})
    loss = losses.MultipleNegativesRankingLoss(model)
    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        report_to="none",
        router_mapping={"question": "querry", "answer": "document"},
    )
    message = r"'question' of the training data to 'querry', but .* 'query', 'document'.*Did you mean 'query'"
    with pytest.raises(ValueError, match=message):
        SentenceTransformerTrainer(model, args, data, loss=loss)
    args.router_mapping["question"] = "query"
    trainer = SentenceTransformerTrainer(model, args, data, loss=loss)
    model[0].route_mappings = {("querry", None): "query"}  # a mapping of the Router's own may know the word
    args.router_mapping["question"] = "querry"
    assert trainer.plans["train"][0].routes == ("querry", "document")


@pytest.mark.parametrize("mapping", [{"question": "query", "answer": "document"}, {}], ids=["mapped", "not"])
def test_training_moves_both_towers_and_needs_a_route_for_each_column(
    model: SentenceTransformer, tmp_path: Path, mapping: dict[str, str]
) -> None:
    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    data = Dataset.from_dict({"question": TEXTS[:8], "answer": TEXTS[:8]})
    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=15, per_device_train_batch_size=8, learning_rate=5e-3,
        router_mapping=mapping, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=5,
        seed=1,
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.named_parameters()}
    if not mapping:
        with pytest.raises(ValueError, match="`router_mapping` has no route for the column 'question'"):
            SentenceTransformerTrainer(
                model, args, data, loss=losses.MultipleNegativesRankingLoss(model)
            ).train()
        return
    trainer = SentenceTransformerTrainer(model, args, data, loss=losses.MultipleNegativesRankingLoss(model))
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1] < 0.8 * logged[0]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {"0.sub_modules.query.0.embedding.weight"} < moved
    assert any("document" in name for name in moved)


def test_a_training_step_equals_the_towers_by_hand(model: SentenceTransformer) -> None:
    from likewise import losses
    from likewise.engine import ColumnBatch, TokenSequences

    parts = [model.token_sequences(TEXTS, task=task) for task in ("query", "document")]
    tokens = TokenSequences.concatenate(parts).pack()
    loss = losses.MultipleNegativesRankingLoss(model.eval())
    value = loss(ColumnBatch(tokens, 2, tasks=("query", "document")))
    embeddings = [torch.from_numpy(model.encode(TEXTS, task=task)) for task in ("query", "document")]
    torch.testing.assert_close(value, loss.compute(embeddings))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "at least one route"),
        (([models.Normalize()],), "at least one route, and each a list of modules"),
        (({"query": models.Normalize()},), "at least one route, and each a list of modules"),
        (({"a": [models.Normalize()]}, "b"), "no route 'b'. Choose among: a"),
        (({"a": [models.Normalize()]}, None, True, {("x", None): "c"}), "no route 'c'"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.Router(*arguments)


class Scaled(models.InputModule):
    """Takes `scale` from `encode`, and has a limit that is its class's."""

    forward_kwargs = frozenset({"scale"})
    max_seq_length = 7
    ready = False

    def tokenize(self, texts: Any, *args: Any, **kwargs: Any) -> Any:
        return {"input_ids": torch.zeros(len(texts), 1, dtype=torch.long)}

    def forward(self, features: Any, scale: float = 1, **kwargs: Any) -> Any:
        return {**features, "sentence_embedding": torch.ones(len(features["input_ids"]), 4) * scale}

    def on_model_ready(self, model: Any) -> None:
        self.ready = True


def test_keywords_of_modules_within_a_route_are_taken() -> None:
    router = models.Router({"query": [Scaled()], "document": [Scaled()]})
    model = SentenceTransformer(modules=[router], device="cpu")
    np.testing.assert_array_equal(model.encode(["a"], task="query", scale=3), np.full((1, 4), 3.0))
    assert model.get_model_kwargs() == ["modality", "scale", "task"]
    assert router.first_module("query").ready
    with pytest.raises(ValueError, match="got size, which no module"):
        model.encode(["a"], size=3)


def test_a_limit_that_is_a_class_attribute_can_be_set(plain: str) -> None:
    router = models.Router({"query": [Scaled()], "document": [models.Transformer(plain), models.Pooling(D)]})
    model = SentenceTransformer(modules=[router], device="cpu")
    assert model.max_seq_length == 64
    model.max_seq_length = 5
    assert (router.first_module("query").max_seq_length, model.max_seq_length, Scaled.max_seq_length) == (
        5,
        5,
        7,
    )


def test_a_router_names_its_transformers_model_and_takes_a_modality(
    model: SentenceTransformer, other: Any
) -> None:
    assert type(model.transformers_model) is type(other.transformers_model)
    assert model.config.hidden_size == D
    features = model[0].preprocess(TEXTS, task="query", modality="text")
    assert features["modality"] == "text"
    found = model(dict(features))["sentence_embedding"].detach()
    np.testing.assert_allclose(found, model.encode_query(TEXTS), atol=2e-6)
    with pytest.raises(ValueError, match="Adapters are for models with a Transformer module"):
        model.active_adapters()


def test_routes_of_different_sizes_are_warned_about_once(
    plain: str, caplog: pytest.LogCaptureFixture
) -> None:
    tower = [models.Transformer(plain), models.Pooling(D)]
    router = models.Router({"query": [*tower, models.Dense(D, 8)], "document": tower})
    model = SentenceTransformer(modules=[router], device="cpu")
    assert [model.get_embedding_dimension() for _ in range(2)] == [8, 8]
    assert caplog.text.count("different sizes (query: 8, document: 32)") == 1


def test_the_card_of_a_router_without_a_default_route_shows_its_data(plain: str, tmp_path: Path) -> None:
    tower = [models.Transformer(plain), models.Pooling(D)]
    router = models.Router({"query": tower, "document": tower}, allow_empty_key=False)
    model = SentenceTransformer(modules=[router], device="cpu")
    data = Dataset.from_dict({"question": TEXTS[:4], "answer": TEXTS[4:8]})
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=1, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
        router_mapping={"question": "query", "answer": "document"},
    )  # fmt: skip
    loss = losses.MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss).train()
    model.save_pretrained(tmp_path / "saved")
    assert f"<code>{TEXTS[0]}</code>" in (tmp_path / "saved" / "README.md").read_text(encoding="utf8")


def test_layers_behind_a_router_are_refused_in_a_sentence(tmp_path: Path) -> None:
    towers = {"query": list(small_model(tmp_path)), "document": list(small_model(tmp_path, seed=1))}
    model = SentenceTransformer(modules=[models.Router(towers)], device="cpu")
    with pytest.raises(ValueError, match="Router"):
        model.layer_embeddings(model.tokenize(["a cat"], task="query"))
