"""The recipes that are scripts run from end to end on a little data of the same form."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences, small_model_folder

from likewise import SentenceTransformer

RECIPES = Path(__file__).parents[1] / "recipes"


def write(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns).to_parquet(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The files that the recipes read, small."""
    rng, folder = random.Random(0), tmp_path / "data"
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
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a script with a small random teacher, and returns its module and where it saved the model."""
    teacher = small_model_folder(tmp_path / "teacher")

    def start(name: str, *options: str, saves: bool = True) -> tuple[Any, Path]:
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, script)
        spec.loader.exec_module(script)
        out = tmp_path / "out"
        own = ["--out", str(out), "--teacher", teacher] if saves else ["--model", teacher]
        arguments = ["--data", str(data), *own, *options]
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        script.main()
        return script, out

    return start


@pytest.mark.slow
def test_training_from_nothing_leaves_a_static_model_with_its_own_tokenizer(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = run("train_from_nothing", "--vocabulary", "120", "--distilled-captions", "20")
    printed = capsys.readouterr().out
    assert [line.partition("  ")[0] for line in printed.splitlines() if "Spearman" in line][:2] == [
        "random vectors",
        "trained on captions",
    ]
    assert "80 rows: anchor, positive" in printed  # two pairs of captions a picture, 20 of 60 left out
    model = SentenceTransformer(str(out), device="cpu")
    assert type(model[0]).__name__ == "StaticEmbedding"
    assert model.tokenizer.get_vocab_size() <= 120
    assert model.encode("a cat").shape == (32,)


@pytest.mark.slow
def test_multilingual_distillation_measures_each_language_before_and_after(
    run: Callable[..., Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = run("multilingual_distillation", "--pairs", "40", "--held-out", "20")
    table = capsys.readouterr().out.partition("Trained in")[2].splitlines()[2:]
    assert [line.split()[0] for line in table] == [
        *(f"{kind}-{language}" for language in ("de", "fr", "zh") for kind in ("translation", "stsb")),
        "stsb-en",
    ]
    found = script.pairs(data, "fr", seed=42)
    assert not set(found["english"]) & {*sentences(400, seed=1)[:80]}
    assert len(set(found["english"])) == len(found)
    assert len(SentenceTransformer(str(out), device="cpu").encode("a cat")) == 32


@pytest.mark.slow
@pytest.mark.parametrize("task", ["questions", "captions"])
def test_mining_trains_the_same_rows_with_and_without_negatives(
    task: str, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("mine_hard_negatives", "--task", task, "--rows", "50", "--queries", "20", "--seeds", "1", saves=False)
    printed = capsys.readouterr().out
    number, _, possible = printed.partition(" pairs have 1 hard negatives")[0].splitlines()[-1].split()
    assert 0 < int(number) <= int(possible) <= 50
    plans = [line for line in printed.splitlines() if line.startswith("  train")]
    assert [plan.split()[1] for plan in plans] == [number] * 2
    assert ["negative" in plan for plan in plans] == [False, True]
    assert [line.partition(":")[0] for line in printed.splitlines() if "nDCG" in line] == [
        "before", "seed 1, pairs", "seed 1, mined",
    ]  # fmt: skip
