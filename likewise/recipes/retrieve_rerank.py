"""Retrieve and re-rank: a dense model finds candidates, a cross-encoder trained on its mistakes puts them in order.

    command   likewise train retrieve_rerank --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   6 of processor time, 16 on the clock there
    score     nDCG@10 of 500 held-out questions: the dense model 0.7587; the reranker 0.7890, +0.0303 (95 %: +0.0139 to +0.0468);
              both together 0.8013, +0.0426 (+0.0310 to +0.0546)

Questions, each with the sentence that answers it (SQuAD, ${data}/pairs/squad-nqg). The dense model embeds all held-out sentences
once, and finds ten for each held-out question; a reranker reads each of them together with the question. It starts from the
dense model's own encoder with a new head, and learns from lists: a training question with its sentence, three sentences that the
dense model takes for the answer (mined, mostly of the same article), and one of another question. The loss is the cross-entropy
of the right one among these, which asks for their order and nothing else. With binary cross-entropy on single pairs and a third of
the learning rate, as many pairs taught the new head next to nothing.

The last line ranks by the sum of both scores, each divided by its standard deviation: the two err in different places, and a
sum costs nothing. The intervals are of the difference to the dense ranking, over the questions (paired bootstrap).

Any data in BEIR layout takes SQuAD's place. Of SciFact, whose 919 training pairs are few, a reranker that has read SQuAD first learns with
`--task retrieval/scifact --start models/retrieve_rerank --max-length 160 --depth 20 --negatives 4 --learning-rate 5e-5` (25 minutes of
processor time): nDCG@10 of the 300 test claims among all abstracts is 0.6451 by the dense model, 0.6402 by the reranker (-0.0334 to
+0.0255), 0.6882 by both: +0.0431 (+0.0261 to +0.0626). SQuAD's reranker as it is makes that ranking worse by 0.18.

The reranker is saved to `--out`, and is a start for others: `likewise train answer_reranker --data ../data --model
models/retrieve_rerank`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from transformers import set_seed

from likewise import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    mine_hard_negatives,
)
from likewise.cross_encoder.losses import MultipleNegativesRankingLoss
from likewise.evaluation import InformationRetrievalEvaluator
from likewise.evaluation.beir import read_folder
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import ndcg_at_k
from likewise.modules.find_folder import find_folder
from likewise.recipes.common import change, parser, question_search, questions, settings, table
from likewise.retrieval import semantic_search

K = 10  # nDCG@10
Scores = NDArray[Any]


def main() -> None:
    """Find, train, re-rank, and print the score of each ranking."""
    options_of = parser(__doc__, rows=1000, batch_size=8)
    options_of.add_argument(
        "--negatives", type=int, default=3, help="hard negatives of each training question"
    )
    options_of.add_argument("--queries", type=int, default=500, help="held-out questions to measure with")
    options_of.add_argument("--depth", type=int, default=K, help="found sentences that are re-ranked")
    options_of.add_argument(
        "--task", default=None, help="a folder in BEIR layout, inside of --data, in place of SQuAD"
    )
    options_of.add_argument("--start", default=None, help="what the reranker starts from; default: --model")
    options_of.add_argument("--learning-rate", type=float, default=1.5e-4)
    options_of.add_argument("--max-length", type=int, default=96, help="pairs are cut at so many tokens")
    options_of.add_argument("--out", type=Path, default=Path("models/retrieve_rerank"))
    options = options_of.parse_args()

    set_seed(options.seed)  # for the new head
    rows, corpus, test = read(options)
    model = SentenceTransformer(options.model)
    asked = np.random.default_rng(0).permutation(len(test.queries))[: options.queries]
    hits = semantic_search(
        model.encode_query([test.queries[row] for row in asked]),
        model.encode_document(test.corpus),
        top_k=options.depth,
    )
    pairs = [
        (test.queries[row], test.corpus[hit["corpus_id"]])
        for row, own in zip(asked, hits, strict=True)
        for hit in own
    ]
    right = np.array([
        [test.corpus_ids[hit["corpus_id"]] in test.relevant_docs[test.queries_ids[row]] for hit in own]
        for row, own in zip(asked, hits, strict=True)
    ])  # fmt: skip

    start = str(find_folder(options.start or options.model))
    reranker = CrossEncoder(start, num_labels=1, max_length=options.max_length)
    fine_tune(reranker, model, rows, corpus, options)
    reranker.save_pretrained(str(options.out))

    dense = np.array([[hit["score"] for hit in own] for own in hits])
    scores = reranker.predict(pairs, activation_fn=nn.Identity()).reshape(dense.shape)
    numbers = np.array([len(test.relevant_docs[test.queries_ids[row]]) for row in asked])
    first = ndcg(dense, right, numbers)
    found = {"the dense model": first, "the reranker": ndcg(scores, right, numbers)}
    found["both"] = ndcg(dense / dense.std() + scores / scores.std(), right, numbers)
    lines = [(name, score.value, change(first, score)) for name, score in found.items()]
    table(("ranked by", f"nDCG@{K}", "change (95 %)"), lines)


def read(options: Any) -> tuple[Dataset, list[str] | None, Any]:
    """The rows to learn from, the texts that negatives are mined among (None for those of the rows), and the search to measure."""
    if options.task is None:
        # In their order, in which the sentences of an article are together.
        return questions(options.data, None), None, question_search(options.data, None)
    train, test = (read_folder(options.data / options.task, split) for split in ("train", "test"))
    pairs = [(query, document) for query, found in train.relevant.items() for document in sorted(found)]
    rows = {
        "question": [train.queries[query] for query, _ in pairs],
        "sentence": [train.corpus[document] for _, document in pairs],
    }
    search = InformationRetrievalEvaluator(test.queries, test.corpus, test.relevant)
    return Dataset.from_dict(rows), list(train.corpus.values()), search


def fine_tune(
    reranker: CrossEncoder, model: SentenceTransformer, rows: Dataset, corpus: list[str] | None, options: Any
) -> None:
    """Teach the reranker to find a question's sentence among those that the dense model takes for it."""
    mined = mine_hard_negatives(
        rows.select(range(min(options.rows, len(rows)))), model, corpus=corpus,
        range_max=30, relative_margin=0.05, num_negatives=options.negatives, output_format="n-tuple", verbose=False,
    )  # fmt: skip
    args = CrossEncoderTrainingArguments(**settings(options, learning_rate=options.learning_rate))
    loss = MultipleNegativesRankingLoss(reranker, num_negatives=1, scale=1, activation_fn=nn.Identity())
    CrossEncoderTrainer(model=reranker, args=args, train_dataset=mined, loss=loss).train()


def ndcg(scores: Scores, right: Scores, numbers: Scores) -> Measurement:
    """(Q, depth) scores of what was found, which of it is right, and (Q,) how many right ones there are -> nDCG@10 of each query."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return Measurement((ndcg_at_k(np.take_along_axis(right, order, axis=1), numbers, K),))


if __name__ == "__main__":
    main()
