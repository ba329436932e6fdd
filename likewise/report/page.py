"""The page of a report: one HTML file, with its figures and what draws them, that loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from likewise.report import charts
from likewise.report.charts import Spec

FILE = "report.html"
INSTALL = 'pip install "likewise[report]"'
SKIPPED = {"epoch", "uniformity", "learning_rate", "grad_norm", "total_flos", "num_input_tokens_seen"}
SPEEDS = ("_runtime", "_per_second", "padding_avoided", "truncated_share", "train_loss")


def check_installed() -> None:
    """Refuse to begin where a report cannot be made.

    Raises:
        ImportError: vl-convert is not installed.
    """
    if not charts.is_installed():
        raise ImportError(
            f"A report needs vl-convert-python, which draws its figures: {INSTALL}; or leave it out: `report=False`."
        )


def page(told: Mapping[str, Any]) -> str:
    """The page; whatever is left out of `told` is left out of it.

    Args:
        told: `title`; `start`, the name or folder of the model that it was; `facts` and `plan`, pairs of a title and what it says; `history`, the rows of the trainer's log;
            `best_step`; `measured`, as rows of `name`, `metric`, `before`, `after`, `difference` and `p`; `sample`, what
            `compared` gives; `warnings`; `usage`, code.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    figures = {place: [charts.in_page(spec) for spec in specs] for place, specs in _figures(told).items()}
    template = environment.get_template("page.html.jinja")
    scripts = [_drawing_code(), _start()]
    return template.render(
        **told, figures=figures, scripts=scripts, hashes=[_hash(script) for script in scripts]
    )


def _figures(told: Mapping[str, Any]) -> dict[str, list[Spec]]:
    """The figures of each part of the page."""
    sample = told.get("sample") or {}
    history = [
        {
            _shown(name): value
            for name, value in row.items()
            if name not in SKIPPED and not name.endswith(SPEEDS)
        }
        for row in told.get("history") or ()
        if "step" in row
    ]
    measured = [
        {**row, "metric": f"{row['metric']} ({row.get('name', 'sample')})"}
        for row in (*(told.get("measured") or ()), *sample.get("metrics", ()))
    ]
    return {
        "curves": charts.curves(history, "step", told.get("best_step")),
        "intervals": charts.intervals(measured),
        "histogram": charts.histograms(sample.get("histogram") or ()),
        "map": charts.before_and_after("map", sample.get("map") or ()),
        "scores": charts.scores(sample.get("scores") or ()),
    }


def _shown(name: str) -> str:
    return "training loss" if name == "loss" else name.removeprefix("eval_").replace("_", " ")


@cache
def _drawing_code() -> str:
    """Vega, Vega-Lite and vega-embed, as a script that gives `vegaEmbed`."""
    import vl_convert

    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _start() -> str:
    return (Path(__file__).parent / "draw.js").read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """By which the page allows a script: no other one runs in it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
