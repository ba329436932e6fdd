"""The card's text: what the model is, how to use it, how good it is, how it was trained, whom to cite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    parts = [
        *_description(model, data),
        *_usage(model, data),
        *_evaluation(data),
        *_training(data, plot),
        "## Additional Resources",
        "\n".join(f"- [{title}]({HUB}/blog/{page})" for title, page in data.resources.items()),
        *("## Citation", "### BibTeX"),
        *(f"#### {names}\n{markdown.fenced(paper, 'bibtex')}" for names, paper in data.citations.items()),
        markdown.hidden("## Glossary\n\n*Terms that a reader may not know.*"),
        markdown.hidden("## Model Card Authors\n\n*Who made the model and wrote this card.*"),
        markdown.hidden("## Model Card Contact\n\n*Where to ask questions about the model.*"),
    ]
    return "\n\n".join(parts) + "\n"


def _description(model: Any, data: BaseModelCardData) -> list[str]:
    base = _link(data.base_model) if data.base_model else None
    named = [_data_set_link(part) for part in data.train_datasets if part.get("name")]
    made = f"finetuned from {base}" if base else "trained"
    if named:
        told = f"the {markdown.listed(named)}" if len(", ".join(named)) <= MOST_NAMED else str(len(named))
        made += f" on {told} {markdown.plural('dataset', len(named))}"
    limit = model.get_max_seq_length()
    own = dict(data.facts(model))
    revision = f" <!-- at revision {data.base_model_revision} -->" if data.base_model_revision else ""
    languages = list(data.language or ())
    kinds = [str(kind).title() for kind in getattr(model, "modalities", None) or ("text",)]
    facts = [
        f"- **Model Type:** {own.pop('Model Type')}",
        _fact("Base model", base and f"{base}{revision}"),
        f"- **Maximum Sequence Length:** {f'{limit} tokens' if limit and limit != math.inf else 'unlimited'}",
        *(f"- **{title}:** {fact}" for title, fact in own.items()),
        f"- **Supported Modalit{'y' if len(kinds) == 1 else 'ies'}:** {', '.join(kinds)}",
        _listing("Training Dataset", named),
        _fact(markdown.plural("Language", max(len(languages), 1)), ", ".join(languages)),
        _fact("License", data.license),
    ]
    return [
        f"# {data.title()}",
        f"This is a [sentence-transformers](https://www.SBERT.net) model {made}. {data.purpose(model)}",
        "## Model Details",
        "### Model Description\n" + "\n".join(facts),
        "### Model Sources",
        "- **Format and documentation:** [Sentence Transformers](https://sbert.net)\n"
        f"- **More models:** [on Hugging Face]({HUB}/models?library=sentence-transformers)",
        "### Full Model Architecture",
        markdown.fenced(str(model)),
    ]


def _fact(title: str, fact: str | None) -> str:
    return f"- **{title}:** {fact}" if fact else f"<!-- - **{title}:** Unknown -->"


def _listing(title: str, names: Sequence[str]) -> str:
    if not names:
        return _fact(title, None)
    return "\n".join([f"- **{markdown.plural(title, len(names))}:**", *(f"    - {name}" for name in names)])


def _usage(model: Any, data: BaseModelCardData) -> list[str]:
    return [
        "## Usage",
        "### Direct Usage (Sentence Transformers)",
        "Install Likewise, or Sentence Transformers, which loads the same folders:",
        markdown.fenced("pip install -U likewise", "bash"),
        data.first_sentence_of_usage,
        markdown.fenced(data.usage(model), "python"),
        markdown.hidden("### Direct Usage (Transformers)\n\n*How to use the model without either library.*"),
        markdown.hidden(
            "### Downstream Usage (Sentence Transformers)\n\n*How the model is trained further, and for what.*"
        ),
        markdown.hidden("### Out-of-Scope Use\n\n*What the model must not be used for.*"),
    ]


def _evaluation(data: BaseModelCardData) -> list[str]:
    parts = ["## Evaluation", "### Metrics", *results.sections(data.results)] if data.results else []
    return [
        *parts,
        markdown.hidden("## Bias, Risks and Limitations\n\n*Where the model is known to be weak or unfair.*"),
        markdown.hidden("### Recommendations\n\n*What to do about that.*"),
    ]


def _training(data: BaseModelCardData, plot: str | None) -> list[str]:
    parts = ["## Training Details"]
    parts += _data_sets("Training", data.train_datasets)
    parts += _data_sets("Evaluation", data.eval_datasets)
    if data.all_hyperparameters:
        parts.append("### Training Hyperparameters")
        if data.non_default_hyperparameters:
            parts += ["#### Non-Default Hyperparameters", _settings(data.non_default_hyperparameters)]
        parts += ["#### All Hyperparameters", markdown.folded(_settings(data.all_hyperparameters))]
    if data.training_logs and data.is_trained:
        parts += training_log.section(data.training_logs, data.best_model_step, plot)
    parts += _resources(data)
    versions = "\n".join(f"- {name}: {version}" for name, version in environment.versions().items())
    return [*parts, "### Framework Versions", versions]


def _settings(settings: Mapping[str, Any]) -> str:
    return "\n".join(f"- `{name}`: {value}" for name, value in settings.items())


def _data_sets(kind: str, data_sets: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [f"### {kind} {markdown.plural('Dataset', len(data_sets))}"] if data_sets else []
    for part in data_sets:
        name = part.get("name") or "Unnamed Dataset"
        text = f"#### {name}\n\n{_data_set(part, kind.lower())}"
        parts.append(markdown.folded(text, name) if len(data_sets) > FOLDED_DATA_SETS else text)
    return parts


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


def _resources(data: BaseModelCardData) -> list[str]:
    """What the training took: energy, devices, time."""
    parts = []
    measured = environment.emissions(data.code_carbon_callback)
    if measured is not None:
        parts.append(
            "### Environmental Impact\nCarbon emissions were measured using "
            "[CodeCarbon](https://github.com/mlco2/codecarbon).\n"
            f"- **Energy Consumed**: {measured['energy_consumed']:.3f} kWh\n"
            f"- **Carbon Emitted**: {measured['emissions'] / 1000:.3f} kg of CO2"
        )
    seconds = data.run_seconds
    if seconds is None:
        return parts
    facts = environment.hardware()
    if measured is not None:
        facts = {"On Cloud": "Yes" if measured["on_cloud"] else "No", **facts}
        facts["RAM Size"] = f"{measured['ram_total_size']:.2f} GB"
    parts.append("### Training Hardware\n" + _facts(facts))
    times = {"Training": seconds - data.evaluation_seconds}
    if data.evaluation_seconds:
        times |= {"Evaluation": data.evaluation_seconds, "Total": seconds}
    return [*parts, "### Training Time\n" + _facts({name: duration(time) for name, time in times.items()})]


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}**: {fact}" for name, fact in facts.items())


def _link(name: str) -> str:
    return f"[{name}]({HUB}/{name})"


def _data_set_link(part: Mapping[str, Any]) -> str:
    name = str(part["name"])
    return f"[{name}]({HUB}/datasets/{part['id']})" if part.get("id") else name
