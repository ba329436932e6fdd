"""The script that users of the reference write first runs after a change of the import line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from small import sentences, small_model_folder

SCRIPT = """
from datasets import load_dataset
from likewise import (
    SentenceTransformer,
    SentenceTransformerModelCardData,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from likewise.evaluation import TripletEvaluator
from likewise.losses import MultipleNegativesRankingLoss
from likewise.training_args import BatchSamplers

model = SentenceTransformer(
    "mpnet-base",  # not a sentence transformer yet: mean pooling is added
    model_card_data=SentenceTransformerModelCardData(
        language="en", license="apache-2.0", model_name="MPNet base trained on AllNLI triplets"
    ),
)
triplets = load_dataset(
    "parquet", data_files={name: f"all-nli/{name}.parquet" for name in ("train", "dev", "test")}
)
train, dev, test = triplets["train"].select(range(64)), triplets["dev"], triplets["test"]
evaluators = {
    name: TripletEvaluator(
        anchors=part["anchor"], positives=part["positive"], negatives=part["negative"], name=f"all-nli-{name}"
    )
    for name, part in {"dev": dev, "test": test}.items()
}
before = evaluators["dev"](model)
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir="models/mpnet-base-all-nli-triplet",
        num_train_epochs=1,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        warmup_ratio=0.1,
        bf16=True,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
        logging_steps=2,
        run_name="mpnet-base-all-nli-triplet",
        report_to="none",
    ),
    train_dataset=train,
    eval_dataset=dev,
    loss=MultipleNegativesRankingLoss(model),
    evaluator=evaluators["dev"],
)
trainer.train()
after = evaluators["test"](model)
model.save_pretrained("models/mpnet-base-all-nli-triplet/final")
again = SentenceTransformer("models/mpnet-base-all-nli-triplet/final")
"""


@pytest.mark.parametrize("architecture", ["mpnet", "bert"])
def test_the_first_script_runs(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_model_folder("mpnet-base", architecture)
    texts = sentences(3 * 96)
    rows = Dataset.from_dict({"anchor": texts[::3], "positive": texts[1::3], "negative": texts[2::3]})
    parts = DatasetDict(train=rows, dev=rows.select(range(16)), test=rows.select(range(16, 32)))
    Path("all-nli").mkdir()
    for name, part in parts.items():
        part.to_parquet(f"all-nli/{name}.parquet")

    names: dict[str, object] = {}
    exec(compile(SCRIPT, "script.py", "exec"), names)

    assert set(names["before"]) == {"all-nli-dev_cosine_accuracy"}  # type: ignore[call-overload]
    assert set(names["after"]) == {"all-nli-test_cosine_accuracy"}  # type: ignore[call-overload]
    history = names["trainer"].state.log_history  # type: ignore[attr-defined]
    assert [entry["step"] for entry in history if "eval_all-nli-dev_cosine_accuracy" in entry] == [2, 4]
    model, again = names["model"], names["again"]
    np.testing.assert_array_equal(model.encode(texts[:9]), again.encode(texts[:9]))  # type: ignore[attr-defined]
    folder = Path("models/mpnet-base-all-nli-triplet")
    assert [entry.name for entry in folder.glob("checkpoint-*")] == ["checkpoint-4"]
    card = (folder / "final" / "README.md").read_text()
    assert "MPNet base trained on AllNLI triplets" in card
    assert "MultipleNegativesRankingLoss" in card
    assert "anchor, positive, negative -> MultipleNegativesRankingLoss" in capsys.readouterr().out
