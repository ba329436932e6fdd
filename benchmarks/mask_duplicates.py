"""What `mask_duplicates` does to a held-out metric, on real data in which texts, or what they are about, repeat.

    python benchmarks/mask_duplicates.py --data ../shared/data

Two data sets: captions, where rows of one image are false negatives of each other (an id column says so); and questions
with the sentence that answers them, where several questions share a sentence (equal texts say so). Each model is
fine-tuned from the same weights with MultipleNegativesRankingLoss, on batches drawn at random, with and without the mask,
over several seeds; measured is nDCG@10 of searching held-out texts. Too few rows to make a good model: enough to compare.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import DEVICE, arguments, column, model_folder, report
from datasets import Dataset

CAPTIONS = tuple(f"caption{number}" for number in range(1, 6))
PAIRS = ((0, 1), (2, 3), (4, 0), (1, 3))  # which captions of an image make up its rows


@dataclass
class Task:
    """Rows to train on, and a search to measure.

    Attributes:
        rows: Pairs, perhaps with an id column.
        ids: The id columns.
        queries: By id.
        corpus: By id.
        relevant: The ids of the documents that answer a query.
    """

    rows: Dataset
    ids: list[str]
    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, set[str]]


def captions(data: Path, rows: int, tested: int) -> Task:
    """Two captions of one image in each row, four rows an image; held out: find an image's captions by its first."""
    folder = data / "pairs/flickr30k-captions"
    train = list(zip(*column(folder / "en-train.parquet", *CAPTIONS), strict=True))[: rows // len(PAIRS)]
    chosen = [(image[a], image[b], number) for number, image in enumerate(train) for a, b in PAIRS]
    test = list(zip(*column(folder / "en-test.parquet", *CAPTIONS), strict=True))[:tested]
    names = [[f"{number}-{k}" for k in range(1, 5)] for number in range(len(test))]
    corpus = {
        name: text
        for own, image in zip(names, test, strict=True)
        for name, text in zip(own, image[1:], strict=True)
    }
    return Task(
        Dataset.from_dict(dict(zip(("anchor", "positive", "image"), zip(*chosen, strict=True), strict=True))),
        ["image"],
        {str(number): image[0] for number, image in enumerate(test)},
        corpus,
        {str(number): set(own) for number, own in enumerate(names)},
    )


def questions(data: Path, rows: int, tested: int) -> Task:
    """A question and the sentence that answers it; held out: find the sentence among those of other articles."""
    pairs = list(zip(*column(data / "pairs/squad-nqg/nqg-test.parquet", "question", "sentence"), strict=True))
    train, test = pairs[:rows], pairs[-3 * tested :]
    known = {sentence for _, sentence in train}
    test = [(question, sentence) for question, sentence in test if sentence not in known]
    corpus = {sentence: str(number) for number, sentence in enumerate(dict.fromkeys(s for _, s in test))}
    queries = {f"q{number}": pair for number, pair in enumerate(test[:tested])}
    return Task(
        Dataset.from_dict({"anchor": [q for q, _ in train], "positive": [s for _, s in train]}),
        [],
        {name: question for name, (question, _) in queries.items()},
        {number: sentence for sentence, number in corpus.items()},
        {name: {corpus[sentence]} for name, (_, sentence) in queries.items()},
    )


def share_with_duplicates(task: Task, batch_size: int) -> float:
    """The share of rows that meet one that belongs to them, in a batch drawn at random."""
    key = task.ids[0] if task.ids else "positive"
    values = list(task.rows[key])
    sizes = {value: values.count(value) for value in set(values)}
    missed = [(1 - (sizes[value] - 1) / (len(values) - 1)) ** (batch_size - 1) for value in values]
    return 1 - sum(missed) / len(missed)


def trained_score(folder: str, task: Task, masked: bool, seed: int, options: Any) -> float:
    """nDCG@10 after training; with a seed below 0 before."""
    from likewise import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from likewise.evaluation import InformationRetrievalEvaluator
    from likewise.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(folder, device=options.device)
    if seed >= 0:
        SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                tempfile.mkdtemp(), per_device_train_batch_size=options.batch_size, num_train_epochs=options.epochs,
                learning_rate=options.learning_rate, warmup_ratio=0.1, seed=seed, use_cpu=options.device == "cpu",
                report_to="none", save_strategy="no", disable_tqdm=True, id_columns=task.ids, logging_strategy="no",
            ),
            train_dataset=task.rows,
            loss=MultipleNegativesRankingLoss(model, mask_duplicates=masked),
        ).train()  # fmt: skip
    evaluator = InformationRetrievalEvaluator(task.queries, task.corpus, task.relevant)
    return float(evaluator(model)["cosine_ndcg@10"])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--tested", type=int, default=500, help="held-out images or questions")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=["captions", "questions"])
    parser.add_argument("--device", default=DEVICE)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    folder = model_folder(options.model)
    rows = []
    for name in options.tasks:
        task = {"captions": captions, "questions": questions}[name](
            options.data, options.rows, options.tested
        )
        before = trained_score(folder, task, False, -1, options)
        plain, masked = [], []
        for seed in range(options.seeds):
            plain.append(trained_score(folder, task, False, seed, options))
            masked.append(trained_score(folder, task, True, seed, options))
            print(f"{name}, seed {seed}: {plain[-1]:.4f} plain, {masked[-1]:.4f} masked", flush=True)
        differences = [b - a for a, b in zip(plain, masked, strict=True)]
        rows.append(
            {
                "data": name,
                "rows": len(task.rows),
                "batch": options.batch_size,
                "rows with duplicates": f"{share_with_duplicates(task, options.batch_size):.0%}",
                "before": f"{before:.4f}",
                "plain": f"{statistics.mean(plain):.4f}",
                "masked": f"{statistics.mean(masked):.4f}",
                "difference": f"{statistics.mean(differences):+.4f}",
                "range": f"{min(differences):+.4f} to {max(differences):+.4f}",
            }
        )
    report(rows, options.json)


if __name__ == "__main__":
    main()
