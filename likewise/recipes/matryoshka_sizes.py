"""Matryoshka: embeddings that can be cut to their first entries, beside the same training without it.

    command   likewise train matryoshka_sizes --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 8 on the clock there
    score     Spearman on the STS benchmark's test set (before, plain, Matryoshka): 384 entries 0.8203, 0.8093, 0.8150;
              256 0.8189, 0.8069, 0.8109; 128 0.8068, 0.7950, 0.7967; 64 0.7921, 0.7767, 0.7716; 32 0.7667, 0.7422, 0.7312;
              16 0.7202, 0.6837, 0.6726. Matryoshka to plain (95 %): 384 +0.0056 (+0.0022 to +0.0092), 16 -0.0111 (-0.0229 to
              -0.0008)

So little training (640 rows, read once) harms this model, which can be cut as it is; and Matryoshka does not help its first
entries. A whole epoch (`--rows 5749`) has not been run.

Two trainings on the same rows of the STS benchmark (CoSENT), one with MatryoshkaLoss around the loss: it is computed for the
first 384, 256, ... 16 entries of the embeddings, so that what matters comes first. The test set is measured at each size.

Reference: Kusupati et al. 2022, Matryoshka Representation Learning, https://arxiv.org/abs/2205.13147.
"""

from __future__ import annotations

from torch.nn import Module

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import CoSENTLoss, MatryoshkaLoss
from likewise.recipes.common import change, measure_each, parser, settings, sts_test, sts_train, table


def main() -> None:
    """Train twice, and print the score at each size."""
    options_of = parser(__doc__, rows=640)
    options_of.add_argument("--sizes", type=int, nargs="+", default=[384, 256, 128, 64, 32, 16])
    options = options_of.parse_args()

    rows = sts_train(options.data, options.rows)
    tests = {size: sts_test(options.data, entries=size) for size in options.sizes}
    models = {"before": SentenceTransformer(options.model)}
    for name in ("plain", "matryoshka"):
        model = models[name] = SentenceTransformer(options.model)
        loss: Module = CoSENTLoss(model)
        if name == "matryoshka":
            loss = MatryoshkaLoss(model, loss, matryoshka_dims=options.sizes)
        args = SentenceTransformerTrainingArguments(**settings(options, learning_rate=5e-5))
        SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()

    scores = {name: measure_each(tests, model) for name, model in models.items()}
    lines = [
        (
            size,
            *(score[size].value for score in scores.values()),
            change(scores["plain"][size], scores["matryoshka"][size]),
        )
        for size in options.sizes
    ]
    table(("entries", *models, "matryoshka to plain (95 %)"), lines)


if __name__ == "__main__":
    main()
