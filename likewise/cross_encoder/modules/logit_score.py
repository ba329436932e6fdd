"""LogitScore: a language model's logits of "yes" and "no" as the score of a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likewise.modules.base import Features, Module


class LogitScore(Module):
    """score = logit[true] - logit[false], of the token that would come after the pair.

    Args:
        true_token_id: The token that says that the document is relevant, e.g. that of "yes".
        false_token_id: The token that says the contrary; None for the first logit alone.
        module_input_name: The feature that is read, (N, L, V); its last position counts.
    """

    config_keys = ("true_token_id", "false_token_id", "module_input_name")

    def __init__(
        self,
        true_token_id: int,
        false_token_id: int | None = None,
        module_input_name: str = "causal_logits",
    ) -> None:
        super().__init__()
        self.true_token_id = true_token_id
        self.false_token_id = false_token_id
        self.module_input_name = module_input_name

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `scores`, (N, 1)."""
        logits = features[self.module_input_name][:, -1]
        scores = logits[:, self.true_token_id]
        if self.false_token_id is not None:
            scores = scores - logits[:, self.false_token_id]
        features["scores"] = scores.unsqueeze(1)
        return features

    def save(self, output_path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the settings to a folder."""
        self.save_config(output_path)
