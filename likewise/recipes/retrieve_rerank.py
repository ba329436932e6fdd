"""Retrieve and re-rank: a dense model finds candidates, a cross-encoder trained on its mistakes puts them in order.

    command   likewise train retrieve_rerank --data ../data
    hardware  2 CPU cores (AVX-512), one thread, a load of 13 to 16 processes beside it
    minutes   22 there: 6 to embed the corpus, 9 of training, 7 to re-rank
    score     nDCG@10 of 300 test queries: 0.6071 for the dense model, 0.3925 re-ranked: -0.2146 (95 %: from -0.2571 to -0.1728)

So small a training harms: 500 claims with two hard negatives each, read once, teach a new head next to nothing (the training loss
stays where guessing has it), and what it puts in order is nearly at random. With more of `--train-queries`, `--negatives`,
`--epochs` or a higher `--learning-rate` it has not been run, nor with texts cut at more than 96 tokens (`--max-length`), with
which the dense model alone comes to 0.6451 at 256. The recipe shows the way, and that a reranker has to be measured.

Claims and the abstracts of articles that support or refute them (SciFact, ${data}/retrieval/scifact, or any folder in BEIR layout
with judgements for training and for testing). The dense model embeds the corpus once. What it finds first for a training
claim, and what is not judged relevant, is a hard negative; the reranker starts from the same model's encoder with a new
head, and learns by binary cross-entropy to tell these from the judged documents. For each test claim it then re-ranks what the
dense model found first; all else stays in its place.

The interval is that of the difference over the test claims, drawn again (paired bootstrap), and p says how often chance alone
makes such a difference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import set_seed

from likewise import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, SentenceTransformer
from likewise.cross_encoder.losses import BinaryCrossEntropyLoss
from likewise.evaluation.beir import RetrievalTask, read_folder
from likewise.evaluation.bootstrap import paired_test
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import ndcg_at_k
from likewise.modules.find_folder import find_folder
from likewise.retrieval import semantic_search

K = 10  # nDCG@10
Rankings = Mapping[str, Sequence[str]]
"""For each query's id the ids of documents, best first."""


def main() -> None:
    """Run the recipe and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument("--task", default="retrieval/scifact", help="the folder in BEIR layout, inside of it")
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="the dense model, and where the reranker starts"
    )
    parser.add_argument("--out", type=Path, default=Path("models/retrieve_rerank"))
    parser.add_argument("--train-queries", type=int, default=500, help="queries to train on")
    parser.add_argument("--negatives", type=int, default=2, help="hard negatives of each training query")
    parser.add_argument(
        "--skipped", type=int, default=0, help="first so many found documents are no negatives"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        default=96,
        help="pairs, and documents for the dense model, are cut at so many tokens",
    )
    parser.add_argument("--depth", type=int, default=K, help="found documents that are re-ranked")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs in a batch")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    started = time.perf_counter()
    set_seed(options.seed)  # for the new head
    train, test = (read_folder(options.data / options.task, split) for split in ("train", "test"))
    model = SentenceTransformer(options.model)
    model.max_seq_length = options.max_length
    wanted = list(train.relevant)[: options.train_queries]
    depth = max(K, options.depth, options.skipped + 2 * options.negatives)
    found = search(model, test, [*wanted, *test.relevant], depth)
    dense = ndcg(found, test)
    tell(started, f"dense model: nDCG@{K} {dense.value:.4f} of {len(test.relevant):,} queries")

    rows = training_pairs(train, {query: found[query] for query in wanted}, options)
    reranker = CrossEncoder(str(find_folder(options.model)), num_labels=1, max_length=options.max_length)
    fine_tune(reranker, rows, options)
    reranker.save_pretrained(str(options.out))
    tell(started, f"reranker trained on {len(rows):,} pairs, saved to {options.out}")

    reranked = ndcg(rerank(reranker, test, found, options.depth), test)
    one = paired_test(dense, reranked, np.random.default_rng(options.seed))
    ends = f"from {one.difference.low:+.4f} to {one.difference.high:+.4f}"
    tell(
        started,
        f"re-ranked: nDCG@{K} {reranked.value:.4f}; {one.difference.value:+.4f} (95 %: {ends}, p {one.p_value:.4f})",
    )


def search(
    model: SentenceTransformer, task: RetrievalTask, queries: Sequence[str], depth: int
) -> dict[str, list[str]]:
    """What the model finds for each query, by ids."""
    documents = list(task.corpus)
    hits = semantic_search(
        model.encode_query([task.queries[query] for query in queries]),
        model.encode_document(list(task.corpus.values())),
        top_k=depth,
        score_function=model.similarity,
    )
    return {
        query: [documents[hit["corpus_id"]] for hit in own] for query, own in zip(queries, hits, strict=True)
    }


def training_pairs(task: RetrievalTask, found: Rankings, options: argparse.Namespace) -> Dataset:
    """Each query with a judged document and with documents that were found and are not judged relevant, in random order."""
    rows = []
    for query, documents in found.items():
        relevant = sorted(task.relevant[query] & set(task.corpus))[:1]
        others = [each for each in documents[options.skipped :] if each not in task.relevant[query]]
        labelled = [(each, 1.0) for each in relevant] + [(each, 0.0) for each in others[: options.negatives]]
        rows += [
            {"query": task.queries[query], "document": task.corpus[each], "label": label}
            for each, label in labelled
        ]
    return Dataset.from_list(rows).shuffle(seed=options.seed)


def fine_tune(reranker: CrossEncoder, rows: Dataset, options: argparse.Namespace) -> None:
    """Tell relevant documents from the others; a relevant one counts as much as all of its negatives together."""
    args = CrossEncoderTrainingArguments(
        str(options.out),
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        warmup_ratio=0.1,
        seed=options.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=20,
    )
    loss = BinaryCrossEntropyLoss(reranker, pos_weight=torch.tensor(float(options.negatives)))
    CrossEncoderTrainer(model=reranker, args=args, train_dataset=rows, loss=loss).train()


def rerank(reranker: CrossEncoder, task: RetrievalTask, found: Rankings, depth: int) -> dict[str, list[str]]:
    """The first `depth` documents of each test query by the reranker's scores, and the others behind them."""
    pairs = [(query, document) for query in task.relevant for document in found[query][:depth]]
    scores = reranker.predict([(task.queries[query], task.corpus[document]) for query, document in pairs])
    score = dict(zip(pairs, scores.tolist(), strict=True))
    return {
        query: sorted(found[query][:depth], key=lambda document: -score[query, document])
        + list(found[query][depth:])
        for query in task.relevant
    }


def ndcg(rankings: Rankings, task: RetrievalTask) -> Measurement:
    """nDCG@10 of each test query; what was not found counts as missed."""
    hits = np.array(
        [
            [place < len(ranking) and ranking[place] in relevant for place in range(K)]
            for ranking, relevant in (
                (rankings[query], relevant) for query, relevant in task.relevant.items()
            )
        ]
    )
    num_relevant = np.array([len(relevant) for relevant in task.relevant.values()])
    return Measurement((ndcg_at_k(hits, num_relevant, K),))


def tell(started: float, sentence: str) -> None:
    """Print what was found, and after how many minutes."""
    print(f"{sentence} after {(time.perf_counter() - started) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
