"""Folders of every release: made here as each wrote them, read here and by the reference, equal embeddings."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer as Reference
from small import sentences

from likewise import SentenceTransformer

TEXTS = [*sentences(6), "", " ".join(["cat"] * 40)]


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def rename_types(folder: Path, names: dict[str, str]) -> None:
    edit(
        folder / "modules.json",
        lambda listing: [{**entry, "type": names[entry["type"].rpartition(".")[2]]} for entry in listing],
    )


def to_bin(folder: Path) -> None:
    """Weights as they were before safetensors."""
    for path in [*folder.rglob("model.safetensors")]:
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()


def version_2_0(folder: Path) -> None:
    """Pickled weights, no prompts, no similarity, no lower-case setting, pooling without the later modes."""
    to_bin(folder)
    (folder / "config_sentence_transformers.json").write_text(
        '{"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}}'
    )
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    keep = ("word_embedding_dimension", "pooling_mode_cls_token", "pooling_mode_mean_tokens",
            "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens")  # fmt: skip
    edit(folder / "1_Pooling" / "config.json", lambda config: {key: config[key] for key in keep})


def before_2_0(folder: Path) -> None:
    """The transformer in a folder of its own, settings under the architecture's name, nothing about the library."""
    (folder / "0_RoBERTa").mkdir()
    for path in [*folder.iterdir()]:
        if path.is_file() and path.name not in ("modules.json", "README.md"):
            shutil.move(path, folder / "0_RoBERTa" / path.name)
    inner = folder / "0_RoBERTa"
    (inner / "config_sentence_transformers.json").unlink()
    (inner / "sentence_bert_config.json").rename(inner / "sentence_roberta_config.json")
    edit(folder / "modules.json", lambda listing: [{**listing[0], "path": "0_RoBERTa"}, *listing[1:]])
    rename_types(
        folder, {name: f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Dense")}
    )
    to_bin(folder)


def version_3_0(folder: Path) -> None:
    """As 2.x, with safetensors, prompts and a similarity function that may be null."""
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({
            "__version__": {"sentence_transformers": "3.0.1", "transformers": "4.41.2", "pytorch": "2.3.0"},
            "prompts": {"query": "the old ", "passage": "a "},
            "default_prompt_name": "query",
            "similarity_fn_name": None,
        })
    )  # fmt: skip


def version_5_3(folder: Path) -> None:
    """The last of the older form: the type of model, keyword arguments of modules, arguments for transformers."""
    edit(
        folder / "config_sentence_transformers.json",
        lambda config: {**config, "model_type": "SentenceTransformer", "similarity_fn_name": "dot"},
    )
    edit(
        folder / "sentence_bert_config.json",
        lambda config: {**config, "max_seq_length": 20, "model_args": {"trust_remote_code": True}},
    )
    edit(
        folder / "modules.json",
        lambda listing: [{**entry, "kwargs": ["task"] if not entry["idx"] else []} for entry in listing],
    )


def version_5_4(folder: Path) -> None:
    """Newer class paths, pooling by name, the maximum length with the tokenizer only."""
    rename_types(
        folder,
        {
            "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
            "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            "Dense": "sentence_transformers.base.modules.dense.Dense",
        },
    )
    modality = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    (folder / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "feature-extraction",
                "modality_config": modality,
                "module_output_name": "token_embeddings",
            }
        )
    )
    edit(folder / "tokenizer_config.json", lambda config: {**config, "model_max_length": 18})
    pooling = {"embedding_dimension": 32, "pooling_mode": ["mean"], "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    edit(
        folder / "2_Dense" / "config.json",
        lambda config: {
            **config,
            "module_input_name": "sentence_embedding",
            "module_output_name": "sentence_embedding",
        },
    )


def version_6(folder: Path) -> None:
    """As 5.4, with required packages, a saved size, and the file name that transformers 5 leaves in."""
    version_5_4(folder)
    edit(
        folder / "config_sentence_transformers.json",
        lambda config: {**config, "truncate_dim": 9, "requirements": {"torch": ">=2.0"}},
    )
    edit(
        folder / "tokenizer_config.json",
        lambda config: {**config, "is_local": True, "local_files_only": False},
    )


def plain_transformers(folder: Path) -> None:
    """No file of the library at all."""
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    for name in ("1_Pooling", "2_Dense"):
        shutil.rmtree(folder / name)


FIXTURES: dict[str, Callable[[Path], None]] = {
    "before 2.0": before_2_0,
    "2.0": version_2_0,
    "3.0": version_3_0,
    "5.3": version_5_3,
    "5.4": version_5_4,
    "6": version_6,
    "transformers": plain_transformers,
    "likewise": lambda folder: None,
}


@pytest.fixture
def folder(saved_folder: Path, tmp_path: Path) -> Path:
    """A saved model to rewrite."""
    return Path(shutil.copytree(saved_folder, tmp_path / "model"))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("release", FIXTURES)
def test_a_folder_of_each_release_gives_the_references_embeddings(folder: Path, release: str) -> None:
    FIXTURES[release](folder)
    ours, theirs = SentenceTransformer(folder, device="cpu"), Reference(str(folder), device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(ours.encode_query(TEXTS), theirs.encode_query(TEXTS), atol=2e-6)
    np.testing.assert_allclose(ours.encode_document(TEXTS), theirs.encode_document(TEXTS), atol=2e-6)
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("release", FIXTURES)
def test_what_is_written_after_loading_loads_in_the_reference(
    folder: Path, tmp_path: Path, release: str
) -> None:
    FIXTURES[release](folder)
    ours = SentenceTransformer(folder, device="cpu")
    ours.save(tmp_path / "again")
    theirs = Reference(str(tmp_path / "again"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), ours.encode(TEXTS), atol=2e-6)
    types = [entry["type"] for entry in json.loads((tmp_path / "again" / "modules.json").read_text())]
    assert all(name.startswith("sentence_transformers.models.") for name in types)


@pytest.mark.parametrize("kind", ["message", "audio"])
def test_a_model_of_other_inputs_than_texts_is_refused(folder: Path, kind: str) -> None:
    version_6(folder)
    kinds = {kind: {"method": "forward"}} | ({"text": {"method": "forward"}} if kind == "message" else {})
    edit(folder / "sentence_bert_config.json", lambda config: {**config, "modality_config": kinds})
    with pytest.raises(ValueError, match=f"was saved to take inputs of the kinds {kind}"):
        SentenceTransformer(folder, device="cpu")


def test_the_table_of_formats_lists_every_fixture() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf8")
    for release in FIXTURES:
        assert f"`{release}`" in page, release


# The Hub


def cached(folder: Path, cache: Path, name: str, revisions: dict[str, str]) -> None:
    """Put a model into a Hub cache, under the commits that its branches point to."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    for branch, commit in revisions.items():
        (place / "refs" / branch).write_text(commit)
        shutil.copytree(folder, place / "snapshots" / commit)


def test_loading_offline_makes_no_network_call(
    saved_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(saved_folder, tmp_path, "sentence-transformers/small", {"main": "abc"})

    def call(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", call)
    monkeypatch.setattr(socket, "create_connection", call)
    monkeypatch.setattr(socket, "getaddrinfo", call)
    for name, options in (
        (str(saved_folder), {}),
        ("small", {"cache_folder": str(tmp_path), "local_files_only": True}),
        ("small", {"cache_folder": str(tmp_path)}),  # HF_HUB_OFFLINE is set for all tests
    ):
        model = SentenceTransformer(name, device="cpu", token="hf_nothing", **options)
        assert model.encode(TEXTS).shape == (len(TEXTS), 16)
    model.save(tmp_path / "saved")


def test_a_revision_names_the_commit_that_is_loaded(saved_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(saved_folder, tmp_path / "other"))
    edit(other / "config_sentence_transformers.json", lambda config: {**config, "truncate_dim": 3})
    place = tmp_path / "cache"
    cached(saved_folder, place, "someone/model", {"main": "aaa"})
    commits = place / "models--someone--model"
    (commits / "refs" / "short").write_text("bbb")
    shutil.copytree(other, commits / "snapshots" / "bbb")
    sizes = {
        revision: SentenceTransformer(
            "someone/model", device="cpu", cache_folder=str(place), revision=revision
        )
        .encode("a cat")
        .shape[0]
        for revision in ("main", "short")
    }
    assert sizes == {"main": 16, "short": 3}
    with pytest.raises(FileNotFoundError, match="could not be had from the Hub"):
        SentenceTransformer("someone/model", cache_folder=str(place), revision="nothing")


def test_older_names_do_what_the_newer_ones_do(saved_folder: Path) -> None:
    model = SentenceTransformer(saved_folder, device="cpu", use_auth_token=False)
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == 16
    with model.truncate_sentence_embeddings(4):
        assert model.encode("a cat").shape == (4,)
    assert set(model.tokenize(["a cat"])) == set(model.preprocess(["a cat"]))
    np.testing.assert_array_equal(model.encode(sentences=["a cat"]), model.encode(["a cat"]))
    assert model._first_module() is model[0]
    assert model._last_module() is model[2]
    assert model.get_max_seq_length() == model.max_seq_length
    assert callable(model.save_to_hub)
