"""Prompts of training and of inference: saved with the model when asked, and a warning where they differ."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from likewise.training.data.data_set_plan import DataSetPlan

if TYPE_CHECKING:
    from likewise.model.model import Model

logger = logging.getLogger(__name__)


def save_prompts(plans: Sequence[DataSetPlan], model: Model) -> None:
    """Make the training prompts the model's own: the first column's as `query`, that of the others as `document`.

    Refused are no prompts, and several for one name.
    """
    found: dict[str, dict[str, str]] = {"query": {}, "document": {}}
    for plan in plans:
        for place, (column, prompt) in enumerate(zip(plan.texts, plan.prompts, strict=True)):
            found["document" if place else "query"].setdefault(prompt, f"{plan.name} {column}".strip())
    if not any(prompt for prompts in found.values() for prompt in prompts):
        raise ValueError("`save_prompts=True`, but there is no training prompt. Set `prompts`, or drop it.")
    for name, prompts in found.items():
        if len(prompts) > 1:
            (first, where), (second, there) = list(prompts.items())[:2]
            raise ValueError(
                f"`save_prompts=True` cannot save one {name} prompt: it is {first!r} for {where!r}, but {second!r} for "
                f"{there!r}. Set `model.prompts` yourself, and drop `save_prompts`."
            )
        for prompt in prompts:
            model.prompts[name] = prompt


def warn_of_other_prompts(plans: Sequence[DataSetPlan], model: Model) -> None:
    """Warn where a text gets another prompt in training than `encode` would give it."""
    known = {prompt for prompt in model.prompts.values() if prompt}
    for plan in plans:
        for column, prompt in zip(plan.texts, plan.prompts, strict=True):
            if prompt and prompt not in known:
                logger.warning(
                    "Column %r is trained with the prompt %r, which the model does not have for inference. Set "
                    "`save_prompts=True`, or `model.prompts[...]`, so that texts are encoded as they were trained.",
                    column, prompt,
                )  # fmt: skip
                return
    if known and not any(prompt for plan in plans for prompt in plan.prompts):
        logger.warning(
            "The model has prompts (%s), but is trained without. Set `prompts` in the training arguments, so that texts "
            "are trained as they are encoded.",
            ", ".join(f"{name}: {prompt!r}" for name, prompt in model.prompts.items() if prompt),
        )
