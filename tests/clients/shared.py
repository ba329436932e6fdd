"""What each client's script has: two models' folders, real texts, a clock, and a file for what it found.

It imports neither library, so that a script runs with whichever its process has.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

MODEL, RERANKER, _texts, _found = sys.argv[1:5]
DOCUMENTED: list[tuple[str, str]] = json.loads(Path(_texts).read_text(encoding="utf-8"))
"""Python's own functions: the first sentence of a docstring, and the name."""
SENTENCES = [sentence for sentence, _ in DOCUMENTED]
NAMES = [name for _, name in DOCUMENTED]
TOPICS = [name.split(".")[0] for name in NAMES]
QUERIES = [
    "parse a date",
    "compress a file",
    "open a network connection",
    "draw a random number",
    "quote a string",
]

_seconds = 0.0


@contextmanager
def timed() -> Iterator[None]:
    """Count the processor's time within it, once more each time."""
    global _seconds
    start = time.process_time()
    yield
    _seconds += time.process_time() - start


def save(**found: Any) -> None:
    """Keep what was found, numbers and texts by name, for `run.py` to compare."""
    import sentence_transformers

    library = Path(str(sentence_transformers.__file__)).parent.name
    record = {"library": library, "seconds": _seconds, "found": found}
    Path(_found).write_text(json.dumps(record, default=lambda value: np.asarray(value).tolist()))
