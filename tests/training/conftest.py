"""A small model and small data sets for training runs of a few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small_model_folder
from training_common import settings

from likewise import SentenceTransformer, SentenceTransformerTrainingArguments


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer random BERT without dropout."""
    path = tmp_path_factory.mktemp("model") / "bert"
    return small_model_folder(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="session")
def dropout_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with dropout."""
    return small_model_folder(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., SentenceTransformerTrainingArguments]:
    """Training arguments for a short, quiet run on the CPU."""

    def make(**changes: Any) -> SentenceTransformerTrainingArguments:
        return SentenceTransformerTrainingArguments(**settings(**{"output_dir": tmp_path / "run"} | changes))

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
