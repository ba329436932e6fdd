"""Mining hard negatives with given embeddings, beside the reference: time and peak memory, a process for each run.

    python benchmarks/mine.py --pairs 100000 --reference-pairs 20000

The reference compares 16,384 queries with all documents at a time and keeps all of these scores; its time grows with
the square of the pairs, so it may be given fewer. Memory is what is needed above the embeddings and the texts.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from typing import Any

import numpy as np
import torch
from common import arguments, report
from evaluate import clustered
from peak import in_process, measured


class GivenEmbeddings:
    """A model whose text "q i" or "d i" has the i-th embedding; both libraries mine with it."""

    device = torch.device("cpu")

    def __init__(self, num_pairs: int, similarity: Any, similarity_pairwise: Any) -> None:
        self.similarity, self.similarity_pairwise = similarity, similarity_pairwise  # the library's own
        self.documents = torch.nn.functional.normalize(clustered(num_pairs, seed=2), dim=1).numpy()
        noise = clustered(num_pairs, seed=3)
        self.queries = torch.nn.functional.normalize(
            torch.from_numpy(self.documents) * 20 + noise, dim=1
        ).numpy()

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray[Any, Any]:
        """The embeddings of queries."""
        return self.queries[[int(text[2:]) for text in texts]]

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray[Any, Any]:
        """The embeddings of documents."""
        return self.documents[[int(text[2:]) for text in texts]]


def mine(side: str, num_pairs: int) -> dict[str, Any]:
    """Mine 3 negatives for each pair, and measure it; what was mined comes as a number that tells results apart."""
    from datasets import Dataset

    if side == "ours":
        from likewise.util import cos_sim, mine_hard_negatives, pairwise_cos_sim
    else:
        from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim
    pairs = Dataset.from_dict(
        {"question": [f"q {i}" for i in range(num_pairs)], "answer": [f"d {i}" for i in range(num_pairs)]}
    )
    model = GivenEmbeddings(num_pairs, cos_sim, pairwise_cos_sim)

    def work() -> Any:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = mine_hard_negatives(
                pairs, model, relative_margin=0.05, output_format="n-tuple", output_scores=True, verbose=False
            )
        numbers = np.array([[int(text[2:]) for text in found[f"negative_{i}"]] for i in (1, 2, 3)])
        return {"rows": len(found), "sum": int((numbers.T * [1, 3, 7]).sum())}

    return measured(work)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--reference-pairs", type=int, default=20_000, help="pairs that both mine")
    parser.add_argument("--side", choices=["ours", "reference"], help="mine once and print a line of JSON")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if options.side is not None:
        mine(options.side, 1_000)  # what is loaded on first use is not counted
        print(json.dumps(mine(options.side, options.pairs)))
        return

    runs = [("ours", options.reference_pairs), ("reference", options.reference_pairs)]
    if options.pairs != options.reference_pairs:
        runs.append(("ours", options.pairs))
    rows = []
    for side, num_pairs in runs:
        found = in_process(__file__, "--side", side, "--pairs", str(num_pairs))
        rows.append(
            {
                "side": side,
                "pairs": num_pairs,
                "seconds": round(found["seconds"], 1),
                "processor s": round(found["processor_s"], 1),
                "peak MiB": round(found["bytes"] / 2**20),
                "rows": found["result"]["rows"],
                "checksum": found["result"]["sum"],
            }
        )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    report(rows, options.json)


if __name__ == "__main__":
    main()
