"""Every loss trains through the trainer: its own weights move with the model's, are saved, and come back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from losses_common import EXAMPLES, Example, texts
from torch import Tensor

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

OWN_WEIGHTS = {
    "SoftmaxLoss": "classifier.weight",
    "EmbedDistillLoss": "projection.weight",
    "ContrastiveTensionLoss": "model1.0.auto_model.encoder.layer.0.attention.self.query.weight",
    "ContrastiveTensionLossInBatchNegatives": "logit_scale",
    "DenoisingAutoEncoderLoss": "decoder.bert.encoder.layer.0.crossattention.self.query.weight",
}


def trainer(example: Example, folder: str, output: Path, seed: int, **arguments: Any) -> Any:
    """A trainer of a fresh model with a fresh loss, whose own weights are drawn with this seed."""
    columns = {f"text{i}": column for i, column in enumerate(texts(8, example.columns, seed=1))}
    labels = {} if example.labels is None else {"label": example.labels.tolist()}
    model, guide = (SentenceTransformer(folder, device="cpu") for _ in range(2))
    torch.manual_seed(seed)
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(output), max_steps=2, learning_rate=1e-2, lr_scheduler_type="constant", save_steps=1, logging_steps=1,
            use_cpu=True, report_to="none", disable_tqdm=True, **({"per_device_train_batch_size": 4} | arguments),
        ),
        train_dataset=Dataset.from_dict(columns | labels),
        loss=example.build(model, guide),
    )  # fmt: skip


def weights(run: Any) -> dict[str, Tensor]:
    """All that is trained: `model.*`, and the loss's own."""
    return {name: p.detach().clone() for name, p in run.trained.named_trained_parameters().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_step_changes_model_and_own_weights_and_a_resumed_run_ends_as_one_never_stopped(
    example: Example, folder: str, tmp_path: Path
) -> None:
    run = trainer(example, folder, tmp_path, seed=1)
    before = weights(run)
    own = {name for name in before if not name.startswith("model.")}
    assert (OWN_WEIGHTS.get(example.name) in own) if example.name in OWN_WEIGHTS else not own
    run.train()
    whole = weights(run)
    moved = changed(before, whole)
    assert any(name.startswith("model.") for name in moved)
    assert example.name not in OWN_WEIGHTS or OWN_WEIGHTS[example.name] in moved
    assert all(torch.isfinite(tensor).all() for tensor in whole.values())
    again = trainer(example, folder, tmp_path, seed=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert not changed(whole, weights(again))


# One of each way to embed: all columns, with a guide, by two models, some columns, all layers, with weights of its own.
WAYS = (
    "MultipleNegativesRankingLoss", "CachedGISTEmbedLoss", "ContrastiveTensionLoss", "DenoisingAutoEncoderLoss",
    "AdaptiveLayerLoss", "SoftmaxLoss",
)  # fmt: skip


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.name in WAYS], ids=str)
def test_a_step_in_recomputed_chunks_trains_too(example: Example, folder: str, tmp_path: Path) -> None:
    run = trainer(example, folder, tmp_path, seed=1, micro_batch_tokens=20, save_strategy="no")
    before = weights(run)
    run.train()
    assert changed(before, weights(run))


def test_weights_of_another_loss_are_refused(folder: str, tmp_path: Path) -> None:
    by_name = {example.name: example for example in EXAMPLES}
    trainer(by_name["SoftmaxLoss"], folder, tmp_path, seed=1).train()
    other = trainer(by_name["EmbedDistillLoss"], folder, tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"this run's losses have .*projection.* Resume with the loss"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_rows_with_a_negative_of_their_own_train_one_at_a_time(folder: str, tmp_path: Path) -> None:
    example = Example("MultipleNegativesRankingLoss", 3)
    run = trainer(example, folder, tmp_path, seed=1, per_device_train_batch_size=1, save_strategy="no")
    before = weights(run)
    run.train()
    assert changed(before, weights(run))
    with pytest.raises(ValueError, match=r"is 1\. Set `per_device_train_batch_size` to 2"):
        trainer(Example("MultipleNegativesRankingLoss"), folder, tmp_path, 1, per_device_train_batch_size=1)
