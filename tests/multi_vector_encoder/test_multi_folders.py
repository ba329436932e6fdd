"""MultiVectorEncoders in folders: every form that is read, as the reference reads it, and what is written."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from multi_common import check_equal, small_encoder, twins
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder as Reference
from small import small_model_folder

from likewise import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from likewise.models import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from likewise.multi_vector_encoder.modules import HierarchicalTokenPooling, LambdaTokenPooling

EXPANSIONS = [
    {"strategy": "fixed", "length": 10},
    {"strategy": "fixed", "length": 10, "attend": True},
    {"strategy": "min", "length": 8},
    {"strategy": "min", "length": 8, "attend": True, "token": "cat"},
]


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A model of one vector a text, with prompts."""
    transformer = Transformer(small_model_folder(tmp_path / "plain"))
    model = SentenceTransformer(
        modules=[transformer, Pooling(32), Normalize()], prompts={"query": "the ", "document": "a "}
    )
    model.save(str(tmp_path / "dense"))
    return tmp_path / "dense"


def both(folder: Path) -> tuple[MultiVectorEncoder, Reference]:
    models: list[Any] = []
    for kind in (MultiVectorEncoder, Reference):
        torch.manual_seed(1)  # the new projections are the same
        models.append(kind(str(folder), device="cpu"))
    assert models[0].prompts == {name: text or "" for name, text in models[1].prompts.items()}
    return models[0], models[1]


def test_a_plain_model_gets_a_projection_a_mask_and_unit_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, reference = both(Path(small_model_folder(tmp_path / "plain")))
    assert [type(module).__name__ for module in own] == [
        "Transformer",
        "Dense",
        "MultiVectorMask",
        "Normalize",
    ]
    assert "made at random" in caplog.text
    check_equal(own, reference)


@pytest.mark.parametrize("expansion", [None, *EXPANSIONS])
def test_a_saved_model_is_the_same_in_the_reference(tmp_path: Path, expansion: dict[str, Any] | None) -> None:
    own, reference = twins(tmp_path, query_expansion=expansion, document_length=7)
    check_equal(own, reference)
    reference.save_pretrained(str(tmp_path / "reference"))
    again = MultiVectorEncoder(tmp_path / "reference", device="cpu")
    assert again[0].query_expansion == own[0].query_expansion
    assert again[0].document_length == 7
    check_equal(again, reference)


def test_every_module_is_saved_with_its_settings(tmp_path: Path) -> None:
    own = small_encoder(tmp_path / "plain")
    own.append(HierarchicalTokenPooling(2, num_protected_tokens=0))
    own[2].skiplist_words = ["cat"]
    own.save_pretrained(tmp_path / "saved", model_name="me/model")
    listed = {
        entry["path"]: entry["type"] for entry in json.loads((tmp_path / "saved/modules.json").read_text())
    }
    home = "sentence_transformers.multi_vector_encoder.modules"
    assert listed["4_HierarchicalTokenPooling"] == f"{home}.token_pooling.HierarchicalTokenPooling"
    own, reference = both(tmp_path / "saved")
    assert own[4].get_config_dict() == {
        "pool_factor": 2, "num_protected_tokens": 0, "normalize_embeddings": True, "tasks": ["document"],
    }  # fmt: skip
    check_equal(own, reference)
    assert 'MultiVectorEncoder("me/model")' in (tmp_path / "saved/README.md").read_text()
    settings = tmp_path / "saved/4_HierarchicalTokenPooling/config.json"
    settings.write_text('{"pool_factor": 2.0}')
    assert not MultiVectorEncoder(tmp_path / "saved", device="cpu")[4].normalize_embeddings
    own.append(LambdaTokenPooling(lambda embeddings: embeddings[:1]))
    with pytest.raises(NotImplementedError, match="derive a class of your own from BaseTokenPooling"):
        own.save(tmp_path / "unsaved")


def test_the_projection_of_an_embedding_model_is_moved_to_tokens(tmp_path: Path, dense: Path) -> None:
    modules = [Transformer(str(dense)), Pooling(32), Dense(32, 16), Normalize()]
    SentenceTransformer(modules=modules).save(str(tmp_path / "projected"))
    own, reference = both(tmp_path / "projected")
    assert own.get_embedding_dimension() == 16
    check_equal(own, reference)


def test_an_embedding_model_without_one_gets_one(dense: Path) -> None:
    own, reference = both(dense)
    assert own.similarity_fn_name == "maxsim"
    check_equal(own, reference)


def test_a_model_without_a_transformer_or_a_folder_without_a_model_is_refused(
    tmp_path: Path, dense: Path
) -> None:
    tokenizer = SentenceTransformer(dense, device="cpu").tokenizer.backend_tokenizer
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)]).save(str(tmp_path / "static"))
    with pytest.raises(ValueError, match="StaticEmbedding, without a Transformer"):
        MultiVectorEncoder(tmp_path / "static")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="found nothing"):
        MultiVectorEncoder(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text('{"architectures": ["ColPaliForRetrieval"]}')
    with pytest.raises(ValueError, match="ColPaliForRetrieval, which embeds pictures of pages"):
        MultiVectorEncoder(tmp_path / "empty")


def test_a_reranker_gives_its_transformers_model_with_a_warning(
    tmp_path: Path, dense: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CrossEncoder(str(tmp_path / "plain"), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "pairs"))
    with caplog.at_level(logging.WARNING):
        model = MultiVectorEncoder(tmp_path / "pairs", device="cpu")
    assert "holds a CrossEncoder, which has no embedding for each token" in caplog.text
    assert model.get_embedding_dimension() == 128


def pylate_folder(dense: Path, **settings: Any) -> Path:
    """A folder as PyLate writes it: a Transformer and a projection, all else in the settings."""
    folder = dense.parent / "pylate"
    shutil.copytree(dense, folder)
    dense_settings = {
        "in_features": 32, "out_features": 16, "bias": False, "activation_function": "torch.nn.modules.linear.Identity",
    }  # fmt: skip
    shutil.rmtree(folder / "1_Pooling")
    (folder / "1_Dense").mkdir()
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense_settings))
    torch.manual_seed(5)
    save_file({"linear.weight": torch.randn(16, 32)}, folder / "1_Dense" / "model.safetensors")
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    listing = [
        {"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


PREFIXES = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "similarity_fn_name": "MaxSim"}


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "ColBERT", **PREFIXES, "query_length": 12, "document_length": 20},
        {"model_type": "ColBERT", **PREFIXES, "query_length": 12, "do_query_expansion": False},
        {"model_type": "ColBERT", **PREFIXES, "attend_to_expansion_tokens": True, "skiplist_words": ["the"]},
        {"model_type": "ColBERT", **PREFIXES, "query_prefix": "[UNK] "},
        {**PREFIXES, "query_prefix": "the ", "document_prefix": "red dog ", "prompts": {"query": "the cat "}},
        {"model_type": "ColBERT"},
    ],
)
def test_a_folder_of_pylate_is_read_as_by_the_reference(dense: Path, settings: dict[str, Any]) -> None:
    own, reference = both(pylate_folder(dense, **settings))
    check_equal(own, reference)
    own.save_pretrained(dense.parent / "saved")
    check_equal(own, Reference(str(dense.parent / "saved"), device="cpu"))


def stanford_folder(path: Path, metadata: dict[str, Any] | None) -> Path:
    """A folder as Stanford's ColBERT writes it: the projection beside the encoder's weights, settings in a file of its own."""
    folder = Path(small_model_folder(path))
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    torch.manual_seed(6)
    weights["linear.weight"] = torch.randn(24, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    if metadata is not None:
        (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize(
    "metadata",
    [
        {"query_maxlen": 14, "doc_maxlen": 18, "query_token_id": "[UNK]", "doc_token_id": "cat"},
        {"attend_to_mask_tokens": True, "mask_punctuation": False},
        None,
    ],
)
def test_a_folder_of_stanfords_colbert_is_read_as_by_the_reference(
    tmp_path: Path, metadata: dict[str, Any] | None
) -> None:
    own, reference = both(stanford_folder(tmp_path / "colbert", metadata))
    assert own.get_embedding_dimension() == 24
    check_equal(own, reference)


def test_a_stanford_folder_without_its_projection_is_refused(tmp_path: Path) -> None:
    folder = Path(small_model_folder(tmp_path / "colbert"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    with pytest.raises(ValueError, match=r"its weights have no `linear\.weight`"):
        MultiVectorEncoder(folder)


def test_modules_beside_a_name_are_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_encoder(tmp_path / "model").save(tmp_path / "saved")
    model = MultiVectorEncoder(str(tmp_path / "saved"), modules=[Normalize()], device="cpu")
    assert "`modules` are ignored, since `model_name_or_path` is given too." in caplog.messages
    assert len(model) > 1


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    small_encoder(tmp_path / "plain").save(tmp_path / "saved")
    path = tmp_path / "saved" / "config_sentence_transformers.json"
    path.write_text(json.dumps({"model_type": "MultiVectorEncoder", "prompts": ["a"]}))
    with pytest.raises(ValueError, match=r"`prompts` in .* should be an object of texts, but is \['a'\]"):
        MultiVectorEncoder(tmp_path / "saved")
