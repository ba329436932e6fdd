"""Training a MultiVectorEncoder: the plan, the same steps as the reference's, and a run that was taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from multi_common import small_encoder, twins
from sentence_transformers import MultiVectorEncoderTrainer as ReferenceTrainer
from sentence_transformers import MultiVectorEncoderTrainingArguments as ReferenceArguments
from small import sentences

from likewise import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformerTrainer,
)
from likewise.losses import CoSENTLoss
from likewise.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss

ROWS = Dataset.from_dict(
    {"query": sentences(24, 1, 6), "positive": sentences(24, 2, 12), "negative": sentences(24, 3, 12)}
)
EXPANSION = {"strategy": "fixed", "length": 9}


def arguments(path: Path, kind: Any = MultiVectorEncoderTrainingArguments, **options: Any) -> Any:
    given: dict[str, Any] = {
        "per_device_train_batch_size": 4, "report_to": "none", "use_cpu": True, "learning_rate": 1e-2, "save_strategy": "no",
        "logging_steps": 1, "disable_tqdm": True, "max_steps": 3,
    }  # fmt: skip
    return kind(str(path), **(given | options))


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_steps_are_those_of_the_reference(tmp_path: Path) -> None:
    own, reference = twins(tmp_path, query_expansion=EXPANSION, document_length=9)
    for prompts in (None, {"query": "the ", "positive": "a "}):
        options = {"prompts": prompts, "learning_rate": 1e-3}
        ours = MultiVectorEncoderTrainer(own, arguments(tmp_path / "a", **options), ROWS.select(range(4)))
        theirs = ReferenceTrainer(
            reference, arguments(tmp_path / "b", ReferenceArguments, **options), ROWS.select(range(4))
        )
        assert prompts is None or "query (prompt 'the ')" in ours.plans["train"][0].describe()
        ours.train()
        theirs.train()
        torch.testing.assert_close(losses_of(ours), losses_of(theirs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"micro_batch_tokens": 30}, {"bf16": True}])
def test_a_model_learns(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small_encoder(tmp_path / "plain", dropout=False, query_expansion=EXPANSION)
    trainer = MultiVectorEncoderTrainer(
        model, arguments(tmp_path, max_steps=12, **options), ROWS.select(range(8))
    )
    trainer.train()
    assert losses_of(trainer)[-1] < losses_of(trainer)[0]
    model.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "MultiVectorMultipleNegativesRankingLoss" in card
    assert "late-interaction" in card


def test_a_run_that_was_taken_up_again_ends_the_same(tmp_path: Path) -> None:
    def run(path: Path, resume: bool, steps: int) -> dict[str, torch.Tensor]:
        model = small_encoder(path / "plain", query_expansion=EXPANSION)
        options = {"save_strategy": "steps", "save_steps": 2, "max_steps": steps, "num_train_epochs": 1}
        trainer = MultiVectorEncoderTrainer(model, arguments(path / "run", **options), ROWS)
        trainer.train(resume_from_checkpoint=str(path / "run" / "checkpoint-2") if resume else None)
        return model.state_dict()

    whole = run(tmp_path / "whole", False, 4)
    run(tmp_path / "cut", False, 4)
    again = run(tmp_path / "cut", True, 4)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_columns_have_tasks_which_a_mapping_changes(tmp_path: Path) -> None:
    model = small_encoder(tmp_path / "plain", query_expansion=EXPANSION)
    args = arguments(tmp_path, router_mapping={"negative": "query"})
    trainer = MultiVectorEncoderTrainer(model, args, ROWS)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["columns"].tasks == ("query", "document", "query")


def test_the_plan_warns_of_a_task_that_means_nothing(tmp_path: Path) -> None:
    model = small_encoder(tmp_path / "plain")
    args = arguments(tmp_path, router_mapping={"negative": "documnt"})
    (plan,) = MultiVectorEncoderTrainer(model, args, ROWS).plans["train"]
    (warning,) = [text for text in plan.warnings if "router_mapping" in text]
    assert "'documnt' for the column 'negative' of the training data" in warning
    assert "Did you mean 'document'?" in warning


def test_what_does_not_fit_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model = small_encoder(tmp_path / "plain")
    with pytest.raises(ValueError, match="MultiVectorDistillKLDivLoss takes query, document, document"):
        MultiVectorEncoderTrainer(
            model, arguments(tmp_path), ROWS, loss=MultiVectorDistillKLDivLoss(model)
        ).train()
    with pytest.raises(TypeError, match="is for a SentenceTransformer, but the model is a MultiVectorE"):
        MultiVectorEncoderTrainer(model, arguments(tmp_path), ROWS, loss=CoSENTLoss(model)).train()
    with pytest.raises(TypeError, match="is for a MultiVectorEncoder"):
        SentenceTransformerTrainer(model, train_dataset=ROWS)
    pairs = ROWS.select_columns(["query", "positive"])
    with pytest.raises(ValueError, match="the batch size for the training data is 1"):
        MultiVectorEncoderTrainer(model, arguments(tmp_path, per_device_train_batch_size=1), pairs).train()
    assert isinstance(model, MultiVectorEncoder)
