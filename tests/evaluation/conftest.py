"""One small random model in a folder, loaded by both libraries."""

from __future__ import annotations

from typing import Any

import pytest
import sentence_transformers
from evaluation_common import WordCounts
from small import small_model_folder

import likewise


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model_folder(tmp_path_factory.mktemp("model"), initializer_range=0.2)


@pytest.fixture(scope="session")
def model(model_folder: str) -> Any:
    return likewise.SentenceTransformer(model_folder, device="cpu")


@pytest.fixture(scope="session")
def reference_model(model_folder: str) -> Any:
    return sentence_transformers.SentenceTransformer(model_folder, device="cpu")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model with the same architecture and other weights."""
    folder = small_model_folder(tmp_path_factory.mktemp("other"), seed=1, initializer_range=0.2)
    return likewise.SentenceTransformer(folder, device="cpu")


@pytest.fixture
def counts() -> WordCounts:
    return WordCounts()
