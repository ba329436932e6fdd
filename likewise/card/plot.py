"""The training log as a picture: losses on the left, metrics on the right, over the steps. Plain SVG, drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from likewise.card.training_log import EPOCH, STEP, Row, columns

PLOT_FILE = "training_log.svg"
WIDTH, HEIGHT, TOP, BOTTOM, LEFT = 420, 300, 34, 46, 58  # of one panel, and its margins
LEGEND_LINE = 18
MAX_POINTS = 400  # of one line
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#475569}.title{font-weight:600;fill:#1e293b}"
    ".grid{stroke:#e2e8f0}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.best{stroke:#64748b;stroke-dasharray:4 3}"
)
Points = list[tuple[float, float]]


def draw(rows: Sequence[Row], best_step: int | None = None) -> str | None:
    """The log as SVG; None where no line has two points."""
    lines = {key: _points(rows, key) for key in columns(rows) if key not in (EPOCH, STEP)}
    lines = {key: points for key, points in lines.items() if len(points) > 1}
    losses = {key: points for key, points in lines.items() if key.lower().endswith("loss")}
    panels = [
        (title, part)
        for title, part in (
            ("Loss", losses),
            ("Metrics", {k: v for k, v in lines.items() if k not in losses}),
        )
        if part
    ]
    if not panels:
        return None
    height = HEIGHT + 8 + LEGEND_LINE * max(len(part) for _, part in panels)
    drawn = "\n".join(
        f'<g transform="translate({i * WIDTH} 0)">\n{_panel(title, part, best_step)}\n</g>'
        for i, (title, part) in enumerate(panels)
    )
    width = WIDTH * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Losses and metrics by step">\n<style>{STYLE}</style>\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{drawn}\n</svg>\n'
    )


def _points(rows: Sequence[Row], key: str) -> Points:
    """(step, value) of a column within the run; what is no number or not finite is left out."""
    found = [
        (float(row[STEP]), float(row[key]))
        for row in rows
        if isinstance(row.get(key), int | float) and math.isfinite(row[key]) and row[STEP] >= 0
    ]
    stride = -(-len(found) // MAX_POINTS) or 1
    kept = found[::stride]
    return kept if not found or kept[-1] == found[-1] else [*kept, found[-1]]


def _panel(title: str, lines: dict[str, Points], best_step: int | None) -> str:
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    ticks = nice_ticks(min(values), max(values))
    last, low, high = max(steps), min(ticks[0], *values), max(ticks[-1], *values)
    right, bottom = WIDTH - 16, HEIGHT - BOTTOM

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * step / last

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / (high - low)

    parts = [f'<text class="title" x="{LEFT}" y="20">{title}</text>']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for step in nice_ticks(0, last):
        if 0 <= step <= last:
            parts.append(f'<text x="{x(step):.1f}" y="{bottom + 18}" text-anchor="middle">{step:,g}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle">step</text>')
    if best_step is not None and 0 <= best_step <= last:
        at = x(best_step)
        parts.append(f'<line class="best" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        anchor = "end" if at > (LEFT + right) / 2 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(f'<text x="{at + shift:.1f}" y="{TOP - 5}" text-anchor="{anchor}">saved</text>')
    for number, (key, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline class="line" stroke="{colour}" points="{path}"/>')
        level = HEIGHT + LEGEND_LINE * number + 10
        parts.append(f'<rect x="{LEFT}" y="{level - 7}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 22}" y="{level}">{escape(key)}</text>')
    return "\n".join(parts)


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About so many round numbers from at most `low` to at least `high`."""
    largest = max(abs(low), abs(high), 1e-9)
    span = high - low if high - low > 1e-9 * largest else largest
    size = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 2 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]
