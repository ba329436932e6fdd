"""The blog's second script: several data sets of four forms, a loss for each, in one training.

    command   likewise train blog_several_data_sets --data ../data --rows 96
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   1.2 of processor time, 3 on the clock there
    score     STS benchmark's Spearman: 0.8203 before and after, -0.0000 (95 %: -0.0013 to +0.0012): 18 steps change nothing

As it is written there for the reference, with another import line; what is read from files is the part that was added. Without
`--data` it reads 10,000 rows of each of AllNLI (pairs, classes, scores, triplets), the STS benchmark, Quora and Natural Questions,
and starts from bert-base-uncased.
"""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, load_dataset

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import CoSENTLoss, MultipleNegativesRankingLoss, SoftmaxLoss
from likewise.recipes.common import before_and_after, measure, parser, settings, sts_test, sts_train
from likewise.training.data.sources import Source

ALL_NLI = "sentence-transformers/all-nli"


def main() -> None:
    """Train, and print the score on the STS benchmark before and after."""
    options = parser(__doc__, model="", rows=10_000).parse_args()

    # 1. Load a model to fine-tune
    model = SentenceTransformer(
        options.model or ("all-MiniLM-L6-v2" if options.data else "bert-base-uncased")
    )

    # 2. Load several data sets to train with
    train_dataset = from_files(options.data, options.rows) if options.data else from_hub(options.rows)

    # 3. Load several data sets to evaluate with
    dev = train_dataset["stsb"].select(range(min(100, len(train_dataset["stsb"]))))
    eval_dataset = {"stsb": dev}

    # 4. A loss for each data set
    mnrl_loss = MultipleNegativesRankingLoss(model)
    softmax_loss = SoftmaxLoss(model, model.get_sentence_embedding_dimension(), 3)
    cosent_loss = CoSENTLoss(model)
    all_losses = {
        "all-nli-pair": mnrl_loss,
        "all-nli-pair-class": softmax_loss,
        "all-nli-pair-score": cosent_loss,
        "all-nli-triplet": mnrl_loss,
        "stsb": cosent_loss,
        "quora": cosent_loss,
        "natural-questions": mnrl_loss,
    }
    losses = {name: all_losses[name] for name in train_dataset}

    test = sts_test(options.data)
    before = measure(test, model)

    # 5. Train
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**settings(options, eval_strategy="epoch")),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        loss=losses,
    )
    trainer.train()

    # 6. Save the trained model; with a token of the Hub: model.push_to_hub("bert-base-all-nli-stsb-quora-nq")
    model.save_pretrained("models/bert-base-all-nli-stsb-quora-nq")
    before_and_after({"stsb-test": before}, {"stsb-test": measure(test, model)})


def from_hub(rows: int) -> dict[str, Dataset]:
    """The blog's data sets."""
    part = f"train[:{rows}]"
    return {
        "all-nli-pair": load_dataset(ALL_NLI, "pair", split=part),
        "all-nli-pair-class": load_dataset(ALL_NLI, "pair-class", split=part),
        "all-nli-pair-score": load_dataset(ALL_NLI, "pair-score", split=part),
        "all-nli-triplet": load_dataset(ALL_NLI, "triplet", split=part),
        "stsb": load_dataset("sentence-transformers/stsb", split=part),
        "quora": load_dataset("sentence-transformers/quora-duplicates", "pair-class", split=part),
        "natural-questions": load_dataset("sentence-transformers/natural-questions", split=part),
    }


def from_files(data: Path, rows: int) -> dict[str, Dataset]:
    """The same from files, MRPC in Quora's place, questions of SQuAD in that of Natural Questions; no pairs with scores by NLI."""
    classes = {"label": ["entailment", "neutral", "contradiction"]}
    labelled, triplets = ["sentence1", "sentence2", "label"], ["anchor", "positive", "negative"]
    nli, triplet_file = f"{data}/nli/snli/dev.parquet", f"{data}/nli/triplets/snli-cad.parquet"
    clean = {"overlaps_sts_eval": False}
    parts = {
        "all-nli-pair": Source(triplet_file, columns=triplets[:2], where=clean, max_rows=rows),
        "all-nli-pair-class": Source(nli, columns=labelled, classes=classes, max_rows=rows),
        "all-nli-triplet": Source(triplet_file, columns=triplets, where=clean, max_rows=rows),
        "quora": Source(f"{data}/pairs/mrpc/train.parquet", columns=labelled, where=clean, max_rows=rows),
        "natural-questions": Source(
            f"{data}/pairs/squad-nqg/nqg-test.parquet", columns=["question", "sentence"], max_rows=rows
        ),
    }
    return {name: part.load() for name, part in parts.items()} | {"stsb": sts_train(data, rows)}


if __name__ == "__main__":
    main()
