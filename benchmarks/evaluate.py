"""Information retrieval evaluation with given embeddings, beside the reference: time, memory, and the same metrics.

    python benchmarks/evaluate.py --documents 50000 --queries 2000
    python benchmarks/evaluate.py --device cuda

The embeddings are random, around centres, so that the search is all there is to do. Times are of both in turn in one
process; peak memory, above that of the embeddings, is of a process for each.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from common import DEVICE, alternate, arguments, ratio, report
from peak import in_process, measured

SIZE = 384


class GivenEmbeddings:
    """A model whose text "i" has the i-th embedding; both libraries evaluate it."""

    similarity_fn_name = "cosine"
    truncate_dim = None

    def __init__(self, num_queries: int, device: str, similarity: Callable[..., torch.Tensor]) -> None:
        self.queries = clustered(num_queries, seed=1).to(device)
        self.similarity = similarity  # a library's own function, as of its models
        self.device = self.queries.device
        self.model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
        """The embeddings of queries."""
        return self.queries[[int(text) for text in texts]]

    encode = encode_document = encode_query


def clustered(num_rows: int, seed: int) -> torch.Tensor:
    """(N, 384) around 500 centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(500, SIZE, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(num_rows, SIZE, generator=generator)
    return rows + centres[torch.arange(num_rows) % 500]


def evaluation(side: str, num_documents: int, num_queries: int, device: str) -> Any:
    """A function that evaluates once with one of the libraries and returns the metrics."""
    if side == "ours":
        from likewise.evaluation import InformationRetrievalEvaluator
        from likewise.util import cos_sim
    else:
        from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
        from sentence_transformers.util import cos_sim
    queries = {f"q{i}": str(i) for i in range(num_queries)}
    corpus = {f"d{i}": str(i) for i in range(num_documents)}
    # A query's relevant documents are some of those around its centre.
    relevant = {f"q{i}": {f"d{(i % 500) + 500 * j}" for j in range(5)} for i in range(num_queries)}
    evaluator = InformationRetrievalEvaluator(queries, corpus, relevant)
    model, embeddings = GivenEmbeddings(num_queries, device, cos_sim), clustered(num_documents, seed=2)
    embeddings = embeddings.to(device)
    return lambda: evaluator(model, corpus_embeddings=embeddings)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--device", default=DEVICE, help="where the embeddings are")
    parser.add_argument(
        "--side", choices=["ours", "reference"], help="evaluate once and print a line of JSON"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sizes = (options.documents, options.queries, options.device)
    if options.side is not None:
        evaluation(options.side, 5_000, 100, options.device)()  # what is loaded on first use is not counted
        print(json.dumps(measured(evaluation(options.side, *sizes))))
        return

    names = ("--documents", str(sizes[0]), "--queries", str(sizes[1]), "--device", options.device)
    peaks = [in_process(__file__, "--side", side, *names) for side in ("ours", "reference")]
    sides = [evaluation(side, *sizes) for side in ("ours", "reference")]
    times = alternate(sides, options.rounds)
    median, low, high = ratio(*times)
    metrics = [peak["result"] for peak in peaks]
    difference = max(abs(metrics[0][key] - metrics[1][key]) for key in metrics[1])
    rows = [
        {
            "side": side,
            "seconds": sorted(seconds)[len(seconds) // 2],
            "peak MiB": round(peak["bytes"] / 2**20),
            "ndcg@10": round(peak["result"]["cosine_ndcg@10"], 6),
        }
        for side, seconds, peak in zip(("ours", "reference"), times, peaks, strict=True)
    ]
    print(
        f"{sizes[0]:,} documents, {sizes[1]:,} queries, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {options.device}"
    )
    report(rows, options.json)
    memory = peaks[1]["bytes"] / peaks[0]["bytes"]
    print(
        f"time x{median:.1f} ({low:.1f}-{high:.1f}), memory x{memory:.1f}, largest difference of a metric {difference:.0e}"
    )


if __name__ == "__main__":
    main()
