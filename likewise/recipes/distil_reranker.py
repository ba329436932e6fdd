"""Distil a cross-encoder: an embedding model learns by how much a reranker prefers one answer to another.

    command   likewise train retrieve_rerank --data ../data
              likewise train answer_reranker --data ../data --model models/retrieve_rerank
              likewise train distil_reranker --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 4 on the clock there; the cross-encoder takes 9 of processor time before
    score     nDCG@10 of 68 test questions that have both right and wrong sentences: cross-encoder 0.8489; embedding model 0.8019
              before, 0.8148 after: +0.0129 (95 %: +0.0022 to +0.0252)

A teacher has to be better than its student: measure a cross-encoder before you distil it. One that had read 1,500 pairs of TREC QA
and nothing else came to 0.6218, and its student got worse by 0.0301.

Questions and sentences that answer them or do not (TREC QA, ${data}/reranking/trec-qa). The cross-encoder reads question and
sentence together, which is too slow to search with; the embedding model embeds each by itself. For a question, a right
sentence and a wrong one the label is the difference between the cross-encoder's two scores (from 0 to 1), which the
difference between the embedding model's dot products should come to equal (MarginMSELoss). A wrong sentence that is nearly
right is so to be less far away than one that is altogether wrong, which a label of 0 or 1 cannot say.

Reference: Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from likewise import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from likewise.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from likewise.evaluation import RerankingEvaluator
from likewise.evaluation.measurement import Measurement
from likewise.losses import MarginMSELoss
from likewise.recipes.common import change
from likewise.training.data.sources import Source

Answers = Mapping[str, dict[int, list[str]]]
"""For each question its wrong (0) and its right (1) sentences; only questions that have both."""
METRIC = "ndcg@10"


def main() -> None:
    """Run the recipe and print a line for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument(
        "--reranker", default="models/answer_reranker/final", help="the cross-encoder that teaches"
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="the embedding model that learns")
    parser.add_argument("--out", type=Path, default=Path("models/distil_reranker"))
    parser.add_argument("--triplets", type=int, default=300, help="question, right and wrong sentence")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    started = time.perf_counter()

    def tell(sentence: str) -> None:
        print(f"{sentence} after {(time.perf_counter() - started) / 60:.1f} min", flush=True)

    test: list[Any] = [
        {"query": question, "positive": found[1], "negative": found[0]}
        for question, found in answers(options.data, "test").items()
    ]
    reranker, model = CrossEncoder(options.reranker), SentenceTransformer(options.model)
    teacher = CrossEncoderRerankingEvaluator(test).measure(reranker)[METRIC]
    before = measured(model, test)
    tell(f"embedding model before: {METRIC} {before.value:.4f} of {len(test):,} questions")
    tell(f"cross-encoder: {METRIC} {teacher.value:.4f}; {change(before, teacher)} (95 %)")
    rows = with_margins(triplets(answers(options.data, "train"), options.triplets, options.seed), reranker)
    margins = np.array(rows["label"])
    tell(
        f"{len(rows):,} triplets, margins {margins.mean():.3f} on average, {(margins < 0).mean():.0%} below 0"
    )
    distil(model, rows, options)
    model.save_pretrained(str(options.out))
    after = measured(model, test)
    tell(f"embedding model after: {METRIC} {after.value:.4f}; {change(before, after)} (95 %)")


def answers(data: Path, split: str) -> Answers:
    """The questions of a split."""
    rows = Source(
        str(data / f"reranking/trec-qa/{split}.parquet"), columns=["query", "answer", "label"]
    ).load()
    found: dict[str, dict[int, list[str]]] = {}
    for question, answer, label in zip(rows["query"], rows["answer"], rows["label"], strict=True):
        found.setdefault(question, {0: [], 1: []})[label].append(answer)
    return {question: both for question, both in found.items() if both[0] and both[1]}


def triplets(found: Answers, number: int, seed: int) -> list[tuple[str, str, str]]:
    """So many different triplets of a question, a right and a wrong sentence, questions in turn."""
    rng = random.Random(seed)
    of_each = []
    for question, both in found.items():
        own = [
            (question, right, wrong) for right in dict.fromkeys(both[1]) for wrong in dict.fromkeys(both[0])
        ]
        rng.shuffle(own)
        of_each.append(own)
    in_turns = [row for turn in zip_longest(*of_each) for row in turn if row is not None]
    return in_turns[:number]


def with_margins(rows: list[tuple[str, str, str]], reranker: CrossEncoder) -> Dataset:
    """Triplets with what the cross-encoder scores the right sentence more than the wrong one."""
    pairs = [(question, answer) for question, *both in rows for answer in both]
    scores = reranker.predict(pairs).reshape(-1, 2)
    questions, right, wrong = (list(column) for column in zip(*rows, strict=True))
    margins = (scores[:, 0] - scores[:, 1]).tolist()
    return Dataset.from_dict({"query": questions, "positive": right, "negative": wrong, "label": margins})


def distil(model: SentenceTransformer, rows: Dataset, options: argparse.Namespace) -> None:
    """The difference of the model's scores should be that of the cross-encoder's."""
    args = SentenceTransformerTrainingArguments(
        str(options.out),
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        warmup_ratio=0.1,
        seed=options.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=MarginMSELoss(model)).train()


def measured(model: SentenceTransformer, test: list[Any]) -> Measurement:
    """nDCG@10 of each question's sentences."""
    return RerankingEvaluator(test).measure(model)[METRIC]


if __name__ == "__main__":
    main()
