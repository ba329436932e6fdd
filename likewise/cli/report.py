"""`likewise report`: the page about a trained model, afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli import console
from likewise.cli.model_names import family_of
from likewise.cli.read_texts import split_names

if TYPE_CHECKING:
    from likewise.training.data.data_set_plan import DataSetPlan


def report(
    folder: Annotated[Path, typer.Argument(help="A trained model, or the output folder of its training.")],
    data: Annotated[
        str | None, typer.Option(help="A table of texts (.parquet, .csv, .jsonl) to compare the models on.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of the table to use, in order, with commas: question,answer")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(help="Folder or Hub name of the model that it was before; else what its card says."),
    ] = None,
) -> None:
    """Write FOLDER/report.html: the curves of the run, and what the model answers now and answered before.

    The curves are those of the newest checkpoint, if there is one. The table's columns are taken as `likewise check` takes
    them; 200 of its rows are looked at.

    Examples:

        likewise report demo/model --data demo/pairs.jsonl
    """
    from likewise.report import page
    from likewise.training.run.reporting import describe, facts_of

    page.check_installed()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Name that of a trained model, or of its training.")
    model_folder = folder / "final" if (folder / "final").is_dir() else folder
    told: dict[str, Any] = _run_of(folder)
    if data is None and not told:
        raise ValueError(
            f"{folder} has no checkpoint to draw curves from. Name a table to compare the models on with `--data`."
        )
    family = family_of(str(model_folder))
    load = family.model_class
    model: Any = load(str(model_folder))
    if data is not None:
        earlier = load(before or _base_model(model_folder))
        told["sample"] = _compared(family.trainer_class.family, earlier, model, data, split_names(columns))
    told["facts"] = facts_of(told.get("history", ()))
    path = folder / page.FILE
    path.write_text(page.page(told | describe(model, str(model_folder))), encoding="utf-8")
    console.say(f"Report:  {path}")


def _compared(family: Any, before: Any, after: Any, data: str, columns: list[str] | None) -> dict[str, Any]:
    from likewise.training.data import checks
    from likewise.training.data.sample import sample_of
    from likewise.training.data.sources import Source
    from likewise.training.run.comparison import compared

    rows = Source(data, columns=columns).load()
    plan = _plan(rows.column_names)
    for start, chunk in checks.chunks(rows, plan.label, data) if plan.label is not None else ():
        checks.refuse_missing(chunk, start, str(plan.label), data, "no label")
    sample = sample_of(rows, plan, Path(data).name, not family.keeps_tokens)
    if sample is None:
        raise ValueError(f"{data} has no rows of texts to compare the models on. Choose `--columns`.")
    return compared(sample, family.answers(before, sample), family.answers(after, sample))


def _plan(names: list[str]) -> DataSetPlan:
    """What the columns of a table are, where no loss says it."""
    from likewise.training.data.columns import LABEL_COLUMNS
    from likewise.training.data.data_set_plan import DataSetPlan

    label = next((name for name in LABEL_COLUMNS if name in names), None)
    texts = tuple(name for name in names if name != label)
    roles = ("anchor", "positive", *("negative" for _ in texts[2:])) if label is None else texts
    return DataSetPlan("", texts, label, ("",) * len(texts), roles[: len(texts)], label is not None, "", None)


def _run_of(folder: Path) -> dict[str, Any]:
    """The log of the newest checkpoint in a folder; empty where there is none."""
    states = sorted(folder.rglob("trainer_state.json"), key=lambda path: path.stat().st_mtime)
    if not states:
        return {}
    state = json.loads(states[-1].read_text(encoding="utf-8"))
    return {"history": state["log_history"], "best_step": state.get("best_global_step")}


def _base_model(folder: Path) -> str:
    """What a model's card says that it was before it was trained.

    Raises:
        ValueError: It says nothing.
    """
    from huggingface_hub import ModelCard

    card = folder / "README.md"
    found = ModelCard.load(card).data.to_dict().get("base_model") if card.is_file() else None
    name = found[0] if isinstance(found, list) and found else found
    if not isinstance(name, str):
        raise ValueError(
            f"The card of {folder} does not say what the model was before. Say it with `--before MODEL`."
        )
    return name
