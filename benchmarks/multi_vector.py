"""How fast late interaction embeds and trains, beside the reference, on real texts, and in how much memory.

    OMP_NUM_THREADS=1 python benchmarks/multi_vector.py --data ../shared/data

Both libraries work in turn in one process, with the same weights: the packaged encoder with a random projection to 128 numbers and
queries that are filled up to 32 tokens, unless `--model` says otherwise. `--data` is the folder of the data sets: claims and
abstracts (retrieval/scifact), of which nearly all are cut at `--length` tokens, so that there is no padding to save; and questions
with answers of 1 to 3,692 words (pairs/medquad), which are cut at 512. Times are of the processor, ratios the reference's over ours,
median and range over the rounds, of steps with the model's dropout, as trainers make them. Beside them: what one call needs at most
beyond what is held before it, each in a process of its own; the largest difference of embeddings, and with dropout off of the losses
of the first step. Lines in int8 and bfloat16 have our weights so, by `use_int8_weights` and its like, beside the reference's in float32.
"""

from __future__ import annotations

import gzip
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

OF_ALL_LENGTHS = 512
Columns = Callable[[int], list[list[str]]]


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
    """The folder of a model with the encoder in `folder` and a random projection, which cuts documents at so many tokens."""
    from likewise import MultiVectorEncoder

    torch.manual_seed(0)
    saved = tempfile.mkdtemp()
    model = MultiVectorEncoder(folder, device=DEVICE)
    model.max_seq_length = max(length, model.max_seq_length)
    model[0].query_expansion = {"strategy": "fixed", "length": 32}
    model[0].document_length = length
    model.save_pretrained(saved, create_model_card=False)
    return saved


def stepper(library: Any, folder: str, columns: Columns, dropout: bool) -> Callable[[], float]:
    """A function that makes one training step and returns the loss."""
    model = library.MultiVectorEncoder(folder, device=DEVICE).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
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
            value = loss(on_device(packed(model, texts)))
        else:
            tasks = ["query", *["document"] * (len(texts) - 1)]
            features = [model.preprocess(own, task=task) for own, task in zip(texts, tasks, strict=True)]
            value = loss(on_device([dict(one) for one in features]))
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


def encoded(options: Any) -> dict[str, tuple[int, str, list[str]]]:
    """By name: the tokens at which documents are cut, the method, and the texts."""
    claims, abstracts = read_texts(options.data)
    (answers,) = column(options.data / "pairs" / "medquad" / "train.parquet", "answer")
    return {
        "encode_document": (options.length, "encode_document", abstracts[: options.rows]),
        "encode_query": (options.length, "encode_query", claims[: options.rows]),
        "encode_document, answers of all lengths": (
            OF_ALL_LENGTHS, "encode_document", answers[::13][: options.rows],
        ),
        **{
            f"encode_document, answers of all lengths{end}": (
                OF_ALL_LENGTHS, "encode_document", answers[::13][: options.rows],
            )
            for end in REDUCED
        },
    }  # fmt: skip


def trained(options: Any) -> dict[str, tuple[int, Columns]]:
    """By name: the tokens at which documents are cut, and what makes the columns of a step."""
    claims, abstracts = read_texts(options.data)
    questions, answers = (
        texts[::13]
        for texts in column(options.data / "pairs" / "medquad" / "train.parquet", "question", "answer")
    )

    def of_abstracts(size: int, ways: int) -> Columns:
        def columns(step: int) -> list[list[str]]:
            first = step * size % (len(claims) - size)
            documents = [abstracts[first + i * 500 : first + i * 500 + size] for i in range(ways - 1)]
            return [claims[first : first + size], *documents]

        return columns

    def of_answers(step: int) -> list[list[str]]:
        first = step * options.batch % (len(questions) - options.batch)
        return [texts[first : first + options.batch] for texts in (questions, answers)]

    return {
        f"train, {options.batch} pairs": (options.length, of_abstracts(options.batch, 2)),
        f"train, {options.batch // 2} triplets": (options.length, of_abstracts(options.batch // 2, 3)),
        f"train, {options.batch} pairs, answers of all lengths": (OF_ALL_LENGTHS, of_answers),
    }


def main() -> None:
    """Time both libraries, and print the table."""
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=3)
    parser.add_argument("--rows", type=int, default=64, help="documents of a call of encode")
    parser.add_argument("--batch", type=int, default=16, help="rows of a training step")
    parser.add_argument("--length", type=int, default=180, help="tokens at which abstracts are cut")
    parser.add_argument("--only", default="", help="only the lines with this in their names, such as train")
    parser.add_argument("--peak-of", default=None, help="for the benchmark itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import sentence_transformers

    import likewise

    libraries: list[Any] = [likewise, sentence_transformers]
    embeds, trains = encoded(options), trained(options)

    def works(name: str, sides: list[Any], dropout: bool = True) -> list[Callable[[], Any]]:
        """What a line times, for each side: a call of `encode`, or a training step."""
        length, *what = (embeds | trains)[name]
        folder = encoder(model_folder(options.model), length)
        if name in trains:
            return [stepper(library, folder, *what, dropout) for library in sides]
        method, texts = what
        models = [library.MultiVectorEncoder(folder, device=DEVICE) for library in sides]
        for model in models:
            reduce_weights(name, model, texts)
        return [lambda model=model: getattr(model, method)(texts) for model in models]  # type: ignore[misc]

    if options.peak_of is not None:
        side, name = json.loads(options.peak_of)
        (once,) = works(name, [libraries[side]])
        once()
        print(json.dumps({"bytes": measured(once)["bytes"]}))
        return
    names = [name for name in (*embeds, *trains) if options.only in name]
    if not names:
        parser.error(f"No line has {options.only!r} in its name. Try encode, train or lengths.")
    report([measured_line(name, works, libraries, options.rounds) for name in names], options.json)


def measured_line(
    name: str, works: Callable[..., list[Callable[[], Any]]], libraries: list[Any], rounds: int
) -> dict[str, object]:
    """A line of the table."""
    found = [call() for call in works(name, libraries, dropout=False)]
    pairs = zip(*found, strict=True) if isinstance(found[0], list) else [map(torch.tensor, found)]
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    needs = [
        float(in_process(__file__, *sys.argv[1:], "--peak-of", json.dumps([side, name]))["bytes"])
        for side in (0, 1)
    ]
    return line(name, alternate(works(name, libraries), rounds, work_seconds), needs, difference)


if __name__ == "__main__":
    main()
