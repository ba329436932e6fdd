"""Parameters in groups for the optimiser: by `learning_rate_mapping`, and by whether their weights decay."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def parameter_groups(
    named: Mapping[str, nn.Parameter],
    decayed: Collection[str],
    rates: Mapping[str, float],
    learning_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """One group for each learning rate and weight decay.

    Args:
        named: The parameters that are trained.
        decayed: The names of those of the model whose weights decay; of a loss's own, matrices do.
        rates: Learning rates by a regular expression; the first that is found in a name counts.
        learning_rate: That of all others.
        weight_decay: Of those that decay.

    Raises:
        ValueError: An expression is found in no name.
    """
    for pattern in rates:
        if not any(re.search(pattern, name) for name in named):
            raise ValueError(
                f"`learning_rate_mapping` has {pattern!r}, which matches no parameter. Their names look like "
                f"{', '.join(map(repr, list(named)[:2]))}."
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        rate = next((rates[pattern] for pattern in rates if re.search(pattern, name)), learning_rate)
        decays = name in decayed or (not name.startswith("model.") and parameter.dim() > 1)
        groups.setdefault((rate, weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
