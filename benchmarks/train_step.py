"""How long a training step takes, beside the reference: tokenising, forward, backward, clipping and optimiser.

    python benchmarks/train_step.py --data ../shared/data

Both libraries' trainers step in turn on the same rows in one process; the ratio is the reference's time over ours,
median and range over the steps. The losses of the two runs, with dropout off, stand beside it.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import DEVICE, alternate, arguments, column, model_folder, ratio, report
from datasets import Dataset


def data_sets(data: Path, rows: int) -> dict[str, Dataset]:
    """Short triplets, and pairs of a short question and an answer of 1 to 3,692 words."""
    names = ("anchor", "positive", "negative")
    triplets = column(data / "nli/triplets/snli-cad.parquet", *names)
    pairs = column(data / "pairs/medquad/train.parquet", "question", "answer")
    return {
        "short triplets": Dataset.from_dict(
            dict(zip(names, (values[:rows] for values in triplets), strict=True))
        ),
        "length-skewed pairs": Dataset.from_dict(
            {"anchor": pairs[0][::13][:rows], "positive": pairs[1][::13][:rows]}
        ),
    }


def stepper(
    library: Any, folder: str, data: Dataset, batch_size: int, device: str, dropout: bool
) -> Callable[[], float]:
    """A function that makes one training step of a library's trainer and returns the loss."""
    model = library.SentenceTransformer(folder, device=device)
    if not dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    losses = __import__(f"{library.__name__}.losses", fromlist=["losses"])
    trainer = library.SentenceTransformerTrainer(
        model=model,
        args=library.SentenceTransformerTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=batch_size,
            use_cpu=device == "cpu",
            bf16=device != "cpu",
            report_to="none",
            seed=1,
        ),
        train_dataset=data,
        loss=losses.MultipleNegativesRankingLoss(model),
    )
    trainer.create_optimizer_and_scheduler(num_training_steps=10_000)
    trainer.current_gradient_accumulation_steps = 1
    loader = trainer.get_train_dataloader()
    batches = iter(loader)

    def step() -> float:
        nonlocal batches
        try:
            batch = next(batches)
        except StopIteration:
            batches = iter(loader)
            batch = next(batches)
        loss = trainer.training_step(trainer.model, batch)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.optimizer.zero_grad()
        return float(loss)

    return step


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=15)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--device", default=DEVICE)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import sentence_transformers
    import sentence_transformers.losses

    import likewise
    import likewise.losses

    folder = model_folder(options.model)
    rows = []
    for name, data in data_sets(options.data, options.rows).items():
        shared = (folder, data, options.batch_size, options.device)
        curves = []
        for library in (likewise, sentence_transformers):
            step = stepper(library, *shared, dropout=False)
            curves.append([step() for _ in range(4)])
        sides = [stepper(library, *shared, dropout=True) for library in (likewise, sentence_transformers)]
        own, other = alternate(sides, options.rounds)
        median, low, high = ratio(own, other)
        rows.append(
            {
                "data": name,
                "batch": options.batch_size,
                "ms/step": round(1000 * sorted(own)[len(own) // 2]),
                "reference": round(1000 * sorted(other)[len(other) // 2]),
                "ratio": round(median, 2),
                "range": f"{low:.2f}-{high:.2f}",
                "loss difference": f"{max(abs(a - b) for a, b in zip(*curves, strict=True)):.0e}",
            }
        )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}, {Path(folder).name}"
    )
    report(rows, options.json)


if __name__ == "__main__":
    main()
