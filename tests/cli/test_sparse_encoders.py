"""Sparse encoders on the command line: trained by a recipe, measured, refused where dense embeddings are made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import sentences

sys.path.insert(0, str(Path(__file__).parents[1] / "sparse_encoder"))
from sparse_common import small_mlm_folder

from likewise import SparseEncoder
from likewise.families import SPARSE_ENCODER, family_in, family_on_hub

RECIPE = """
family: sparse-encoder
model: {{name: {model}, max_active_dims: 20}}
train:
  triplets:
    source: "${{data}}/triplets.parquet"
    loss:
      name: SpladeLoss
      loss: SparseMultipleNegativesRankingLoss
      document_regularizer_weight: 1e-3
      query_regularizer_weight: 1e-3
dev:
  same: {{source: "${{data}}/triplets.parquet", evaluator: SparseTripletEvaluator}}
training: {{output_dir: out, max_steps: 3, per_device_train_batch_size: 4, use_cpu: true}}
"""


def test_a_recipe_trains_a_sparse_encoder_that_is_measured_and_not_taken_for_a_dense_one(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    columns = {name: sentences(8, seed) for seed, name in enumerate(("anchor", "positive", "negative"))}
    Dataset.from_dict(columns).to_parquet(tmp_path / "triplets.parquet")
    Dataset.from_dict({"a": columns["anchor"], "b": columns["positive"], "score": [*range(8)]}).to_parquet(
        tmp_path / "alike.parquet"
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=small_mlm_folder(tmp_path / "mlm")))
    result = run("train", path, "--data", ".")
    assert result.exit_code == 0, result.output
    final = tmp_path / "out" / "final"
    assert SparseEncoder(str(final), device="cpu").max_active_dims == 20
    assert family_in(final) is SPARSE_ENCODER
    for data, kind in (
        ("triplets.parquet", "SparseTripletEvaluator"),
        ("alike.parquet", "SparseEmbeddingS"),
    ):
        measured = run("evaluate", final, "--data", data)
        assert measured.exit_code == 0, measured.output
        assert kind in measured.output
        assert "active_dims" in measured.output
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\na dog\n")
    refused = run("encode", texts, "--model", final, "--out", "vectors.npy")
    assert refused.exit_code == 2
    assert "holds a SparseEncoder" in refused.stderr


@pytest.mark.parametrize(
    ("name", "family"), [("sparse-encoder/x", "sparse-encoder"), ("a/b", "sentence-transformer")]
)
def test_a_name_on_the_hub_tells_its_family(name: str, family: str) -> None:
    assert family_on_hub(name).name == family
