"""When a card is written, that it is the same each time, needs no network, and can stop nothing."""

from __future__ import annotations

import logging
import random
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from card_common import triplets
from small import small_model
from transformers import TrainerCallback

from likewise import SentenceTransformer, SentenceTransformerModelCardData, losses
from likewise.card import generate_model_card, write
from likewise.evaluation import SentenceEvaluator

Run = Callable[..., Any]
TIMES = re.compile(r"^- \*\*(Training|Evaluation|Total)\*\*: .*$", re.MULTILINE)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf8")


def test_the_best_and_the_last_checkpoint_have_a_card_and_others_none(run: Run, tmp_path: Path) -> None:
    trainer = run(
        tmp_path,
        max_steps=8,
        save_strategy="steps",
        save_steps=2,
        learning_rate=5e-2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_scored_loss",
    )
    best = Path(trainer.state.best_model_checkpoint).name
    with_card = {path.parent.name for path in tmp_path.glob("checkpoint-*/README.md")}
    losses = {e["step"]: e["eval_scored_loss"] for e in trainer.state.log_history if "eval_scored_loss" in e}
    best_so_far = {
        f"checkpoint-{step}"
        for step in losses
        if losses[step] == min(v for s, v in losses.items() if s <= step)
    }
    assert with_card == best_so_far | {"checkpoint-8"}
    assert best in with_card
    assert len(with_card) < 4
    assert (tmp_path / best / "training_log.svg").exists()


def test_the_card_tells_what_the_saved_weights_measured(run: Run, tmp_path: Path) -> None:
    trainer = run(
        tmp_path,
        max_steps=6,
        save_strategy="steps",
        save_steps=2,
        learning_rate=3e-2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_scored_loss",
        greater_is_better=True,  # so that the best is not the last
    )
    step = int(trainer.state.best_model_checkpoint.rpartition("-")[2])
    assert step < 6
    history = [e for e in trainer.state.log_history if e["step"] == step and "eval_sts_spearman_cosine" in e]
    trainer.model.save_pretrained(str(tmp_path / "final"))
    text = card(tmp_path / "final")
    value = f"{history[0]['eval_sts_spearman_cosine']:.4f}"
    assert f"| **spearman_cosine** | **{value}**" in re.sub(r" +", " ", text)
    (bold,) = re.findall(r"^\| \*\*0\.\d+\*\* .*$", text, flags=re.MULTILINE)
    assert f"**{step}**" in bold
    assert f"**{value}**" in bold
    assert "* The bold row denotes the saved checkpoint." in text


def test_a_loaded_model_keeps_its_card_and_plot_until_it_is_trained(
    run: Run, tmp_path: Path, folder: str
) -> None:
    run(tmp_path / "run").model.save_pretrained(str(tmp_path / "first"))
    model = SentenceTransformer(str(tmp_path / "first"), device="cpu")
    model.save_pretrained(str(tmp_path / "second"))
    for name in ("README.md", "training_log.svg"):
        assert (tmp_path / "second" / name).read_text() == (tmp_path / "first" / name).read_text()
    model.save_pretrained(str(tmp_path / "third"), model_name="me/mine")
    assert card(tmp_path / "third") == card(tmp_path / "first").replace(
        "sentence_transformers_model_id", "me/mine"
    )

    from likewise import SentenceTransformerTrainer as Trainer
    from likewise import SentenceTransformerTrainingArguments as Arguments

    args = Arguments(str(tmp_path / "again"), max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True)
    Trainer(model, args, triplets(8), loss=losses.TripletLoss(model)).train()
    model.save_pretrained(str(tmp_path / "fourth"))
    assert "<code>TripletLoss</code>" in card(tmp_path / "fourth")
    assert "<code>MatryoshkaLoss</code>" not in card(tmp_path / "fourth")


def test_two_runs_have_the_same_card_whatever_the_global_random_state(run: Run, tmp_path: Path) -> None:
    cards = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        trainer = run(tmp_path / "run")
        states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        trainer.model.save_pretrained(str(tmp_path / str(seed)))
        after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        assert after == states
        cards.append(TIMES.sub("", card(tmp_path / str(seed))))
    assert cards[0] == cards[1]


def test_no_connection_is_opened(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    card_data = {"train_datasets": [{"id": "some/data"}, {"id": "other/data"}], "local_files_only": False}
    trainer = run(tmp_path / "run", card=card_data)
    trainer.model.save_pretrained(str(tmp_path / "final"))
    assert "* Dataset: [some/data](https://huggingface.co/datasets/some/data)" in card(tmp_path / "final")
    assert asked == []


class Broken:
    """Fails wherever it is touched."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise RuntimeError(f"no {name} here")


def test_what_fails_while_the_run_is_watched_is_a_warning(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import likewise.card.callback as callback

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a data set that cannot be described")

    monkeypatch.setattr(callback, "describe", fails)
    monkeypatch.setattr(callback.training_log, "losses", fails)
    with caplog.at_level(logging.WARNING, logger="likewise"):
        trainer = run(tmp_path / "run")
    assert trainer.state.global_step == 4
    assert "The model card will lack something: _keep_data_sets failed" in caplog.text
    assert "a data set that cannot be described" in caplog.text
    trainer.model.save_pretrained(str(tmp_path / "final"))
    assert "### Training Logs" in card(tmp_path / "final")


@pytest.mark.parametrize("part", ["card_text", "charts"])
def test_a_card_that_cannot_be_written_is_a_warning_and_a_minimal_card(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    monkeypatch.setattr(write, part, Broken() if part == "charts" else Broken)
    with caplog.at_level(logging.WARNING, logger="likewise"):
        trainer = run(tmp_path / "run", save_strategy="steps", save_steps=2)
    assert trainer.state.global_step == 4
    assert "The model card could not be written in full" in caplog.text
    from huggingface_hub import metadata_load

    metadata = metadata_load(tmp_path / "run" / "checkpoint-4" / "README.md")
    assert metadata is not None
    assert metadata["library_name"] == "sentence-transformers"
    assert (
        len(SentenceTransformer(str(tmp_path / "run" / "checkpoint-4"), device="cpu").encode("a cat")) == 32
    )


def test_a_folder_that_takes_no_card_is_a_warning(
    folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = SentenceTransformer(folder, device="cpu")
    (tmp_path / "README.md").mkdir()
    with caplog.at_level(logging.WARNING, logger="likewise"):
        model.save_pretrained(str(tmp_path))
    assert "the model itself is saved" in caplog.text
    assert len(SentenceTransformer(str(tmp_path), device="cpu").encode("a cat")) == 32


def test_an_evaluator_with_odd_results_stops_nothing(run: Run, folder: str, tmp_path: Path) -> None:
    class Odd(SentenceEvaluator):
        """Returns what no card can show."""

        primary_metric = "score"

        def __call__(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            metrics = {"score": float("nan"), "note": "a text", "many": [1, 2]}
            self.store_metrics_in_model_card_data(model, metrics, 0, 0)
            return metrics

    model = SentenceTransformer(folder, device="cpu")
    Odd()(model)
    model.save_pretrained(str(tmp_path))
    assert "| **score** | **nan**" in card(tmp_path)
    assert "model-index" not in card(tmp_path)


def test_no_card_is_written_where_none_is_wanted(folder: str, tmp_path: Path) -> None:
    SentenceTransformer(folder, device="cpu").save_pretrained(str(tmp_path), create_model_card=False)
    assert not (tmp_path / "README.md").exists()


class StopAt(TrainerCallback):
    """Stops the run after a step, as a kill would."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= 3


def test_the_log_of_a_resumed_run_begins_where_the_run_began(run: Run, folder: str, tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = run(tmp_path / "whole", **options).model.model_card_data.training_logs
    run(tmp_path / "run", callbacks=[StopAt()], **options)
    resumed = run(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-2"), **options)
    logs = resumed.model.model_card_data.training_logs
    assert [row["Step"] for row in logs] == [1, 2, 3, 4]
    assert [set(row) for row in logs] == [set(row) for row in whole]
    for row, expected in zip(logs, whole, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_what_is_measured_before_and_after_the_run_stands_there(
    run: Run, folder: str, tmp_path: Path
) -> None:
    class MeasureFirst(TrainerCallback):
        def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            data = kwargs["model"].model_card_data
            data.set_evaluation_metrics(evaluator, {"score": 0.25}, -1, -1)

    evaluator = SentenceEvaluator()
    evaluator.primary_metric = "score"
    trainer = run(tmp_path / "run", callbacks=[MeasureFirst()])
    evaluator.store_metrics_in_model_card_data(trainer.model, {"score": 0.5}, -1, -1)
    logs = trainer.model.model_card_data.training_logs
    assert logs[0] == {"Epoch": 0.0, "Step": 0, "score": 0.25}
    assert logs[-1] == {"Epoch": -1, "Step": -1, "score": 0.5}
    trainer.model.save_pretrained(str(tmp_path / "final"))
    assert "* Step -1 was measured after the run." in card(tmp_path / "final")


def test_a_cards_own_to_dict_is_what_is_written(tmp_path: Path) -> None:
    class Own(SentenceTransformerModelCardData):
        def to_dict(self) -> dict[str, Any]:
            return super().to_dict() | {"team": "search"}

    model = small_model(tmp_path)
    model.model_card_data = Own(language="en")
    assert "\nteam: search\n" in generate_model_card(model)
    with pytest.raises(
        TypeError, match=r"Own overrides `infer_datasets`.*never called here. Override `to_dict`"
    ):
        type("Own", (SentenceTransformerModelCardData,), {"infer_datasets": None})
