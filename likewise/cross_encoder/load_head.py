"""Transformers models with the head that a CrossEncoder needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from likewise.modules.pretrained import load_model, read_pretrained

logger = logging.getLogger(__name__)


def load_with_head(task: str, name_or_path: str, config: Any, model_args: Mapping[str, Any]) -> nn.Module:
    """The model of this configuration with the head that the task needs.

    Raises:
        ValueError: The weights are damaged, or not those of this configuration.
        RuntimeError: The head has another number of labels.
    """
    if task == "feature-extraction":
        return load_model(name_or_path, config, model_args)
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForCausalLM if task == "text-generation" else AutoModelForSequenceClassification
    try:
        model, loading = read_pretrained(auto, name_or_path, config, model_args)
    except ValueError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise RuntimeError(
            f"The weights in {name_or_path} are of another shape than config.json and `num_labels` say ({config.num_labels} "
            'labels): drop `num_labels`, or pass `model_kwargs={"ignore_mismatched_sizes": True}` for a new head.'
        ) from error
    missing = sorted(loading["missing_keys"])
    in_encoder = [
        key for key in missing if key.startswith(f"{model.base_model_prefix}.") and "pooler" not in key
    ]
    if in_encoder or (task == "text-generation" and missing):
        wrong = (in_encoder or missing)[0]
        raise ValueError(
            f"The weights in {name_or_path} do not fit its config.json: {len(missing)} are missing, e.g. {wrong}. Copy or "
            "download the folder again."
        )
    if missing:
        logger.warning(
            "%s has no weights for the head (%s): it starts at random. Train it before you trust its scores.",
            name_or_path,
            ", ".join(missing),
        )
    loaded: nn.Module = model
    return loaded
