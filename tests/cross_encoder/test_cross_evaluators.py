"""Evaluators of CrossEncoders: keys, numbers and csv files of the reference's, on the same scores."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cross_common import pairs_of_texts, reranker_folder
from small import sentences

from likewise import CrossEncoder
from likewise.cross_encoder import evaluation


class Scored:
    """A model whose scores depend on the texts alone; what is kept for its card is recorded."""

    def __init__(self, num_labels: int = 1, rounded: bool = False) -> None:
        self.num_labels = num_labels
        self.rounded = rounded
        self.model_card_data = self
        self.kept: list[dict[str, Any]] = []
        self.calls: list[int] = []

    def predict(self, pairs: Any, **kwargs: Any) -> Any:
        assert kwargs["batch_size"]
        self.calls.append(len(pairs))
        rows = []
        for first, second in pairs:
            rng = random.Random(f"{first}|{second}")
            rows.append([round(rng.random(), 1 if self.rounded else 9) for _ in range(self.num_labels)])
        found = np.array(rows, np.float32).reshape(-1, self.num_labels)
        return found[:, 0] if self.num_labels == 1 else found

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], *args: Any) -> None:
        self.kept.append(metrics)


def both(
    evaluator_name: str, *args: Any, model: Any = None, tmp_path: Path, **kwargs: Any
) -> tuple[Any, Any]:
    """Run ours and the reference's evaluator; compare what they return, keep and write."""
    import sentence_transformers.cross_encoder.evaluation as reference

    results = []
    evaluators = []
    for number, module in enumerate((evaluation, reference)):
        evaluator = getattr(module, evaluator_name)(*args, **kwargs)
        scored = Scored() if model is None else model()
        folder = tmp_path / str(number)
        found = [evaluator(scored, str(folder)), evaluator(scored, str(folder), 2, 7)]
        rows = {
            file.name: list(csv.reader(file.read_text().splitlines())) for file in sorted(folder.iterdir())
        }
        results.append((found, scored.kept, rows))
        evaluators.append(evaluator)
    (ours, our_kept, our_rows), (theirs, their_kept, their_rows) = results
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx({key: float(value) for key, value in other.items()}, abs=1e-9)
        assert list(mine) == list(other)
    for mine, other in zip(our_kept, their_kept, strict=True):
        assert mine == {
            key: value if isinstance(value, str) else pytest.approx(float(value))
            for key, value in other.items()
        }
    assert set(our_rows) == set(their_rows)
    for file, rows in our_rows.items():
        assert rows[0] == their_rows[file][0]
        numbers = [[float(value) for value in row] for row in rows[1:]]
        assert numbers == [
            pytest.approx([float(value) for value in row], abs=1e-7) for row in their_rows[file][1:]
        ]
    assert evaluators[0].primary_metric == evaluators[1].primary_metric
    assert evaluators[0].get_config_dict() == evaluators[1].get_config_dict()
    return ours[0], our_kept


PAIRS = pairs_of_texts(60)
BINARY = [random.Random(5 * i).randint(0, 1) for i in range(60)]
CLASSES = [random.Random(3 * i).randint(0, 3) for i in range(60)]


@pytest.mark.parametrize("name", ["", "dev"])
@pytest.mark.parametrize("rounded", [False, True])
def test_binary_labels(name: str, rounded: bool, tmp_path: Path) -> None:
    found, _ = both(
        "CrossEncoderClassificationEvaluator",
        PAIRS,
        BINARY,
        name=name,
        model=lambda: Scored(rounded=rounded),
        tmp_path=tmp_path,
    )
    metrics = (
        "accuracy",
        "accuracy_threshold",
        "f1",
        "f1_threshold",
        "precision",
        "recall",
        "average_precision",
    )
    assert set(found) == {f"{name}_{metric}" if name else metric for metric in metrics}


def test_classes(tmp_path: Path) -> None:
    found, _ = both(
        "CrossEncoderClassificationEvaluator",
        PAIRS,
        CLASSES,
        name="dev",
        model=lambda: Scored(5),
        tmp_path=tmp_path,
    )
    assert set(found) == {"dev_f1_macro", "dev_f1_micro", "dev_f1_weighted"}


def test_correlation(tmp_path: Path) -> None:
    gold = [random.Random(7 * i).random() for i in range(60)]
    found, _ = both("CrossEncoderCorrelationEvaluator", PAIRS, gold, name="dev", tmp_path=tmp_path)
    assert set(found) == {"dev_pearson", "dev_spearman"}


def samples(kind: str, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    made = []
    for row, query in enumerate(sentences(12, seed)):
        documents = list(dict.fromkeys(sentences(14, 100 + row)))
        positives = rng.sample(documents, rng.randint(1, 4))
        sample: dict[str, Any] = {"query": query, "positive": positives if row else positives[0]}
        if kind == "negative":
            sample["negative"] = [text for text in documents if text not in positives]
        else:
            ranked = documents[: 3 if row == 5 else 12]
            rng.shuffle(ranked)
            if row == 7:
                ranked = [text for text in ranked if text not in positives]
            sample["documents"] = ranked
        made.append(sample)
    return made


@pytest.mark.parametrize("kind", ["negative", "documents"])
@pytest.mark.parametrize("options", [{}, {"at_k": 3, "name": "dev"}, {"always_rerank_positives": False}])
def test_reranking(kind: str, options: Any, tmp_path: Path) -> None:
    found, kept = both("CrossEncoderRerankingEvaluator", samples(kind), tmp_path=tmp_path, **options)
    assert any("base_map" in key for key in found) == (kind == "documents")
    if kind == "documents":
        assert all("(" in value for value in kept[0].values())


def test_reranking_scores_all_pairs_together() -> None:
    model = Scored()
    evaluation.CrossEncoderRerankingEvaluator(samples("documents"))(model)
    assert len(model.calls) == 1


def test_a_query_without_a_relevant_document_counts_nothing() -> None:
    lists = [
        {"query": "a", "positive": ["b"], "documents": ["c", "d"]},
        {"query": "a", "positive": ["b"], "documents": ["b"]},
    ]
    found = evaluation.CrossEncoderRerankingEvaluator(lists, always_rerank_positives=False)(Scored())
    assert found == dict.fromkeys(
        ("map", "mrr@10", "ndcg@10", "base_map", "base_mrr@10", "base_ndcg@10"), 0.5
    )
    none = evaluation.CrossEncoderRerankingEvaluator(lists[:1], always_rerank_positives=False)(Scored())
    assert set(none.values()) == {0.0}


def test_older_names_and_examples() -> None:
    from likewise import InputExample

    examples = [
        InputExample(texts=list(pair), label=label) for pair, label in zip(PAIRS, BINARY, strict=True)
    ]
    expected = evaluation.CrossEncoderClassificationEvaluator(PAIRS, BINARY, name="dev")(Scored())
    for name in ("BinaryAccuracy", "BinaryClassification", "F1", "SoftmaxAccuracy"):
        evaluator = getattr(evaluation, f"CE{name}Evaluator").from_input_examples(examples, name="dev")
        assert evaluator(Scored()) == expected
    assert "spearman" in evaluation.CECorrelationEvaluator.from_input_examples(examples)(Scored())
    assert "mrr@3" in evaluation.CERerankingEvaluator(samples("negative"), mrr_at_k=3)(Scored())


def beir_folder(path: Path, seed: int) -> Path:
    """A data set in BEIR layout with a first stage's ranking."""
    (path / "qrels").mkdir(parents=True)
    rng = random.Random(seed)
    texts = {f"d{i}": text for i, text in enumerate(sentences(30, seed))}
    queries = {f"q{i}": text for i, text in enumerate(sentences(6, seed + 1))}
    (path / "corpus.jsonl").write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t in texts.items()))
    (path / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": i, "text": t}) for i, t in queries.items())
    )
    relevant = [(query, document) for query in queries for document in rng.sample(sorted(texts), 3)]
    (path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "\n".join(f"{q}\t{d}\t1" for q, d in relevant)
    )
    (path / "bm25.jsonl").write_text(
        "\n".join(json.dumps({"query-id": q, "corpus-ids": rng.sample(sorted(texts), 20)}) for q in queries)
    )
    return path


def test_several_data_sets_and_their_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import sentence_transformers.cross_encoder.evaluation as reference

    for seed, name in enumerate(("scifact", "nq")):
        beir_folder(tmp_path / "data" / name, 10 * seed)
    ours = evaluation.CrossEncoderNanoBEIREvaluator(dataset_id=str(tmp_path / "data"), rerank_k=10)

    def load(dataset_id: str, subset: str, split: str) -> Any:
        folder = tmp_path / "data" / split.removeprefix("Nano").lower()
        if subset == "qrels":
            rows = list(
                csv.DictReader((folder / "qrels" / "test.tsv").read_text().splitlines(), delimiter="\t")
            )
        else:
            rows = [json.loads(line) for line in (folder / f"{subset}.jsonl").read_text().splitlines()]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    names = ["nq", "scifact"]
    hub = evaluation.CrossEncoderNanoBEIREvaluator(names, rerank_k=10)
    theirs = reference.CrossEncoderNanoBEIREvaluator(names, rerank_k=10)
    found = [each(Scored(), str(tmp_path / str(i))) for i, each in enumerate((ours, hub, theirs))]
    assert found[0] == found[1] == pytest.approx({key: float(value) for key, value in found[2].items()})
    assert ours.primary_metric == "NanoBEIR_R10_mean_ndcg@10"
    assert found[0][ours.primary_metric] > 0
    files = [sorted(file.name for file in (tmp_path / str(i)).iterdir()) for i in range(3)]
    assert files[0] == files[1] == files[2]
    assert hub.get_config_dict() == theirs.get_config_dict()
    assert len(evaluation.CrossEncoderNanoBEIREvaluator(["NQ"], rerank_k=10).evaluators) == 1


def test_a_real_model_is_measured_without_a_card(tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "model"), device="cpu")
    evaluator = evaluation.CrossEncoderCorrelationEvaluator(PAIRS, list(range(60)), name="dev")
    assert set(model.evaluate(evaluator, str(tmp_path / "out"))) == {"dev_pearson", "dev_spearman"}
    assert (tmp_path / "out" / "CrossEncoderCorrelationEvaluator_dev_results.csv").is_file()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda e: e.CrossEncoderClassificationEvaluator(PAIRS, BINARY[:5]), ValueError, "each of the 60 rows, but has 5"),
        (lambda e: e.CrossEncoderClassificationEvaluator(PAIRS, [0.5] * 60), ValueError, "whole numbers, but row 0 is 0.5"),
        (lambda e: e.CrossEncoderClassificationEvaluator([], []), ValueError, "`sentence_pairs` is empty"),
        (lambda e: e.CrossEncoderClassificationEvaluator([("a", "b", "c")], [1]), ValueError, "Row 0 of `sentence_pairs` must be two texts"),
        (lambda e: e.CrossEncoderClassificationEvaluator([("a", None)], [1]), TypeError, "must be a text, but is None"),
        (lambda e: e.CrossEncoderClassificationEvaluator(PAIRS, CLASSES)(Scored()), ValueError, "from 0 to 1 for this model"),
        (lambda e: e.CrossEncoderClassificationEvaluator(PAIRS, CLASSES)(Scored(3)), ValueError, "from 0 to 2 for this model"),
        (lambda e: e.CrossEncoderCorrelationEvaluator(PAIRS, [1.0] * 60), ValueError, "nothing correlates"),
        (lambda e: e.CrossEncoderCorrelationEvaluator(PAIRS, BINARY)(Scored(2)), ValueError, r"gives 2 \(`num_labels`\)"),
        (lambda e: e.CrossEncoderRerankingEvaluator([]), ValueError, "`samples` is empty"),
        (lambda e: e.CrossEncoderRerankingEvaluator(samples("negative"), at_k=0), ValueError, "`at_k` must be .* but is 0"),
        (lambda e: e.CrossEncoderRerankingEvaluator([{"query": "a"}]), ValueError, "Sample 0 must have `positive`"),
        (
            lambda e: e.CrossEncoderRerankingEvaluator([{"query": "a", "positive": [], "negative": [], "documents": []}]),
            ValueError,
            "either `negative` or `documents`",
        ),
        (lambda e: e.CrossEncoderRerankingEvaluator(samples("negative"))(Scored(2)), ValueError, "one score a pair"),
        (lambda e: e.CrossEncoderNanoBEIREvaluator(["nowhere"]), ValueError, "no data set 'nowhere'"),
        (lambda e: e.CrossEncoderNanoBEIREvaluator([]), ValueError, "`dataset_names` is empty"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(evaluation)


def test_a_folder_without_a_first_stage_is_refused(tmp_path: Path) -> None:
    folder = beir_folder(tmp_path / "x", 0)
    (folder / "bm25.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"must have bm25\.jsonl, the first stage's ranking"):
        evaluation.CrossEncoderNanoBEIREvaluator(dataset_id=str(folder))


def test_a_damaged_first_stage_is_refused_by_its_row(tmp_path: Path) -> None:
    folder = beir_folder(tmp_path / "x", 0)
    ranking = folder / "bm25.jsonl"
    first, *_ = ranking.read_text().splitlines()
    for second, said in (
        ('{"query-id": "q1"}', r"Row 1 of .*bm25\.jsonl lacks 'corpus-ids'"),
        ("oops", r"Line 2 of .*bm25\.jsonl is not JSON"),
    ):
        ranking.write_text(f"{first}\n{second}\n")
        with pytest.raises(ValueError, match=said):
            evaluation.CrossEncoderNanoBEIREvaluator(dataset_id=str(folder))
