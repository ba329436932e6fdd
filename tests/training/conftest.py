"""A small model and small data sets for training runs of a few steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import sentences, small_model_folder

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


def settings(output_dir: Path, **changes: Any) -> dict[str, Any]:
    """Arguments that both libraries take."""
    usual = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return usual | changes


def triplets(num_rows: int = 96, seed: int = 0) -> Dataset:
    texts = sentences(3 * num_rows, seed=seed)
    return Dataset.from_dict({"anchor": texts[::3], "positive": texts[1::3], "negative": texts[2::3]})


def scored_pairs(num_rows: int = 96, seed: int = 0) -> Dataset:
    texts, rng = sentences(2 * num_rows, seed=seed), random.Random(seed)
    scores = [round(rng.random(), 2) for _ in range(num_rows)]
    return Dataset.from_dict({"sentence1": texts[::2], "sentence2": texts[1::2], "score": scores})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
