"""Train one transformer for a dense, a sparse and a late-interaction search at once, and measure each alone and fused.

    command   likewise train hybrid_search --data ../data --max-length 256
    hardware  2 CPU cores (AVX-512), one thread, a load of 4 to 9 other processes beside it
    minutes   15.6 of processor time, 48 on the clock there
    score     nDCG@10 of 300 test queries among all 5,183 documents, before and after: dense 0.6451, 0.6739 (+0.0289, 95 %: +0.0023 to
              +0.0541); sparse 0.6185, 0.6391 (+0.0206: -0.0074 to +0.0469); late 0.7087, 0.7327 (+0.0240: +0.0001 to +0.0469); all three
              by ranks 0.7019, 0.7080 (+0.0061: -0.0181 to +0.0328), by scores 0.7222, 0.7407 (+0.0184: -0.0049 to +0.0449); the last is
              +0.0667 (+0.0438 to +0.0935) to dense, +0.0079 (-0.0061 to +0.0216) to late

    command   likewise train hybrid_search --data ../data
    hardware  the same
    minutes   4.4 of processor time, 8.5 on the clock
    score     cut at 64 tokens: dense 0.5718, 0.6011 (+0.0293: +0.0007 to +0.0575); sparse 0.4964, 0.5173 (+0.0209: -0.0118 to +0.0546);
              late 0.5994, 0.6272 (+0.0278: +0.0025 to +0.0529); all three by ranks 0.5775, 0.5994 (+0.0218: -0.0019 to +0.0458), by scores
              0.5964, 0.6279 (+0.0315: +0.0090 to +0.0556): +0.0268 (+0.0027 to +0.0519) to dense, +0.0007 (-0.0159 to +0.0182) to late

Two epochs over the training claims help dense and late interaction, and the sparse search within its interval. To fuse them by scores
gains much to dense alone, but nothing that is certain to late interaction alone, the best of the three; by ranks, which weigh the weakest as much as the best, it is worse than that
(-0.0247 at 256 tokens, 95 %: -0.0439 to -0.0076). How much of a text is read counts more than either: of 64 tokens the sparse search
is much the weakest. `fused_search` has a sparse one without a transformer, trained by itself, and gains 0.08 to dense.

A SPLADE model's head in place of the sparse layer (`splade_from_dense` makes one; the encoder runs once for it too) gains nothing here:
after one epoch, among 533 documents cut at 64 tokens, sparse 0.6622 where the layer has 0.6979, all three by scores 0.8034 where
they have 0.8123.

Claims and the abstracts of articles that support or refute them (SciFact, ${data}/retrieval/scifact, or any folder in BEIR layout
with judgements for training and for testing).

One transformer gives all three kinds of embeddings, and runs once for each text (BGE-M3's way). The dense model is taken as it is.
The sparse one has a linear layer behind the transformer that gives each token a weight; it is fitted, by least squares on some
texts, to how rare the word is in the corpus (the root of its IDF, so that a word that query and document share counts about its
IDF). Late interaction compares the token embeddings as they are. Then the training claims train transformer and layer for the three
searches together: each ranks the documents of a batch, and learns from the sum of the scores of all three.

Every search finds `--depth` documents for each test claim, before the training and after; they are fused by ranks and by scores.
Intervals are those of the metric, and of differences, over the test claims, drawn again (bootstrap).

References: Chen et al. 2024, BGE M3-Embedding, https://arxiv.org/abs/2402.03216; Cormack et al. 2009, Reciprocal rank fusion, SIGIR;
Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019 (IDF).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor

from likewise import (
    MultiVectorEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
)
from likewise.evaluation.beir import RetrievalTask, read_folder
from likewise.evaluation.measurement import Measurement
from likewise.hybrid import HybridEncoder, HybridLoss
from likewise.losses import MultipleNegativesRankingLoss
from likewise.modules import Normalize, Transformer
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.multi_vector_encoder.modules import MultiVectorMask
from likewise.recipes import common
from likewise.retrieval import reciprocal_rank_fusion, semantic_search, weighted_fusion
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss
from likewise.sparse_encoder.modules import LexicalWeights, SparseStaticEmbedding
from likewise.util import compute_count_vector

K = 10  # nDCG@10
FITTED_TEXTS = 200  # on which the words' weights are fitted to their rarity
Hits = list[list[dict[str, Any]]]
"""For each test query what was found, best first."""


def main() -> None:
    """Run the recipe and print a table."""
    parser = common.parser(__doc__, batch_size=16)
    parser.add_argument(
        "--task", default="retrieval/scifact", help="the folder in BEIR layout, inside of --data"
    )
    parser.add_argument("--max-length", type=int, default=64, help="texts are cut at so many tokens")
    parser.add_argument(
        "--documents", type=int, help="search so many beside those judged for the test claims; else all"
    )
    parser.add_argument("--depth", type=int, default=100, help="documents that each search finds")
    parser.add_argument("--epochs", type=float, default=2, help="over the training claims")
    parser.add_argument("--out", type=Path, default=Path("models/hybrid_search"), help="for the three models")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data must name the folder with the data sets")
    started = time.perf_counter()
    train, test = (read_folder(options.data / options.task, split) for split in ("train", "test"))
    if options.documents is not None:
        test = with_fewer(test, options.documents)
    model = three_of_one(SentenceTransformer(options.model), options.max_length)
    fit_to_rarity(model, list(test.corpus.values()))
    before = measured(model, test, options.depth)
    common.tell(started, "search")
    fine_tune(model, train, options)
    common.tell(started, "training")
    after = measured(model, test, options.depth)
    common.tell(started, "search")
    for name in model.models:
        model[name].save_pretrained(str(options.out / name))
    rows = [
        (
            name, common.with_interval(before[name]), common.with_interval(one), common.change(before[name], one),
            common.change(after["dense"], one), common.change(after["late"], one),
        )
        for name, one in after.items()
    ]  # fmt: skip
    header = (
        f"nDCG@{K} of {len(test.relevant):,} queries", "before", "after", "change", "less dense (95 %)", "less late (95 %)",
    )  # fmt: skip
    common.table(header, rows)


def with_fewer(task: RetrievalTask, others: int) -> RetrievalTask:
    """The task with the documents that are judged and so many others, the first of them."""
    judged = set().union(*task.relevant.values())
    kept = judged | set([name for name in task.corpus if name not in judged][:others])
    return replace(task, corpus={name: text for name, text in task.corpus.items() if name in kept})


def three_of_one(dense: SentenceTransformer, max_length: int) -> HybridEncoder:
    """The dense model, and a sparse one and one of late interaction over its transformer."""
    dense.max_seq_length = max_length
    device, transformer = str(dense.device), cast(Transformer, dense[0])
    weights = LexicalWeights(transformer.get_word_embedding_dimension(), transformer.config.vocab_size)
    mask = MultiVectorMask(skiplist_words=[".", ",", ";", "(", ")"])
    tokens = [transformer, mask, Normalize("token_embeddings", "token_embeddings")]
    return HybridEncoder(
        dense=dense,
        sparse=SparseEncoder(modules=[transformer, weights], device=device),
        late=MultiVectorEncoder(modules=tokens, device=device),
    )


def fit_to_rarity(model: HybridEncoder, corpus: list[str]) -> None:
    """Set the sparse layer so that it gives a token the root of its IDF in the corpus, as nearly as it can tell."""
    dense, layer = model["dense"], model["sparse"][1].linear
    words = SparseEncoder(modules=[SparseStaticEmbedding(dense.tokenizer)], device="cpu")
    counts = compute_count_vector(words.encode_document(corpus)).float()
    rarity = ((len(corpus) - counts + 0.5) / (counts + 0.5)).log1p().sqrt()
    texts = corpus[:FITTED_TEXTS]
    ids = dense.tokenizer(texts, truncation=True, max_length=dense.max_seq_length)["input_ids"]
    hidden = torch.cat(dense.encode(texts, output_value="token_embeddings")).cpu()
    inputs = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    wanted = rarity[torch.tensor([token for text in ids for token in text])]
    found = torch.linalg.lstsq(inputs, wanted.unsqueeze(1)).solution.squeeze(1)
    with torch.no_grad():
        layer.weight.copy_(found[:-1].unsqueeze(0))
        layer.bias.copy_(found[-1:])


def fine_tune(model: HybridEncoder, task: RetrievalTask, options: argparse.Namespace) -> None:
    """Train all three so that a query's document scores higher than the others of its batch."""
    rows = [
        {"query": task.queries[query], "document": task.corpus[document]}
        for query, documents in task.relevant.items()
        for document in sorted(documents & set(task.corpus))
    ]
    losses = {
        "dense": MultipleNegativesRankingLoss(model["dense"]),
        "sparse": SparseMultipleNegativesRankingLoss(model["sparse"]),
        "late": MultiVectorMultipleNegativesRankingLoss(model["late"]),
    }
    loss = HybridLoss(
        model, losses, {"dense": 1, "sparse": 0.1, "late": 1}, {"dense": 1, "sparse": 0.3, "late": 1}
    )
    args = SentenceTransformerTrainingArguments(
        **common.settings(
            options, num_train_epochs=options.epochs, learning_rate=5e-5, batch_sampler="no_duplicates",
            learning_rate_mapping={r"sparse\.1\.linear": 3e-3},
        )
    )  # fmt: skip
    data = Dataset.from_list(rows)
    SentenceTransformerTrainer(model=model["dense"], args=args, train_dataset=data, loss=loss).train()


def measured(model: HybridEncoder, task: RetrievalTask, depth: int) -> dict[str, Measurement]:
    """nDCG@10 of each search alone, and of what they find together."""
    asked = model.encode_query([task.queries[query] for query in task.relevant])
    documents = model.encode_document(list(task.corpus.values()))
    found = {
        name: semantic_search(
            asked[name], documents[name], top_k=depth, score_function=model[name].similarity
        )
        for name in ("dense", "sparse")
    }
    found["sparse"] = [[hit for hit in own if hit["score"] > 0] for own in found["sparse"]]  # share a word
    found["late"] = best(model["late"].similarity(asked["late"], documents["late"]), depth)
    three = list(found.values())
    found["dense + sparse, by ranks"] = reciprocal_rank_fusion(three[:2], depth)
    found["all three, by ranks"] = reciprocal_rank_fusion(three, depth)
    found["all three, by scores"] = weighted_fusion(three, depth)
    return {name: common.ndcg_of_hits(hits, task, K) for name, hits in found.items()}


def best(scores: Tensor, depth: int) -> Hits:
    """What is found by (Q, M) scores."""
    values, places = scores.topk(min(depth, scores.shape[1]))
    return [
        [{"corpus_id": place, "score": value} for place, value in zip(*row, strict=True)]
        for row in zip(places.tolist(), values.tolist(), strict=True)
    ]


if __name__ == "__main__":
    main()
