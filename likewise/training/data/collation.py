"""From rows to batches: texts are tokenised many at a time and laid end to end, labels become a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.engine import ColumnBatch, TokenSequences
from likewise.modules.base import padding_of
from likewise.training.data.batch import Batch
from likewise.training.data.columns import hash_values
from likewise.training.data.data_set_plan import DataSetPlan

if TYPE_CHECKING:
    from likewise.model.model import Model


def collate(
    model: Model, plan: DataSetPlan, values: Mapping[str, Sequence[Any]], tokens: TokenSequences | None = None
) -> Batch:
    """A batch of rows, of the values of each column: labels and ids, and the texts if their `tokens` are not kept."""
    import pyarrow as pa

    columns: Any
    if model.takes_tokens:
        tokens = tokenise(model, plan, values) if tokens is None else tokens
        ids = None
        if plan.ids:  # (K, B) int64: equal for equal values of a column
            ids = torch.from_numpy(np.stack([hash_values(pa.array(values[column])) for column in plan.ids]))
        paddings = tuple(padding_of(model[0], route) for route in routes(plan))
        columns = ColumnBatch(tokens.pack(), len(plan.texts), ids, plan.routes, paddings)
    else:
        columns = [
            model.padded_inputs(list(values[text]), prompt or None, route)
            for text, prompt, route in zip(plan.texts, plan.prompts, routes(plan), strict=True)
        ]
    batch = Batch({"columns": columns, "dataset_name": values.get("dataset_name", [plan.name])[0]})
    if plan.label is not None:
        label = label_tensor(values[plan.label])
        batch["label"] = label.long() if plan.has_classes else label
    return batch


def tokenise(model: Model, plan: DataSetPlan, values: Mapping[str, Sequence[Any]]) -> TokenSequences:
    """The token ids of all text columns, one column after the other; at once if they have the same prompt and route."""
    ways = list(zip(plan.prompts, routes(plan), strict=True))
    if len(set(ways)) == 1:
        texts = [text for column in plan.texts for text in values[column]]
        return model.token_sequences(texts, ways[0][0] or None, ways[0][1])
    return TokenSequences.concatenate(
        [
            model.token_sequences(values[column], prompt or None, route)
            for column, (prompt, route) in zip(plan.texts, ways, strict=True)
        ]
    )


def routes(plan: DataSetPlan) -> tuple[str | None, ...]:
    """The route of each text column; None where there is no Router."""
    return plan.routes or (None,) * len(plan.texts)


def label_tensor(labels: Sequence[Any]) -> Tensor:
    """(B,), or (B, ...) where each label is a list: whole numbers as int64, others as float32."""
    if isinstance(labels[0], Tensor):
        return torch.stack(list(labels))
    array = np.asarray(labels)
    return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)
