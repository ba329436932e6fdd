"""A small random model in both libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from given_embeddings import GivenEmbeddings
from small import small_model_folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a search is slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(model_folder: str) -> Any:
    from likewise import SentenceTransformer

    return SentenceTransformer(model_folder, device="cpu", prompts={"query": "a ", "document": "the "})


@pytest.fixture
def reference_model(model_folder: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model_folder, device="cpu", prompts={"query": "a ", "document": "the "})


@pytest.fixture
def given() -> GivenEmbeddings:
    return GivenEmbeddings()
