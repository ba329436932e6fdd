"""`train` runs a recipe from data to a saved model; `quickstart` makes one itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import sentences

from likewise import SentenceTransformer
from likewise.cli.train import run as train_run
from likewise.recipe import read_recipe
from likewise.recipes.quickstart.docstrings import standard_library

RECIPE = """
model: {model}
train:
  pairs: {{source: "${{data}}/pairs.csv", loss: MultipleNegativesRankingLoss}}
dev:
  pairs: {{source: "${{data}}/pairs.csv", evaluator: TranslationEvaluator}}
training:
  output_dir: out
  num_train_epochs: 2
  per_device_train_batch_size: 8
  learning_rate: 1e-3
  eval_strategy: epoch
  use_cpu: true
  {more}
"""


@pytest.fixture
def recipe(tmp_path: Path, model_folder: str) -> Callable[..., Path]:
    """Write a recipe, with another line of training arguments."""
    lines = [f"{a},{b}" for a, b in zip(sentences(24, seed=1), sentences(24, seed=2), strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["question,answer", *lines]) + "\n")

    def write(more: str = "") -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(model=model_folder, more=more))
        return path

    return write


def test_a_recipe_gives_a_better_model_in_its_folder(
    run: Callable[..., Any], recipe: Callable[..., Path]
) -> None:
    result = run("train", recipe(), "--data", ".")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("before    pairs: mean_accuracy 0.")
    assert "24 rows: anchor=question, positive=answer -> MultipleNegativesRankingLoss" in result.stdout
    assert any(line.startswith("training  step     6 of 6  ") and line.endswith("tokens/s") for line in lines)
    assert [line.split(":")[0] for line in lines if line.startswith("step ")] == ["step 3", "step 6"]
    row = next(line.split() for line in lines if line.startswith("  pairs"))
    before, after, change, low, high = map(float, row[2:])
    assert after > before
    assert change == pytest.approx(after - before, abs=2e-4)
    assert low <= change <= high
    assert "Saved to out/final" in result.stdout
    assert "Report:  out/report.html" in result.stdout
    assert "mean_accuracy (pairs)" in Path("out/report.html").read_text(encoding="utf-8")
    assert result.stderr == ""
    assert SentenceTransformer("out/final").encode("the cat").shape == (32,)


def test_the_same_recipe_gives_the_same_model(run: Callable[..., Any], recipe: Callable[..., Path]) -> None:
    found = []
    for _ in range(2):
        assert run("train", recipe("seed: 7"), "--data", ".").exit_code == 0
        found.append(SentenceTransformer("out/final", device="cpu").encode(sentences(5)))
    assert np.array_equal(*found)


def test_a_recipe_is_refused_before_the_model_loads(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    assert "Say where that is with `--data DIR`" in refused("train", recipe(), "--model", "./nowhere")
    bad = recipe("weight_decai: 1")
    message = refused("train", bad, "--data", ".", "--model", "./nowhere")
    assert message == "`training` knows no `weight_decai`. Did you mean `weight_decay`?"


def test_data_that_does_not_fit_the_loss_is_refused(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    path = recipe()
    path.write_text(path.read_text().replace("MultipleNegativesRankingLoss", "TripletLoss"))
    assert "TripletLoss takes anchor, positive, negative; no label" in refused("train", path, "--data", ".")


def test_quickstart_trains_and_leaves_a_library_to_search(
    run: Callable[..., Any], small_library: None, model_folder: str
) -> None:
    result = run("quickstart", "--model", model_folder, "--pairs", 12, "--out", "tour")
    assert result.exit_code == 0, result.output
    assert "train on    12 pairs (sentence, function)" in result.stdout
    assert "12 rows: anchor=sentence, positive=name -> MultipleNegativesRankingLoss" in result.stdout
    assert "cosine_ndcg@10" in result.stdout
    assert "cosine_accuracy@1" in result.stdout
    assert "search" in result.stdout
    assert len(Path("tour/pairs.jsonl").read_text().splitlines()) == 12
    found = run("search", "wrap a text", "tour/library")
    assert found.exit_code == 0, found.output
    assert len(found.stdout.splitlines()) == 5
    again = run("train", "tour/recipe.yaml", "--data", "tour")
    assert again.exit_code == 0, again.output


def test_quickstart_trains_on_as_much_as_the_pace_of_the_machine_leaves_room_for(
    run: Callable[..., Any], small_library: None, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("likewise.cli.quickstart"), "SECONDS", 0.0)
    result = run("quickstart", "--model", model_folder)
    assert result.exit_code == 0, result.output
    assert "Measuring the pace of this machine" in result.stdout
    assert "train on    256 pairs (sentence, function)" in result.stdout  # no fewer than four batches
    assert result.stdout.count("Training plan") == 1


def test_a_run_with_a_limit_of_time_ends_there(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = recipe()
    path.write_text(
        path.read_text().replace("epochs: 2", "epochs: 500").replace("strategy: epoch", "strategy: 'no'")
    )
    outcome = train_run(read_recipe(path, tmp_path), limit_s=0.01)
    logs = outcome.model.model_card_data.training_logs
    assert max(row["Step"] for row in logs) < 1500


@pytest.fixture(scope="session")
def few_functions() -> list[Any]:
    """The first few functions of the standard library, all of which is read for them."""
    return list(standard_library()[:40])


@pytest.fixture
def small_library(few_functions: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first few functions of the standard library stand for all."""
    monkeypatch.setattr("likewise.recipes.quickstart.harvest.standard_library", lambda: few_functions)


def test_the_quickstart_leaves_nothing_of_the_held_out_library_in_training(
    run: Callable[..., Any], small_library: None, model_folder: str
) -> None:
    assert run("quickstart", "--model", model_folder, "--pairs", 40).exit_code == 0
    held_out = [
        json.loads(line)["text"] for line in Path("demo/held-out/queries.jsonl").read_text().splitlines()
    ]
    train = [json.loads(line)["sentence"] for line in Path("demo/pairs.jsonl").read_text().splitlines()]
    assert len(held_out) > 30
    assert not {text.casefold() for text in held_out} & {text.casefold() for text in train}
