"""`mine` writes what `mine_hard_negatives` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences

from likewise import SentenceTransformer
from likewise.retrieval import mine_hard_negatives

QUESTIONS, ANSWERS = sentences(12, seed=1), sentences(12, seed=2)
MORE = sentences(20, seed=3)


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    rows = [f"{i},{q},{a}" for i, (q, a) in enumerate(zip(QUESTIONS, ANSWERS, strict=True))]
    (tmp_path / "pairs.csv").write_text("\n".join(["id,question,answer", *rows]) + "\n")
    (tmp_path / "more.txt").write_text("\n".join(MORE) + "\n")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_the_rows_are_those_of_the_function(
    run: Callable[..., Any], model_folder: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    options = ("--num-negatives", 2, "--range-min", 1, "--corpus", "more.txt", "--cache", "cached")
    columns = ("--columns", "question,answer")
    out = f"new/rows.{ending}"
    result = run("mine", "pairs.csv", "--model", model_folder, *columns, *options, "--out", out)
    assert result.exit_code == 0, result.output
    last = result.stdout.splitlines()[-1]
    assert last == f"12 pairs -> 24 rows (question, answer, negative) in {out}"
    assert "Positive" in result.stdout
    read = {"parquet": Dataset.from_parquet, "jsonl": Dataset.from_json, "csv": Dataset.from_csv}[ending]
    expected = mine_hard_negatives(
        Dataset.from_dict({"question": QUESTIONS, "answer": ANSWERS}),
        SentenceTransformer(model_folder, device="cpu"),
        corpus=MORE,
        num_negatives=2,
        range_min=1,
        verbose=False,
    )
    assert read(str(tmp_path / out)).to_dict() == expected.to_dict()
    assert list((tmp_path / "cached").glob("candidates_*.npy"))


def test_formats_scores_ids_and_seeds_are_passed_on(run: Callable[..., Any], model_folder: str) -> None:
    common = ("mine", "pairs.csv", "--model", model_folder, "--columns", "question,answer")
    written = []
    for seed in (0, 0, 1):
        options = ("--format", "labeled-list", "--scores", "--ids", "--sampling", "random", "--range-max", 8)
        assert run(*common, *options, "--seed", seed, "--out", "rows.jsonl").exit_code == 0
        written.append(Path("rows.jsonl").read_text())
    assert '"scores"' in written[0]
    assert '"ids"' in written[0]
    assert written[0] == written[1] != written[2]


def test_what_cannot_be_mined_is_refused(refused: Callable[..., str], model_folder: str) -> None:
    assert "`--out` must be one of .parquet, .jsonl, .csv" in refused("mine", "pairs.csv", "--out", "x.txt")
    assert "has no column 'reply'" in refused(
        "mine", "pairs.csv", "--columns", "question,reply", "--out", "x.csv"
    )
    assert "`--columns` must name two columns" in refused(
        "mine", "pairs.csv", "--columns", "question", "--out", "x.csv"
    )
    options = ("--model", model_folder, "--columns", "question,answer", "--range-max", 2, "--out", "x.csv")
    assert "Raise `range_max`" in refused("mine", "pairs.csv", *options)


def test_a_folder_of_files_gives_the_rows_of_the_whole_table(
    run: Callable[..., Any], model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["likewise.cli.mine"], "SHARD_ROWS", 5)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    table = Dataset.from_dict({"question": QUESTIONS, "answer": ANSWERS})
    for number, part in enumerate((range(7), range(7, 12))):
        (tmp_path / "shards").mkdir(exist_ok=True)
        table.select(part).to_parquet(tmp_path / f"shards/{number}.parquet")
    result = run("mine", "shards", "--out", "mined", "--model", model_folder, "--num-negatives", 1)
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "mined").iterdir())
    assert [file.name for file in files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    found = Dataset.from_parquet([*map(str, files)]).to_dict()
    model = SentenceTransformer(model_folder, device="cpu")
    assert found == mine_hard_negatives(table, model, num_negatives=1, verbose=False).to_dict()


def test_mining_on_ray_needs_a_folder_that_all_reach(run: Callable[..., Any], model_folder: str) -> None:
    result = run("mine", "pairs.csv", "--out", "out.parquet", "--model", model_folder, "--ray")
    assert result.exit_code == 2
    assert "`--ray` needs `--cache`" in result.output
