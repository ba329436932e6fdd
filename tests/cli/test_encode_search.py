"""`encode` writes what `model.encode` returns; `search` finds in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small import sentences

from likewise import SentenceTransformer

TEXTS = sentences(20, seed=3)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


@pytest.fixture
def expected(model_folder: str) -> np.ndarray:
    return SentenceTransformer(model_folder, device="cpu").encode(TEXTS)


def test_npy_has_one_row_per_text_in_order(
    run: Callable[..., Any], texts: Path, model_folder: str, expected: np.ndarray
) -> None:
    result = run("encode", texts, "--model", model_folder, "--out", "new/vectors.npy")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("20 texts -> 32 numbers each (float32) in new/vectors.npy, ")
    assert result.stderr == ""
    np.testing.assert_allclose(np.load("new/vectors.npy"), expected, atol=1e-6)


def test_parquet_has_text_and_embedding(
    run: Callable[..., Any], texts: Path, model_folder: str, expected: np.ndarray
) -> None:
    result = run(
        "encode", texts, "--model", model_folder, "--out", "v.parquet", "--truncate-dim", 8, "--normalize"
    )
    assert result.exit_code == 0, result.output
    table = pq.read_table("v.parquet")
    assert table["text"].to_pylist() == TEXTS
    found = np.array(table["embedding"].to_pylist())
    cut = expected[:, :8]
    np.testing.assert_allclose(found, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)


def test_search_finds_a_text_of_a_file_by_itself(
    run: Callable[..., Any], texts: Path, model_folder: str
) -> None:
    result = run("search", TEXTS[7], texts, "--model", model_folder, "-k", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"  1.000  {TEXTS[7]}"
    assert len(lines) == 3


def test_an_index_finds_the_same_as_the_file_it_was_made_from(
    run: Callable[..., Any], texts: Path, model_folder: str
) -> None:
    assert run("encode", texts, "--model", model_folder, "--out", "index").exit_code == 0
    from_index = run("search", "the quick dog", "index")
    from_file = run("search", "the quick dog", texts, "--model", model_folder)
    assert from_index.exit_code == 0, from_index.output
    assert from_index.stdout == from_file.stdout
    assert run("encode", texts, "--model", model_folder, "--out", "short", "--truncate-dim", 8).exit_code == 0
    assert run("search", "the quick dog", "short").exit_code == 0


def test_a_folder_with_model_and_index_may_be_moved(
    run: Callable[..., Any], texts: Path, model_folder: str
) -> None:
    shutil.copytree(model_folder, "here/model")
    assert run("encode", texts, "--model", "here/model", "--out", "here/index").exit_code == 0
    shutil.move("here", "there")
    result = run("search", "the quick dog", "there/index")
    assert result.exit_code == 0, result.output


def test_what_search_cannot_read_is_refused(
    refused: Callable[..., str], run: Callable[..., Any], texts: Path, model_folder: str
) -> None:
    Path("empty").mkdir()
    Path("blank.txt").write_text("\n\n")
    assert "empty is no index: it has no index.json" in refused("search", "x", "empty")
    assert "There is no file nowhere.txt" in refused("search", "x", "nowhere.txt")
    assert "blank.txt has no texts" in refused("search", "x", "blank.txt")
    assert "There is no folder" in refused("search", "x", texts, "--model", "./nowhere")
    run("encode", texts, "--model", model_folder, "--out", "index")
    assert "`--model` and `--column` are for files" in refused("search", "x", "index", "--model", "other")
    np.save("index/embeddings.npy", np.zeros((3, 32), np.float32))
    assert "index has 20 texts, but 3 embeddings" in refused("search", "x", "index")
    np.save("index/embeddings.npy", np.zeros((20, 64), np.float32))
    assert "embeddings of 64 numbers, but" in refused("search", "x", "index")


def test_what_encode_cannot_do_is_refused_before_the_model_loads(
    refused: Callable[..., str], texts: Path
) -> None:
    nowhere = ("--model", "./nowhere")
    assert "`--out` must be a .npy file" in refused("encode", texts, "--out", "v.txt", *nowhere)
    Path("empty.txt").write_text("")
    assert "empty.txt has no texts" in refused("encode", "empty.txt", "--out", "v.npy", *nowhere)


def test_an_unknown_prompt_is_refused_with_those_that_there_are(
    refused: Callable[..., str], texts: Path, model_folder: str
) -> None:
    message = refused("encode", texts, "--model", model_folder, "--out", "v.npy", "--prompt-name", "poem")
    assert "no prompt named 'poem'" in message
    assert "query, document" in message


def test_texts_that_are_cut_are_reported_once_as_a_note(run: Callable[..., Any], model_folder: str) -> None:
    Path("long.jsonl").write_text(json.dumps("cat " * 200) + "\n" + json.dumps("dog") + "\n")
    result = run("encode", "long.jsonl", "--model", model_folder, "--out", "v.npy")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Note: 1 of the first 2 texts are longer than 64 tokens")
    assert result.stderr.count("\n") == 1
