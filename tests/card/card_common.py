"""A run with everything that a card tells of it."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from small import sentences

import likewise


def triplets(num_rows: int = 40, seed: int = 0) -> Dataset:
    texts = sentences(3 * num_rows, seed=seed)
    return Dataset.from_dict({"anchor": texts[::3], "positive": texts[1::3], "negative": texts[2::3]})


def scored_pairs(num_rows: int = 24, seed: int = 0) -> Dataset:
    texts, rng = sentences(2 * num_rows, seed=seed), random.Random(seed)
    scores = [round(rng.random(), 2) for _ in range(num_rows)]
    return Dataset.from_dict({"sentence1": texts[::2], "sentence2": texts[1::2], "score": scores})


def train(folder: str, output_dir: Path, library: Any, card: dict[str, Any], changes: dict[str, Any]) -> Any:
    """Train with one library.

    Args:
        folder: The model.
        output_dir: Of the run.
        library: likewise or the reference.
        card: Arguments of the model card's data.
        changes: Training arguments; `callbacks` are the trainer's, `resume` is a checkpoint.
    """
    inside = "likewise" if library is likewise else "sentence_transformers.sentence_transformer"
    losses, evaluation = (import_module(f"{inside}.{part}") for part in ("losses", "evaluation"))
    card = {"language": "en", "license": "apache-2.0", "local_files_only": True} | card
    card_data = library.SentenceTransformerModelCardData(**card)
    model = library.SentenceTransformer(folder, device="cpu", model_card_data=card_data)
    data = DatasetDict(triplets=triplets(), scored=scored_pairs())
    dev, sts = triplets(20, seed=9), scored_pairs(20, seed=5)
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    } | changes
    callbacks, resume = settings.pop("callbacks", None), settings.pop("resume", None)
    trainer = library.SentenceTransformerTrainer(
        model=model,
        args=library.SentenceTransformerTrainingArguments(**settings),
        train_dataset=data,
        eval_dataset=data,
        loss={
            "triplets": losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), [32, 16]),
            "scored": losses.CoSENTLoss(model),
        },
        evaluator=[
            evaluation.TripletEvaluator(dev["anchor"], dev["positive"], dev["negative"], name="dev"),
            evaluation.EmbeddingSimilarityEvaluator(
                sts["sentence1"], sts["sentence2"], sts["score"], name="sts"
            ),
        ],
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer
