"""A little data of the form that the recipes read, and a way to run those that are scripts."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences, small_model_folder

from likewise import CrossEncoder
from likewise.recipes.catalogue import FOLDER


def write(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns).to_parquet(path)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the recipes read, small."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("data")
    texts = sentences(400, seed=1)
    for language in ("en", "de", "fr", "zh"):
        path = folder / f"sts/stsb-multi/{language}-test.parquet"
        write(path, sentence1=texts[:40], sentence2=texts[40:80], score=[5 * rng.random() for _ in range(40)])
    captions = {f"caption{i + 1}": sentences(60, seed=i + 10) for i in range(5)}
    overlaps = [i < 20 for i in range(60)]
    write(folder / "pairs/flickr30k-captions/en-train.parquet", **captions, overlaps_sts_eval=overlaps)
    for i, name in enumerate(("en-test", "en-val")):
        path = folder / f"pairs/flickr30k-captions/{name}.parquet"
        write(path, caption1=sentences(10, seed=i + 20), caption2=sentences(10, seed=i + 30))
    pairs = {
        "en": texts,
        "fr": texts[::-1],
        "zh": texts[::-1],
        "in_tatoeba_test": [i < 200 for i in range(400)],
    }
    for language in ("fr", "zh"):
        columns = {name: pairs[name] for name in ("en", language, "in_tatoeba_test")}
        write(folder / f"parallel/manythings/en-{language}.parquet", **columns)
    for name, part in (("nqg-test", texts[:200]), ("squad-v1.1-dev", texts[200:])):
        write(folder / f"pairs/squad-nqg/{name}.parquet", question=part[::2], sentence=part[1::2])
    write(folder / "parallel/multi30k/train.parquet", en=texts, de=texts[::-1])
    scores = [5 * rng.random() for _ in range(60)]
    for name in ("train", "dev"):
        path = folder / f"sts/stsb-multi/en-{name}.parquet"
        write(path, sentence1=texts[80:140], sentence2=texts[140:200], score=scores)
    labels = [("entailment", "neutral", "contradiction")[row % 3] for row in range(30)]
    write(folder / "nli/snli/dev.parquet", sentence1=texts[:30], sentence2=texts[30:60], label=labels)
    triplets = {
        name: texts[20 * i : 20 * i + 20] for i, name in enumerate(("anchor", "positive", "negative"))
    }
    sources = [("snli-test", "cad-train", "snli-dev", "cad-dev")[row % 4] for row in range(20)]
    path = folder / "nli/triplets/snli-cad.parquet"
    write(path, **triplets, source=sources, overlaps_sts_eval=[row > 15 for row in range(20)])
    write(folder / "pairs/scitldr/train.parquet", title=texts[:20], abstract=texts[20:40])
    write(folder / "pairs/medquad/train.parquet", question=texts[40:60], answer=texts[60:80])
    for name, part in (("train", texts[200:240]), ("test", texts[240:280])):
        overlaps = [row % 4 == 0 for row in range(20)]
        labels = [row % 2 for row in range(20)]
        path = folder / f"pairs/mrpc/{name}.parquet"
        write(path, sentence1=part[::2], sentence2=part[1::2], label=labels, overlaps_sts_eval=overlaps)
    for name, part in (("train", texts[280:320]), ("test", texts[320:360])):
        path = folder / f"reranking/trec-qa/{name}.parquet"
        queries = [part[row // 4] for row in range(32)]
        write(path, query=queries, answer=part[8:40], label=[int(row % 4 == 1) for row in range(32)])
    beir(folder / "retrieval/scifact", documents=texts[:60], queries=texts[60:90], num_train=20)
    return folder


def beir(folder: Path, documents: list[str], queries: list[str], num_train: int) -> None:
    """A folder in BEIR layout, query i about document i; the first queries are for training."""
    (folder / "qrels").mkdir(parents=True)
    for name, part in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": f"{name[0]}{i}", "text": text}) for i, text in enumerate(part)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    for split, rows in (("train", range(num_train)), ("test", range(num_train, len(queries)))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\tc{i}\t1" for i in rows)]
        (folder / f"qrels/{split}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def script_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A recipe that is a script, as a module."""

    def loaded(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, script)  # where its dataclasses look for it
        spec.loader.exec_module(script)
        return script

    return loaded


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random model."""
    return small_model_folder(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def small_reranker(tmp_path_factory: pytest.TempPathFactory, teacher: str) -> str:
    """A small random cross-encoder."""
    folder = str(tmp_path_factory.mktemp("reranker"))
    CrossEncoder(teacher, num_labels=1, device="cpu").save_pretrained(folder)
    return folder


@pytest.fixture
def run(
    data: Path, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script_of: Callable[[str], Any]
) -> Callable[..., Any]:
    """Runs a script with a small random teacher, and returns its module and where it saved the model."""
    monkeypatch.chdir(tmp_path)

    def start(name: str, *options: str, saves: bool = True, flag: str | None = None) -> tuple[Any, Path]:
        script = script_of(name)
        out = tmp_path / "out"
        out_option = ["--out", str(out)] if saves else []
        own = [*out_option, flag or ("--teacher" if saves else "--model"), teacher]
        arguments = ["--data", str(data), *own, *options]
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        script.main()
        return script, out

    return start
