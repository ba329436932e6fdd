"""A small model, and a function that trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from card_common import train
from small import small_model_folder

import likewise


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer random BERT without dropout."""
    path = tmp_path_factory.mktemp("model") / "bert"
    return small_model_folder(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


Run = Callable[..., Any]


@pytest.fixture(scope="session")
def run(folder: str) -> Run:
    """Trains on two data sets with two losses and two evaluators, and returns the trainer; see `train`."""

    def start(
        output_dir: Path, library: Any = likewise, card: dict[str, Any] | None = None, **changes: Any
    ) -> Any:
        return train(folder, output_dir, library, card or {}, changes)

    return start
