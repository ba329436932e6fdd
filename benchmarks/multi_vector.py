"""How fast late interaction embeds and trains, beside the reference, on real claims and abstracts; and the memory of a step.

    OMP_NUM_THREADS=1 python benchmarks/multi_vector.py --data ../shared/data

Both libraries work in turn in one process, with the same weights: the packaged encoder with a random projection to 128 numbers and
queries that are filled up to 32 tokens, unless `--model` says otherwise. `--data` is the folder of the data sets: claims and
abstracts (retrieval/scifact). Texts are cut at `--length` tokens. Times are of the processor, ratios the reference's over ours,
median and range over the rounds; bytes are those that a step needs at most, of which the weights, gradients and the optimiser's
state are no part. Beside them: the largest difference of embeddings, and of losses with dropout off.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import alternate, arguments, model_folder, ratio, report
from peak import measured


def read_texts(data: Path) -> tuple[list[str], list[str]]:
    """The claims, and as many abstracts or more."""
    folder = data / "retrieval" / "scifact"

    def lines(name: str) -> list[dict[str, Any]]:
        path = folder / name
        if not path.exists():
            path = folder / f"{name}.gz"
        with (
            gzip.open(path, "rt", encoding="utf8")
            if path.suffix == ".gz"
            else path.open(encoding="utf8") as file
        ):
            return [json.loads(line) for line in file]

    return [row["text"] for row in lines("queries.jsonl")], [
        f"{row['title']} {row['text']}" for row in lines("corpus.jsonl")
    ]


def encoder(folder: str, length: int) -> str:
    """The folder of a model with the encoder in `folder` and a random projection."""
    from likewise import MultiVectorEncoder

    torch.manual_seed(0)
    saved = tempfile.mkdtemp()
    model = MultiVectorEncoder(folder, device="cpu")
    model[0].query_expansion = {"strategy": "fixed", "length": 32}
    model[0].document_length = length
    model.save_pretrained(saved, create_model_card=False)
    return saved


def stepper(library: Any, folder: str, columns: Callable[[int], list[list[str]]]) -> Callable[[], float]:
    """A function that makes one training step and returns the loss."""
    model = library.MultiVectorEncoder(folder, device="cpu").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    losses = __import__(f"{library.__name__}.multi_vector_encoder.losses", fromlist=["losses"])
    loss = losses.MultiVectorMultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)  # as trainers do
    number = 0

    def step() -> float:
        nonlocal number
        texts = columns(number)
        number += 1
        if library.__name__ == "likewise":  # as its trainer does: all columns tokenised and packed in one
            value = loss(packed(model, texts))
        else:
            tasks = ["query", *["document"] * (len(texts) - 1)]
            value = loss([model.preprocess(own, task=task) for own, task in zip(texts, tasks, strict=True)])
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(value)

    return step


def packed(model: Any, texts: list[list[str]]) -> Any:
    """The columns of a batch in one."""
    from likewise.engine import ColumnBatch, TokenSequences

    tasks = ("query", *("document",) * (len(texts) - 1))
    sequences = [model.token_sequences(own, None, task) for own, task in zip(texts, tasks, strict=True)]
    return ColumnBatch(TokenSequences.concatenate(sequences).pack(), len(texts), tasks=tasks)


def main() -> None:
    """Time both libraries, and print the table."""
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=3)
    parser.add_argument("--rows", type=int, default=64, help="documents of a call of encode")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--length", type=int, default=180, help="tokens at which documents are cut")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import sentence_transformers

    import likewise

    libraries: list[Any] = [likewise, sentence_transformers]
    folder = encoder(model_folder(options.model), options.length)
    claims, abstracts = read_texts(options.data)
    rows = []
    models = [library.MultiVectorEncoder(folder, device="cpu") for library in libraries]
    for name, method, texts in (
        ("encode_document", "encode_document", abstracts[: options.rows]),
        ("encode_query", "encode_query", claims[: options.rows]),
    ):
        found = [getattr(model, method)(texts) for model in models]
        difference = max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
        calls = [lambda m=model, w=method, t=texts: getattr(m, w)(t) for model in models]  # type: ignore[misc]
        rows.append(row(name, calls, options.rounds, difference))
    for name, size, ways in (
        (f"train, {options.batch} pairs", options.batch, 2),
        (f"train, {options.batch // 2} triplets", options.batch // 2, 3),
    ):

        def columns(step: int, size: int = size, ways: int = ways) -> list[list[str]]:
            first = step * size % (len(claims) - size)
            documents = [abstracts[first + i * 500 : first + i * 500 + size] for i in range(ways - 1)]
            return [claims[first : first + size], *documents]

        steps = [stepper(library, folder, columns) for library in libraries]
        losses = [step() for step in steps]
        made = row(name, steps, options.rounds, abs(losses[0] - losses[1]))
        needed = [measured(step)["bytes"] / 2**20 for step in steps]
        rows.append(made | {"MiB": needed[0], "reference": needed[1], "memory": needed[1] / needed[0]})
    report(rows, options.json)


def row(name: str, calls: list[Callable[[], Any]], rounds: int, difference: float) -> dict[str, object]:
    """A line of the table."""
    ours, theirs = alternate(calls, rounds, time.process_time)
    median, least, most = ratio(ours, theirs)
    return {
        "what": name, "ours s": min(ours), "theirs s": min(theirs), "ratio": median, "least": least, "most": most,
        "difference": difference, "MiB": "", "reference": "", "memory": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
