"""Adaptive layers: a model whose last layers can be taken off, for speed; with `--sizes` its entries too (2D Matryoshka).

    command   likewise train adaptive_layers --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 14 on the clock there
    score     Spearman on the STS benchmark's test set before, after, and times as fast: 6 layers 0.8203, 0.8093; 5 layers 0.6648,
              0.6441, 1.2; 4 layers 0.5959, 0.5949, 1.5; 3 layers 0.5586, 0.5694, 1.9; 2 layers 0.5610, 0.5627, 2.8; 1 layer
              0.5670, 0.5690, 3.8

    command   likewise train adaptive_layers --data ../data --sizes 384 64
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 4 on the clock there
    score     the same with 384 and with 64 entries: 6 layers 0.8203, 0.8068 and 0.7921, 0.7709; 5 layers 0.6648, 0.6388 and 0.6361, 0.5686; 4
              layers 0.5959, 0.5927 and 0.4290, 0.4476; 3 layers 0.5586, 0.5640 and 0.3962, 0.4154; 2 layers 0.5610, 0.5622 and
              0.4103, 0.4198; 1 layer 0.5670, 0.5698 and 0.4154, 0.4280

Twenty steps (640 rows, read once) teach the earlier layers next to nothing: a model that is to lose layers needs longer training, for
which `--rows 5749` has not been run. The speeds vary by a fifth here, with what else the machine does.

AdaptiveLayerLoss computes a loss (here CoSENT, on the STS benchmark) for the last layer and for an earlier one drawn at random in
each step, whose embeddings are drawn towards the last one's. Matryoshka2dLoss does so for embeddings cut to fewer entries too.
Afterwards the model is cut after each of its layers, and measured: score on the test set, and how much faster it is.

Reference: Li et al. 2024, 2D Matryoshka Sentence Embeddings, https://arxiv.org/abs/2402.14776.
"""

from __future__ import annotations

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import AdaptiveLayerLoss, CoSENTLoss, Matryoshka2dLoss
from likewise.recipes.common import (
    measure_each,
    num_layers,
    parser,
    settings,
    sts_test,
    sts_train,
    table,
    times_as_fast,
    with_layers,
)


def main() -> None:
    """Train, and print score and speed after each layer."""
    options_of = parser(__doc__, rows=640)
    options_of.add_argument(
        "--sizes", type=int, nargs="+", help="cut embeddings to these sizes too (2D Matryoshka)"
    )
    options = options_of.parse_args()

    base, model = SentenceTransformer(options.model), SentenceTransformer(options.model)
    loss: AdaptiveLayerLoss = AdaptiveLayerLoss(model, CoSENTLoss(model))
    if options.sizes:
        loss = Matryoshka2dLoss(model, CoSENTLoss(model), matryoshka_dims=options.sizes)
    args = SentenceTransformerTrainingArguments(**settings(options, learning_rate=5e-5))
    rows = sts_train(options.data, options.rows)
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()

    sizes = options.sizes or [base.get_sentence_embedding_dimension()]
    tests = {size: sts_test(options.data, entries=size) for size in sizes}
    texts = tests[sizes[0]].sentences1[:128]
    lines = []
    for kept in range(num_layers(model), 0, -1):
        before, after = (with_layers(each, range(kept)) for each in (base, model))
        speed = f"{times_as_fast(after, model, texts):.1f}"
        scores = [measure_each(tests, each) for each in (before, after)]
        lines += [(kept, size, *(score[size].value for score in scores), speed) for size in sizes]
    table(("layers", "entries", "before", "after", "times as fast"), lines)


if __name__ == "__main__":
    main()
