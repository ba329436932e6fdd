"""How fast a CrossEncoder scores and trains, beside the reference, on real questions and answers of mixed length.

    OMP_NUM_THREADS=1 python benchmarks/cross_encoder.py --data ../shared/data

Both libraries work in turn in one process, with the same weights: the packaged encoder with a random head, unless `--model` says
otherwise. `--data` is the folder of the data sets: candidates of questions (reranking/trec-qa), and for training also questions
with answers of 1 to 3,692 words (pairs/medquad), which are cut at 512 tokens. Times are of the processor, ratios the reference's
over ours, median and range over the rounds. Beside them: what one call needs at most beyond what is held before it, each in a
process of its own; the largest difference of scores; of training, with dropout off, that of the losses of `--steps` steps. Lines in int8
and bfloat16 have our weights so, by `use_int8_weights` and its like, beside the reference's in float32.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    DEVICE,
    REDUCED,
    alternate,
    arguments,
    column,
    line,
    model_folder,
    on_device,
    reduce_weights,
    report,
    work_seconds,
)
from peak import in_process, measured

Lists = tuple[list[str], list[list[str]], list[list[float]]]


def read_lists(data: Path) -> Lists:
    """Questions, and for each its candidate answers with a label each, the right ones first; only those with both kinds."""
    found: dict[str, list[tuple[float, str]]] = {}
    for path in sorted(data.glob("*.parquet")):
        for query, answer, label in zip(*column(path, "query", "answer", "label"), strict=True):
            found.setdefault(query, []).append((float(label), answer))
    lists = {
        query: sorted(own, key=lambda one: -one[0])
        for query, own in found.items()
        if {1.0, 0.0} <= dict(own).keys()
    }
    answers = [[answer for _, answer in own] for own in lists.values()]
    return list(lists), answers, [[label for label, _ in own] for own in lists.values()]


def reranker(folder: str) -> str:
    """The folder of a model with the encoder in `folder` and a random head."""
    from likewise import CrossEncoder

    torch.manual_seed(0)
    saved = tempfile.mkdtemp()
    CrossEncoder(folder, num_labels=1, max_length=512, device=DEVICE).save(saved)
    return saved


def predictions(lists: Lists, rows: int) -> dict[str, list[tuple[str, str]]]:
    """Pairs whose texts are all different, and pairs in which questions come with all of their candidates."""
    questions, answers, _ = lists
    distinct = [
        (question, own[i % len(own)])
        for i, (question, own) in enumerate(zip(questions, answers, strict=True))
    ]
    shared = [(question, answer) for question, own in zip(questions, answers, strict=True) for answer in own]
    return {
        "predict, distinct pairs": distinct[:rows],
        "predict, candidates of queries": shared[:rows],
        **{f"predict, candidates of queries{end}": shared[:rows] for end in REDUCED},
    }


def training(
    lists: Lists, medquad: Path
) -> dict[str, tuple[str, dict[str, Any], Callable[[int], tuple[Any, Any]]]]:
    """By name: a loss, its arguments, and what makes the columns and labels of a step."""
    questions, answers, labels = lists
    long_questions, long_answers = (
        texts[::13] for texts in column(medquad / "train.parquet", "question", "answer")
    )

    def pairs(step: int) -> tuple[Any, Any]:
        rows = [(16 * step + i) % len(questions) for i in range(16)]
        places = [(row + step) % len(answers[row]) for row in rows]
        columns = [[questions[r] for r in rows], [answers[r][p] for r, p in zip(rows, places, strict=True)]]
        return columns, torch.tensor([labels[r][p] for r, p in zip(rows, places, strict=True)])

    def positives(step: int) -> tuple[Any, Any]:
        rows = [(8 * step + i) % len(questions) for i in range(8)]
        return [[questions[r] for r in rows], [answers[r][0] for r in rows]], None

    def eight(step: int) -> tuple[Any, Any]:
        long = [r for r in range(len(questions)) if len(answers[r]) >= 8]
        rows = [long[(4 * step + i) % len(long)] for i in range(4)]
        return [[questions[r] for r in rows], [answers[r][:8] for r in rows]], [
            torch.tensor(labels[r][:8]) for r in rows
        ]

    def long_pairs(step: int) -> tuple[Any, Any]:
        rows = [(16 * step + i) % len(long_questions) for i in range(16)]
        wrong = [
            (row + i % 2) % len(long_questions) for i, row in enumerate(rows)
        ]  # every other answer is the next one's
        labels = torch.tensor([float(row == place) for row, place in zip(rows, wrong, strict=True)])
        return [[long_questions[row] for row in rows], [long_answers[place] for place in wrong]], labels

    def long_positives(step: int) -> tuple[Any, Any]:
        rows = [(4 * step + i) % len(long_questions) for i in range(4)]
        return [[long_questions[row] for row in rows], [long_answers[row] for row in rows]], None

    def long_lists(step: int) -> tuple[Any, Any]:
        rows = [(4 * step + i) % len(long_questions) for i in range(4)]
        places = [
            [(row + i) % len(long_questions) for i in range(8)] for row in rows
        ]  # the right answer first
        return [[long_questions[row] for row in rows], [[long_answers[i] for i in own] for own in places]], [
            torch.tensor([1.0] + 7 * [0.0]) for _ in rows
        ]

    return {
        "train, 4 lists of 8, of all lengths (Lambda)": ("LambdaLoss", {}, long_lists),
        "train, 16 pairs, answers of all lengths (BCE)": ("BinaryCrossEntropyLoss", {}, long_pairs),
        "train, 4 rows, 4 negatives, of all lengths (MNRL)": (
            "MultipleNegativesRankingLoss",
            {},
            long_positives,
        ),
        "train, 16 pairs (BCE)": ("BinaryCrossEntropyLoss", {}, pairs),
        "train, 8 rows, 4 negatives (MNRL)": ("MultipleNegativesRankingLoss", {}, positives),
        "train, 4 lists of 8 (Lambda)": ("LambdaLoss", {}, eight),
    }


def stepper(
    library: Any, folder: str, loss_name: str, options: dict[str, Any], batch: Any, dropout: bool
) -> Callable[[], float]:
    """A function that makes one training step and returns the loss."""
    model = library.CrossEncoder(folder, device=DEVICE).train()
    if not dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
                module.attention_dropout = 0.0
    losses = __import__(f"{library.__name__}.cross_encoder.losses", fromlist=["losses"])
    loss = getattr(losses, loss_name)(model, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)  # as trainers do
    number = 0

    def step() -> float:
        nonlocal number
        torch.manual_seed(number)
        columns, labels = batch(number)
        number += 1
        value = loss(columns, on_device(labels))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(value)

    return step


def peak(side: int, name: str) -> float:
    """The bytes that one call needs at most, in a process of its own, which gets this one's options."""
    return float(in_process(__file__, *sys.argv[1:], "--peak-of", json.dumps([side, name]))["bytes"])


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--rows", type=int, default=200, help="pairs of a call of predict")
    parser.add_argument("--steps", type=int, default=3, help="training steps whose losses are compared")
    parser.add_argument("--only", default="", help="only the lines with this in their names, such as predict")
    parser.add_argument("--peak-of", default=None, help="for the benchmark itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import sentence_transformers
    import sentence_transformers.cross_encoder.losses

    import likewise
    import likewise.cross_encoder.losses

    libraries = (likewise, sentence_transformers)
    folder = reranker(model_folder(options.model))
    lists = read_lists(options.data / "reranking" / "trec-qa")
    scored = predictions(lists, options.rows)
    trained = training(lists, options.data / "pairs" / "medquad")

    def work(library: Any, name: str, dropout: bool = True) -> Callable[[], Any]:
        """What a line times: a call of `predict`, or a training step."""
        if name in trained:
            return stepper(library, folder, *trained[name], dropout)
        model = library.CrossEncoder(folder, device=DEVICE)
        reduce_weights(name, model, scored[name])
        return lambda: model.predict(scored[name], show_progress_bar=False)

    if options.peak_of is not None:
        side, name = json.loads(options.peak_of)
        once = work(libraries[side], name)
        once()
        print(json.dumps({"bytes": measured(once)["bytes"]}))
        return
    rows: list[dict[str, object]] = []
    for name in filter(lambda name: options.only in name, [*scored, *trained]):
        found = []
        for library in libraries:
            once = work(library, name, dropout=False)
            found.append([once() for _ in range(options.steps if name in trained else 1)])
        difference = max(float(abs(a - b).max()) for a, b in zip(*map(np.asarray, found), strict=True))
        times = alternate([work(library, name) for library in libraries], options.rounds, work_seconds)
        rows.append(line(name, times, [peak(side, name) for side in (0, 1)], difference))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {model_folder(options.model)}")
    if not rows:
        parser.error(f"No line has {options.only!r} in its name. Try predict, train, BCE, MNRL or Lambda.")
    report(rows, options.json)


if __name__ == "__main__":
    main()
