"""FeatureBatch: a column of padded features, or of images, that can be embedded in chunks of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureBatch:
    """N rows of features, for a model that takes no packed tokens; with what a TokenBatch has to be cut into chunks.

    Attributes:
        features: What the model's first module takes.
        module: That module. If it has `rows(features, start, stop)` it cuts features by itself; else every tensor is cut, and
            has a row for each input. If it has `row_tokens(features)` it says how many tokens a row counts as.
    """

    features: Mapping[str, Any]
    module: Any

    @property
    def longest(self) -> int:
        """The tokens of a row, padding counted in; 1 where there are none."""
        if hasattr(self.module, "row_tokens"):
            return int(self.module.row_tokens(self.features))
        return int(self.features["input_ids"].shape[-1]) if "input_ids" in self.features else 1

    @property
    def num_tokens(self) -> int:
        """Those of all rows."""
        return len(self) * self.longest

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self._first.device

    def chunks(self, num_tokens: int) -> list[FeatureBatch]:
        """Parts of at most `num_tokens` tokens, padding counted in, and at least one row; every tensor must have N rows."""
        size = max(1, num_tokens // self.longest)
        return [
            FeatureBatch(self._rows(start, min(start + size, len(self))), self.module)
            for start in range(0, len(self), size)
        ]

    def restore(self, per_row: Tensor) -> Tensor:
        """The same: rows stay in their order."""
        return per_row

    def __len__(self) -> int:
        return len(self.features.get("image_text_info", self._first))

    @property
    def _first(self) -> Tensor:
        return next(value for value in self.features.values() if isinstance(value, Tensor) and value.ndim)

    def _rows(self, start: int, stop: int) -> Mapping[str, Any]:
        if hasattr(self.module, "rows"):
            rows: Mapping[str, Any] = self.module.rows(self.features, start, stop)
            return rows
        cut = {}
        for name, value in self.features.items():
            rowwise = isinstance(value, Tensor) and value.ndim > 0
            if rowwise and len(value) != len(self):
                raise ValueError(
                    f"The features of {type(self.module).__name__} cannot be cut into chunks: {name!r} has {len(value)} rows, "
                    f"others {len(self)}. Drop `micro_batch_tokens`, and take the loss without `Cached` in its name; or give "
                    "the module a method `rows(features, start, stop)`."
                )
            cut[name] = value[start:stop] if rowwise else value
        return cut
