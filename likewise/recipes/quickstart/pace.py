"""How much this machine can train on in a given time, by the pace of a few first steps."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

from transformers import TrainerCallback

from likewise.recipes.quickstart.docstrings import Described

BATCH = 64  # as in the recipe
STEPS = 4  # the first one, which warms up, is not counted
LEAST_STEPS, MOST_STEPS = 4, 64  # of the run


def pairs_in(seconds: float, model: str, train: Sequence[Described]) -> int:
    """How many pairs a run of so many seconds has room for: 256 to 4,096.

    Args:
        seconds: How long the training may take.
        model: Folder or Hub name of the model to train, which is loaded for this and left as it is.
        train: Pairs to measure by.
    """
    from datasets import Dataset

    from likewise.losses import MultipleNegativesRankingLoss
    from likewise.sentence_transformer.model import SentenceTransformer
    from likewise.sentence_transformer.trainer import SentenceTransformerTrainer
    from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    some = train[: BATCH * STEPS]
    rows = Dataset.from_dict({"sentence": [d.sentence for d in some], "name": [d.name for d in some]})
    tried, clock = SentenceTransformer(model), _Clock()
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        arguments = SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=BATCH, max_steps=STEPS, save_strategy="no", report_to="none",
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        SentenceTransformerTrainer(
            tried, arguments, rows, loss=MultipleNegativesRankingLoss(tried), callbacks=[clock]
        ).train()
    step_s = (clock.ticks[-1] - clock.ticks[0]) / (len(clock.ticks) - 1)
    return BATCH * min(max(LEAST_STEPS, int(seconds / step_s)), MOST_STEPS)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """The time at the end of each step."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ticks.append(time.perf_counter())
