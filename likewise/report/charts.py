"""The figures of reports and model cards: Vega-Lite specifications, which lie beside this file, with their data.

A page draws them itself, in the colours of its own style sheet; vl-convert draws them to SVG.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

MOST_POINTS = 400  # of one line
PAPER = {
    "ink": "#1e293b",
    "muted": "#64748b",
    "grid": "#e2e8f0",
}  # in a page the style sheet's, by these names
EMBEDDINGS = ("in batch accuracy", "positive cosine", "negative cosine", "pair cosine")


def is_installed() -> bool:
    """Whether what draws is there."""
    return find_spec("vl_convert") is not None


def _read(name: str, colours: Mapping[str, str] | None = None) -> Spec:
    text = (Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")
    for colour, value in (colours or {}).items():
        text = text.replace(f'"${colour}"', json.dumps(value))
    spec: Spec = json.loads(text)
    return spec


def _figure(name: str, values: Rows, **more: Any) -> Spec:
    finite = [row for row in values if all(_is_finite(v) for v in row.values() if isinstance(v, float))]
    return _read(name) | {"data": {"values": finite}} | more


def svg(panels: Sequence[Spec]) -> str:
    """Figures beside each other as SVG, on white. Needs vl-convert, the extra `report`."""
    import vl_convert

    apart = {"resolve": {"scale": {"color": "independent"}, "legend": {"color": "independent"}}}
    spec = {"hconcat": [panel | {"width": 360} for panel in panels], **apart, "background": "white"}
    return str(vl_convert.vegalite_to_svg(spec | {"config": _read("style", PAPER)}))


def in_page(spec: Spec) -> Spec:
    """The figure as wide as its place in a page, in the page's colours."""
    style = _read("style", {name: f"var(--{name})" for name in PAPER})
    return spec | {"width": "container", "background": None, "config": style}


def curves(rows: Rows, step: str, best_step: int | None = None) -> list[Spec]:
    """Numbers over the steps: losses, metrics, and what embeddings are like, as far as a line has two points.

    Args:
        rows: Of a log; what is no finite number, or was measured outside of the run (step -1), is left out.
        step: The column of the step; that of the epoch, by its usual name, is left out.
        best_step: The step whose weights were kept, marked.
    """
    panels: dict[str, list[dict[str, Any]]] = {"Loss": [], "Metrics": [], "Embeddings of a batch": []}
    for name in dict.fromkeys(name for row in rows for name in row if name not in (step, "Epoch", "epoch")):
        line = [(row[step], row[name]) for row in rows if row[step] >= 0 and _is_finite(row.get(name))]
        panel = "Embeddings of a batch" if name in EMBEDDINGS else "Metrics"
        panel = "Loss" if name.lower().endswith("loss") else panel
        kept = [*line[: -1 : -(-len(line) // MOST_POINTS)], line[-1]] if len(line) > 1 else []
        panels[panel] += [{"step": x, "value": y, "name": name, "saved": x == best_step} for x, y in kept]
    figures = [_figure("curves", values, title=title) for title, values in panels.items() if values]
    for figure in figures:
        if not any(value["saved"] for value in figure["data"]["values"]):
            figure["layer"] = figure["layer"][:1]
    return figures


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def intervals(rows: Rows) -> list[Spec]:
    """Metrics before and after with their confidence intervals: rows of `metric`, and `before` and `after` as value, low, high."""
    values = [
        {"metric": row["metric"], "when": when} | dict(zip(("value", "low", "high"), row[when], strict=True))
        for row in rows
        for when in ("before", "after")
    ]
    return [_figure("intervals", values, height=20 + 36 * len(rows))] if rows else []


def histograms(rows: Rows) -> list[Spec]:
    """How kinds of `pairs` spread over the scores, `when` before and after, both on the same axes."""
    if not rows:
        return []
    specs = before_and_after("histogram", rows)
    for spec in specs:
        ends = [min(row["from"] for row in rows), max(row["to"] for row in rows)]
        spec["encoding"]["x"]["scale"]["domain"] = ends
        spec["encoding"]["y"]["scale"]["domain"] = [0, max(row["share"] for row in rows)]
    return specs


def before_and_after(name: str, rows: Rows) -> list[Spec]:
    """Two figures of a kind, by what the rows say in `when`."""
    return [
        _figure(name, [row for row in rows if row["when"] == when], title=when.title())
        for when in ("before", "after")
        if rows
    ]


def scores(rows: Rows) -> list[Spec]:
    """Pairs by their score before and after."""
    return [_figure("scores", rows)] if rows else []
