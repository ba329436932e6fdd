"""Processes score pairs as one does, in order; what fails in one is said here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import pairs_of_texts, reranker_folder

from likewise import CrossEncoder
from likewise.model.pool import WorkerPool

PAIRS = pairs_of_texts(23)


class Failing(torch.nn.Module):
    """An activation that fails."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError("no such score")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    made = CrossEncoder(reranker_folder(tmp_path_factory.mktemp("model")), device="cpu")
    made.calibrate(PAIRS, [0, 1] * 11 + [0], method="temperature")
    return made


@pytest.fixture(scope="module")
def pool(model: CrossEncoder) -> Any:
    started = model.start_multi_process_pool(["cpu", "cpu"])
    yield started
    model.stop_multi_process_pool(started)
    assert started.closed


def test_processes_score_as_one_does(model: CrossEncoder, pool: WorkerPool, tmp_path: Path) -> None:
    model.prompts["find"] = "the old "
    for options in (
        {},
        {"chunk_size": 5},
        {"prompt_name": "find"},
        {"calibrated": True},
        {"activation_fn": torch.nn.Identity(), "convert_to_tensor": True},
    ):
        found = model.predict(PAIRS, pool=pool, **options)  # type: ignore[arg-type]
        options.pop("chunk_size", None)
        expected = model.predict(PAIRS, **options)  # type: ignore[arg-type]
        assert type(found) is type(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert model.predict([], pool=pool).shape == (0,)
    in_file = model.predict((pair for pair in PAIRS), pool=pool, out=tmp_path / "scores.npy")
    np.testing.assert_allclose(in_file, model.predict(PAIRS), rtol=1e-5)
    queries, documents = zip(*PAIRS, strict=True)
    ids = [(i, i) for i in range(len(PAIRS))]
    by_id = model.predict(ids, queries=list(queries), documents=list(documents), pool=pool)
    np.testing.assert_allclose(by_id, model.predict(PAIRS), rtol=1e-5)
    found_order = [one["corpus_id"] for one in model.rank("the cat", documents, pool=pool)]
    assert found_order == [one["corpus_id"] for one in model.rank("the cat", documents)]


def test_what_fails_in_a_process_is_said_here(model: CrossEncoder, pool: WorkerPool) -> None:
    with pytest.raises(RuntimeError, match="failed in the process on cpu"):
        model.predict(PAIRS, pool=pool, activation_fn=Failing())
    np.testing.assert_allclose(model.predict(PAIRS, pool=pool), model.predict(PAIRS), rtol=1e-5)


@pytest.mark.slow
def test_a_list_of_devices_starts_processes_for_the_call(model: CrossEncoder, tmp_path: Path) -> None:
    np.testing.assert_allclose(model.predict(PAIRS, device=["cpu"]), model.predict(PAIRS), rtol=1e-5)
    classifier = CrossEncoder(reranker_folder(tmp_path, num_labels=3), device="cpu")
    found = classifier.predict(PAIRS, apply_softmax=True, device=["cpu"])
    np.testing.assert_allclose(found, classifier.predict(PAIRS, apply_softmax=True), rtol=1e-5)
