"""From rows to batches: texts are tokenised many at a time and laid end to end, labels become a tensor."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.engine import ColumnBatch, TokenSequences
from likewise.training.data.columns import LABEL_COLUMNS, hash_values, is_transformed
from likewise.training.data.plan import DataSetPlan, prompt_of
from likewise.training.data.tokens import TokenStore, load_tokens, save_tokens

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

TOKENISED_ROWS = 10_000  # at a time, where all are tokenised ahead
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
            model.padded_inputs(list(values[text]), prompt or None, route)
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
        dataset: The data set, or a stream's rows.
        plan: What its columns are.
        model: Turns texts into tokens.
        keep_tokens: Whether token ids are kept for the next epoch.
        collator: Makes a batch of rows in place of `collate`, as the reference's data collators do.
        token_cache_dir: Where token ids are kept for the next run; None for nowhere.
    """

    def __init__(
        self,
        dataset: Any,
        plan: DataSetPlan,
        model: SentenceTransformer,
        keep_tokens: bool,
        collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
        token_cache_dir: str | None = None,
    ) -> None:
        from datasets import Dataset

        self.dataset = dataset
        self.plan = plan
        self.model = model
        self.collator = collator
        self.is_made_anew = isinstance(dataset, Dataset) and is_transformed(dataset)
        self.store: TokenStore | None = None
        keeps = keep_tokens and model.takes_tokens and collator is None and not self.is_made_anew
        if keeps and token_cache_dir is not None:
            self.store = self._cached_tokens(Path(token_cache_dir))
        elif keeps:
            self.store = TokenStore(len(dataset), len(plan.texts))
        self._others = [*([str(plan.label)] if plan.uses_label else []), *plan.ids]
        self._without_texts = dataset.select_columns(self._others) if self.store is not None else None

    def __call__(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows."""
        if self.store is None:
            with seeded(rows) if self.is_made_anew else nullcontext():
                values = self.dataset[rows]
            return collate(self.model, self.plan, values) if self.collator is None else self._collated(values)
        wanted = np.asarray(rows)
        missing = self.store.missing(wanted)
        if len(missing):
            self.store.add(missing, tokenise(self.model, self.plan, self.dataset[missing.tolist()]))
        others = self._without_texts[rows] if self._others and self._without_texts is not None else {}
        return collate(self.model, self.plan, others, self.store.get(wanted))

    def _cached_tokens(self, folder: Path) -> TokenStore:
        """The token ids of all rows, from a file if an earlier run left one, else tokenised now and written."""
        path = folder / f"{self._fingerprint()}.npz"
        if path.exists():
            return load_tokens(path)
        store = TokenStore(len(self.dataset), len(self.plan.texts))
        texts = self.dataset.select_columns(list(self.plan.texts))
        for start in range(0, len(texts), TOKENISED_ROWS):
            rows = np.arange(start, min(start + TOKENISED_ROWS, len(texts)))
            store.add(rows, tokenise(self.model, self.plan, texts[start : start + TOKENISED_ROWS]))
        save_tokens(store, path)
        return store

    def _fingerprint(self) -> str:
        """What token ids depend on: the rows, the columns, the prompts, the tokenizer and its settings."""
        first: Any = self.model[0]
        backend = getattr(first.tokenizer, "backend_tokenizer", None)
        tokenizer = repr(first.tokenizer) if backend is None else backend.to_str()
        settings: list[Any] = [self.dataset._fingerprint, self.plan.texts, self.plan.prompts, tokenizer]
        settings += [self.model.max_seq_length, getattr(first, "do_lower_case", None)]
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:32]

    def _collated(self, values: Mapping[str, Sequence[Any]]) -> Batch:
        """The batch that the user's collator makes: `{column}_{key}` for each column's features, and `label`."""
        assert self.collator is not None
        names = [*self.plan.texts, *([self.plan.label] if self.plan.label else [])]
        named = {"dataset_name": self.plan.name} if self.plan.name else {}
        rows = [
            dict(zip(names, row, strict=True)) | named
            for row in zip(*(values[name] for name in names), strict=True)
        ]
        made = self.collator(rows)
        columns = []
        for text in self.plan.texts:
            # The longest column name that a key begins with is its column: `a_b_input_ids` is not of column `a`.
            others = [name for name in self.plan.texts if name.startswith(f"{text}_")]
            columns.append(
                {
                    key.removeprefix(f"{text}_"): value
                    for key, value in made.items()
                    if key.startswith(f"{text}_") and not any(key.startswith(f"{name}_") for name in others)
                }
            )
        if not all(columns):
            raise ValueError(
                f"`data_collator` returned {', '.join(map(repr, made))}, but no features of every column "
                f"({', '.join(map(repr, self.plan.texts))}). Name them '{self.plan.texts[0]}_input_ids' and so on."
            )
        batch: Batch = {"columns": columns, "dataset_name": self.plan.name}
        return batch | ({"label": made["label"]} if self.plan.uses_label and "label" in made else {})


@contextmanager
def seeded(rows: Sequence[int]) -> Iterator[None]:
    """Within this context, global random numbers depend on the rows alone.

    A transform that draws from them so gives the same in a run that was resumed as in one that never stopped.
    """
    seed = zlib.crc32(np.asarray(rows, np.int64).tobytes())
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
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
