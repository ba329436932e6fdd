"""GPL: texts without labels, queries made up for them, negatives found by a model, and a teacher that weighs both.

    command   likewise train gpl --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 5 on the clock there
    score     nDCG@10 of 1,000 held-out questions: 0.8251 before, 0.8468 after: +0.0217 (95 %: +0.0131 to +0.0315); the teacher has 0.8895

The texts are sentences of encyclopedia articles; the query that is made up for each is given here: a question of SQuAD, which a
generator was built to imitate. For each query the teacher finds texts that come near, and says how much more the right one
answers it; the student learns these margins (MarginMSELoss). Here the student is the model without half of its layers, and the
teacher the whole one, for there is no better reader without the Hub. With it, pass a cross-encoder, as the paper does:
`--teacher cross-encoder/ms-marco-MiniLM-L6-v2`.

Reference: Wang et al. 2022, https://arxiv.org/abs/2112.07577.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from likewise import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    mine_hard_negatives,
)
from likewise.losses import MarginMSELoss
from likewise.recipes.common import (
    before_and_after,
    measure,
    parser,
    question_search,
    questions,
    settings,
    with_layers,
)


def main() -> None:
    """Train the student, and print the score before and after."""
    options_of = parser(__doc__, rows=480)
    options_of.add_argument(
        "--layers", type=int, nargs="+", default=[0, 2, 5], help="those that the student keeps"
    )
    options_of.add_argument("--teacher", help="a cross-encoder; without it the model with all its layers")
    options_of.add_argument("--queries", type=int, default=1000, help="held-out questions to measure with")
    options_of.add_argument("--learning-rate", type=float, default=2e-4)
    options = options_of.parse_args()

    model, test = SentenceTransformer(options.model), question_search(options.data, options.queries)
    pairs = questions(options.data, options.rows)
    mined = mine_hard_negatives(
        pairs, model, range_max=50, num_negatives=1, output_format="triplet", verbose=False
    )
    labels = margins(CrossEncoder(options.teacher) if options.teacher else model, *mined[:].values())
    rows = Dataset.from_dict({**mined[:], "label": labels})

    student = with_layers(model, options.layers)
    before = measure(test, student)
    args = SentenceTransformerTrainingArguments(**settings(options, learning_rate=options.learning_rate))
    loss = MarginMSELoss(student)
    SentenceTransformerTrainer(model=student, args=args, train_dataset=rows, loss=loss).train()
    before_and_after({"questions": before}, {"questions": measure(test, student)})
    print(f"\nthe teacher's model, all layers: {measure(test, model).value:.4f}")


def margins(
    teacher: Any, queries: Sequence[str], positives: Sequence[str], negatives: Sequence[str]
) -> list[float]:
    """How much more each query's positive is worth to the teacher than its negative."""
    if isinstance(teacher, CrossEncoder):
        right, wrong = (
            teacher.predict(list(zip(queries, texts, strict=True))) for texts in (positives, negatives)
        )
        return list(map(float, right - wrong))
    query, right, wrong = (teacher.encode(list(texts)) for texts in (queries, positives, negatives))
    return list(map(float, (query * (right - wrong)).sum(axis=1)))


if __name__ == "__main__":
    main()
