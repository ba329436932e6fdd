"""What evaluators measured, as the card keeps it: tables for readers, a model-index for the Hub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from likewise.card import markdown

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass
class Result:
    """An evaluator's results; of the evaluator itself, which may hold a corpus, only what the card needs is kept."""

    evaluator: int  # the evaluator's identity
    kind: str  # its class
    name: str  # its name; "" for none
    description: str  # what it measures, in words
    settings: Mapping[str, Any]  # its settings worth telling
    primary: str | None  # the primary metric, without the evaluator's name
    metrics: dict[str, Any]  # what it measured last, without its name
    # What it measured at each step of the run.
    by_step: dict[int, dict[str, Any]] = field(default_factory=dict)


def result_of(evaluator: Any, metrics: Mapping[str, Any]) -> Result:
    """What an evaluator measured."""
    name = str(getattr(evaluator, "name", "") or "")
    prefix = f"{name}_"
    primary = getattr(evaluator, "primary_metric", None)
    if name and all(key.startswith(prefix) for key in metrics):
        metrics = {key.removeprefix(prefix): value for key, value in metrics.items()}
        primary = primary.removeprefix(prefix) if isinstance(primary, str) else None
    kind = type(evaluator)
    return Result(
        evaluator=id(evaluator),
        kind=markdown.class_name(kind),
        name=name,
        description=str(getattr(evaluator, "description", kind.__name__)),
        settings=evaluator.get_config_dict() if hasattr(evaluator, "get_config_dict") else {},
        primary=primary if isinstance(primary, str) else None,
        metrics={key: value.item() if hasattr(value, "item") else value for key, value in metrics.items()},
    )


def eval_results(results: Sequence[Result]) -> list[EvalResult]:
    """Every metric that is a number, as the Hub's model-index lists it."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=result.description.lower().replace(" ", "-"),
            task_name=result.description,
            dataset_type=result.name or "unknown",
            dataset_name=result.name.replace("_", " ").replace("-", " ") or "Unknown",
            metric_type=key,
            metric_name=key.replace("_", " ").title(),
            metric_value=float(value),
        )
        for result in results
        for key, value in result.metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def sections(results: Sequence[Result]) -> list[str]:
    """A table for each kind of evaluator; evaluators that measure the same on several data sets share one."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        key: tuple[Any, ...] = (result.kind, repr(result.settings), *sorted(result.metrics))
        if result.name in [other.name for other in groups.get(key, ())]:
            key = (*key, result.evaluator)
        groups.setdefault(key, []).append(result)
    return [part for group in groups.values() for part in _section(group)]


def _section(group: Sequence[Result]) -> list[str]:
    first = group[0]
    names = [f"`{result.name}`" for result in group if result.name]
    lines = [f"* {markdown.plural('Dataset', len(names))}: {markdown.listed(names)}"] if names else []
    lines.append(f"* Evaluated with <code>{first.kind}</code>{markdown.parameters(first.settings)}")
    header = ["Metric", *([result.name for result in group] if len(group) > 1 else ["Value"])]
    rows = []
    for key in first.metrics:
        cells = [key, *(number(result.metrics[key]) for result in group)]
        rows.append(markdown.bold(cells) if key == first.primary else cells)
    return [f"#### {first.description}", "\n".join(lines), markdown.table(header, rows)]


def number(value: Any) -> str:
    """A number as tables show it: four digits behind the point."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
