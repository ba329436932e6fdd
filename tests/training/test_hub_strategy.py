"""Uploading while training: each `hub_strategy` sends what it says, what fails is reported, and the run goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.hub
from datasets import Dataset
from hub_server import TOKEN, Hub, digests
from small import sentences, small_model_folder

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.model import hub as uploads
from likewise.training.run import uploads as checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
MODEL_FILES = {"modules.json", "model.safetensors", "1_Pooling/config.json", "README.md", "training_args.bin"}
STATE_FILES = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}


@pytest.fixture
def hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub, which transformers takes for the only one too."""
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    return hub


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., SentenceTransformerTrainer]:
    """Trains four steps with a checkpoint every other one, and returns the trainer."""
    folder = small_model_folder(tmp_path / "bert")

    def run(**changes: Any) -> SentenceTransformerTrainer:
        model = SentenceTransformer(folder, device="cpu")
        texts = sentences(64)
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 4,
            "save_steps": 2,
            "save_strategy": "steps",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "push_to_hub": True,
            "hub_token": TOKEN,
            "hub_model_id": "me/mine",
            "hub_always_push": True,
        }
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**settings | changes),
            train_dataset=Dataset.from_dict({"anchor": texts[::2], "positive": texts[1::2]}),
            loss=losses.MultipleNegativesRankingLoss(model),
        )
        trainer.train()
        return trainer

    return run


def saved(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_save_sends_the_model_and_not_the_state(
    train: Callable[..., Any], hub: Hub, tmp_path: Path
) -> None:
    train(hub_strategy="every_save")
    last = saved(tmp_path / "run" / "checkpoint-4")
    assert set(last) >= MODEL_FILES | STATE_FILES
    model_files = {path: content for path, content in last.items() if path not in STATE_FILES}
    assert digests(hub.files("me/mine")) == digests(model_files)
    messages = {message for _, message, _ in hub.repositories["me/mine"].commits}
    assert messages == {"Training in progress, step 2", "Training in progress, step 4"}
    assert b'SentenceTransformer("me/mine")' in hub.files("me/mine")["README.md"]
    assert not list((tmp_path / "run").glob("_*"))


@pytest.mark.parametrize(
    ("strategy", "places"),
    [("checkpoint", {"last-checkpoint": 4}), ("all_checkpoints", {"checkpoint-2": 2, "checkpoint-4": 4})],
)
def test_checkpoints_go_beside_the_model_and_can_be_resumed(
    train: Callable[..., Any], hub: Hub, tmp_path: Path, strategy: str, places: dict[str, int]
) -> None:
    train(hub_strategy=strategy)
    files = hub.files("me/mine")
    for place, step in places.items():
        found = {
            path.removeprefix(f"{place}/"): c for path, c in files.items() if path.startswith(f"{place}/")
        }
        assert digests(found) == digests(saved(tmp_path / "run" / f"checkpoint-{step}"))
    assert {path.partition("/")[0] for path in files if "checkpoint" in path} == set(places)
    assert set(files) >= MODEL_FILES


def test_a_slow_upload_is_not_overtaken_by_the_next(
    train: Callable[..., Any], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_at_first(api: Any, repo_id: str, folder: Path, message: str, **options: Any) -> str:
        if message.endswith("step 2"):
            time.sleep(0.5)
        return uploads.upload(api, repo_id, folder, message, **options)

    monkeypatch.setattr(checkpoints, "upload", slow_at_first)
    train(hub_strategy="every_save")
    last = (tmp_path / "run" / "checkpoint-4" / "model.safetensors").read_bytes()
    assert digests({"": hub.files("me/mine")["model.safetensors"]}) == digests({"": last})


def test_a_checkpoint_is_sent_whole_though_it_is_deleted_meanwhile(
    train: Callable[..., Any], hub: Hub, tmp_path: Path
) -> None:
    train(hub_strategy="all_checkpoints", save_steps=1, save_total_limit=1)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]
    for step in range(1, 5):
        assert f"checkpoint-{step}/model.safetensors" in hub.files("me/mine")
        assert f"checkpoint-{step}/optimizer.pt" in hub.files("me/mine")


def test_at_the_end_only_the_saved_model_is_sent(train: Callable[..., Any], hub: Hub, tmp_path: Path) -> None:
    trainer = train(hub_strategy="end")
    assert hub.files("me/mine") == {}
    trainer.push_to_hub(language="en", license="mit", tags="mine")
    files = hub.files("me/mine")
    assert set(files) >= MODEL_FILES
    assert not any("checkpoint" in path for path in files)
    card = files["README.md"].decode()
    assert "license: mit" in card
    assert "- mine" in card
    assert "<code>MultipleNegativesRankingLoss</code>" in card
    assert files["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()


def test_a_lost_connection_is_tried_again_while_the_run_goes_on(
    train: Callable[..., Any], hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.drop, hub.drops = "POST .*commit", 2
    with caplog.at_level(logging.WARNING, logger="likewise"):
        trainer = train(hub_strategy="every_save")
    assert trainer.state.global_step == 4
    assert "The connection was lost while uploading to me/mine" in caplog.text
    assert set(hub.files("me/mine")) >= MODEL_FILES


def test_a_hub_that_stays_away_costs_a_warning_and_not_the_run(
    train: Callable[..., Any], hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.drop, hub.drops = "POST .*commit", 10**6
    with caplog.at_level(logging.WARNING, logger="likewise"):
        trainer = train(hub_strategy="checkpoint")
    assert trainer.state.global_step == 4
    assert "checkpoint-4 could not be uploaded to me/mine: The connection was lost 3 times" in caplog.text
    assert (tmp_path / "run" / "checkpoint-4" / "model.safetensors").exists()
    assert not list((tmp_path / "run").glob("_*"))
    with pytest.raises(ConnectionError, match="while uploading the trained model"):
        trainer.push_to_hub()
