"""Evaluators of sparse models: the numbers, names and files of the reference."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small import sentences, small_model
from sparse_common import small_splade

from likewise.sparse_encoder import SparseEncoder, evaluation
from likewise.sparse_encoder.evaluation.sparse_texts import OfSparseRows

reference = pytest.importorskip("sentence_transformers")
theirs = pytest.importorskip("sentence_transformers.sparse_encoder.evaluation")
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # of the reference's ways to count and to multiply
A, B, C = (sentences(12, seed) for seed in (1, 2, 3))
CORPUS = {f"d{i}": text for i, text in enumerate(sentences(30, 5))}
QUERIES = {f"q{i}": text for i, text in enumerate(sentences(6, 6))}
RELEVANT = {query: {f"d{i}", f"d{i + 9}"} for i, query in enumerate(QUERIES)}
SAMPLES = [{"query": QUERIES[f"q{i}"], "positive": A[i : i + 2], "negative": B[i : i + 4]} for i in range(4)]
CASES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "similarity": (
        "SparseEmbeddingSimilarityEvaluator",
        (A, B, torch.linspace(0, 1, 12).tolist()),
    ),
    "binary": ("SparseBinaryClassificationEvaluator", (A, B, [0, 1] * 6)),
    "triplet": ("SparseTripletEvaluator", (A, B, C)),
    "translation": ("SparseTranslationEvaluator", (A, B)),
    "reranking": ("SparseRerankingEvaluator", (SAMPLES,)),
    "search": ("SparseInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT)),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SparseEncoder, Any]:
    path = tmp_path_factory.mktemp("evaluated")
    small_splade(path).save(str(path / "splade"))
    folder = str(path / "splade")
    return SparseEncoder(folder, device="cpu"), reference.SparseEncoder(folder, device="cpu")


def rows_of(folder: Path) -> list[list[str]]:
    (path,) = folder.glob("*.csv")
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("dims", [None, 5])
@pytest.mark.parametrize("case", CASES)
def test_metrics_names_and_csv_are_those_of_the_reference(
    pair: Any, tmp_path: Path, case: str, dims: int | None
) -> None:
    name, given = CASES[case]
    found, expected = (
        getattr(home, name)(*given, name="x", max_active_dims=dims)(model, str(tmp_path / side))
        if (tmp_path / side).mkdir() is None
        else {}
        for model, home, side in zip(pair, (evaluation, theirs), ("ours", "theirs"), strict=True)
    )
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-4)
    ours, others = rows_of(tmp_path / "ours"), rows_of(tmp_path / "theirs")
    assert ours[0] == others[0]
    assert [float(x) for x in ours[1]] == pytest.approx([float(x) for x in others[1]], abs=1e-4)


@pytest.mark.parametrize("case", ["similarity", "binary", "triplet", "reranking", "translation", "mse"])
def test_embeddings_of_pairs_and_lists_stay_sparse(
    pair: Any, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, given = (CASES | {"mse": ("SparseMSEEvaluator", (A, B, pair[0]))})[case]
    kind = getattr(evaluation, name)
    seen: list[torch.Tensor] = []

    def watched(self: Any, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = OfSparseRows.embed_columns(self, *args, **kwargs)
        seen.extend(found)
        return found

    monkeypatch.setattr(kind, "embed_columns", watched)
    kind(*given)(pair[0])
    assert seen
    assert all(one.is_sparse for one in seen)


def test_a_text_that_is_embedded_with_what_is_no_number_is_named(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = SparseEncoder.encode

    def spoiled(self: Any, texts: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        found: torch.Tensor = encode(self, texts, *args, **kwargs).coalesce()
        found.values()[found.indices()[0] == 3] = torch.inf
        return found

    monkeypatch.setattr(SparseEncoder, "encode", spoiled)
    with pytest.raises(ValueError, match="NaN or infinite entries, first of all row 3"):
        evaluation.SparseEmbeddingSimilarityEvaluator(A, B, [*range(12)])(pair[0])


def test_the_distance_to_a_teacher_is_that_of_the_reference(pair: Any, tmp_path: Path) -> None:
    teacher = small_splade(tmp_path / "other")
    teacher.save(str(tmp_path / "teacher"))
    other = reference.SparseEncoder(str(tmp_path / "teacher"), device="cpu")
    found = evaluation.SparseMSEEvaluator(A, B, teacher_model=teacher)(pair[0])
    expected = theirs.SparseMSEEvaluator(A, B, teacher_model=other)(pair[1])
    assert found == pytest.approx(expected, rel=1e-4)


def beir(folder: Path, seed: int) -> None:
    folder.mkdir()
    (folder / "qrels").mkdir()
    texts = sentences(20, seed)
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "title": "", "text": t}) + "\n" for i, t in enumerate(texts))
    )
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": f"the {t}"}) + "\n" for i, t in enumerate(texts[:seed]))
    )
    lines = "".join(f"q{i}\td{i}\t1\n" for i in range(seed))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")


def test_several_data_sets_have_the_figures_of_all_their_texts(pair: Any, tmp_path: Path) -> None:
    beir(tmp_path / "one", 4)
    beir(tmp_path / "two", 7)
    evaluator = evaluation.SparseNanoBEIREvaluator(dataset_id=str(tmp_path), max_active_dims=9)
    found = evaluator(pair[0], str(tmp_path / "out"))
    assert evaluator.name == "NanoBEIR_mean_9"
    parts = {name: {k.removeprefix(f"{name}_9_"): v for k, v in found.items()} for name in ("one", "two")}
    weighted = (4 * parts["one"]["query_active_dims"] + 7 * parts["two"]["query_active_dims"]) / 11
    assert found["NanoBEIR_mean_9_query_active_dims"] == pytest.approx(weighted)
    plain = (parts["one"]["dot_ndcg@10"] + parts["two"]["dot_ndcg@10"]) / 2
    assert found["NanoBEIR_mean_9_dot_ndcg@10"] == pytest.approx(plain)
    assert evaluator.measure(pair[0])["query_active_dims"].value == pytest.approx(weighted)
    assert found[evaluator.primary_metric or ""] == pytest.approx(plain)


def test_average_flops_is_the_mean_number_of_products_of_a_score(pair: Any) -> None:
    found = evaluation.SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(pair[0])
    queries = pair[0].encode_query(list(QUERIES.values())).to_dense() != 0
    documents = pair[0].encode_document(list(CORPUS.values())).to_dense() != 0
    slow = sum(float((q & d).sum()) for q in queries for d in documents) / len(queries) / len(documents)
    assert found["avg_flops"] == pytest.approx(slow)


def test_a_corpus_may_be_embedded_before(pair: Any) -> None:
    evaluator = evaluation.SparseInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    embeddings = pair[0].encode_document(list(CORPUS.values()))
    assert evaluator(pair[0], corpus_embeddings=embeddings) == pytest.approx(evaluator(pair[0]))


def fusion_samples() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    def sample(i: int, documents: list[str]) -> dict[str, Any]:
        return {"query_id": i, "query": f"q{i}", "positive": ["a", "b", "z"][: i + 1], "documents": documents}

    dense = [sample(0, ["c", "a", "b"]), sample(1, ["b", "c", "d"]), sample(2, ["x", "y"])]
    sparse = [sample(0, ["a", "e"]), sample(1, ["a", "b", "e"]), sample(2, ["y", "z", "a"])]
    return dense, sparse


def test_fused_rankings_and_their_files_are_those_of_the_reference(tmp_path: Path) -> None:
    dense, sparse = fusion_samples()
    results = []
    for home, side in ((evaluation, "ours"), (theirs, "theirs")):
        evaluator = home.ReciprocalRankFusionEvaluator(  # type: ignore[attr-defined]
            dense, sparse, at_k=2, name="x", write_predictions=True
        )
        results.append(evaluator(str(tmp_path / side), 1, 2))
    assert results[0] == pytest.approx(results[1])
    ours, others = rows_of(tmp_path / "ours"), rows_of(tmp_path / "theirs")
    assert ours[0] == others[0]
    assert [float(x) for x in ours[1]] == pytest.approx([float(x) for x in others[1]])
    name = "ReciprocalRankFusion_evaluation_x_predictions.jsonl"
    found, expected = (
        [json.loads(line) for line in (tmp_path / side / name).read_text().splitlines()]
        for side in ("ours", "theirs")
    )
    assert [row["documents"] for row in found] == [row["documents"] for row in expected]


def test_what_does_not_belong_together_is_refused_in_words(pair: Any, tmp_path: Path) -> None:
    dense, sparse = fusion_samples()
    with pytest.raises(ValueError, match="There are 3 `dense_samples`, but 2"):
        evaluation.ReciprocalRankFusionEvaluator(dense, sparse[:2])
    with pytest.raises(ValueError, match=r"Sample 0 is of the query 0 .* but of 1"):
        evaluation.ReciprocalRankFusionEvaluator(dense, [sparse[1], *sparse[1:]])
    with pytest.raises(ValueError, match="Sample 2 of `sparse_samples` has no `documents`"):
        evaluation.ReciprocalRankFusionEvaluator(dense, [*sparse[:2], {"query_id": 2, "query": "", "positive": []}])  # fmt: skip
    with pytest.raises(ValueError, match=r"`at_k` must be .* but is -1"):
        evaluation.ReciprocalRankFusionEvaluator(dense, sparse, at_k=-1)
    with pytest.raises(ValueError, match=r"`max_active_dims` must be .* but is 0"):
        evaluation.SparseTripletEvaluator(A, B, C, max_active_dims=0)
    with pytest.raises(TypeError, match=r"SparseTripletEvaluator\(\) got an unexpected .* 'truncate_dim'"):
        evaluation.SparseTripletEvaluator(A, B, C, truncate_dim=3)
    with pytest.raises(TypeError, match="is for a SparseEncoder, but the model is a SentenceTransformer"):
        evaluation.SparseTripletEvaluator(A, B, C)(small_model(tmp_path))
