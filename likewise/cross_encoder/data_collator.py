"""CrossEncoderDataCollator: which columns are labels, and the columns of a batch for those who change how it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likewise.cross_encoder.family import key_of, labels_of
from likewise.training.data.batch import Batch
from likewise.training.data.columns import label_column
from likewise.training.data.data_collator import BaseDataCollator

__all__ = ["CrossEncoderDataCollator"]


@dataclass
class CrossEncoderDataCollator(BaseDataCollator):
    """Makes a batch of rows: each column's values as they are, and `label`. The loss reads them.

    The trainer has a faster way of its own, which tokenises ahead of the model. Given one of these it takes label columns and
    prompts from it, and no more, unless it is of a subclass: then it makes the batches.
    """

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Rows -> a batch."""
        if not features:
            return {}
        names = [name for name in features[0] if name != "dataset_name"]
        data_set = str(features[0].get("dataset_name", ""))
        batch = Batch({"dataset_name": data_set} if data_set else {})
        label = label_column(names, self.valid_label_columns)
        if label is not None:
            batch["label"] = labels_of([row[label] for row in features])
            names.remove(label)
        prompt = self.prompts.get(data_set) if isinstance(self.prompts, Mapping) else self.prompts
        if prompt:
            batch[key_of("prompt", names)] = prompt
        route = (self.router_mapping or {}).get(data_set)
        if route:
            batch[key_of("task", names)] = route
        return batch | {name: [row[name] for row in features] for name in names}
