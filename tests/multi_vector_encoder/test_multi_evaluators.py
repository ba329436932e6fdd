"""Evaluators of late interaction: metrics and csv files of the reference's, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers.multi_vector_encoder.evaluation as theirs
import torch
from multi_common import small_encoder, twins
from small import sentences

from likewise.evaluation import TripletEvaluator
from likewise.multi_vector_encoder import evaluation, scoring

QUERIES = {f"q{i}": text for i, text in enumerate(sentences(8, 1, 6))}
CORPUS = {f"d{i}": text for i, text in enumerate(sentences(40, 2, 15))}
RELEVANT = {f"q{i}": {f"d{i}", f"d{i + 9}"} for i in range(8)}
SAMPLES = [
    {"query": query, "positive": sentences(2, i, 9), "negative": sentences(4, 50 + i, 9)}
    for i, query in enumerate(QUERIES.values())
]
TRIPLETS = [sentences(10, seed, 9) for seed in (1, 2, 3)]
NESTED = [sentences(3, 20 + i, 9) for i in range(8)]
TEACHER = torch.rand(8, 3, generator=torch.Generator().manual_seed(0)) * 5
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("MultiVectorInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {"name": "small"}),
    ("MultiVectorInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {"corpus_chunk_size": 7, "chunk_elements": 500}),
    ("MultiVectorInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {"query_prompt": "the ", "corpus_prompt": "a "}),
    ("MultiVectorInformationRetrievalEvaluator", (QUERIES, CORPUS, RELEVANT), {"main_score_function": "maxsim"}),
    ("MultiVectorRerankingEvaluator", (SAMPLES,), {"name": "some", "at_k": 3}),
    ("MultiVectorRerankingEvaluator", (SAMPLES,), {"use_batched_encoding": False}),
    ("MultiVectorTripletEvaluator", tuple(TRIPLETS), {"name": "some"}),
    ("MultiVectorTripletEvaluator", tuple(TRIPLETS), {"main_similarity_function": "meanmaxsim"}),
    ("MultiVectorTripletEvaluator", tuple(TRIPLETS), {"similarity_fn_names": ["maxsim", "meanmaxsim"], "margin": 0.01}),
    ("MultiVectorDistillationEvaluator", (list(QUERIES.values()), NESTED, TEACHER.tolist()), {"temperature": 2.0}),
    ("MultiVectorDistillationEvaluator", (list(QUERIES.values()), NESTED, TEACHER.tolist()), {"student_temperature": 0.5}),
    ("MultiVectorDistillationEvaluator", (list(QUERIES.values()), [n[0] for n in NESTED], TEACHER[:, 0].tolist()), {"name": "flat"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "options"), CASES)
def test_metrics_and_files_are_the_references(
    tmp_path: Path, name: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    models = twins(tmp_path, query_expansion={"strategy": "fixed", "length": 8})
    found, files = [], []
    for model, home in zip(models, (evaluation, theirs), strict=True):
        folder = tmp_path / home.__name__
        folder.mkdir()
        evaluator = getattr(home, name)(*arguments, **options)
        found.append((evaluator(model, str(folder), 1, 2), evaluator.primary_metric))
        files.append({path.name: path.read_text().splitlines()[0] for path in folder.iterdir()})
    assert found[0][1] == found[1][1]
    assert found[0][0].keys() == found[1][0].keys()
    for key, value in found[0][0].items():
        assert value == pytest.approx(float(found[1][0][key]), abs=1e-5), key
    assert files[0] == files[1]


def test_a_score_of_ones_own_takes_the_place_of_the_models(tmp_path: Path) -> None:
    own, reference = twins(tmp_path)
    arguments: tuple[Any, ...] = (list(QUERIES.values()), NESTED, TEACHER)
    ours = evaluation.MultiVectorDistillationEvaluator(*arguments, similarity_fct=own.similarity_pairwise)
    assert ours.get_config_dict() == {"similarity_fct": "similarity_pairwise"}
    assert ours(own) == pytest.approx(
        theirs.MultiVectorDistillationEvaluator(*arguments)(reference), abs=1e-5
    )
    evaluator = evaluation.MultiVectorInformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, score_functions={"mine": own.similarity}
    )
    plain = evaluation.MultiVectorInformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    assert evaluator(own)["mine_ndcg@10"] == plain(own)["maxsim_ndcg@10"]


def test_a_folder_in_beir_layout_is_measured(tmp_path: Path) -> None:
    folder = tmp_path / "beir" / "scifact"
    (folder / "qrels").mkdir(parents=True)
    for file, texts in (("corpus", CORPUS), ("queries", QUERIES)):
        rows = [json.dumps({"_id": key, "title": "", "text": text}) for key, text in texts.items()]
        (folder / f"{file}.jsonl").write_text("\n".join(rows))
    lines = [
        "query-id\tcorpus-id\tscore",
        *(f"{q}\t{d}\t1" for q, some in RELEVANT.items() for d in sorted(some)),
    ]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines))
    evaluator = evaluation.MultiVectorNanoBEIREvaluator(
        dataset_id=str(tmp_path / "beir"), corpus_chunk_size=11
    )
    found = evaluator(small_encoder(tmp_path / "plain"))
    assert evaluator.primary_metric == "NanoBEIR_mean_maxsim_ndcg@10"
    assert 0 <= found[evaluator.primary_metric] <= 1


def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    arguments = (QUERIES, CORPUS, RELEVANT)
    with pytest.raises(ValueError, match="`truncate_dim=3` is for embeddings of whole texts"):
        evaluation.MultiVectorInformationRetrievalEvaluator(*arguments, truncate_dim=3)
    with pytest.raises(ValueError, match="'x' is XTR's, which ranks the tokens"):
        evaluation.MultiVectorInformationRetrievalEvaluator(
            *arguments, score_functions={"x": scoring.XTRScores()}
        )
    with pytest.raises(ValueError, match="`chunk_elements` is for the model's own score"):
        evaluation.MultiVectorInformationRetrievalEvaluator(
            *arguments, score_functions={"x": scoring.colbert_scores}, chunk_elements=5
        )
    with pytest.raises(
        ValueError, match=r"There is no similarity function 'cosine'\. Choose from maxsim, meanmaxsim"
    ):
        evaluation.MultiVectorTripletEvaluator(*TRIPLETS, similarity_fn_names=["cosine"])
    with pytest.raises(
        ValueError, match=r"There is no similarity function 'cosine'\. Choose from maxsim, meanmaxsim"
    ):
        evaluation.MultiVectorTripletEvaluator(*TRIPLETS, main_similarity_function="cosine")
    with pytest.raises(ValueError, match="do not fit: give each query one document and a number"):
        evaluation.MultiVectorDistillationEvaluator(["a"], ["b"], [[1.0]])
    with pytest.raises(ValueError, match=r"^`temperature` must be positive and finite, but is 0"):
        evaluation.MultiVectorDistillationEvaluator(["a"], ["b"], [1.0], temperature=0)
    with pytest.raises(
        TypeError, match="is for a SentenceTransformer, but the model is a MultiVectorEncoder"
    ):
        TripletEvaluator(*TRIPLETS)(small_encoder(tmp_path))  # type: ignore[arg-type]
