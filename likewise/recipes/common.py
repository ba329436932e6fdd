"""What the recipes that are scripts have in common: their options, where their rows come from, and how they tell the score."""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.evaluation import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator, SentenceEvaluator
from likewise.evaluation.beir import RetrievalTask
from likewise.evaluation.bootstrap import bootstrap_interval, paired_test
from likewise.evaluation.embedding import sharing_embeddings
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import ndcg_at_k
from likewise.training.data.sources import Source

if TYPE_CHECKING:
    from datasets import Dataset

STS_COLUMNS = {"sentence1": "sentence1", "sentence2": "sentence2", "score": "score"}


def parser(
    doc: str | None, model: str = "all-MiniLM-L6-v2", rows: int | None = None, batch_size: int | None = 32
) -> argparse.ArgumentParser:
    """The options that all of them take.

    Args:
        doc: The script's docstring, of which the first line is shown.
        model: The model to start from.
        rows: How many rows to read, if that is an option.
        batch_size: How many rows a batch has; None where nothing is trained in batches.
    """
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument(
        "--data", type=Path, help="the folder with the data sets; else they are read from the Hub"
    )
    made.add_argument("--model", default=model, help="the model to start from (default: %(default)s)")
    if rows is not None:
        made.add_argument("--rows", type=int, default=rows, help="rows to read (default: %(default)s)")
    if batch_size is not None:
        made.add_argument("--batch-size", type=int, default=batch_size, help="rows (default: %(default)s)")
        made.add_argument("--seed", type=int, default=42)
    return made


def read(
    data: Path | None,
    file: str,
    hub: Sequence[str],
    columns: Mapping[str, str],
    hub_columns: Mapping[str, str] | None = None,
    where: Mapping[str, Any] | None = None,
    rows: int | None = None,
) -> Dataset:
    """Rows from a file in the folder `data`, or, without one, from the Hub.

    Args:
        data: The folder with the data sets; None for the Hub.
        file: The file in it.
        hub: The data set's name on the Hub, its subset ("" for none) and its split.
        columns: The names of the columns, with those that they have in the file.
        hub_columns: The same for the Hub; None for the same names.
        where: Rows of the file are kept where these columns have these values.
        rows: So many of them, drawn at random, for files are often sorted; always the same. None for all.
    """
    if data is not None:
        found = Source(str(data / file), columns=columns, where=where or {}).load()
    else:
        name, subset, split = hub
        found = Source(name, subset or None, split, hub_columns or columns).load()
    return found if rows is None else found.shuffle(seed=0).select(range(min(rows, len(found))))


def sts_test(
    data: Path | None, language: str = "en", entries: int | None = None
) -> EmbeddingSimilarityEvaluator:
    """The STS benchmark's test set, for embeddings cut to their first entries; in another language, translated by machine."""
    hub = ("sentence-transformers/stsb", "", "test")
    if language != "en":
        hub = ("PhilipMay/stsb_multi_mt", language, "test")
    others = {**STS_COLUMNS, "score": "similarity_score"} if language != "en" else None
    rows = read(data, f"sts/stsb-multi/{language}-test.parquet", hub, STS_COLUMNS, others)
    first, second, scores = (list(rows[name]) for name in STS_COLUMNS)
    return EmbeddingSimilarityEvaluator(first, second, scores, name=f"stsb-{language}", truncate_dim=entries)


def sts_train(data: Path | None, rows: int) -> Dataset:
    """So many rows of the STS benchmark's training set: two sentences and how alike they are."""
    hub = ("sentence-transformers/stsb", "", "train")
    return read(data, "sts/stsb-multi/en-train.parquet", hub, STS_COLUMNS, rows=rows)


def captions(data: Path | None, rows: int, names: Sequence[str] = ("caption1", "caption2")) -> Dataset:
    """Captions of so many images, as columns; none with a sentence of the STS benchmark's test set."""
    hub = ("sentence-transformers/flickr30k-captions", "", "train")
    columns = {name: name for name in names}
    where = {"overlaps_sts_eval": False}
    return read(data, "pairs/flickr30k-captions/en-train.parquet", hub, columns, where=where, rows=rows)


def questions(data: Path | None, rows: int | None) -> Dataset:
    """So many questions (None for all, in their order), each with the sentence that answers it, of articles that `question_search` does not know (SQuAD)."""
    hub = ("sentence-transformers/squad", "", "train[5000:]")
    columns = {"question": "question", "sentence": "sentence"}
    others = {"question": "question", "sentence": "answer"}
    return read(data, "pairs/squad-nqg/nqg-test.parquet", hub, columns, others, rows=rows)


def question_search(data: Path | None, rows: int | None, build: Any = None) -> Any:
    """So many held-out questions (None for all), each to find the sentence that answers it among those of all of them (SQuAD).

    `build` makes the evaluator of queries, corpus and what is relevant; None for that of dense models.
    """
    hub = ("sentence-transformers/squad", "", "train[:5000]")
    columns = {"question": "question", "sentence": "sentence"}
    others = {"question": "question", "sentence": "answer"}
    found = read(data, "pairs/squad-nqg/squad-v1.1-dev.parquet", hub, columns, others, rows=rows)
    sentences = {text: str(number) for number, text in enumerate(dict.fromkeys(found["sentence"]))}
    queries = {str(row): question for row, question in enumerate(found["question"])}
    relevant = {str(row): {sentences[sentence]} for row, sentence in enumerate(found["sentence"])}
    corpus = {number: text for text, number in sentences.items()}
    build = build or partial(InformationRetrievalEvaluator, main_score_function="cosine")
    return build(queries, corpus, relevant)


def num_layers(model: Any) -> int:
    """How many layers a model has."""
    return int(model[0].auto_model.config.num_hidden_layers)


def with_layers(model: Any, layers: Sequence[int]) -> Any:
    """A copy of a model that has only these of its layers, counted from 0; of BERT's kind."""
    smaller = copy.deepcopy(model)
    encoder = smaller[0].auto_model.encoder
    encoder.layer = type(encoder.layer)([encoder.layer[number] for number in layers])
    smaller[0].auto_model.config.num_hidden_layers = len(layers)
    return smaller


def times_as_fast(model: Any, base: Any, texts: Sequence[str], rounds: int = 3) -> float:
    """How many times as fast as the other a model embeds these texts: the median of rounds in which both take turns."""
    ratios = []
    for _ in range(rounds):
        seconds = []
        for each in (model, base):
            started = time.perf_counter()
            each.encode(list(texts), batch_size=32)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
    return float(np.median(ratios))


def settings(options: argparse.Namespace, **others: Any) -> dict[str, Any]:
    """Training arguments: one epoch, nothing kept of it but the model."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": options.batch_size,
        "num_train_epochs": 1,
        "learning_rate": 2e-5,
        "warmup_ratio": 0.1,
        "logging_steps": 20,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": options.seed,
        **others,
    }


def measure(evaluator: SentenceEvaluator, model: Any) -> Measurement:
    """The evaluator's primary metric of the model."""
    evaluator.prepare(model)
    found = evaluator.measure(model)
    evaluator.report(model, found)
    return found[str(evaluator.primary_metric).removeprefix(f"{evaluator.name}_")]


def measure_each(evaluators: Mapping[Any, SentenceEvaluator], model: Any) -> dict[Any, Measurement]:
    """Each evaluator's primary metric of the model, which embeds no text twice."""
    with sharing_embeddings(model):
        return {name: measure(evaluator, model) for name, evaluator in evaluators.items()}


def ndcg_of_hits(found: Sequence[Sequence[Mapping[str, Any]]], task: RetrievalTask, k: int) -> Measurement:
    """nDCG at k of what was found for each query, best first; what was not found counts as missed."""
    documents = list(task.corpus)
    hits = np.zeros((len(found), k), dtype=bool)
    for row, (own, relevant) in enumerate(zip(found, task.relevant.values(), strict=True)):
        hits[row, : len(own[:k])] = [documents[hit["corpus_id"]] in relevant for hit in own[:k]]
    num_relevant = np.array([len(relevant) for relevant in task.relevant.values()])
    return Measurement((ndcg_at_k(hits, num_relevant, k),))


def tell(started: float, done: str) -> None:
    """Print that something is done, and after how many minutes."""
    print(f"{done} done after {(time.perf_counter() - started) / 60:.1f} min", flush=True)


def with_interval(measurement: Measurement) -> str:
    """A metric with its 95 % confidence interval."""
    found = bootstrap_interval(measurement, np.random.default_rng(0))
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def change(before: Measurement, after: Measurement) -> str:
    """How a metric changed, with the 95 % confidence interval of the change on these items."""
    found = paired_test(before, after, np.random.default_rng(0)).difference
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows in aligned columns, numbers with four decimals."""
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    print()
    for row in (header, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def before_and_after(before: Mapping[str, Measurement], after: Mapping[str, Measurement]) -> None:
    """Print a line for each metric: before, after, and the change with its 95 % confidence interval."""
    rows = [
        (name, before[name].value, after[name].value, change(before[name], after[name])) for name in before
    ]
    table(("measured with", "before", "after", "change (95 %)"), rows)
