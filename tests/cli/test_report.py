"""`likewise report` makes a page about a trained model afterwards; nobody's text does anything to a terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.cli import console
from likewise.losses import MultipleNegativesRankingLoss

pytest.importorskip("vl_convert")


@pytest.fixture
def trained(tmp_path: Path, model_folder: str) -> Path:
    """A model's output folder with a checkpoint's log, and a table."""
    folder = tmp_path / "out"
    shutil.copytree(model_folder, folder / "final")
    rows = [{"a": text, "b": f"{text} {text} <b>"} for text in sentences(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def log_of(folder: Path, loss: float) -> None:
    folder.mkdir()
    history = [
        {"step": step, "epoch": 1.0, "loss": loss / step, "tokens_per_second": 1234.5} for step in (1, 2, 3)
    ]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history, "best_global_step": 2}))


def test_a_report_afterwards_has_the_curves_and_compares_with_the_model_before(
    run: Callable[..., Any], trained: Path, model_folder: str
) -> None:
    log_of(trained / "checkpoint-3", 9.0)
    result = run("report", trained, "--data", trained.parent / "pairs.jsonl", "--before", model_folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"Report:  {trained / 'report-pairs.html'}"
    page = (trained / "report-pairs.html").read_text(encoding="utf-8")
    assert "<dd>1,234</dd>" in page
    assert "40 of 40 rows of pairs.jsonl" in page
    assert "accuracy@1" in page
    assert "<b>" not in page
    assert f"SentenceTransformer(&#34;{trained / 'final'}&#34;)" in page


def test_without_a_table_the_curves_are_all_and_without_both_there_is_nothing_to_tell(
    run: Callable[..., Any], refused: Callable[..., str], trained: Path
) -> None:
    assert "Name a table to compare the models on with `--data`" in refused("report", trained)
    log_of(trained / "checkpoint-3", 9.0)
    assert run("report", trained).exit_code == 0
    assert "Before and after" not in (trained / "report.html").read_text(encoding="utf-8")


def test_a_report_that_is_there_is_kept(
    refused: Callable[..., str], run: Callable[..., Any], trained: Path
) -> None:
    log_of(trained / "checkpoint-3", 9.0)
    (trained / "report.html").write_text("of the training")
    message = refused("report", trained)
    assert "report.html is there already. Name a table to compare the models on with `--data`" in message
    result = run("report", trained, "--data", trained.parent / "pairs.jsonl", "--before", trained / "final")
    assert result.exit_code == 0, result.output
    assert (trained / "report.html").read_text() == "of the training"


@pytest.mark.parametrize("where", [".", "final"])
def test_the_folder_that_the_training_started_from_is_found_in_its_report(
    run: Callable[..., Any], trained: Path, model_folder: str, where: str
) -> None:
    model = SentenceTransformer(model_folder, device="cpu")
    rows = Dataset.from_dict({"a": sentences(4), "b": sentences(4, seed=1)})
    args = SentenceTransformerTrainingArguments(
        str(trained), report=True, max_steps=1, report_to="none", save_strategy="no", use_cpu=True
    )
    loss = MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, args, train_dataset=rows, loss=loss).train()
    assert f'<meta name="started-from" content="{model_folder}">' in (trained / "report.html").read_text()
    result = run("report", trained / where, "--data", trained.parent / "pairs.jsonl")
    assert result.exit_code == 0, result.output
    assert "40 of 40 rows of pairs.jsonl" in (trained / where / "report-pairs.html").read_text(
        encoding="utf-8"
    )


def test_classes_of_a_cross_encoder_are_compared_as_classes(
    run: Callable[..., Any], refused: Callable[..., str], trained: Path, classifier_folder: str
) -> None:
    texts = sentences(30)
    table = trained.parent / "classes.jsonl"
    rows = [{"a": text, "b": text[::-1], "label": row % 3} for row, text in enumerate(texts)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = trained.parent / "classifier"
    shutil.copytree(classifier_folder, folder)
    result = run("report", folder, "--data", table, "--before", classifier_folder)
    assert result.exit_code == 0, result.output
    page = (folder / "report-classes.html").read_text(encoding="utf-8")
    assert all(f"label {number}" in page for number in range(3))  # the probability of the right one, by class
    assert "Spearman" not in page
    table.write_text("".join(json.dumps(row | {"label": "abc"[row["label"]]}) + "\n" for row in rows))
    message = refused("report", folder, "--data", table, "--before", classifier_folder)
    assert "holds words. Put the numbers there that the model was trained with." in message


def test_the_model_before_is_asked_for_where_nothing_names_it(
    refused: Callable[..., str], trained: Path
) -> None:
    message = refused("report", trained, "--data", trained.parent / "pairs.jsonl")
    assert "says what the model was before. Say it with `--before MODEL`" in message


def test_the_card_names_the_model_before(
    refused: Callable[..., str], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SentenceTransformer(str(trained / "final"), device="cpu")
    model.model_card_data.set_base_model("nobody/nothing")
    model.save_pretrained(str(trained / "other"))
    message = refused("report", trained / "other", "--data", trained.parent / "pairs.jsonl")
    assert "nobody/nothing" in message


def test_control_characters_of_a_text_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("red \x1b[31m, back\x08, bell\x07, turned \u202e, tab\t.")
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x08", "\x07", "\u202e"} & set(shown)
    assert shown.startswith("red ␛[31m, back␈, bell␇, turned \ufffd, tab")
