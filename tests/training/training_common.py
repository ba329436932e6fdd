"""What tests of training share: arguments for short runs, and small data sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from small import sentences


def settings(output_dir: Path, **changes: Any) -> dict[str, Any]:
    """Arguments that both libraries take."""
    usual = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return usual | changes


def triplets(num_rows: int = 96, seed: int = 0) -> Dataset:
    texts = sentences(3 * num_rows, seed=seed)
    return Dataset.from_dict({"anchor": texts[::3], "positive": texts[1::3], "negative": texts[2::3]})


def scored_pairs(num_rows: int = 96, seed: int = 0) -> Dataset:
    texts, rng = sentences(2 * num_rows, seed=seed), random.Random(seed)
    scores = [round(rng.random(), 2) for _ in range(num_rows)]
    return Dataset.from_dict({"sentence1": texts[::2], "sentence2": texts[1::2], "score": scores})
