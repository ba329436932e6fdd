"""What a run was like, in words: its time, speed and memory; and what it left in its folder for a report afterwards."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from likewise.report.page import FILE

START = re.compile(r'<meta name="started-from" content="([^"]*)">')


def facts_of(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Time, speed, padding and truncation, in words, from the trainer's log."""

    def values(key: str) -> list[float]:
        return [float(row[key]) for row in history if key in row]

    facts = [("training time", duration(seconds)) for seconds in values("train_runtime")[-1:]]
    facts += [("rows a second", f"{rate:,.1f}") for rate in values("train_samples_per_second")[-1:]]
    if speeds := values("tokens_per_second"):
        facts.append(("tokens a second", f"{sum(speeds) / len(speeds):,.0f}"))
    if shares := values("padding_avoided"):
        facts.append(("padding avoided", f"{sum(shares) / len(shares):.0%}"))
    facts += [("texts cut at the limit", f"{share:.1%}") for share in values("truncated_share")[-1:]]
    return facts


def memory() -> list[tuple[str, str]]:
    """The most memory that this process has had so far, and that of its GPU."""
    found = []
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        found.append(("most memory", f"{peak / 2**30:.1f} GiB"))
    if torch.cuda.is_available():
        found.append(("most GPU memory", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"))
    return found


def duration(seconds: float) -> str:
    """A length of time in words: "23.4 minutes"."""
    for unit, size, limit in (("seconds", 1, 60), ("minutes", 60, 3600), ("hours", 3600, 86_400)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def run_of(folder: Path) -> dict[str, Any]:
    """The log of the newest checkpoint in a folder; empty where there is none."""
    states = sorted(folder.rglob("trainer_state.json"), key=lambda path: path.stat().st_mtime)
    if not states:
        return {}
    state = json.loads(states[-1].read_text(encoding="utf-8"))
    return {"history": state["log_history"], "best_step": state.get("best_global_step")}


def start_of(folder: Path) -> str | None:
    """What the report of a training says that the model was before: a name on the Hub, or a folder.

    Args:
        folder: The training's output folder, or the model's within it.

    Returns:
        None where no report says it.
    """
    for page in (folder / FILE, folder.parent / FILE):
        found = START.search(page.read_text(encoding="utf-8")) if page.is_file() else None
        if found:
            return html.unescape(found[1])
    return None
