"""The constructor's and predict's arguments under the names that older releases of the reference gave them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from likewise.cross_encoder.activations import Activation

logger = logging.getLogger(__name__)

# Names of arguments in older releases of the reference, and what they are called now.
OLDER_ARGUMENTS = {
    "model_name": "model_name_or_path",
    "automodel_args": "model_kwargs",
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "tokenizer_kwargs": "processor_kwargs",
    "config_args": "config_kwargs",
    "cache_dir": "cache_folder",
    "default_activation_function": "activation_fn",
    "default_activation_fn": "activation_fn",
}
OLDER_PREDICT_ARGUMENTS = {"sentences": "inputs", "activation_fct": "activation_fn"}


def renamed(given: Mapping[str, Any], older: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments, with older names put in today's places.

    Raises:
        TypeError: A name is not known, or given in both spellings.
    """
    arguments = {
        name: value
        for name, value in given.items()
        if name not in ("self", "older", "__class__") and value is not None
    }
    for name, value in older.items():
        if name == "classifier_dropout":
            if value is not None:
                arguments["config_kwargs"] = {**arguments.get("config_kwargs", {}), name: value}
        elif name not in OLDER_ARGUMENTS:
            raise TypeError(f"CrossEncoder() takes no argument `{name}`. Check the spelling, or drop it.")
        elif value is not None:
            if OLDER_ARGUMENTS[name] in arguments:
                raise TypeError(
                    f"CrossEncoder() got both `{name}` and `{OLDER_ARGUMENTS[name]}`, which are the same. Drop one."
                )
            arguments[OLDER_ARGUMENTS[name]] = value
    return arguments


def older_predict_arguments(
    inputs: Any, activation_fn: Activation | None, older: dict[str, Any]
) -> tuple[Any, Activation | None]:
    """`inputs` and `activation_fn`, by whichever name they were given.

    Raises:
        TypeError: A name is not known.
    """
    unknown = set(older) - set(OLDER_PREDICT_ARGUMENTS) - {"num_workers"}
    if unknown:
        raise TypeError(
            f"predict() takes no argument {', '.join(f'`{name}`' for name in sorted(unknown))}. Check the spelling, or drop it."
        )
    if "num_workers" in older:
        logger.warning("`num_workers` has no effect: pairs are tokenised in a thread ahead of the model.")
    return older.get("sentences", inputs), older.get("activation_fct", activation_fn)
