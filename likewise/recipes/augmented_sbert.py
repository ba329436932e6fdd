"""Augmented SBERT: a cross-encoder, which needs fewer labels, labels pairs for an embedding model, which needs more.

    command   likewise train augmented_sbert --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   4 of processor time, 10 on the clock there
    score     Spearman on the STS benchmark's test set: 0.7732 as it is (3 of 6 layers), 0.8055 with 1,000 gold pairs, 0.8045 with these
              and 2,000 silver ones: silver adds -0.0010 (95 %: -0.0067 to +0.0049)

Silver does not help here: a cross-encoder that has read 1,000 pairs three times knows no more of sentences than the embedding
model that it was made of, which has learnt from a billion pairs. (With 300 gold and 600 silver pairs, and all layers: 0.8203, 0.8300,
0.8267.) It pays where the cross-encoder is the better of the two, which is to be measured first. The forms and samplings below that are no
default run in the tests, and have not been measured at this size.

In-domain (the default). A cross-encoder learns from the few gold pairs (a sample of the STS benchmark's training set,
${data}/sts/stsb-multi/en-train.parquet). New pairs are put together from the same sentences: each with those that come nearest
to it, by the embedding model (`--sampling semantic`) or by the words that they share (`--sampling words`, TF-IDF), where pairs
at random would nearly all be unrelated. The cross-encoder scores them, which is the silver data; the embedding model
learns from gold and silver. Measured is the benchmark's test set (Spearman).

Across domains (`--form cross-domain`). Gold is another domain's: the cross-encoder learns from the STS benchmark, and scores
pairs of newspaper sentences whose labels nobody looks at (MRPC, ${data}/pairs/mrpc/train.parquet); the embedding model learns
from these scores. Measured is MRPC's test set (average precision), beside an embedding model that learns from the gold of
the other domain itself. To turn the two around (`--gold mrpc`), MRPC's pairs without sentences of the STS benchmark's test
set (`overlaps_sts_eval`) are the gold.

A third form, which makes new pairs by putting other words into the gold ones, is left out.

Reference: Thakur et al. 2021, Augmented SBERT, https://arxiv.org/abs/2010.08240.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import set_seed

from likewise import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from likewise.cross_encoder.losses import BinaryCrossEntropyLoss
from likewise.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    SentenceEvaluator,
)
from likewise.evaluation.measurement import Measurement
from likewise.losses import CosineSimilarityLoss
from likewise.modules.find_folder import find_folder
from likewise.recipes.common import change, measure, with_layers
from likewise.retrieval import semantic_search
from likewise.training.data.sources import Source

COLUMNS = ["sentence1", "sentence2", "label"]


@dataclass(frozen=True)
class Domain:
    """Pairs of sentences of one kind, with a label each.

    Attributes:
        train: The file that is learnt from.
        test: The file that is measured with.
        label: The column of labels ...
        largest: ... and the largest of them, by which they are divided.
        evaluator: Measures an embedding model on the test file.
    """

    train: str
    test: str
    label: str
    largest: float
    evaluator: type[Any]

    def pairs(self, data: Path, tests_sts: bool) -> Dataset:
        """The training pairs, labels from 0 to 1; without sentences of the STS benchmark's test set where that is measured."""
        columns = {"sentence1": "sentence1", "sentence2": "sentence2", "label": self.label}
        where = {"overlaps_sts_eval": False} if tests_sts and self is not DOMAINS["stsb"] else {}
        rows = Source(str(data / self.train), columns=columns, where=where).load()
        labels = [label / self.largest for label in rows["label"]]
        return labelled(zip(rows["sentence1"], rows["sentence2"], strict=True), labels)

    def measure(self, data: Path) -> SentenceEvaluator:
        """The evaluator of the test file."""
        rows = Source(str(data / self.test), columns=["sentence1", "sentence2", self.label]).load()
        found: SentenceEvaluator = self.evaluator(*(list(rows[column]) for column in rows.column_names))
        return found


DOMAINS = {
    "stsb": Domain(
        "sts/stsb-multi/en-train.parquet",
        "sts/stsb-multi/en-test.parquet",
        "score",
        5,
        EmbeddingSimilarityEvaluator,
    ),
    "mrpc": Domain(
        "pairs/mrpc/train.parquet", "pairs/mrpc/test.parquet", "label", 1, BinaryClassificationEvaluator
    ),
}


def main() -> None:
    """Run the recipe and print a line for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="the embedding model, and where the cross-encoder starts"
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[0, 2, 5], help="those that the embedding model keeps"
    )
    parser.add_argument("--form", choices=("in-domain", "cross-domain"), default="in-domain")
    parser.add_argument("--gold", choices=DOMAINS, default="stsb", help="where the labels are from")
    parser.add_argument("--gold-pairs", type=int, default=1000, help="labelled pairs")
    parser.add_argument("--silver-pairs", type=int, default=2000, help="pairs that the cross-encoder labels")
    parser.add_argument("--sampling", choices=("semantic", "words"), default="semantic")
    parser.add_argument("--neighbours", type=int, default=3, help="sentences that each is paired with")
    parser.add_argument("--epochs", type=float, default=1, help="of the embedding model")
    parser.add_argument("--teacher-epochs", type=float, default=3, help="of the cross-encoder")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="of the embedding model")
    parser.add_argument("--teacher-learning-rate", type=float, default=1e-4, help="of the cross-encoder")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    started = time.perf_counter()
    set_seed(options.seed)
    source = DOMAINS[options.gold]
    target = source if options.form == "in-domain" else next(d for d in DOMAINS.values() if d is not source)
    tests_sts = target is DOMAINS["stsb"]
    test = target.measure(options.data)
    gold = first(source.pairs(options.data, tests_sts), options.gold_pairs, options.seed)

    def tell(name: str, model: SentenceTransformer) -> Measurement:
        found, minutes = measure(test, model), (time.perf_counter() - started) / 60
        print(f"{name:<24} {test.primary_metric} {found.value:.4f} after {minutes:.1f} min", flush=True)
        return found

    def student() -> SentenceTransformer:
        smaller: SentenceTransformer = with_layers(SentenceTransformer(options.model), options.layers)
        return smaller

    tell("as it is", student())
    with_gold = tell(f"{len(gold):,} gold", trained(student(), gold, options))
    teacher = trained_teacher(gold, options)
    if options.form == "in-domain":
        pairs = sampled_pairs(gold, SentenceTransformer(options.model), options)
        silver = labelled(pairs, teacher.predict(pairs).tolist())
        rows = concatenate_datasets([gold, silver])
        name = f"{len(gold):,} gold + {len(silver):,} silver"
    else:
        fresh = first(target.pairs(options.data, tests_sts), options.silver_pairs, options.seed)
        pairs = list(zip(fresh["sentence1"], fresh["sentence2"], strict=True))
        rows = silver = labelled(pairs, teacher.predict(pairs).tolist())
        name = f"{len(silver):,} silver"
    print(
        f"silver labels: mean {np.mean(silver['label']):.3f}, of gold {np.mean(gold['label']):.3f}",
        flush=True,
    )
    with_silver = tell(name, trained(student(), rows, options))
    print(f"what silver adds: {change(with_gold, with_silver)} (95 %)")


def labelled(pairs: Iterable[tuple[str, str]], labels: Sequence[float]) -> Dataset:
    """Pairs with their labels, as rows."""
    ones, others = zip(*pairs, strict=True)
    return Dataset.from_dict(dict(zip(COLUMNS, (list(ones), list(others), list(labels)), strict=True)))


def first(rows: Dataset, number: int, seed: int) -> Dataset:
    """So many rows, drawn at random."""
    return rows.shuffle(seed=seed).select(range(min(number, len(rows))))


def sampled_pairs(
    gold: Dataset, model: SentenceTransformer, options: argparse.Namespace
) -> list[tuple[str, str]]:
    """New pairs of the gold pairs' sentences, each with the nearest, in random order; none twice, and none that is gold."""
    sentences = list(dict.fromkeys([*gold["sentence1"], *gold["sentence2"]]))
    by_words = options.sampling == "words"
    vectors = words_of(sentences) if by_words else model.encode(sentences)
    hits = semantic_search(vectors, vectors, top_k=options.neighbours + 1)
    known = {frozenset(pair) for pair in zip(gold["sentence1"], gold["sentence2"], strict=True)}
    pairs = []
    for place, found in enumerate(hits):
        for hit in found:
            pair = (sentences[place], sentences[hit["corpus_id"]])
            if pair[0] != pair[1] and frozenset(pair) not in known:
                known.add(frozenset(pair))
                pairs.append(pair)
    chosen = np.random.default_rng(options.seed).permutation(len(pairs))[: options.silver_pairs]
    return [pairs[i] for i in chosen]


def words_of(sentences: Sequence[str]) -> np.ndarray[Any, Any]:
    """(N, words) how much each word says about each sentence (TF-IDF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    found: np.ndarray[Any, Any] = TfidfVectorizer(sublinear_tf=True).fit_transform(sentences).toarray()
    return found.astype(np.float32)


def trained_teacher(gold: Dataset, options: argparse.Namespace) -> CrossEncoder:
    """A cross-encoder that has learnt the gold pairs' labels."""
    teacher = CrossEncoder(str(find_folder(options.model)), num_labels=1)
    args = CrossEncoderTrainingArguments(
        **settings(options, options.teacher_epochs, options.teacher_learning_rate)
    )
    loss = BinaryCrossEntropyLoss(teacher)
    CrossEncoderTrainer(model=teacher, args=args, train_dataset=gold, loss=loss).train()
    return teacher


def trained(model: SentenceTransformer, rows: Dataset, options: argparse.Namespace) -> SentenceTransformer:
    """The embedding model, after it has learnt the pairs' labels as cosines."""
    args = SentenceTransformerTrainingArguments(**settings(options, options.epochs, options.learning_rate))
    SentenceTransformerTrainer(
        model=model, args=args, train_dataset=rows, loss=CosineSimilarityLoss(model)
    ).train()
    return model


def settings(options: argparse.Namespace, epochs: float, learning_rate: float) -> dict[str, Any]:
    """What both trainings have in common."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "warmup_ratio": 0.1,
        "seed": options.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


if __name__ == "__main__":
    main()
