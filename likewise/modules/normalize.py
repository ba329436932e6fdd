"""Normalize: scale the sentence embedding to length 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.nn.functional import normalize

from likewise.modules.base import Features, Module


class Normalize(Module):
    """Scale a feature to Euclidean length 1.

    Args:
        module_input_name: The feature that is read.
        module_output_name: The feature that is written; None for the one that is read.
    """

    def __init__(
        self, module_input_name: str = "sentence_embedding", module_output_name: str | None = None
    ) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Normalise the named feature along its last dimension."""
        features[self.module_output_name] = normalize(features[self.module_input_name], dim=-1)
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """Nothing, or the names of the features where they are not the default."""
        names = (self.module_input_name, self.module_output_name)
        if names == ("sentence_embedding", "sentence_embedding"):
            return {}
        return dict(zip(("module_input_name", "module_output_name"), names, strict=True))

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write config.json where there is something to say. An empty or missing folder is the plain case: git drops such."""
        if self.get_config_dict():
            super().write_folder(folder, safe_serialization)
