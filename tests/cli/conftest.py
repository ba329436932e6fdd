"""The command line as a user runs it, and a small model to run it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small_model_folder
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a model is slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def reranker_folder(tmp_path_factory: pytest.TempPathFactory, model_folder: str) -> str:
    """A cross-encoder that gives a pair one score."""
    return saved_cross_encoder(tmp_path_factory.mktemp("reranker"), model_folder, num_labels=1)


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory, model_folder: str) -> str:
    """A cross-encoder that gives a pair three scores."""
    return saved_cross_encoder(tmp_path_factory.mktemp("classifier"), model_folder, num_labels=3)


def saved_cross_encoder(path: Path, encoder: str, num_labels: int) -> str:
    from likewise import CrossEncoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CrossEncoder(encoder, num_labels=num_labels, device="cpu").save_pretrained(str(path))
    return str(path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run a command in an empty folder: `run("search", "a query", "texts.txt")`."""
    from likewise.cli import app

    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def refused(run: Callable[..., Any]) -> Callable[..., str]:
    """Run a command that must end with one sentence on stderr, exit code 2 and no traceback; returns the sentence."""

    def invoke(*arguments: Any) -> str:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        message = str(result.stderr)
        assert message.startswith("Error: ")
        assert message.count("\n") == 1
        return message.removeprefix("Error: ").strip()

    return invoke
