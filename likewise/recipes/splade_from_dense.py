"""Make a SPLADE model of an embedding model: a head over its word embeddings, started by a regression and then trained.

    command   likewise train splade_from_dense --data ../data
    hardware  2 CPU cores (AVX-512), one thread, a load of 8 other processes beside it
    minutes   6 of processor time, 16 on the clock there; of them 4 of training
    score     nDCG@10 of 300 test claims among 800 abstracts: 0.6344 at the start, 0.6748 trained: +0.0405 (95 %: from +0.0223 to
              +0.0624); active entries 60 of a query and 181 of a document before, 44 and 118 after; 13.7 products a score, then 8.5

Claims, and the abstracts of articles that support or refute them (SciFact, ${data}/retrieval/scifact), and sentences with one that
follows and one that contradicts (${data}/nli/triplets/snli-cad.parquet). Tests are the test claims, each to find its abstracts.

An embedding model has lost its masked language model's head, or never had one. Here it gets one that is tied to its word
embeddings: a word's logit at a token is the product of the word's embedding with what a linear layer makes of the token's hidden
state. At random that layer names words at random: nDCG@10 was 0.0217 among 1,283 abstracts, with nearly all entries active. A ridge
regression from the hidden states of some abstracts to the embeddings of the very tokens that they are of gives one that names the
token itself (three in four) and words like it, in seconds; a threshold leaves the strongest. What is trained then is the whole
model, so that texts that belong together share words, which need not stand in either.

Reference: Formal et al. 2021, SPLADE v2, https://arxiv.org/abs/2109.10086.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import layer_norm, normalize

from likewise import (
    SentenceTransformer,
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
)
from likewise.evaluation.beir import RetrievalTask, read_folder
from likewise.recipes import common
from likewise.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from likewise.sparse_encoder.modules import MLMTransformer, SpladePooling

SHIFT = 6.0  # gelu(x + 6) is x + 6 for all x that occur; layer normalisation takes the 6 away again


def main() -> None:
    """Run the recipe and print a table."""
    parser = common.parser(__doc__, rows=600, batch_size=16)
    parser.add_argument(
        "--documents",
        type=int,
        default=800,
        help="abstracts to search in, those of the test claims among them",
    )
    parser.add_argument("--max-length", type=int, default=96, help="texts are cut at so many tokens")
    parser.add_argument(
        "--threshold", type=float, default=5.0, help="of a logit, at the start: higher is sparser"
    )
    parser.add_argument("--regressed", type=int, default=400, help="abstracts that the head starts from")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--document-weight", type=float, default=1e-3, help="of the documents' regulariser")
    parser.add_argument("--query-weight", type=float, default=1e-3, help="of the queries' regulariser")
    parser.add_argument("--out", type=Path, default=Path("models/splade_from_dense"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data must name the folder with the data sets")
    train, test = (read_folder(options.data / "retrieval/scifact", split) for split in ("train", "test"))
    evaluator = search(test, options.documents)

    dense = SentenceTransformer(options.model, device="cpu")
    dense.max_seq_length = options.max_length
    model = with_head(dense)
    texts = list(train.corpus.values())
    texts = random.Random(options.seed).sample(texts, min(options.regressed, len(texts)))
    named = start_head(model, dense, texts, options.threshold)
    print(f"the head names {named:.0%} of the tokens of the abstracts that it started from", flush=True)
    before = measured(evaluator, model, "at the start")
    started = time.process_time()
    fine_tune(model, rows(options, train), options)
    print(f"trained in {(time.process_time() - started) / 60:.1f} min of the processor", flush=True)
    model.save_pretrained(str(options.out))
    after = measured(evaluator, model, "trained")
    print(
        f"nDCG@10 {common.with_interval(before)} -> {common.with_interval(after)}: {common.change(before, after)}"
    )


def search(task: RetrievalTask, number: int) -> SparseInformationRetrievalEvaluator:
    """The test claims, and so many abstracts, those that belong to a claim and others drawn at random."""
    needed = {document for relevant in task.relevant.values() for document in relevant}
    others = [document for document in task.corpus if document not in needed]
    random.Random(0).shuffle(others)
    kept = needed | set(others[: max(0, number - len(needed))])
    queries = {query: task.queries[query] for query in task.relevant}
    corpus = {document: text for document, text in task.corpus.items() if document in kept}
    return SparseInformationRetrievalEvaluator(queries, corpus, task.relevant, batch_size=32)


def with_head(dense: SentenceTransformer) -> SparseEncoder:
    """A SPLADE model with the transformer of an embedding model, and a new head over its word embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        dense.save_pretrained(folder)
        mlm = MLMTransformer(folder)
    mlm.max_seq_length = dense.max_seq_length
    return SparseEncoder(modules=[mlm, SpladePooling()], device="cpu")


@torch.no_grad()
def start_head(model: SparseEncoder, dense: SentenceTransformer, texts: list[str], threshold: float) -> float:
    """Fit the head so that a token's hidden state names the token, for models of BERT's kind; returns the share that it names."""
    mlm: Any = model[0]
    head = mlm.auto_model.cls.predictions
    found = dense.encode(texts, output_value=None)
    ids = torch.cat([features["input_ids"][features["attention_mask"].bool()] for features in found])
    hidden = torch.cat(
        [features["token_embeddings"][features["attention_mask"].bool()] for features in found]
    )
    is_word = ~torch.isin(ids, torch.tensor(dense.tokenizer.all_special_ids))
    ids, hidden = ids[is_word], hidden[is_word].double()
    words = head.decoder.weight.double()
    weight = torch.bincount(ids).double().rsqrt()[ids].unsqueeze(1)  # frequent words count less
    weight = weight / weight.sum()
    mean_hidden, mean_word = (weight * hidden).sum(0), (weight * words[ids]).sum(0)
    inputs, targets = hidden - mean_hidden, normalize(words[ids] - mean_word)
    ridge = 1e-2 * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    fitted = torch.linalg.solve(inputs.T @ (weight * inputs) + ridge, inputs.T @ (weight * targets))
    scale = float((inputs @ fitted).std(dim=1).mean())
    head.transform.dense.weight.copy_(fitted.T / scale)
    head.transform.dense.bias.copy_(SHIFT - mean_hidden @ fitted / scale)
    head.transform.LayerNorm.weight.fill_(0.5)
    head.transform.LayerNorm.bias.zero_()
    head.decoder.bias.fill_(-threshold)
    some = layer_norm(inputs[:2000] @ fitted, (inputs.shape[1],))
    return float(((some @ words.T).argmax(1) == ids[:2000]).double().mean())


def rows(options: Any, task: RetrievalTask) -> dict[str, Dataset]:
    """Claims with their abstracts, and sentences with one that follows and one that contradicts."""
    claims = [
        {"query": task.queries[query], "document": task.corpus[document]}
        for query, documents in task.relevant.items()
        for document in sorted(documents & set(task.corpus))
    ]
    columns = {name: name for name in ("anchor", "positive", "negative")}
    hub = ("sentence-transformers/all-nli", "triplet", "train")
    nli = common.read(options.data, "nli/triplets/snli-cad.parquet", hub, columns, rows=options.rows)
    return {"scifact": Dataset.from_list(claims), "nli": nli}


def fine_tune(model: SparseEncoder, data: dict[str, Dataset], options: Any) -> None:
    """Train so that a text's own document scores higher than the others of its batch, with few words."""
    loss = SpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=options.document_weight,
        query_regularizer_weight=options.query_weight,
    )
    args = SparseEncoderTrainingArguments(
        **common.settings(
            options,
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate,
            batch_sampler="no_duplicates",
        )
    )
    SparseEncoderTrainer(model=model, args=args, train_dataset=data, loss=loss).train()


def measured(evaluator: SparseInformationRetrievalEvaluator, model: SparseEncoder, when: str) -> Any:
    """nDCG@10 of each claim; tells it, and how many words queries and documents have."""
    found = evaluator.measure(model)
    dims = ", ".join(
        f"{found[f'{side}_active_dims'].value:.0f} of a {name}"
        for side, name in (("query", "query"), ("corpus", "document"))
    )
    print(
        f"{when}: nDCG@10 {found['dot_ndcg@10'].value:.4f}; active entries {dims}; {found['avg_flops'].value:.1f} products a score",
        flush=True,
    )
    return found["dot_ndcg@10"]


if __name__ == "__main__":
    main()
