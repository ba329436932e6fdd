"""Without dropout, a run here and a run in the reference see the same batches and have the same loss, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers as reference
import sentence_transformers.sentence_transformer.losses as reference_losses
from datasets import Dataset, DatasetDict
from training_common import scored_pairs, settings, triplets

import likewise
import likewise.losses as our_losses

STEPS = 10


def curve(
    library: Any, losses: Any, folder: str, make: Callable[..., Any], run: dict[str, Any]
) -> list[float]:
    """The loss of each step of a run with one library."""
    model = library.SentenceTransformer(folder, device="cpu")
    data, loss = make(losses, model)
    args = library.SentenceTransformerTrainingArguments(**run)
    trainer = library.SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=loss)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def two_sets(losses: Any, model: Any) -> tuple[Any, Any]:
    data = DatasetDict(triplets=triplets(64), scored=scored_pairs(48))
    return data, {"triplets": losses.MultipleNegativesRankingLoss(model), "scored": losses.CoSENTLoss(model)}


RUNS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "ranking, triplets": (lambda losses, m: (triplets(), losses.MultipleNegativesRankingLoss(m)), {}),
    "ranking, pairs": (
        lambda losses, m: (
            triplets().select_columns(["anchor", "positive"]),
            losses.MultipleNegativesRankingLoss(m),
        ),
        {},
    ),
    "CoSENT": (lambda losses, m: (scored_pairs(), losses.CoSENTLoss(m)), {}),
    "cosine": (lambda losses, m: (scored_pairs(), losses.CosineSimilarityLoss(m)), {}),
    "triplet": (lambda losses, m: (triplets(), losses.TripletLoss(m)), {}),
    "two sets in proportion": (two_sets, {"multi_dataset_batch_sampler": "proportional"}),
    "two sets in turn": (two_sets, {"multi_dataset_batch_sampler": "round_robin"}),
    "prompts by column": (
        lambda losses, m: (triplets(), losses.MultipleNegativesRankingLoss(m)),
        {"prompts": {"anchor": "the child sees ", "positive": "a "}},
    ),
    "accumulation, warm-up, weight decay": (
        lambda losses, m: (triplets(), losses.MultipleNegativesRankingLoss(m)),
        {
            "gradient_accumulation_steps": 2,
            "warmup_steps": 3,
            "weight_decay": 0.1,
            "lr_scheduler_type": "cosine",
        },
    ),
    "several epochs": (
        lambda losses, m: (triplets(20), losses.MultipleNegativesRankingLoss(m)),
        {"num_train_epochs": 4, "max_steps": -1},
    ),
    "two learning rates": (
        lambda losses, m: (triplets(), losses.MultipleNegativesRankingLoss(m)),
        {"learning_rate_mapping": {"embeddings": 1e-4}},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_loss_curve_equals_the_references(name: str, folder: str, tmp_path: Path) -> None:
    make, changes = RUNS[name]
    run = settings(tmp_path, **({"max_steps": STEPS} | changes))
    ours = curve(likewise, our_losses, folder, make, run)
    theirs = curve(reference, reference_losses, folder, make, run)
    assert len(ours) >= STEPS
    assert len(set(ours)) > 1
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)  # the log is rounded to four digits


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated")
@pytest.mark.parametrize(
    "precision", [{"bf16": True}, {"gradient_checkpointing": True}, {"micro_batch_tokens": 40}], ids=str
)
@pytest.mark.parametrize(
    ("data", "loss"),
    [
        (triplets, "MultipleNegativesRankingLoss"),
        (scored_pairs, "CoSENTLoss"),
        (scored_pairs, "CosineSimilarityLoss"),
        (triplets, "TripletLoss"),
    ],
)
def test_other_ways_to_compute_give_the_same_loss_curve(
    folder: str, tmp_path: Path, data: Callable[[], Dataset], loss: str, precision: dict[str, Any]
) -> None:
    def make(losses: Any, model: Any) -> tuple[Any, Any]:
        return data(), getattr(losses, loss)(model)

    plain = curve(likewise, our_losses, folder, make, settings(tmp_path))
    other = curve(likewise, our_losses, folder, make, settings(tmp_path, **precision))
    np.testing.assert_allclose(other, plain, rtol=3e-2 if "bf16" in precision else 2e-4)
