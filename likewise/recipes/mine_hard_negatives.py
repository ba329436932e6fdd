"""Mine hard negatives, fine-tune with them, and see what they add to the same run without them.

    command   likewise train mine_hard_negatives --data ../data --seeds 1 2
    hardware  2 CPU cores (AVX2, 2.45 GHz), one of them used, both busy with other work
    minutes   about 10 for each seed's two runs there
    score     nDCG@10 of 1,057 held-out questions: 0.7472 before; 0.7803 and 0.7805 after training on pairs, 0.7895 and 0.7890
              with a mined negative each (seeds 1, 2)

    command   likewise train mine_hard_negatives --data ../data --task captions --rows 3000 --queries 2014
    hardware  2 CPU cores (AVX-512), partly busy with other work
    minutes   3 for each seed's two runs there when idle
    score     nDCG@10 of 2,014 held-out captions: 0.6687 before; 0.6796 and 0.6805 after training on pairs, 0.6866 and 0.6871
              with a mined negative each

Questions, each with the sentence that answers it (SQuAD, ${data}/pairs/squad-nqg). Sentences of the same article are about the
same things and answer other questions: the model finds those that come near to a question, and learns to tell them from the
right one. Measured is the search of held-out questions for their sentence among all sentences there; questions and
sentences that are held out are left out of the training. With `--task captions` the same with two captions of an image
(${data}/pairs/flickr30k-captions): one is to find the other among those of 2,014 held-out images.

Both runs have the same rows, batches, steps and learning rate; only the column of negatives differs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.evaluation import InformationRetrievalEvaluator
from likewise.retrieval import mine_hard_negatives
from likewise.training.data.sources import Source


@dataclass(frozen=True)
class Task:
    """Pairs of texts, of which one is to find the other.

    Attributes:
        training_file: Where in the data folder the pairs are, ...
        test_files: ... and where those are that measure.
        columns: The text that searches, and the one to find.
    """

    training_file: str
    test_files: tuple[str, ...]
    columns: tuple[str, str]

    def read(self, data: Path, file: str) -> Dataset:
        """The pairs of a file."""
        return Source(str(data / f"{file}.parquet"), columns=list(self.columns)).load()


SQUAD, CAPTIONS = "pairs/squad-nqg", "pairs/flickr30k-captions"
TASKS = {
    "questions": Task(f"{SQUAD}/nqg-test", (f"{SQUAD}/squad-v1.1-dev",), ("question", "sentence")),
    "captions": Task(
        f"{CAPTIONS}/en-train", (f"{CAPTIONS}/en-test", f"{CAPTIONS}/en-val"), ("caption1", "caption2")
    ),
}


def main() -> None:
    """Run the recipe and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument("--task", choices=TASKS, default="questions")
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="the model to start from, which mines too"
    )
    parser.add_argument("--rows", type=int, default=2_000, help="pairs to train on")
    parser.add_argument("--queries", type=int, default=1_000, help="about how many texts to search for")
    parser.add_argument("--negatives", type=int, default=1, help="hard negatives of each pair")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()

    started = time.perf_counter()
    task = TASKS[options.task]
    test, known = held_out(task, options.data, options.queries)
    pairs = training_pairs(task, options.data, options.rows, known)
    model = SentenceTransformer(options.model)
    print(f"before: nDCG@10 {score(model, test):.4f}", flush=True)
    mined = mine_hard_negatives(
        pairs,
        model,
        range_max=50,
        relative_margin=0.05,
        num_negatives=options.negatives,
        output_format="n-tuple",
        verbose=False,
    )
    print(f"{len(mined):,} of {len(pairs):,} pairs have {options.negatives} hard negatives", flush=True)
    for seed in options.seeds:
        for name, rows in (("pairs", mined.select_columns(pairs.column_names)), ("mined", mined)):
            trained = fine_tuned(SentenceTransformer(options.model), rows, options, seed)
            minutes = (time.perf_counter() - started) / 60
            print(
                f"seed {seed}, {name}: nDCG@10 {score(trained, test):.4f} after {minutes:.1f} min", flush=True
            )


def held_out(task: Task, data: Path, queries: int) -> tuple[InformationRetrievalEvaluator, set[str]]:
    """The search that is measured, and its texts."""
    rows = concatenate_datasets([task.read(data, file) for file in task.test_files])
    first, second = (rows[name][:] for name in task.columns)
    documents = {text: str(number) for number, text in enumerate(dict.fromkeys(second))}
    chosen = range(0, len(rows), max(len(rows) // queries, 1))
    evaluator = InformationRetrievalEvaluator(
        {str(row): first[row] for row in chosen},
        {number: text for text, number in documents.items()},
        {str(row): {documents[second[row]]} for row in chosen},
    )
    return evaluator, {*first, *documents}


def training_pairs(task: Task, data: Path, rows: int, known: set[str]) -> Dataset:
    """So many pairs of texts that are not among the known ones."""
    pairs = task.read(data, task.training_file)
    fresh = [i for i, texts in enumerate(pairs) if known.isdisjoint(texts.values())]
    return pairs.select(fresh[:rows])


def fine_tuned(
    model: SentenceTransformer, rows: Dataset, options: argparse.Namespace, seed: int
) -> SentenceTransformer:
    """The model after one epoch."""
    args = SentenceTransformerTrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        num_train_epochs=1,
        warmup_ratio=0.1,
        batch_sampler="no_duplicates",
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    loss = losses.MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, args, rows, loss=loss).train()
    return model


def score(model: SentenceTransformer, test: InformationRetrievalEvaluator) -> float:
    """nDCG@10."""
    return float(test(model)["cosine_ndcg@10"])


if __name__ == "__main__":
    main()
