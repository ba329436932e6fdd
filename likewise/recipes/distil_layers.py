"""Distil into fewer layers: a model with some of its teacher's layers learns to give the teacher's embeddings.

    command   likewise train distil_layers --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   1 of processor time, 5 on the clock there
    score     Spearman on the STS benchmark's test set (95 %): teacher 0.8203 (0.7986 to 0.8419); 3 of its 6 layers 0.7732 (0.7474 to
              0.7969) before, 0.7947 (0.7710 to 0.8175) after, 1.7 times as fast

The student begins as a copy of the teacher without most of its layers. It reads captions of images, for which no labels are needed,
and learns by MSELoss. Captions with a sentence of the STS benchmark's test set, which it is measured with, are left out.

Reference: Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813, whose loss this is.
"""

from __future__ import annotations

from datasets import Dataset

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import MSELoss
from likewise.recipes.common import (
    captions,
    measure,
    parser,
    settings,
    sts_test,
    table,
    times_as_fast,
    with_interval,
    with_layers,
)


def main() -> None:
    """Train the student, and print score and speed of both."""
    options_of = parser(__doc__, rows=1024)
    options_of.add_argument("--layers", type=int, nargs="+", default=[0, 2, 5], help="those that are kept")
    options_of.add_argument("--learning-rate", type=float, default=5e-4)
    options = options_of.parse_args()

    teacher, test = SentenceTransformer(options.model), sts_test(options.data)
    student = with_layers(teacher, options.layers)
    name = f"{len(options.layers)} layers"
    scores = {"teacher": measure(test, teacher), f"{name}, before": measure(test, student)}

    texts = list(captions(options.data, options.rows, ["caption1"])["caption1"])
    rows = Dataset.from_dict({"text": texts, "label": teacher.encode(texts)})
    args = SentenceTransformerTrainingArguments(**settings(options, learning_rate=options.learning_rate))
    SentenceTransformerTrainer(model=student, args=args, train_dataset=rows, loss=MSELoss(student)).train()

    scores[f"{name}, after"] = measure(test, student)
    speed = f"{times_as_fast(student, teacher, texts[:256]):.1f}"
    lines = [
        (model, with_interval(score), "1.0" if model == "teacher" else speed)
        for model, score in scores.items()
    ]
    table(("model", "Spearman (95 %)", "times as fast"), lines)


if __name__ == "__main__":
    main()
