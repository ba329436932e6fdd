"""How long one call with few short texts takes, beside the reference.

    OMP_NUM_THREADS=1 python benchmarks/latency.py --data ../shared/data

Both libraries encode the same texts in turn in one process. Times are of the processor, in milliseconds: median and 99th
percentile over the rounds; the ratio is the reference's median over ours.
"""

from __future__ import annotations

import logging
import time
import warnings

import torch
from common import alternate, arguments, column, model_folder, report


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
        library.SentenceTransformer(folder, device="cpu") for library in (likewise, sentence_transformers)
    ]
    (texts,) = column(options.data / "reranking" / "trec-qa" / "test.parquet", "query")
    questions = sorted(set(texts))
    rows: list[dict[str, object]] = []
    for number in (1, 8):
        calls = [
            lambda m=model, t=questions[:number]: m.encode(t, show_progress_bar=False) for model in models
        ]
        ours, theirs = (sorted(times) for times in alternate(calls, options.rounds, time.process_time))
        last = round(0.99 * (options.rounds - 1))
        rows.append(
            {
                "texts": number,
                "ms": 1000 * ours[len(ours) // 2],
                "99 %": 1000 * ours[last],
                "reference": 1000 * theirs[len(theirs) // 2],
                "its 99 %": 1000 * theirs[last],
                "ratio": round(theirs[len(theirs) // 2] / ours[len(ours) // 2], 2),
                "difference": f"{abs(calls[0]() - calls[1]()).max():.0e}",
            }
        )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {folder}")
    report(rows, options.json)


if __name__ == "__main__":
    main()
