"""Multi-vector models on the command line: trained by a recipe, measured, refused where dense embeddings are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from small import sentences, small_model_folder

from likewise import MultiVectorEncoder
from likewise.families import MULTI_VECTOR_ENCODER, family_in
from likewise.report.charts import is_installed

RECIPE = """
family: multi-vector-encoder
model: {{name: {model}, max_seq_length: 20}}
train:
  triplets:
    source: "${{data}}/triplets.parquet"
    loss: {{name: MultiVectorMultipleNegativesRankingLoss, similarity_fct: mean_colbert_scores}}
dev:
  same: {{source: "${{data}}/triplets.parquet", evaluator: MultiVectorTripletEvaluator}}
training: {{output_dir: out, max_steps: 3, per_device_train_batch_size: 4, use_cpu: true}}
"""


def test_a_recipe_trains_a_multi_vector_encoder_that_is_measured_and_not_taken_for_a_dense_one(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    first, second, third = (sentences(8, seed) for seed in range(3))
    tables: dict[str, dict[str, list[Any]]] = {
        "triplets": {"anchor": first, "positive": second, "negative": third},
        "ranking": {"query": [first[0]] * 4 + [first[1]] * 4, "document": second, "label": [0, 1, 0, 0] * 2},
        "teacher": {"query": first, "document": second, "score": [*range(8)]},
        "paraphrases": {"a": first, "b": second},
        "classes": {"a": first, "b": second, "label": [0, 1] * 4},
    }
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(tmp_path / f"{name}.parquet")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=small_model_folder(tmp_path / "plain")))
    result = run("train", path, "--data", ".")
    assert result.exit_code == 0, result.output
    final = tmp_path / "out" / "final"
    if is_installed():
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert "8 of 8 rows of the training data" in page
        assert "accuracy@1" in page
        before = ("--before", tmp_path / "plain", "--data", "triplets.parquet")
        assert run("report", final, *before).exit_code == 0
        assert "nDCG@10" in (final / "report-triplets.html").read_text(encoding="utf-8")
    assert family_in(final) is MULTI_VECTOR_ENCODER
    assert MultiVectorEncoder(str(final), device="cpu").max_seq_length == 20
    for name, kind in (
        ("triplets", "MultiVectorRerankingEvaluator"),
        ("ranking", "MultiVectorRerankingEvaluator"),
        ("teacher", "MultiVectorDistillationEvaluator"),
    ):
        measured = run("evaluate", final, "--data", f"{name}.parquet")
        assert measured.exit_code == 0, measured.output
        assert kind in measured.output
    for name in ("paraphrases", "classes"):
        refused = run("evaluate", final, "--data", f"{name}.parquet")
        assert refused.exit_code == 2
        assert "a number from a range (a teacher's score), or a ranking" in " ".join(refused.stderr.split())
    (tmp_path / "texts.txt").write_text("a cat\na dog\n")
    refused = run("encode", "texts.txt", "--model", final, "--out", "vectors.npy")
    assert refused.exit_code == 2
    assert "holds a MultiVectorEncoder" in refused.stderr
    mined = run(
        "mine", "triplets.parquet", "--columns", "anchor,positive", "--model", final, "--out", "mined.jsonl"
    )
    assert mined.exit_code == 0, mined.output
    assert "8 pairs -> 24 rows (anchor, positive, negative)" in mined.output
