"""The page of a report, as a browser shows it: every figure drawn, nothing run that a text brings along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("vl_convert")
from likewise.report import charts
from likewise.report.page import page

SVG = "{http://www.w3.org/2000/svg}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = (
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "{{ 7 * 7 }} ${x} datum.x <!-- '\"&",
    "{% raw %} [click](javascript:alert(1)) \u202e \x00",
)


def told(text: str = "a text") -> dict[str, Any]:
    """Everything that a report may tell, with a text in each place for texts."""
    values = [0.5, 0.4, 0.6]
    metric = {"metric": text, "before": values, "after": values, "difference": [0.1, -0.1, 0.2], "p": 0.5}
    without_items = metric | {"after": [0.5, float("nan"), float("nan")], "p": float("nan")}
    bars = [
        {"when": when, "pairs": pairs, "from": start, "to": start + 0.1, "share": 0.5}
        for when in ("before", "after")
        for pairs in ("positive", text)
        for start in (0.1, 0.2)
    ]
    places = [
        {"when": when, "x": x / 10, "y": -x / 10, "pair": x // 2, "text": text, "kind": kind}
        for when in ("before", "after")
        for x, kind in enumerate(["query", "document"] * 3)
    ]
    found = [(text, 0.9, True), (text, 0.5, False)]
    ranked = {"query": text, "wanted": text, "ranks": [7, 1], "found": {"before": found, "after": found}}
    scored = {"query": text, "wanted": text, "label": 1.0, "scores": [0.2, 0.8]}
    return {
        "title": text,
        "facts": [("speed", text)],
        "plan": [(text, text)],
        "warnings": [text],
        "usage": f"# {text}",
        "history": [
            {"step": step, "epoch": step / 5, "loss": 1 / (step + 1), f"eval_{text}": step, "positive_cosine": 0.5}
            for step in range(5)
        ],
        "best_step": 3,
        "measured": [{"name": text} | metric, {"name": text} | without_items],
        "sample": {
            "where": text, "kind": "ranking", "metrics": [metric], "histogram": bars, "map": places,
            "changes": {"gained": [ranked], "lost": [scored]},
            "scores": [{"before": 0.1, "after": 0.2, "pairs": text, "text": text}],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def shown(browser: Any, path: Path, width: int, theme: str) -> dict[str, Any]:
    """What a page is like once it is drawn, and what the browser said of it."""
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    view.goto(path.as_uri())
    view.wait_for_function("!document.querySelector('figure:not(.drawn)')", timeout=30_000)
    found: dict[str, Any] = view.evaluate(
        "({title: document.title, figures: document.querySelectorAll('figure').length,"
        " drawn: document.querySelectorAll('figure > svg, figure > .chart-wrapper svg, figure svg').length,"
        " marks: [...document.querySelectorAll('figure svg')].map(s => s.querySelectorAll('.mark-line path, .mark-rect path, .mark-symbol path, .mark-rule line').length),"
        " width: document.documentElement.scrollWidth, text: document.body.innerText,"
        " background: getComputedStyle(document.body).backgroundColor})"
    )
    view.close()
    return found | {"said": said}


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (390, "dark")])
def test_every_figure_is_drawn_and_fits(browser: Any, tmp_path: Path, width: int, theme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(told()), encoding="utf-8")
    found = shown(browser, path, width, theme)
    assert found["said"] == []
    assert found["figures"] == found["drawn"] == 8  # three of curves, intervals, two histograms, two maps
    assert min(found["marks"]) > 0
    assert found["width"] <= width
    assert (found["background"] == "rgb(16, 21, 29)") == (theme == "dark")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_shown_and_never_run(browser: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(told(text)), encoding="utf-8")
    found = shown(browser, path, 1200, "light")
    assert found["said"] == []
    assert found["title"] != "owned"
    assert text.split()[0] in found["text"]


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    script = "<script>document.title = 'owned'</script></main>"
    path.write_text(page(told()).replace("</main>", script), encoding="utf-8")
    view = browser.new_page()
    view.goto(path.as_uri())
    assert view.title() == "a text"
    view.close()


def test_what_is_not_told_is_left_out(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page({"title": "Nothing"}), encoding="utf-8")
    found = shown(browser, path, 1200, "light")
    assert (found["said"], found["figures"], found["text"].strip()) == ([], 0, "Nothing")


# The figures


def rows(number: int) -> list[dict[str, Any]]:
    return [{"Epoch": i / 10, "Step": i, "Training Loss": 1 / (i + 1)} for i in range(1, number + 1)]


def test_a_log_becomes_losses_and_metrics_with_the_saved_step_marked() -> None:
    log = rows(30)
    for row in log[9::10]:
        row |= {"Validation Loss": 0.5, "<b>&": float(row["Step"])}
    panels = charts.curves(log, "Step", best_step=20)
    assert [panel["title"] for panel in panels] == ["Loss", "Metrics"]
    names = [[value["name"] for value in panel["data"]["values"]] for panel in panels]
    assert [(names[0].count("Training Loss"), names[0].count("Validation Loss")), len(names[1])] == [
        (30, 3),
        3,
    ]
    drawn = ElementTree.fromstring(charts.svg(panels))
    texts = {text.text for text in drawn.iter(f"{SVG}text")}
    assert {"Loss", "Metrics", "Training Loss", "Validation Loss", "<b>&", "saved"} <= texts


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    (panel,) = charts.curves(rows(5000), "Step")
    steps = [value["step"] for value in panel["data"]["values"]]
    assert len(steps) <= charts.MOST_POINTS + 1
    assert (steps[0], steps[-1]) == (1, 5000)


@pytest.mark.parametrize(
    "log",
    [[], rows(1), [{"Step": i, "a loss": float("nan")} for i in range(5)], [{"Step": -1, "score": 0.5}] * 3],
)
def test_nothing_to_draw_gives_no_figure(log: list[dict[str, Any]]) -> None:
    assert charts.curves(log, "Step") == []


def test_numbers_that_are_not_finite_are_not_drawn() -> None:
    values = told()["measured"]
    (figure,) = charts.intervals(values)
    assert len(figure["data"]["values"]) == 3
    json.dumps(figure, allow_nan=False)
