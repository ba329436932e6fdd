"""`likewise report`: the page about a trained model, afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import family_of
from likewise.cli.read_texts import Columns, split_names

if TYPE_CHECKING:
    from likewise.training.data.data_set_plan import DataSetPlan


def report(
    folder: Annotated[Path, Argument(help="A trained model, or the output folder of its training.")],
    data: Annotated[
        str | None, Option(help="A table of texts (.parquet, .csv, .jsonl) to compare the models on.")
    ] = None,
    columns: Columns = None,
    before: Annotated[
        str | None,
        Option(help="The model that it was before; else what its card or the training's report says."),
    ] = None,
) -> None:
    """Write FOLDER/report.html: the curves of the run, those of the newest checkpoint; one that is there already is kept.

    With `--data TABLE` it is FOLDER/report-TABLE.html, with what the model answers now and answered before. The table's columns
    are taken as `likewise check` takes them; 200 of its rows are looked at.

    Examples:

        likewise report demo/model --data demo/pairs.jsonl
    """
    from likewise.report import facts, page
    from likewise.training.run.reporting import describe

    page.check_installed()
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Name that of a trained model, or of its training.")
    path = folder / (page.FILE if data is None else f"report-{Path(data).stem}.html")
    told: dict[str, Any] = facts.run_of(folder)
    if data is None and (path.is_file() or not told):
        none = f"{folder} has no checkpoint to draw curves from"
        why = f"{path} is there already" if path.is_file() else none
        raise ValueError(
            f"{why}. Name a table to compare the models on with `--data`, for a report beside it."
        )
    model_folder = folder / "final" if (folder / "final").is_dir() else folder
    family = family_of(str(model_folder))
    model = family.model_class(str(model_folder))
    if data is not None:
        start = before or _base_model(model_folder) or facts.start_of(folder)
        if start is None:
            raise ValueError(
                f"Nothing in {folder} says what the model was before. Say it with `--before MODEL`."
            )
        of_trainer, earlier = family.trainer_class.family, family.model_class(start)
        told["sample"] = _compared(of_trainer, earlier, model, data, split_names(columns))
    told["facts"] = facts.facts_of(told.get("history", ()))
    path.write_text(page.page(told | describe(model, str(model_folder))), encoding="utf-8")
    console.say(f"Report:  {path}")


def _compared(family: Any, before: Any, after: Any, data: str, columns: list[str] | None) -> dict[str, Any]:
    from likewise.training.data import checks
    from likewise.training.data.sample import sample_of
    from likewise.training.data.sources import Source
    from likewise.training.run.comparison import compared

    rows = Source(data, columns=columns).load()
    plan = _plan(rows.column_names, has_classes=getattr(after, "num_labels", 1) > 1)
    if plan.label is not None:
        checks.refuse_missing(rows, plan.label, data, "no label")
    if plan.label is not None and isinstance(rows[0][plan.label], str):
        raise ValueError(
            f"Column {plan.label!r} of {data} holds words. Put the numbers there that the model was trained with."
        )
    sample = sample_of(rows, plan, Path(data).name, not family.keeps_tokens)
    if sample is None:
        raise ValueError(f"{data} has no rows of texts to compare the models on. Choose `--columns`.")
    return compared(sample, family.answers(before, sample), family.answers(after, sample))


def _plan(names: list[str], has_classes: bool) -> DataSetPlan:
    """What the columns of a table are, where no loss says it."""
    from likewise.training.data.columns import label_column
    from likewise.training.data.data_set_plan import DataSetPlan

    label = label_column(names)
    texts = tuple(name for name in names if name != label)
    roles = ("anchor", "positive", *("negative" for _ in texts[2:])) if label is None else texts
    prompts, roles = ("",) * len(texts), roles[: len(texts)]
    return DataSetPlan("", texts, label, prompts, roles, "", None, has_classes=has_classes)


def _base_model(folder: Path) -> str | None:
    """What a model's card says that it was before it was trained."""
    from huggingface_hub import ModelCard

    card = folder / "README.md"
    found = ModelCard.load(card).data.to_dict().get("base_model") if card.is_file() else None
    name = found[0] if isinstance(found, list) and found else found
    return name if isinstance(name, str) else None
