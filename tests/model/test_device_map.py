"""`device_map`: a model that accelerate places, spread over the CPU and the disk for want of two devices."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer as Reference
from small import sentences

from likewise import SentenceTransformer, SentenceTransformerTrainer

TEXTS = sentences(12)
LAYERS = {"encoder.layer.0": "cpu", "encoder.layer.1": "disk", "pooler": "cpu"}
MAPS: dict[str, Any] = {
    "cpu": "cpu",
    "auto": "auto",
    "a device": torch.device("cpu"),
    "all in one": {"": "cpu"},
    "by part": {"embeddings": "cpu", "encoder": "cpu", "pooler": "cpu"},
    "a layer on the disk": {"embeddings": "cpu", **LAYERS},
    "the first weights on the disk": {"embeddings": "disk", **LAYERS},
}


@pytest.fixture
def load(saved_folder: Path, tmp_path: Path) -> Any:
    def loaded(device_map: Any, library: Any = SentenceTransformer, **options: Any) -> Any:
        kwargs = {"device_map": device_map, **options.pop("model_kwargs", {})}
        if isinstance(device_map, dict) and "disk" in device_map.values():
            kwargs["offload_folder"] = str(tmp_path / "offloaded")
        return library(str(saved_folder), model_kwargs=kwargs, **options)

    return loaded


@pytest.mark.parametrize("name", MAPS)
def test_embeddings_do_not_depend_on_where_the_model_is(load: Any, saved_folder: Path, name: str) -> None:
    model = load(MAPS[name])
    assert model.device == torch.device("cpu")
    expected = SentenceTransformer(saved_folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(load(MAPS[name], Reference).encode(TEXTS), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules")
def test_a_model_on_the_disk_in_part_can_be_saved(load: Any, tmp_path: Path) -> None:
    model = load(MAPS["the first weights on the disk"])
    model.save(tmp_path / "again")
    found = SentenceTransformer(tmp_path / "again", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-6)


def test_modules_behind_take_the_type_of_the_placed_model(load: Any) -> None:
    model = load("cpu", model_kwargs={"dtype": torch.bfloat16})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.encode(TEXTS).shape == (12, 16)


def test_a_device_beside_the_map_is_ignored_with_a_warning(
    load: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load("cpu", device="meta")
    assert "`device='meta'` is ignored" in caplog.text
    assert model.device == torch.device("cpu")


def test_what_a_spread_model_cannot_do_is_refused(load: Any, tmp_path: Path) -> None:
    model = load(MAPS["a layer on the disk"])
    rows = Dataset.from_dict({"a": TEXTS, "b": TEXTS, "score": [0.5] * 12})
    for what, action in (
        ("be moved or converted", lambda: model.to("cpu")),
        ("be moved or converted", lambda: model.encode(TEXTS, device="cpu")),
        ("be copied to processes", lambda: model.start_multi_process_pool(["cpu"])),
        ("be trained", lambda: SentenceTransformerTrainer(model, train_dataset=rows)),
    ):
        with pytest.raises(RuntimeError, match=f"so that it cannot {what}. Load it without `device_map`"):
            action()
    whole = load("cpu")
    assert whole.to("cpu") is whole
