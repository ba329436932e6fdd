"""A data collator passed to the trainer: label columns of other names, prompts and routes, batches of one's own making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from likewise.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.data_collator import (
    SentenceTransformerDataCollator as ReferenceCollator,
)
from small import sentences, small_model

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import CoSENTLoss

TEXTS = sentences(32)
DATA = Dataset.from_dict({"first": TEXTS[:16], "second": TEXTS[16:], "likeness": [i / 16 for i in range(16)]})


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path / "model")
    return made


def train(
    model: SentenceTransformer, folder: Path, data: Dataset, **options: Any
) -> SentenceTransformerTrainer:
    args = SentenceTransformerTrainingArguments(
        str(folder),
        max_steps=3,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=args, train_dataset=data, eval_dataset=data, loss=CoSENTLoss(model), **options
    )
    trainer.train()
    trainer.evaluate()
    return trainer


@pytest.mark.parametrize("kind", ["itself", "a subclass"])
def test_its_label_columns_are_the_trainers(
    model: SentenceTransformer, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[set[str]] = []

    class Mine(SentenceTransformerDataCollator):
        def __call__(self, features: Any) -> dict[str, Any]:
            batch = super().__call__(features)
            seen.append(set(batch))
            return batch

    collator = (SentenceTransformerDataCollator if kind == "itself" else Mine)(
        model.preprocess, valid_label_columns=["likeness"]
    )
    losses = []
    for data, given in ((DATA, collator), (DATA.rename_column("likeness", "score"), None)):
        torch.manual_seed(0)
        made = small_model(tmp_path / "model")
        trainer = train(made, tmp_path, data, data_collator=given)
        losses.append(trainer.state.log_history[-1]["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert "label=likeness" in capsys.readouterr().out
    columns = {f"{name}_{key}" for name in ("first", "second") for key in ("input_ids", "attention_mask")}
    assert all(keys == columns | {"label"} for keys in seen)
    assert bool(seen) == (kind == "a subclass")


@pytest.mark.parametrize(
    "prompts",
    [None, "find ", {"first": "find "}, {"letters": "see "}, {"letters": {"second": "find "}}],
    ids=["none", "one", "by column", "by data set", "by both"],
)
def test_batches_are_the_references(model: SentenceTransformer, prompts: Any) -> None:
    rows = [dict(row, dataset_name="letters") for row in DATA.select(range(4))]
    made = [
        kind(preprocess_fn=model.preprocess, valid_label_columns=["likeness"], prompts=prompts)(rows)
        for kind in (SentenceTransformerDataCollator, ReferenceCollator)
    ]
    assert set(made[0]) == set(made[1])
    for name, value in made[0].items():
        assert value == made[1][name] if isinstance(value, str) else value.equal(made[1][name])


def test_prompts_of_the_collator_are_used_in_training(model: SentenceTransformer, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def preprocess(texts: Any, prompt: str | None = None) -> Any:
        asked.append(prompt)
        return model.preprocess(texts, prompt)

    collator = SentenceTransformerDataCollator(preprocess, ["likeness"], prompts={"first": "find "})
    train(model, tmp_path, DATA, data_collator=collator)
    assert set(asked) == {"find ", None}
