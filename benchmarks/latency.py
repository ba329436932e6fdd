"""How long one call with few short texts takes, and how much threads that call at once get done, beside the reference.

    OMP_NUM_THREADS=1 python benchmarks/latency.py --data ../shared/data

Both libraries encode the same texts in turn in one process: one text a call, so that each call finds the caches full of what the
other left; one text a call, twenty calls in a row, as a server that has one model; eight texts a call (each of these also with our
weights in int8 and in bfloat16, which are tried on other questions first); and one a call by eight threads at once, twenty calls
each, as a web server would. In milliseconds a call, by the clock: median and 99th percentile over the rounds (of several calls
over as many rounds as there are calls); the ratios are the reference's median over ours, by the clock and of the processor's time.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from common import DEVICE, alternate, arguments, column, model_folder, report

THREADS, CALLS = 8, 20


def both_clocks() -> Any:
    """Seconds by the clock, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def one_by_one(model: Any, texts: list[str]) -> np.ndarray[Any, Any]:
    """Embeddings of texts, each of which is a call of its own, made by threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(lambda text: model.encode(text, show_progress_bar=False), texts)))


def in_a_row(model: Any, text: str) -> np.ndarray[Any, Any]:
    """Embeddings of a text, each of which is a call of its own, one after the other."""
    return np.stack([model.encode(text, show_progress_bar=False) for _ in range(CALLS)])


Line = tuple[str, list[Callable[[], Any]], int, int]
"""What is timed: its name, each side's call, how many calls are in one, and rounds."""


def lines_of(form: str, ours: Any, theirs: Any, questions: list[str], rounds: int) -> list[Line]:
    """What is timed of a model of ours, whose weights have a form, beside the reference's."""

    def encoding(texts: list[str]) -> list[Callable[[], Any]]:
        return [lambda m=model: m.encode(texts, show_progress_bar=False) for model in (ours, theirs)]

    rows = [lambda m=model: in_a_row(m, questions[0]) for model in (ours, theirs)]
    return [
        (f"one text{form}", encoding(questions[:1]), 1, rounds),
        (f"one text, {CALLS} in a row{form}", rows, CALLS, max(1, rounds // CALLS)),
        (f"eight texts{form}", encoding(questions[:8]), 1, rounds),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import sentence_transformers

    import likewise

    folder = model_folder(options.model)
    models = [
        library.SentenceTransformer(folder, device=DEVICE) for library in (likewise, sentence_transformers)
    ]
    (texts,) = column(options.data / "reranking" / "trec-qa" / "test.parquet", "query")
    questions = sorted(set(texts))
    many = [questions[i % len(questions)] for i in range(THREADS * CALLS)]

    forms = {"": models[0]}
    for kind in ("int8", "bfloat16"):
        forms[f", {kind}"] = model = likewise.SentenceTransformer(folder, device=DEVICE)
        print(getattr(model, f"use_{kind}_weights")(questions[8:]).reason)

    lines = [
        each
        for form, ours in forms.items()
        for each in lines_of(form, ours, models[1], questions, options.rounds)
    ]
    threads = [lambda m=model: one_by_one(m, many) for model in models]
    lines.append((f"one text, {THREADS} threads", threads, len(many), max(1, options.rounds // CALLS)))
    rows: list[dict[str, object]] = []
    for name, calls, calls_in_one, rounds in lines:
        ours, theirs = (
            1000 / calls_in_one * np.sort(np.array(times), axis=0)
            for times in alternate(calls, rounds, both_clocks)
        )
        middle, last = rounds // 2, round(0.99 * (rounds - 1))
        wall, processor = theirs[middle] / ours[middle]
        rows.append(
            {
                "what": name,
                "ms": float(ours[middle, 0]),
                "99 %": float(ours[last, 0]),
                "reference": float(theirs[middle, 0]),
                "its 99 %": float(theirs[last, 0]),
                "ratio": round(float(wall), 2),
                "processor": round(float(processor), 2),
                "difference": f"{abs(calls[0]() - calls[1]()).max():.0e}",
            }
        )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {folder}")
    report(rows, options.json)


if __name__ == "__main__":
    main()
