"""Reading: the rows of data sets as batches, as torch's DataLoader asks for them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise.engine import TokenSequences
from likewise.model.fingerprint import digest, tokenizers_digest
from likewise.training.data.batch import Batch
from likewise.training.data.collation import routes, tokenise
from likewise.training.data.columns import is_transformed
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Making
from likewise.training.data.tokens import IntArray, TokenStore, mapped_tokens


@dataclass(eq=False)
class DataSetReader:
    """Reads rows of a data set as a batch."""

    dataset: Any  # the data set, or a stream's rows
    plan: DataSetPlan  # what its columns are
    making: Making  # how rows become a batch
    max_kept_tokens: int = 0  # how many token ids memory keeps for the next epoch; 0 for none
    token_cache_dir: str | None = None  # where they are kept for the next run instead; None for nowhere

    def __post_init__(self) -> None:
        from datasets import Dataset

        dataset, plan, making = self.dataset, self.plan, self.making
        self.is_made_anew = isinstance(dataset, Dataset) and is_transformed(dataset)
        self.tokens: Callable[[IntArray], TokenSequences] | None = None
        tokenises = making.family.keeps_tokens and making.model.takes_tokens and making.collator is None
        keeps = self.max_kept_tokens or self.token_cache_dir is not None
        if keeps and tokenises and isinstance(dataset, Dataset) and not self.is_made_anew:
            texts = dataset.select_columns(list(plan.texts))
            if self.token_cache_dir is None:
                self.tokens = TokenStore(texts, self._tokenise, self.max_kept_tokens)
            else:
                file = Path(self.token_cache_dir) / f"{self._fingerprint()}.arrow"
                self.tokens = mapped_tokens(texts, self._tokenise, file)
        self._read = dataset
        if self.tokens is not None:  # texts need not be read; of a table without columns no row can be
            others = [*plan.ids, *([] if plan.label is None else [plan.label])]
            others += ["dataset_name"] if plan.name and "dataset_name" in dataset.column_names else []
            self._read = dataset.select_columns(others) if others else None

    def __call__(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows."""
        with seeded(rows) if self.is_made_anew else nullcontext():
            values = {} if self._read is None else self._read[rows]
        if self.making.collator is not None:
            return self._collated(values)
        tokens = None if self.tokens is None else self.tokens(np.asarray(rows))
        return self.making.family.collate(self.making, self.plan, values, rows, tokens)

    def _tokenise(self, values: Mapping[str, Sequence[Any]]) -> TokenSequences:
        return tokenise(self.making.model, self.plan, values)

    def _fingerprint(self) -> str:
        """What token ids depend on: the rows, the columns, their prompts and routes, the tokenizers and their limits."""
        plan, tokenizers = self.plan, tokenizers_digest(self.making.model)
        return digest(self.dataset._fingerprint, plan.texts, plan.prompts, routes(plan), tokenizers)

    def _collated(self, values: Mapping[str, Sequence[Any]]) -> Batch:
        """What the user's collator makes of the rows, with all their columns; it decides."""
        assert self.making.collator is not None
        named = {"dataset_name": self.plan.name} if self.plan.name else {}
        rows = [named | dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        made = self.making.collator(rows)
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
    """One or several data sets as torch's DataLoader reads them: row numbers, counted over all of them, in; a batch out."""

    def __init__(self, readers: Sequence[DataSetReader]) -> None:
        self.readers = readers
        self._ends = np.cumsum([len(reader.dataset) for reader in readers])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        index = int(np.searchsorted(self._ends, rows[0], side="right"))
        first = int(self._ends[index]) - len(self.readers[index].dataset)
        if not all(first <= row < self._ends[index] for row in rows):
            raise ValueError(
                "A batch has rows of several data sets. A multi-dataset batch sampler must yield batches of one each."
            )
        return self.readers[index]([row - first for row in rows])
