"""NanoBEIREvaluator: the reference's metrics on a data set in the Hub's layout, and any folder in BEIR layout."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
from evaluation_common import assert_same_constructor, assert_same_evaluation, setting_id
from small import sentences

from likewise.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator
from likewise.evaluation import InformationRetrievalEvaluator, NanoBEIREvaluator
from likewise.similarity import cos_sim, dot_score

rng = random.Random(0)
NAMES = {"SciFact": 1, "NQ": 2}


def task(seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]], list[dict[str, Any]]]:
    """Corpus, queries and judgements; one document and one query are empty."""
    corpus = [{"_id": f"d{i}", "text": text} for i, text in enumerate(["", *sentences(40, seed=seed)])]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["", *sentences(8, seed=10 * seed)])]
    judgements = [
        {"query-id": query["_id"], "corpus-id": document["_id"]}
        for query in queries[1:]
        for document in rng.sample(corpus[1:], rng.randint(1, 6))
    ]
    return corpus, queries, judgements


TASKS = {name: task(seed) for name, seed in NAMES.items()}


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder as the Hub has it: subsets corpus, queries and qrels, one split for each task."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder, configs = tmp_path / "nano", []
    for place, subset in enumerate(("corpus", "queries", "qrels")):
        files = []
        for name, parts in TASKS.items():
            path = f"{subset}/Nano{name}.parquet"
            datasets.Dataset.from_list(parts[place]).to_parquet(folder / path)
            files.append({"split": f"Nano{name}", "path": path})
        configs.append({"config_name": subset, "data_files": files})
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    return str(folder)


@pytest.fixture
def beir_folder(tmp_path: Path) -> Path:
    """A folder with two folders in BEIR layout, one of them compressed."""
    for name, (corpus, queries, judgements) in TASKS.items():
        folder = tmp_path / "beir" / name
        (folder / "qrels").mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in corpus)
        if name == "NQ":
            with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
                file.write(lines)
        else:
            (folder / "corpus.jsonl").write_text(lines)
        (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
        rows = [f"{row['query-id']}\t{row['corpus-id']}\t1\n" for row in judgements]
        (folder / "qrels/test.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(rows) + "q1\td9999\t0\n"
        )
    return tmp_path / "beir"


SETTINGS = [
    {},
    {"aggregate_fn": max, "aggregate_key": "best"},
    {"truncate_dim": 5, "ndcg_at_k": [3, 5]},
    {"query_prompts": "a ", "corpus_prompts": {"scifact": "the ", "NQ": "or "}},
    {"score_functions": {"cosine": cos_sim, "dot": dot_score}, "main_score_function": "dot"},
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("NanoBEIREvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=setting_id)
def test_metrics_names_and_files_are_the_references(
    settings: dict[str, Any], hub_folder: str, model: Any, reference_model: Any, tmp_path: Path
) -> None:
    settings = settings | {"dataset_names": ["scifact", "NQ"], "dataset_id": hub_folder}
    metrics = assert_same_evaluation("NanoBEIREvaluator", (), settings, (model, reference_model), tmp_path)
    assert any(0 < value < 1 for value in metrics.values())


def test_a_folder_of_folders_is_the_mean_over_them(beir_folder: Path, model: Any) -> None:
    metrics = NanoBEIREvaluator(dataset_id=str(beir_folder))(model)
    single = []
    for name, (corpus, queries, judgements) in TASKS.items():
        relevant: dict[str, set[str]] = {}
        for row in judgements:
            relevant.setdefault(row["query-id"], set()).add(row["corpus-id"])
        texts = [{row["_id"]: row["text"] for row in rows if row["text"]} for rows in (queries, corpus)]
        single.append(InformationRetrievalEvaluator(*texts, relevant)(model))
        assert {key: metrics[f"Nano{name}_{key}"] for key in single[-1]} == single[-1]
    for key in single[0]:
        assert metrics[f"NanoBEIR_mean_{key}"] == pytest.approx((single[0][key] + single[1][key]) / 2)


def test_one_folder_in_beir_layout_is_one_task(beir_folder: Path, model: Any) -> None:
    evaluator = NanoBEIREvaluator(dataset_id=str(beir_folder / "SciFact"))
    metrics = evaluator(model)
    assert evaluator.dataset_names == ["SciFact"]
    assert metrics["NanoBEIR_mean_cosine_ndcg@10"] == metrics["NanoSciFact_cosine_ndcg@10"]


def test_titles_stand_in_front_of_texts_and_a_sole_split_is_read(tmp_path: Path, model: Any) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "a cat", "text": "in rain"}\n\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n')
    (tmp_path / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t2\n")
    (evaluator,) = NanoBEIREvaluator(dataset_id=str(tmp_path)).evaluators
    assert evaluator.corpus == ["a cat in rain"]
    assert evaluator(model)[f"{tmp_path.name}_cosine_ndcg@10"] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset_names": ["trivia"]}, "There is no data set 'trivia'. Choose from .*scifact"),
        ({"dataset_names": []}, "`dataset_names` is empty"),
        (
            {"dataset_names": ["nq"], "query_prompts": {"fever": "x"}},
            r"`query_prompts` must have a prompt for each data set, but has none for \['nq'\]",
        ),
        (
            {"dataset_names": ["nq"], "dataset_id": "nobody/nothing"},
            "Cannot load the subset 'corpus'.*NanoNQ",
        ),
    ],
)
def test_unknown_data_sets_and_missing_prompts_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NanoBEIREvaluator(**settings)


def test_one_name_in_place_of_a_list_is_refused() -> None:
    for kind in (NanoBEIREvaluator, CrossEncoderNanoBEIREvaluator):
        with pytest.raises(
            TypeError, match=r"`dataset_names` must be a list.*'msmarco'. Write \['msmarco'\]"
        ):
            kind("msmarco")  # type: ignore[arg-type]


def test_a_folder_without_judgements_or_queries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "x"}\n')
    with pytest.raises(FileNotFoundError, match=r"qrels must have test.tsv, but has no .tsv file"):
        NanoBEIREvaluator(dataset_id=str(tmp_path))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(FileNotFoundError, match=r"must have queries.jsonl or queries.jsonl.gz"):
        NanoBEIREvaluator(dataset_id=str(tmp_path))
