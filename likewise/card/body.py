"""The card's text: what the model is, how to use it, how good it is, how it was trained, whom to cite.

card.md.jinja is the text; here is what it tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from likewise.card import environment, markdown, results, training_log
from likewise.report.facts import duration

if TYPE_CHECKING:
    from likewise.card.data import BaseModelCardData

HUB = "https://huggingface.co"
MOST_NAMED = 200  # characters of names of data sets in a sentence; their number is told where there are more
FOLDED_DATA_SETS = 3


def body(model: Any, data: BaseModelCardData, plot: str | None) -> str:
    """All sections; `plot` is the file with the plot of the training log, if there is one."""
    from jinja2 import Environment, PackageLoader

    templates = Environment(
        loader=PackageLoader("likewise", "card"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    templates.filters |= {"fenced": markdown.fenced, "folded": markdown.folded, "plural": markdown.plural}
    return templates.get_template("card.md.jinja").render(
        model=model,
        data=data,
        **_description(model, data),
        data_set=_data_set,
        folded_data_sets=FOLDED_DATA_SETS,
        sections=results.sections,
        training_log=training_log.section,
        plot=plot,
        emissions=environment.emissions(data.code_carbon_callback),
        hardware=_hardware,
        times=_times(data),
        versions=environment.versions(),
        hub=HUB,
    )


def _description(model: Any, data: BaseModelCardData) -> dict[str, Any]:
    base = f"[{data.base_model}]({HUB}/{data.base_model})" if data.base_model else None
    trained_on = [_data_set_link(part) for part in data.train_datasets if part.get("name")]
    made = f"finetuned from {base}" if base else "trained"
    if trained_on:
        is_short = len(", ".join(trained_on)) <= MOST_NAMED
        told = f"the {markdown.listed(trained_on)}" if is_short else str(len(trained_on))
        made += f" on {told} {markdown.plural('dataset', len(trained_on))}"
    if base and data.base_model_revision:
        base += f" <!-- at revision {data.base_model_revision} -->"
    limit = model.get_max_seq_length()
    facts = dict(data.facts(model))
    return {
        "made": made,
        "base": base,
        "limit": f"{limit} tokens" if limit and limit != math.inf else "unlimited",
        "kind": facts.pop("Model Type"),
        "facts": facts,
        "modalities": [str(kind).title() for kind in getattr(model, "modalities", None) or ("text",)],
        "trained_on": trained_on,
        "languages": list(data.language or ()),
    }


def _data_set(part: Mapping[str, Any], kind: str) -> str:
    """Everything about one data set, as a list."""
    lines = []
    if part.get("name"):
        at = ""
        if part.get("id") and (revision := part.get("revision")):
            at = f" at [{revision[:7]}]({HUB}/datasets/{part['id']}/tree/{revision})"
        lines.append(f"* Dataset: {_data_set_link(part)}{at}")
    if part.get("size"):
        lines.append(f"* Size: {part['size']:,} {kind} samples")
    if columns := part.get("columns"):
        lines.append(f"* Columns: {markdown.listed([markdown.code(column) for column in columns])}")
    if stats := part.get("stats"):
        first = min(part["size"], 100)
        lines.append(f"* Statistics of the first {first} samples:\n{markdown.indented(_statistics(stats))}")
    if examples := part.get("examples"):
        rows = [[markdown.code(value) for value in row] for row in zip(*examples.values(), strict=True)]
        lines.append(f"* Samples:\n{markdown.indented(markdown.table(list(examples), rows))}")
    if loss := part.get("loss"):
        lines.append(f"* Loss: <code>{loss['fullname']}</code>{markdown.parameters(loss.get('config'))}")
    return "\n".join(lines)


def _statistics(stats: Mapping[str, Mapping[str, Any]]) -> str:
    def details(numbers: Mapping[str, Any]) -> str:
        items = "".join(f"<li>{key}: {value}</li>" for key, value in numbers.items())
        return f"<ul>{items}</ul>" if items else ""

    rows = [
        ["type", *(column["dtype"] for column in stats.values())],
        ["modality", *(column["modality"] for column in stats.values())],
        ["details", *(details(column["data"]) for column in stats.values())],
    ]
    return markdown.table(["", *stats], rows)


def _hardware(measured: Mapping[str, Any] | None) -> dict[str, str]:
    """The devices, with what CodeCarbon knows of them."""
    facts = environment.hardware()
    if measured is None:
        return facts
    on_cloud = "Yes" if measured["on_cloud"] else "No"
    return {"On Cloud": on_cloud, **facts, "RAM Size": f"{measured['ram_total_size']:.2f} GB"}


def _times(data: BaseModelCardData) -> dict[str, str]:
    """How long the training took, in words; nothing where there was none."""
    seconds = data.run_seconds
    if seconds is None:
        return {}
    times = {"Training": seconds - data.evaluation_seconds}
    if data.evaluation_seconds:
        times |= {"Evaluation": data.evaluation_seconds, "Total": seconds}
    return {name: duration(time) for name, time in times.items()}


def _data_set_link(part: Mapping[str, Any]) -> str:
    name = str(part["name"])
    return f"[{name}]({HUB}/datasets/{part['id']})" if part.get("id") else name
