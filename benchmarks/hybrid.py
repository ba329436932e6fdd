"""What three models of one transformer cost together (HybridEncoder), beside each alone, one after the other, on real texts.

    OMP_NUM_THREADS=1 python benchmarks/hybrid.py --data ../shared/data

A dense model, a sparse one (a linear layer gives each token a weight) and one of late interaction, in folders of their own with the
same transformer. "Alone" is three models that know nothing of each other, whose `encode_document`s or training steps run in turn;
"together" is one HybridEncoder, or one step of HybridLoss. Both work in turn in one process. Times are of the processor; the ratio is
alone over together, median and range over the rounds. Peak memory is that of loading the models and one call, in a process of its
own. Beside them: the largest difference of embeddings.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import DEVICE, alternate, arguments, column, line, model_folder, report, work_seconds
from peak import in_process, measured

from likewise import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from likewise.hybrid import HybridEncoder, HybridLoss
from likewise.losses import MultipleNegativesRankingLoss
from likewise.modules import Normalize
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.sparse_encoder.losses import SparseMultipleNegativesRankingLoss
from likewise.sparse_encoder.modules import LexicalWeights

KINDS = {"dense": SentenceTransformer, "sparse": SparseEncoder, "late": MultiVectorEncoder}
LOSSES = {
    "dense": MultipleNegativesRankingLoss,
    "sparse": SparseMultipleNegativesRankingLoss,
    "late": MultiVectorMultipleNegativesRankingLoss,
}


def write_three(name: str | None, folder: Path) -> None:
    """Write the three models."""
    dense: Any = SentenceTransformer(model_folder(name), device=DEVICE)
    transformer = dense[0]
    weights = LexicalWeights(transformer.get_word_embedding_dimension(), transformer.config.vocab_size)
    made: dict[str, Any] = {
        "dense": dense,
        "sparse": SparseEncoder(modules=[transformer, weights], device=DEVICE),
        "late": MultiVectorEncoder(modules=[transformer, Normalize("token_embeddings")], device=DEVICE),
    }
    for kind, model in made.items():
        model.save_pretrained(str(folder / kind), create_model_card=False)


def loaded(folder: Path) -> dict[str, Any]:
    """The three models, which know nothing of each other."""
    models: dict[str, Any] = {name: kind(str(folder / name), device=DEVICE) for name, kind in KINDS.items()}
    for model in models.values():
        model.max_seq_length = 128
    return models


def worker(folder: Path, texts: list[list[str]], together: bool, train: bool) -> Callable[[], Any]:
    """One call: the embeddings of the texts, or a training step."""
    models = loaded(folder)
    hybrid: Any = HybridEncoder(**models) if together else None
    if not train and together:
        return lambda: hybrid.encode_document(texts[1])
    if not train:
        return lambda: {name: model.encode_document(texts[1]) for name, model in models.items()}
    losses: Any = {name: LOSSES[name](model) for name, model in models.items()}
    runs: list[Any] = [HybridLoss(hybrid, losses)] if together else list(losses.values())
    for model in models.values():
        model.train()

    def step() -> float:
        total = 0.0
        for loss in runs:
            columns = [dict(models["dense"].preprocess(texts_of)) for texts_of in texts]
            embeddings = loss.read(columns, loss.embed)
            value = loss.compute(embeddings)
            value = sum(value.values()) if isinstance(value, dict) else value
            value.backward()
            total += float(value.detach())
        return total

    return step


def peak(folder: Path, options: Any, together: bool, train: bool) -> float:
    """The bytes that loading and one call need at most, in a process of its own."""
    given = ["--data", str(options.data), "--rows", str(options.rows), "--batch", str(options.batch)]
    found = in_process(__file__, *given, "--peak-of", json.dumps([str(folder), together, train]))
    return float(found["bytes"])


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--rows", type=int, default=64, help="texts of a call of encode")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--peak-of", default=None, help="for the benchmark itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    (path, *_) = sorted((options.data / "pairs" / "squad-nqg").rglob("*test*.parquet"))
    columns = column(path, "question", "sentence")

    def texts(train: bool) -> list[list[str]]:
        rows = options.batch if train else options.rows
        return [found[:: len(found) // rows][:rows] for found in columns]

    if options.peak_of is not None:
        folder, together, train = json.loads(options.peak_of)
        needs = measured(lambda: worker(Path(folder), texts(train), together, train)())
        print(json.dumps({"bytes": needs["bytes"]}))
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_three(options.model, folder)
        for train in (False, True):
            works = [worker(folder, texts(train), together, train) for together in (True, False)]
            difference = ""
            if not train:
                one, other = works[0](), works[1]()
                parts = {kind: (one[kind], other[kind]) for kind in KINDS}
                dense = float(abs(parts["dense"][0] - parts["dense"][1]).max())
                sparse = float((parts["sparse"][0] - parts["sparse"][1]).to_dense().abs().max())
                late = max(float((a - b).abs().max()) for a, b in zip(*parts["late"], strict=True))
                difference = f"{max(dense, sparse, late):.0e}"
            times = alternate(works, options.rounds, work_seconds)
            needs = [peak(folder, options, together, train) for together in (True, False)]
            what = "training step" if train else "encode"
            rows.append(line(what, times, needs, difference, ("together ", "alone ")))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    report(rows, options.json)


if __name__ == "__main__":
    main()
