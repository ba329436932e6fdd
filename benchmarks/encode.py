"""How fast `encode` is, beside the reference, on real texts of three kinds.

    python benchmarks/encode.py --data ../shared/data

The two take turns in one process; the ratio is the reference's time over ours, median and range over the rounds. `share` is what the
linear layers of our model multiply in that time, as a share of what torch multiplies where it does nothing else.

    OMP_NUM_THREADS=1 python benchmarks/encode.py --data ../shared/data --budgets

compares batches of 512 to 16,384 tokens instead, in seconds of the processor.
"""

from __future__ import annotations

import gzip
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import DEVICE, alternate, arguments, column, model_folder, ratio, report


def texts_of(data: Path, count: int) -> dict[str, list[str]]:
    """Texts by kind: short sentences, medical answers of very different lengths, abstracts."""
    sentences = column(data / "sts/stsb-multi/en-test.parquet", "sentence1")[0]
    answers = column(data / "pairs/medquad/test.parquet", "answer")[0]
    with gzip.open(data / "retrieval/scifact/corpus.jsonl.gz", "rt", encoding="utf8") as lines:
        abstracts = [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]
    return {"sentences": sentences[: 8 * count], "answers": answers[:count], "abstracts": abstracts}


ROWS = 1024  # of the product that the rate is taken from, as in a batch on the CPU


def product(model: Any) -> tuple[Callable[[], object], int]:
    """A product as large as those of the model's largest layer, and how many multiplications and additions it is."""
    layer = max(
        (m for m in model.modules() if isinstance(m, torch.nn.Linear)), key=lambda m: m.weight.numel()
    )
    rows = torch.randn(ROWS, layer.in_features, device=layer.weight.device)
    weight = layer.weight.detach().clone()
    found, times = rows.new_empty(ROWS, layer.out_features), 50
    return lambda: [
        torch.mm(rows, weight.t(), out=found) for _ in range(times)
    ], 2 * times * ROWS * weight.numel()


def operations(model: Any) -> int:
    """Multiplications and additions of a token in the linear layers that all tokens go through."""
    return 2 * sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    )


def compare_budgets(model: Any, texts: dict[str, list[str]], rounds: int) -> list[dict[str, object]]:
    """Each budget's time, as a share of the best one's, by kind of text."""
    budgets = [2**n for n in range(9, 15)]
    rows = []
    for kind, some in texts.items():
        sides = [
            lambda budget=budget, some=some: model.encode(
                some, batch_size=budget // 32, show_progress_bar=False
            )
            for budget in budgets
        ]
        medians = [float(np.median(one)) for one in alternate(sides, rounds, time.process_time)]
        rows.append(
            {"texts": kind}
            | {str(b): round(m / min(medians), 3) for b, m in zip(budgets, medians, strict=True)}
        )
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--texts", type=int, default=150, help="texts of the long kinds (eight times as many short)"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default=DEVICE)
    parser.add_argument("--budgets", action="store_true", help="compare budgets of tokens, not libraries")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import likewise

    folder = model_folder(options.model)
    ours = likewise.SentenceTransformer(folder, device=options.device)
    if options.budgets:
        report(compare_budgets(ours, texts_of(options.data, options.texts), options.rounds), options.json)
        return
    import sentence_transformers

    multiply, work = product(ours)
    theirs = sentence_transformers.SentenceTransformer(folder, device=options.device)
    rows = []
    for kind, texts in texts_of(options.data, options.texts).items():
        sides = [
            lambda model=model, texts=texts: model.encode(
                texts, batch_size=options.batch_size, show_progress_bar=False
            )
            for model in (ours, theirs)
        ]
        difference = float(np.abs(sides[0]() - sides[1]()).max())
        own, other, alone = alternate([*sides, multiply], options.rounds)
        tokens = int(ours.token_sequences(texts).lengths.sum())
        median, low, high = ratio(own, other)
        rows.append(
            {
                "texts": kind,
                "number": len(texts),
                "tokens": tokens,
                "tokens/s": round(tokens / float(np.median(own))),
                "reference": round(tokens / float(np.median(other))),
                "share": f"{np.median(alone) / work * operations(ours) * tokens / np.median(own):.0%}",
                "ratio": round(median, 2),
                "range": f"{low:.2f}-{high:.2f}",
                "difference": f"{difference:.0e}",
            }
        )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}, {Path(folder).name}"
    )
    report(rows, options.json)


if __name__ == "__main__":
    main()
