"""A folder of tables is embedded file by file; what is there is left alone if it is of the same texts, model and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import sentences, small_model_folder

from likewise.cli.shards import EncodeShard


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"text": sentences(5), "other": sentences(5, seed=1)}), path)
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> str:
    return small_model_folder(tmp_path / "model")


def test_a_file_that_is_there_is_left_alone(shard: Path, model_folder: str, tmp_path: Path) -> None:
    work = EncodeShard(tmp_path / "out", model_folder, "text", {"normalize_embeddings": True})
    assert not work.is_done(shard)
    work(shard)
    (made,) = (tmp_path / "out").iterdir()
    assert pq.read_table(made).column_names == ["text", "other", "embedding"]
    before = made.stat()
    again = EncodeShard(
        tmp_path / "out", model_folder, "text", {"normalize_embeddings": True, "batch_size": 7}
    )
    again(shard)
    assert again.is_done(shard)
    assert (before.st_mtime_ns, before.st_ino) == (made.stat().st_mtime_ns, made.stat().st_ino)


def test_a_file_of_other_texts_model_or_settings_is_refused(
    shard: Path, model_folder: str, tmp_path: Path
) -> None:
    out, settings = tmp_path / "out", {"normalize_embeddings": True}
    EncodeShard(out, model_folder, "text", settings)(shard)
    other = small_model_folder(tmp_path / "second", seed=1)
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        (model_folder, "other", settings, "texts"),
        (other, "text", settings, "fingerprint"),
        (model_folder, "text", {"normalize_embeddings": False}, "normalize_embeddings"),
    ]
    for name, column, options, differs in cases:
        with pytest.raises(
            ValueError, match=f"0.parquet exists, but was not made of .*: other {differs}. Delete"
        ):
            EncodeShard(out, name, column, options)(shard)
    pq.write_table(pq.read_table(out / "0.parquet").replace_schema_metadata(None), out / "0.parquet")
    with pytest.raises(ValueError, match=r"this model and these settings. Delete"):
        EncodeShard(out, model_folder, "text", settings)(shard)
    (out / "0.parquet").write_text("something else")
    with pytest.raises(ValueError, match=r"this model and these settings. Delete"):
        EncodeShard(out, model_folder, "text", settings)(shard)
