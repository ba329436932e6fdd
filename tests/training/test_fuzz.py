"""Random small configurations: each trains, or is refused in one sentence that names the culprit and the fix.

`LIKEWISE_FUZZ_SECONDS=600 pytest tests/training/test_fuzz.py` looks further than the few seeds of every day.
"""

from __future__ import annotations

import math
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import WORDS
from training_common import settings

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.training.data.plan import plan_data_set

SEEDS = range(16)
LOSSES = [
    "AnglELoss", "BatchAllTripletLoss", "BatchHardTripletLoss", "BatchSemiHardTripletLoss", "CachedMultipleNegativesRankingLoss",
    "CoSENTLoss", "ContrastiveLoss", "CosineSimilarityLoss", "GlobalOrthogonalRegularizationLoss", "MegaBatchMarginLoss",
    "MultipleNegativesRankingLoss", "MultipleNegativesSymmetricRankingLoss", "OnlineContrastiveLoss", "TripletLoss",
]  # fmt: skip
ODD = ["", " ", "\u200b", "cat " * 90, "Ünïcödé ☃", "0", "[CLS] [SEP]", "a\nb"]


def text(rng: random.Random) -> str:
    return rng.choice(ODD) if rng.random() < 0.05 else " ".join(rng.choices(WORDS, k=rng.randint(1, 8)))


def data_set(rng: random.Random) -> Any:
    rows = rng.choice([1, 3, 9, 17, 40])
    columns: dict[str, list[Any]] = {
        name: [text(rng) for _ in range(rows)]
        for name in rng.sample(["anchor", "positive", "negative", "extra"], rng.choice([1, 2, 2, 3, 3, 4]))
    }
    if rng.random() < 0.2:  # repeats
        first = next(iter(columns))
        columns[first] = [columns[first][0]] * rows
    kind = rng.choice(["none", "none", "number", "binary", "class", "odd"])
    if kind != "none":
        make = {
            "number": lambda: rng.random(),
            "binary": lambda: rng.randint(0, 1),
            "class": lambda: rng.randint(0, 3),
            "odd": lambda: rng.choice([0.5, 2, -1]),
        }[kind]
        columns[rng.choice(["label", "score"])] = [make() for _ in range(rows)]
    data = Dataset.from_dict(columns)
    way = rng.random()
    if way < 0.2:
        return data.to_iterable_dataset()
    return data.with_transform(lambda rows: rows) if way < 0.3 else data


def arguments(rng: random.Random, folder: Path, several: list[str]) -> dict[str, Any]:
    maybe: dict[str, list[Any]] = {
        "per_device_train_batch_size": [1, 2, 4, 5, 8],
        "gradient_accumulation_steps": [1, 2, 3],
        "batch_sampler": ["batch_sampler", "no_duplicates", "group_by_label"],
        "multi_dataset_batch_sampler": ["proportional", "round_robin"],
        "multi_dataset_weights": [{}, dict.fromkeys(several, 2), {"nobody": 1}],
        "multi_dataset_temperature": [1.0, 2.0],
        "multi_dataset_exhausted": [None, "stop", "drop", "restart"],
        "fold_duplicates": [False, True],
        "shuffle_buffer_size": [1, 7, 1000],
        "dataloader_drop_last": [False, True],
        "micro_batch_tokens": [None, 1, 30],
        "prompts": [None, "the ", {"anchor": "a "}, {"wrong": "a "}],
        "save_prompts": [False, True],
        "bf16": [False, True],
        "gradient_checkpointing": [False, True],
        "max_steps": [-1, 2, 3],
        "num_train_epochs": [0.4, 1, 2],
        "warmup_ratio": [None, 0.3],
        "eval_strategy": ["no", "epoch", "steps"],
        "eval_steps": [1, 2],
        "logging_steps": [1, 3],
        "learning_rate_mapping": [{}, {"embeddings": 1e-5}, {"nothing": 1.0}],
        "include_num_input_tokens_seen": ["no", "all"],
        "save_strategy": ["no", "no", "steps", "epoch"],
        "save_steps": [1, 2],
        "save_total_limit": [None, 1],
        "load_best_model_at_end": [False, False, True],
        "metric_for_best_model": [None, "loss", "spearman"],
    }
    chosen = {name: rng.choice(values) for name, values in maybe.items() if rng.random() < 0.2}
    return settings(folder, **({"max_steps": 3} | chosen))


def one_run(seed: int, model_folder: str, folder: Path) -> str:
    """Train a random configuration; the message where it was refused, "" where it ran."""
    rng = random.Random(seed)
    model = SentenceTransformer(model_folder, device="cpu")
    names = rng.choice([[], [], ["one", "two"], ["one", "two", "three"]])
    data: Any = {name: data_set(rng) for name in names} or data_set(rng)

    def loss_for(dataset: Any) -> Any:
        made = [getattr(losses, name)(model) for name in rng.sample(LOSSES, len(LOSSES))]
        fitting = [loss for loss in made if fits(loss, dataset)]
        loss = rng.choice(fitting if fitting and rng.random() < 0.9 else made)
        return losses.MatryoshkaLoss(model, loss, [32, 8]) if rng.random() < 0.15 else loss

    first = data[names[0]] if names else data
    chosen = (
        {name: loss_for(data[name]) for name in names} if names and rng.random() < 0.8 else loss_for(first)
    )
    evaluation = rng.choice([None, None, data])
    try:
        args = SentenceTransformerTrainingArguments(**arguments(rng, folder, names))
        trainer = SentenceTransformerTrainer(model, args, data, evaluation, chosen)
        trainer.train()
    except (ValueError, TypeError) as error:
        return str(error) or repr(error)
    assert trainer.state.global_step > 0
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(math.isfinite(value) for value in logged)
    return ""


def fits(loss: Any, dataset: Any) -> bool:
    try:
        plan_data_set(dataset, "", "training", loss, batch_size=4)
    except (ValueError, TypeError):
        return False
    return True


def is_plain(message: str) -> bool:
    """Whether a message names a thing and says what to do, in one paragraph."""
    return (
        "\n" not in message
        and any(mark in message for mark in "`'")
        and message.rstrip().endswith((".", "?", ")"))
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_configuration_trains_or_is_refused_in_words(seed: int, folder: str, tmp_path: Path) -> None:
    message = one_run(seed, folder, tmp_path)
    assert not message or is_plain(message), message


@pytest.mark.skipif(
    "LIKEWISE_FUZZ_SECONDS" not in os.environ, reason="set LIKEWISE_FUZZ_SECONDS to look further"
)
@pytest.mark.filterwarnings("ignore")
def test_many_random_configurations_train_or_are_refused_in_words(folder: str, tmp_path: Path) -> None:
    end = time.monotonic() + float(os.environ["LIKEWISE_FUZZ_SECONDS"])
    first = int(os.environ.get("LIKEWISE_FUZZ_FIRST", "1000"))
    seed, ran = first, 0
    while time.monotonic() < end:
        try:
            message = one_run(seed, folder, tmp_path / str(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert not message or is_plain(message), f"seed {seed}: {message}"
        ran += not message
        seed += 1
    print(f"{seed - first} configurations, {ran} trained, the others refused")
    assert ran
