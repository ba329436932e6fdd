"""Rows are read from every kind of file, chosen, renamed and filtered as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from likewise.training.data.sources import Source

ROWS = {"a": ["x", "y", "z"], "b": ["p", "q", "r"], "kind": ["old", "new", "old"], "n": [1, 2, 3]}


@pytest.fixture(params=["parquet", "csv", "tsv", "jsonl"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"rows.{request.param}"
    lines = [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)]
    if request.param == "parquet":
        pq.write_table(pa.table(ROWS), path)
    elif request.param == "jsonl":
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        separator = "\t" if request.param == "tsv" else ","
        cells = [list(ROWS), *(list(map(str, line.values())) for line in lines)]
        path.write_text("".join(separator.join(row) + "\n" for row in cells))
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def test_every_kind_of_file_gives_the_same_rows(file: str) -> None:
    assert Source(file).load().to_dict() == ROWS


def test_columns_come_in_the_order_asked_for_and_with_their_new_names(table: str) -> None:
    assert Source(table, columns=["b", "a"]).load().to_dict() == {"b": ROWS["b"], "a": ROWS["a"]}
    renamed = Source(table, columns={"anchor": "b", "b": "a"}).load()
    assert renamed.to_dict() == {"anchor": ROWS["b"], "b": ROWS["a"]}


def test_rows_are_filtered_before_they_are_counted(table: str) -> None:
    source = Source(table, columns=["a"], where={"kind": "old"}, max_rows=2)
    assert source.load().to_dict() == {"a": ["x", "z"]}
    assert Source(table, columns=["a"], where={"n": [2, 3], "kind": "old"}).load().to_dict() == {"a": ["z"]}
    assert Source(table, columns=["a"], max_rows=1).load().to_dict() == {"a": ["x"]}


def test_what_is_not_there_is_named(table: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has no column 'knd', only 'a', 'b', 'kind', 'n'\. Did you mean 'kind'\?"
    ):
        Source(table, where={"knd": "old"}).load()
    with pytest.raises(ValueError, match=r"has no rows where \{'kind': 'lost'\}"):
        Source(table, where={"kind": "lost"}).load()
    with pytest.raises(FileNotFoundError, match=r"There is no file nowhere\.csv"):
        Source("nowhere.csv").load()
    with pytest.raises(FileNotFoundError, match="no such data set could be had from the Hub"):
        Source("nobody/nothing").load()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(ValueError, match=r"cut\.parquet cannot be read: .* Is it complete\?"):
        Source(str(tmp_path / "cut.parquet")).load()
