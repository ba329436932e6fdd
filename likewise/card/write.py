"""Writing the model card: README.md and the plot of the training log, into a saved model's folder."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.card import body, training_log
from likewise.card.examples import NO_MODEL_ID
from likewise.report import charts

if TYPE_CHECKING:
    from likewise.card.data import BaseModelCardData
    from likewise.model.model import Model

logger = logging.getLogger(__name__)
CARD_FILE = "README.md"
PLOT_FILE = "training_log.svg"


def write_model_card(
    model: Model,
    folder: str | os.PathLike[str],
    model_name: str | None = None,
    train_datasets: list[str] | None = None,
) -> None:
    """Write README.md, and the plot of the training log if there was a run. Nothing here fails: what does is a warning.

    A model that was loaded and not trained since keeps the card it came with.

    Args:
        model: The model.
        folder: Where it was saved.
        model_name: Its name on the Hub (`owner/name`), for the card's code; or a title. What the card's data says wins.
        train_datasets: Names of what it was trained on, where the card does not know any.
    """
    folder = Path(folder)
    data = model.model_card_data
    try:
        if model_name and not Path(model_name).exists():
            if "/" in model_name:
                data.model_id = data.model_id or model_name
            else:
                data.model_name = data.model_name or model_name
        if train_datasets and not data.train_datasets:
            data.train_datasets = [{"name": name} for name in train_datasets]
        if model._model_card_text and not data.is_trained:
            text, picture = model._model_card_text, model._model_card_plot
            if data.model_id is not None:  # put into its code where it had none
                text = text.replace(f'{data.kind}("{NO_MODEL_ID}"', f'{data.kind}("{data.model_id}"')
        else:
            picture = drawn(data)
            text = card_text(model, data, PLOT_FILE if picture else None)
    except Exception as error:
        logger.warning("The model card could not be written in full (%r); the model itself is saved.", error)
        text, picture = _minimal(data), None
    try:
        (folder / CARD_FILE).write_text(text, encoding="utf8")
        if picture is not None:
            (folder / PLOT_FILE).write_text(picture, encoding="utf8")
    except OSError as error:
        logger.warning("The model card could not be written (%s); the model itself is saved.", error)


def drawn(data: BaseModelCardData) -> str | None:
    """The training log as SVG; None where no line has two points, or the extra `report` is not installed."""
    panels = charts.curves(data.training_logs, training_log.STEP, data.best_model_step)
    return charts.svg(panels) if panels and charts.is_installed() else None


def card_text(model: Model, data: BaseModelCardData, plot_file: str | None = None) -> str:
    """The whole card: metadata and text."""
    from huggingface_hub import ModelCard

    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body.body(model, data, plot_file)}"))


def generate_model_card(model: Model) -> str:
    """The card that would be saved with the model now, whole, without the picture of the training log."""
    return card_text(model, model.model_card_data)


def _minimal(data: BaseModelCardData) -> str:
    """What is written where the card cannot be."""
    tags = "\n".join(f"- {tag}" for tag in data.tags)
    return (
        f"---\nlibrary_name: sentence-transformers\ntags:\n{tags}\n---\n\n# {data.kind}\n\n"
        "This is a [sentence-transformers](https://www.SBERT.net) model. Its card could not be written in full.\n"
    )
