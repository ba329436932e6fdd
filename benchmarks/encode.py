"""How fast `encode` is, beside the reference, on real texts of three kinds.

    python benchmarks/encode.py --data ../shared/data

The two take turns in one process; the ratio is the reference's time over ours, median and range over the rounds.
"""

from __future__ import annotations

import gzip
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from common import alternate, arguments, column, model_folder, ratio, report


def texts_of(data: Path, count: int) -> dict[str, list[str]]:
    """Texts by kind: short sentences, medical answers of very different lengths, abstracts."""
    sentences = column(data / "sts/stsb-multi/en-test.parquet", "sentence1")[0]
    answers = column(data / "pairs/medquad/test.parquet", "answer")[0]
    with gzip.open(data / "retrieval/scifact/corpus.jsonl.gz", "rt", encoding="utf8") as lines:
        abstracts = [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]
    return {"sentences": sentences[: 8 * count], "answers": answers[:count], "abstracts": abstracts}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--texts", type=int, default=150, help="texts of the long kinds (eight times as many short)"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import sentence_transformers

    import likewise

    folder = model_folder(options.model)
    ours = likewise.SentenceTransformer(folder, device=options.device)
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
        own, other = alternate(sides, options.rounds)
        tokens = int(ours.token_sequences(texts).lengths.sum())
        median, low, high = ratio(own, other)
        rows.append(
            {
                "texts": kind,
                "number": len(texts),
                "tokens": tokens,
                "tokens/s": round(tokens / float(np.median(own))),
                "reference": round(tokens / float(np.median(other))),
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
