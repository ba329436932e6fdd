"""The input side alone: tokens per second that reach the model, in the first epoch and in those after it.

The model here is a function that waits as a device with `--model-rate` tokens a second would; the input side does not
limit the step where the time per step is the model's own.

    python benchmarks/input_side.py --data ../shared/data/pairs/flickr30k-captions/en-train.parquet
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from datasets import Dataset, load_dataset

from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.cli.model_names import DEFAULT_MODEL, load_model
from likewise.losses import MultipleNegativesRankingLoss
from likewise.training.data.prefetch import Prefetched


def pairs(data: Path | None, rows: int) -> Dataset:
    """Two captions of a picture in each row, or made-up text."""
    if data is None:
        texts = [f"a man number {n} walks along the river with his two dogs" for n in range(2 * rows)]
        return Dataset.from_dict({"anchor": texts[::2], "positive": texts[1::2]})
    table = load_dataset("parquet", data_files=str(data), split="train")
    columns = [name for name in table.column_names if name.startswith("caption")][:2]
    kept = table.select_columns(columns).rename_columns(
        dict(zip(columns, ("anchor", "positive"), strict=True))
    )
    return kept.select(range(min(rows, len(kept))))


def epoch(loader: Any, number: int, model_rate: float | None) -> tuple[int, int, float, float]:
    """Steps, tokens, seconds in all, and seconds that a model of this rate would have waited for its input."""
    loader.batch_sampler.set_epoch(number)
    steps = tokens = 0
    waited = 0.0
    start = time.perf_counter()
    batches = Prefetched(iter(loader))
    while True:
        before = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waited += time.perf_counter() - before
        size = batch["columns"].tokens.num_tokens
        steps, tokens = steps + 1, tokens + size
        if model_rate:
            time.sleep(size / model_rate)
    return steps, tokens, time.perf_counter() - start, waited


def main(
    data: Annotated[Path | None, typer.Option(help="A parquet file with columns caption1, caption2.")] = None,
    rows: Annotated[int, typer.Option(help="Rows to read.")] = 29_000,
    batch_size: Annotated[int, typer.Option(help="Rows in a batch.")] = 512,
    model_rate: Annotated[float, typer.Option(help="Tokens a second that the model takes.")] = 1e6,
) -> None:
    """Print one line for each epoch, without a model and with one."""
    model = load_model(DEFAULT_MODEL).to("cpu")
    dataset = pairs(data, rows)
    with TemporaryDirectory() as folder:
        args = SentenceTransformerTrainingArguments(
            folder, batch_sampler="no_duplicates", per_device_train_batch_size=batch_size, report_to="none"
        )
        loss = MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(model, args, dataset, loss=loss)
        for cached in (None, str(Path(folder) / "tokens")):
            args.token_cache_dir = cached
            start = time.perf_counter()
            loader = trainer.get_train_dataloader()
            print(
                f"token cache: {'a folder' if cached else 'none'}; ready after {time.perf_counter() - start:.2f} s"
            )
            for number in range(3):
                rate = None if number < 2 else model_rate
                steps, tokens, seconds, waited = epoch(loader, number, rate)
                what = "input side alone" if rate is None else f"a model of {model_rate:,.0f} tokens/s"
                print(
                    f"  epoch {number}, {what}: {steps} steps, {tokens / seconds:,.0f} tokens/s, "
                    f"waited for input {waited / seconds:.1%} of the time"
                )


if __name__ == "__main__":
    typer.run(main)
