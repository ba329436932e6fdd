"""From rows to batches: texts are tokenised many at a time and laid end to end, labels become a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.packing import ColumnBatch, TokenSequences
from likewise.training.columns import LABEL_COLUMNS, hash_values, is_transformed
from likewise.training.plan import DataSetPlan, prompt_of
from likewise.training.tokens import TokenStore

if TYPE_CHECKING:
    from datasets import Dataset

    from likewise.model.sentence_transformer import SentenceTransformer

Batch = dict[str, Any]
"""`columns` (a ColumnBatch, or one dict of padded features a column), `label` if there is one, and `dataset_name`."""


def collate(
    model: SentenceTransformer,
    plan: DataSetPlan,
    values: Mapping[str, Sequence[Any]],
    tokens: TokenSequences | None = None,
) -> Batch:
    """A batch of rows.

    Args:
        model: Turns texts into tokens.
        plan: What the columns are.
        values: The values of each column: labels and ids, and the texts if there are no tokens.
        tokens: The token ids, column by column.
    """
    columns: Any
    if model.takes_tokens:
        tokens = tokenise(model, plan, values) if tokens is None else tokens
        ids = id_tensor([values[column] for column in plan.ids]) if plan.ids else None
        columns = ColumnBatch(tokens.pack(), len(plan.texts), ids, plan.routes)
    else:
        columns = [
            model.tokenize(list(values[text]), prompt or None, route)
            for text, prompt, route in zip(plan.texts, plan.prompts, _routes(plan), strict=True)
        ]
    batch = {"columns": columns, "dataset_name": plan.name}
    if plan.uses_label:
        batch["label"] = label_tensor(values[str(plan.label)])
    return batch


def tokenise(
    model: SentenceTransformer, plan: DataSetPlan, values: Mapping[str, Sequence[Any]]
) -> TokenSequences:
    """The token ids of all text columns, one column after the other; at once if they have the same prompt and route."""
    ways = list(zip(plan.prompts, _routes(plan), strict=True))
    if len(set(ways)) == 1:
        texts = [text for column in plan.texts for text in values[column]]
        return model.token_sequences(texts, ways[0][0] or None, ways[0][1])
    return TokenSequences.concatenate(
        [
            model.token_sequences(values[column], prompt or None, route)
            for column, (prompt, route) in zip(plan.texts, ways, strict=True)
        ]
    )


def _routes(plan: DataSetPlan) -> tuple[str | None, ...]:
    return plan.routes or (None,) * len(plan.texts)


def label_tensor(labels: Sequence[Any]) -> Tensor:
    """(B,), or (B, ...) where each label is a list: whole numbers as int64, others as float32."""
    if isinstance(labels[0], Tensor):
        return torch.stack(list(labels))
    array = np.asarray(labels)
    return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)


def id_tensor(columns: Sequence[Sequence[Any]]) -> Tensor:
    """(K, B) int64: equal for equal values of a column."""
    import pyarrow as pa

    return torch.from_numpy(np.stack([hash_values(pa.array(values)) for values in columns]))


class DataSetReader:
    """Reads rows of a data set as a batch.

    Args:
        dataset: The data set.
        plan: What its columns are.
        model: Turns texts into tokens.
        keep_tokens: Whether token ids are kept for the next epoch.
    """

    def __init__(
        self, dataset: Dataset, plan: DataSetPlan, model: SentenceTransformer, keep_tokens: bool
    ) -> None:
        self.dataset = dataset
        self.plan = plan
        self.model = model
        self.store: TokenStore | None = None
        if keep_tokens and model.takes_tokens and not is_transformed(dataset):
            self.store = TokenStore(len(dataset), len(plan.texts))
        self._others = [*([str(plan.label)] if plan.uses_label else []), *plan.ids]
        self._without_texts = dataset.select_columns(self._others) if self.store is not None else None

    def __call__(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows."""
        if self.store is None:
            return collate(self.model, self.plan, self.dataset[rows])
        wanted = np.asarray(rows)
        missing = self.store.missing(wanted)
        if len(missing):
            self.store.add(missing, tokenise(self.model, self.plan, self.dataset[missing.tolist()]))
        others = self._without_texts[rows] if self._others and self._without_texts is not None else {}
        return collate(self.model, self.plan, others, self.store.get(wanted))


class BatchReader(torch.utils.data.Dataset[Any]):
    """One or several data sets as torch's DataLoader reads them: row numbers in, a batch out.

    Args:
        readers: A reader for each data set; rows are counted over all of them.
    """

    def __init__(self, readers: Sequence[DataSetReader]) -> None:
        self.readers = readers
        self._ends = np.cumsum([len(reader.dataset) for reader in readers])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        number = int(np.searchsorted(self._ends, rows[0], side="right"))
        first = int(self._ends[number]) - len(self.readers[number].dataset)
        if not all(first <= row < self._ends[number] for row in rows):
            raise ValueError(
                "A batch has rows of several data sets. A multi-dataset batch sampler must yield batches of one each."
            )
        return self.readers[number]([row - first for row in rows])


class SentenceTransformerDataCollator:
    """Collates rows as the reference does, to `{column}_input_ids`, `{column}_attention_mask`, ..., and `label`.

    The trainer needs none of this; it is for data loaders of one's own.

    Args:
        preprocess_fn: Turns texts into padded features, as `model.tokenize` does; it may take `prompt`.
        valid_label_columns: Names that a label column may have.
        prompts: As in the training arguments.
        tokenize_fn: The older name of `preprocess_fn`.
    """

    def __init__(
        self,
        preprocess_fn: Any = None,
        valid_label_columns: Sequence[str] = LABEL_COLUMNS,
        prompts: Any = None,
        tokenize_fn: Any = None,
    ) -> None:
        self.preprocess_fn = preprocess_fn or tokenize_fn
        self.valid_label_columns = list(valid_label_columns)
        self.prompts = prompts

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch of these rows."""
        columns = list(features[0])
        batch: dict[str, Any] = {}
        if "dataset_name" in columns:
            columns.remove("dataset_name")
            batch["dataset_name"] = features[0]["dataset_name"]
        label = next((column for column in self.valid_label_columns if column in columns), None)
        if label is not None:
            columns.remove(label)
            batch["label"] = label_tensor([row[label] for row in features])
        for column in columns:
            prompt = prompt_of(self.prompts, batch.get("dataset_name", ""), column)
            texts = [row[column] for row in features]
            tokenised = self.preprocess_fn(texts, prompt=prompt) if prompt else self.preprocess_fn(texts)
            batch |= {f"{column}_{key}": value for key, value in tokenised.items()}
        return batch
