"""Texts are read from every kind of file, in order, and what is no text is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.cli.read_texts import read_texts

TEXTS = ["a cat", 'a "dog", or two', "ein Vögelchen"]


def test_a_text_file_has_one_text_per_line_and_empty_lines_count(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a cat\n\na dog\n", encoding="utf-8")
    assert read_texts(tmp_path / "t.txt") == ["a cat", "", "a dog"]


def test_json_lines_may_be_strings_or_objects(tmp_path: Path) -> None:
    (tmp_path / "strings.jsonl").write_text(
        "".join(json.dumps(text) + "\n" for text in TEXTS), encoding="utf-8"
    )
    (tmp_path / "objects.jsonl").write_text(
        "".join(json.dumps({"id": 1, "body": text}) + "\n" for text in TEXTS), encoding="utf-8"
    )
    assert read_texts(tmp_path / "strings.jsonl") == TEXTS
    assert read_texts(tmp_path / "objects.jsonl") == TEXTS


def test_csv_cells_may_hold_commas_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'id,text\n1,a cat\n2,"a ""dog"", or two"\n3,ein Vögelchen\n', encoding="utf-8"
    )
    (tmp_path / "t.tsv").write_text("id\ttext\n1\ta cat, or two\n", encoding="utf-8")
    assert read_texts(tmp_path / "t.csv") == TEXTS
    assert read_texts(tmp_path / "t.tsv") == ["a cat, or two"]


def test_the_only_text_column_of_a_parquet_file_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2, 3], "body": TEXTS, "v": [[0.5]] * 3}), tmp_path / "t.parquet")
    assert read_texts(tmp_path / "t.parquet") == TEXTS
    assert read_texts(tmp_path / "t.parquet", "body") == TEXTS


def test_of_several_text_columns_one_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("title,body\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Which column of .* has the texts.*--column.*'title', 'body'"):
        read_texts(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"no column 'bodi'.*Did you mean 'body'"):
        read_texts(tmp_path / "t.csv", "bodi")
    assert read_texts(tmp_path / "t.csv", "body") == ["b"]


def test_a_cell_without_text_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a cat"}\n{"text": null}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"Column 'text' of .* has None in row 1"):
        read_texts(tmp_path / "t.jsonl")
    pq.write_table(pa.table({"n": [7], "text": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"Column 'n' of .* has 7 in row 0"):
        read_texts(tmp_path / "t.parquet", "n")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"Line 2 of .*t\.jsonl is not JSON"):
        read_texts(tmp_path / "t.jsonl")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(ValueError, match=r"t\.parquet is not a parquet file"):
        read_texts(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("id,text\n1,a, b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Row 0 of .* has 3 cells, but the header has 2"):
        read_texts(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"must be one of \.txt"):
        read_texts(Path(__file__))
    with pytest.raises(FileNotFoundError, match=r"There is no file nowhere.txt"):
        read_texts(Path("nowhere.txt"))
