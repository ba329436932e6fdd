"""From rows to batches: texts are tokenised many at a time and laid end to end, labels become a tensor."""

from __future__ import annotations

import logging
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.engine import ColumnBatch, TokenSequences
from likewise.model.fingerprint import digest, tokenizers_digest
from likewise.modules.base import padding_of
from likewise.training.data.batch import Batch, by_column
from likewise.training.data.columns import hash_values, is_transformed
from likewise.training.data.plan import DataSetPlan
from likewise.training.data.tokens import Piece, TokenStore, load_tokens, save_tokens

if TYPE_CHECKING:
    from likewise.model.model import Model

logger = logging.getLogger(__name__)

TOKENISED_ROWS = 10_000  # at a time, where all are tokenised ahead


def collate(
    model: Model,
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
        paddings = tuple(padding_of(model[0], route) for route in _routes(plan))
        columns = ColumnBatch(tokens.pack(), len(plan.texts), ids, plan.routes, paddings)
    else:
        columns = [
            model.padded_inputs(list(values[text]), prompt or None, route)
            for text, prompt, route in zip(plan.texts, plan.prompts, _routes(plan), strict=True)
        ]
    batch = Batch({"columns": columns, "dataset_name": values.get("dataset_name", [plan.name])[0]})
    if plan.uses_label:
        label = label_tensor(values[str(plan.label)])
        batch["label"] = label.long() if plan.has_classes else label
    return batch


def tokenise(model: Model, plan: DataSetPlan, values: Mapping[str, Sequence[Any]]) -> TokenSequences:
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
        dataset: The data set, or a stream's rows.
        plan: What its columns are.
        model: Turns texts into tokens.
        keep_tokens: Whether token ids are kept for the next epoch.
        collator: Makes a batch of rows in place of `collate`, as the reference's data collators do.
        token_cache_dir: Where token ids are kept for the next run; None for nowhere.
        by_name: Whether batches have `{column}_input_ids` and so on, for methods that are written for the reference.
    """

    def __init__(
        self,
        dataset: Any,
        plan: DataSetPlan,
        model: Model,
        keep_tokens: bool,
        collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
        token_cache_dir: str | None = None,
        by_name: bool = False,
    ) -> None:
        from datasets import Dataset

        self.dataset = dataset
        self.plan = plan
        self.model = model
        self.collator = collator
        self.by_name = by_name
        self.is_made_anew = isinstance(dataset, Dataset) and is_transformed(dataset)
        self.store: TokenStore | None = None
        self._reported_full = False
        keeps = keep_tokens and model.takes_tokens and collator is None and not self.is_made_anew
        if keeps and token_cache_dir is not None:
            self.store = self._cached_tokens(Path(token_cache_dir))
        elif keeps:
            self.store = TokenStore(len(dataset), len(plan.texts))
        self._others = [*([str(plan.label)] if plan.uses_label else []), *plan.ids]
        if plan.name and "dataset_name" in (getattr(dataset, "column_names", None) or ()):
            self._others.append("dataset_name")
        self._without_texts = dataset.select_columns(self._others) if self.store is not None else None

    def __call__(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows."""
        batch = self._batch(rows)
        return by_column(batch, self.plan.texts) if self.by_name and self.collator is None else batch

    def _batch(self, rows: Sequence[int]) -> Batch:
        if self.store is None:
            with seeded(rows) if self.is_made_anew else nullcontext():
                values = self.dataset[rows]
            return collate(self.model, self.plan, values) if self.collator is None else self._collated(values)
        wanted = np.asarray(rows)
        missing = self.store.missing(wanted)
        if len(missing) and self.store.is_full:
            self._report_full()
            return collate(self.model, self.plan, self.dataset[rows])
        if len(missing):
            self.store.add(missing, tokenise(self.model, self.plan, self.dataset[missing.tolist()]))
        others = self._without_texts[rows] if self._others and self._without_texts is not None else {}
        return collate(self.model, self.plan, others, self.store.get(wanted))

    def _report_full(self) -> None:
        if not self._reported_full:
            self._reported_full = True
            logger.warning(
                "Memory holds the token ids of a part of the training data only; the other texts are tokenised again in each "
                "epoch. Set `token_cache_dir` to keep all of them in a folder, which takes no memory."
            )

    def _cached_tokens(self, folder: Path) -> TokenStore:
        """The token ids of all rows, from a folder if an earlier run left one, else tokenised now and written."""
        path = folder / self._fingerprint()
        if not path.exists():
            save_tokens(path, len(self.dataset), len(self.plan.texts), self._pieces())
        return load_tokens(path)

    def _pieces(self) -> Iterator[Piece]:
        """The token ids of all rows, so many rows at a time."""
        texts = self.dataset.select_columns(list(self.plan.texts))
        for start in range(0, len(texts), TOKENISED_ROWS):
            rows = np.arange(start, min(start + TOKENISED_ROWS, len(texts)))
            yield rows, tokenise(self.model, self.plan, texts[start : start + TOKENISED_ROWS])

    def _fingerprint(self) -> str:
        """What token ids depend on: the rows, the columns, their prompts and routes, the tokenizers and their limits."""
        plan = self.plan
        return digest(
            self.dataset._fingerprint, plan.texts, plan.prompts, _routes(plan), tokenizers_digest(self.model)
        )

    def _collated(self, values: Mapping[str, Sequence[Any]]) -> Batch:
        """What the user's collator makes of the rows, with all their columns; it decides."""
        assert self.collator is not None
        named = {"dataset_name": self.plan.name} if self.plan.name else {}
        rows = [named | dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        made = self.collator(rows)
        if not isinstance(made, Mapping):
            raise TypeError(
                f"`data_collator` returned a {type(made).__name__}, but should return a dict: '{{column}}_input_ids' and so "
                "on for each column, and 'label'."
            )
        batch = Batch(made) if type(made) is dict else made
        if named and isinstance(batch, MutableMapping):
            batch.setdefault("dataset_name", self.plan.name)
        whole: Batch = batch  # type: ignore[assignment]
        return whole


@contextmanager
def seeded(rows: Sequence[int]) -> Iterator[None]:
    """Within this context, the global random numbers of Python, numpy and torch's CPU depend on the rows alone.

    A transform that draws from them so gives the same in a run that was resumed as in one that never stopped.
    """
    seed = zlib.crc32(np.asarray(rows, np.int64).tobytes())
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            # Not `torch.manual_seed`, which seeds every device too: the model may be drawing dropout there at this moment.
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


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
