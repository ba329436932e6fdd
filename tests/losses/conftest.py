"""Models that the tests of losses share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small import small_model_folder

from likewise import SentenceTransformer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer random BERT on disk."""
    return small_model_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def model(folder: str) -> Any:
    """That model, fresh, without dropout."""
    return SentenceTransformer(folder, device="cpu").eval()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
