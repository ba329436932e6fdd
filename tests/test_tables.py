"""Every form of table gives the same rows, whoever asks; what is damaged is named with its file and row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.evaluation.beir import read_folder
from likewise.tables import FORMATS, load_table, open_text, quiet_datasets, read_columns, read_rows

CELLS = {"n": [1, 2], "text": ["a cat", 'a "dog", or two']}
ROWS = [{"n": 1, "text": "a cat"}, {"n": 2, "text": 'a "dog", or two'}]


def write_table(path: Path) -> Path:
    table, form = pa.table(CELLS), path.suffix
    if form == ".parquet":
        pq.write_table(table, path)
    elif form == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif form == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif form == ".json":
        path.write_text(json.dumps(ROWS))
    elif form == ".csv":
        path.write_text('n,text\n1,a cat\n2,"a ""dog"", or two"\n')
    elif form == ".tsv":
        path.write_text('n\ttext\n1\ta cat\n2\t"a ""dog"", or two"\n')
    else:
        path.write_text("a cat\na dog\n")
    return path


@pytest.mark.parametrize("form", [form for form in FORMATS if form != ".txt"])
def test_every_form_gives_the_same_texts_and_the_same_typed_table(tmp_path: Path, form: str) -> None:
    path = write_table(tmp_path / f"rows{form}")
    assert read_columns(path, "text")["text"] == CELLS["text"]
    with quiet_datasets():
        assert load_table([path]).to_dict() == CELLS


def test_the_lines_of_a_text_file_are_a_column(tmp_path: Path) -> None:
    path = write_table(tmp_path / "lines.txt")
    with quiet_datasets():
        assert load_table([path]).to_dict() == read_columns(path) == {"text": ["a cat", "a dog"]}


def test_an_arrow_file_with_an_index_of_its_blocks_is_read(tmp_path: Path) -> None:
    with pa.ipc.new_file(tmp_path / "rows.arrow", pa.table(CELLS).schema) as writer:
        writer.write_table(pa.table(CELLS))
    assert read_columns(tmp_path / "rows.arrow") == {"n": [], "text": CELLS["text"]}
    (tmp_path / "cut.arrow").write_bytes(b"ARROW1 cut")
    with pytest.raises(ValueError, match=r"cut\.arrow is not an arrow file"):
        read_columns(tmp_path / "cut.arrow")


def test_packed_files_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b'{"n": 1}\n\n"two"\n'))
    assert list(read_rows(path)) == [{"n": 1}, {"text": "two"}]
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    with open_text(tmp_path / "marked.txt") as file:
        assert file.read() == "a\nb\n"


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.jsonl", "rows.json"])
def test_files_in_another_encoding_are_refused_by_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes('"text"\n"caf\xe9"\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is not in UTF-8: .*0xe9.*Save it as UTF-8"):
        read_columns(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not in UTF-8"):
        list(read_rows(tmp_path / name))


def test_line_ends_inside_of_cells_stay_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b'n,text\r\n1,"two\r\nlines"\r\n\r\n2,b\r\n')
    assert read_columns(tmp_path / "rows.csv") == {"n": ["1", "2"], "text": ["two\r\nlines", "b"]}
    (tmp_path / "header.csv").write_text("n,text\n")
    assert read_columns(tmp_path / "header.csv") == {"n": [], "text": []}
    (tmp_path / "one.csv").write_text("text\na\n\n")
    with pytest.raises(ValueError, match=r"Row 1 of .*one\.csv has 0 cells, but the header has 1"):
        read_columns(tmp_path / "one.csv")


def test_rows_are_read_from_text_only(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"rows\.parquet must be one of \.txt, .*which are text"):
        list(read_rows(path))


def write_beir(folder: Path, name: str, content: str) -> None:
    """A folder in BEIR layout of which one file has other content."""
    files = {
        "corpus.jsonl": '{"_id": "d", "text": "a cat"}\n',
        "queries.jsonl": '{"_id": "q", "text": "cat"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
    }
    (folder / "qrels").mkdir(parents=True)
    for file, usual in {**files, name: content}.items():
        (folder / file).write_text(usual)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d", "text": "a"}\n{"_id": \n', r"Line 2 of .*corpus\.jsonl is not JSON"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq\td\n", r"Row 0 of .*test\.tsv has 2 cells"),
    ],
)
def test_a_damaged_row_of_a_beir_folder_is_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    write_beir(tmp_path / "task", name, content)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path / "task")


def test_words_that_stand_for_nothing_elsewhere_are_texts(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,n\nNA,1\nnull,\nNone,3\n")
    with quiet_datasets():
        assert load_table([tmp_path / "rows.csv"]).to_dict() == {
            "text": ["NA", "null", "None"],
            "n": [1.0, None, 3.0],
        }
    assert read_columns(tmp_path / "rows.csv", "text")["text"] == ["NA", "null", "None"]
