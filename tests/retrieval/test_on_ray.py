"""A local Ray of two workers embeds and mines as one process does; nothing is lost or done twice when one is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from small import sentences, small_model_folder

from likewise import SentenceTransformer
from likewise.cli.shards import EncodeShard, shards_in
from likewise.retrieval import hard_negatives, mine_hard_negatives
from likewise.retrieval.on_ray import each_on_ray

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NUM_SHARDS, ROWS = 6, 5


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(here.parent), str(here), str(here / "retrieval")])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def model_folder(tmp_path: Path) -> str:
    return small_model_folder(tmp_path / "model")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    texts = sentences(NUM_SHARDS * ROWS, seed=1)
    for number in range(NUM_SHARDS):
        part = slice(number * ROWS, (number + 1) * ROWS)
        rows = {"id": list(range(part.start, part.stop)), "text": texts[part]}
        pq.write_table(pa.table(rows), folder / f"{number}.parquet")
    return folder


class DiesOnce:
    """Work whose process is killed twice: before it does one item, and right after it has done another."""

    def __init__(self, work: Any, log: Path, before: str = "1", after: str = "3") -> None:
        self.work, self.log, self.before, self.after = work, log, before, after

    def __call__(self, item: Any) -> None:
        name = str(getattr(item, "stem", getattr(item, "start", item)))
        self._dies_at(self.before, name, "before")
        self.work(item)
        with (self.log / "done").open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
        self._dies_at(self.after, name, "after")

    def _dies_at(self, wanted: str, name: str, when: str) -> None:
        marker = self.log / when
        if name == wanted and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_workers_files_are_embedded_by_another(
    cluster: None, shards: Path, model_folder: str, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    log.mkdir()
    work = DiesOnce(EncodeShard(out, model_folder), log)
    assert list(each_on_ray(work, shards_in(shards), 2)) == list(range(1, NUM_SHARDS + 1))
    assert (log / "before").exists()
    assert (log / "after").exists()
    lines = [line.split() for line in (log / "done").read_text().splitlines()]
    assert {name for name, _ in lines} == {str(number) for number in range(NUM_SHARDS)}
    assert len({process for _, process in lines}) >= 2
    assert sorted(path.name for path in out.iterdir()) == [
        f"{number}.parquet" for number in range(NUM_SHARDS)
    ]
    found = pa.concat_tables(pq.read_table(path) for path in shards_in(out))
    assert found["id"].to_pylist() == list(range(NUM_SHARDS * ROWS))
    expected = SentenceTransformer(model_folder, device="cpu").encode(found["text"].to_pylist())
    np.testing.assert_allclose(np.array(found["embedding"].to_pylist()), expected, atol=1e-6)


def test_finished_files_are_left_alone(
    cluster: None, shards: Path, model_folder: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    EncodeShard(out, model_folder)(shards / "0.parquet")
    before = (out / "0.parquet").stat()
    assert len(list(each_on_ray(EncodeShard(out, model_folder), shards_in(shards), 2))) == NUM_SHARDS
    assert (out / "0.parquet").stat().st_ino == before.st_ino
    assert len(shards_in(out)) == NUM_SHARDS


def test_mining_gives_the_same_rows_and_goes_on_where_it_was_stopped(
    cluster: None, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_negatives, "BLOCK_ROWS", 7)
    pairs = Dataset.from_dict({"query": sentences(40, seed=2), "answer": sentences(40, seed=3)})
    model = SentenceTransformer(model_folder, device="cpu")
    settings: dict[str, Any] = {"num_negatives": 2, "output_scores": True, "verbose": False}
    expected = mine_hard_negatives(pairs, model, **settings)
    cache = tmp_path / "cache"
    log = tmp_path / "log"
    log.mkdir()

    def dying(work: Any, items: Any, num_workers: int) -> Iterator[int]:
        return each_on_ray(DiesOnce(work, log, before="7", after="21"), items, num_workers)

    monkeypatch.setattr(hard_negatives, "each_on_ray", dying)
    found = mine_hard_negatives(pairs, model, cache_folder=str(cache), ray_workers=2, **settings)
    assert found.to_dict()["negative"] == expected.to_dict()["negative"]
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-6)
    assert (log / "before").exists()
    assert (log / "after").exists()
    done = len((log / "done").read_text().splitlines())
    files = sorted(path for path in cache.iterdir() if path.suffix == ".npy")
    assert done >= len(files)  # what was done right before a worker died may be looked at again
    files[0].unlink()  # as if it had been stopped there
    mine_hard_negatives(pairs, model, cache_folder=str(cache), ray_workers=2, **settings)
    assert len((log / "done").read_text().splitlines()) == done + 1


def test_what_ray_needs_is_said(tmp_path: Path, model_folder: str) -> None:
    with pytest.raises(ValueError, match="`workers` must be a whole number of at least 1"):
        list(each_on_ray(print, [1], 0))
    with pytest.raises(FileNotFoundError, match=r"no folder with \.parquet files"):
        shards_in(tmp_path)
    pairs = Dataset.from_dict({"query": ["a"], "answer": ["b"]})
    with pytest.raises(ValueError, match="`ray_workers` needs a `cache_folder`"):
        mine_hard_negatives(pairs, SentenceTransformer(model_folder, device="cpu"), ray_workers=2)
