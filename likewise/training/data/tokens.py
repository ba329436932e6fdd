"""The token ids of a data set's texts, each tokenised once: kept in memory for a run, or by `datasets` in a file for many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.engine import TokenSequences

logger = logging.getLogger(__name__)

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
Tokenise = Callable[[Mapping[str, Sequence[Any]]], TokenSequences]
"""The texts of some rows by column; their sequences, column by column."""

TOKENISED_ROWS = 10_000  # at a time, where all are tokenised ahead


class TokenStore:
    """Token ids of C text columns of N rows, tokenised as rows are asked for and kept in memory for the next epoch.

    Args:
        dataset: N rows of C texts.
        tokenise: Gives the token ids of some rows.
        most_tokens: No row is added once so many are kept, of 4 bytes each (8 where tokens have types); and none at all where
            the first rows that are asked for let expect more of the whole, since nearly every batch would have others then.
    """

    def __init__(self, dataset: Any, tokenise: Tokenise, most_tokens: int) -> None:
        self._dataset, self._tokenise, self._most_tokens = dataset, tokenise, most_tokens
        self._shape = len(dataset.column_names), len(dataset)
        # Where each text's tokens end in the buffer; 0 for texts that are not there, so that the buffer begins with a gap.
        self._end: IntArray = np.zeros(0, np.int64)
        self._length: IntArray = np.zeros(0, np.int32)
        self._prompt_length: IntArray | None = None
        self._ids: IntArray = np.empty(2**16, np.int32)
        self._types: IntArray | None = None
        self._filled = 1
        self._reported_full = False

    def __call__(self, rows: IntArray) -> TokenSequences:
        """The C * len(rows) sequences of these rows, column by column."""
        missing = np.unique(rows[self._end[0, rows] == 0] if self._end.size else rows)
        if len(missing) and self._filled > self._most_tokens:
            if not self._reported_full:
                self._reported_full = True
                logger.warning(
                    "Memory does not hold the token ids of all training data (`max_kept_tokens`): texts are tokenised again in each "
                    "epoch. Set `token_cache_dir` to keep them in a folder, which takes no memory."
                )
            return self._tokenise(self._dataset[rows.tolist()])
        if len(missing):
            sequences = self._tokenise(self._dataset[missing.tolist()])
            if not self._end.size:
                if len(sequences.input_ids) * self._shape[1] > self._most_tokens * len(missing):
                    self._most_tokens = 0
                    return self(rows)
                self._end, self._length = np.zeros(self._shape, np.int64), np.zeros(self._shape, np.int32)
            self._add(missing, sequences)
        return self._get(rows)

    def _add(self, rows: IntArray, sequences: TokenSequences) -> None:
        start, added = self._filled, len(sequences.input_ids)
        while start + added > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[start : start + added] = sequences.input_ids
        if sequences.token_type_ids is not None or self._types is not None:
            types = np.zeros_like(self._ids) if self._types is None else self._types
            self._types = np.concatenate([types, np.zeros(len(self._ids) - len(types), np.int32)])
            if sequences.token_type_ids is not None:
                self._types[start : start + added] = sequences.token_type_ids
        shape = len(self._end), len(rows)
        self._end[:, rows] = (start + sequences.offsets[1:]).reshape(shape)
        self._length[:, rows] = sequences.lengths.reshape(shape)
        if sequences.prompt_lengths is not None:
            if self._prompt_length is None:
                self._prompt_length = np.zeros_like(self._length)
            self._prompt_length[:, rows] = sequences.prompt_lengths.reshape(shape)
        self._filled += added

    def _get(self, rows: IntArray) -> TokenSequences:
        lengths = self._length[:, rows].ravel()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        starts = self._end[:, rows].ravel() - lengths
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return TokenSequences(
            self._ids[source],
            offsets,
            None if self._types is None else self._types[source],
            None if self._prompt_length is None else self._prompt_length[:, rows].ravel().astype(np.int64),
        )


def mapped_tokens(dataset: Any, tokenise: Tokenise, path: Path) -> Callable[[IntArray], TokenSequences]:
    """As a TokenStore, of a file that `datasets` maps into memory, which all processes share.

    The file, whose name should tell what the token ids depend on, appears only when it is complete; one that is there is taken for
    what would be written.
    """
    from datasets import Features, List, Value

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = range(len(dataset.column_names))
    kinds = {"ids": List(Value("int32")), "types": List(Value("int8")), "prompt": Value("int32")}
    table = dataset.with_format(None).map(
        lambda values: _table(tokenise(values), len(columns)),
        batched=True,
        batch_size=TOKENISED_ROWS,
        writer_batch_size=TOKENISED_ROWS,
        remove_columns=dataset.column_names,
        features=Features({f"{kind}_{column}": kinds[kind] for column in columns for kind in kinds}),
        cache_file_name=str(path),
        load_from_cache_file=True,
        new_fingerprint=path.stem,  # or `datasets` would pickle the model to come to one
        desc="Tokenising",
    )
    said = [name for name in table.column_names if table.data.column(name).null_count < len(table)]
    table = table.select_columns(said).with_format("arrow")

    def tokens_of(rows: IntArray) -> TokenSequences:
        found = table[rows.tolist()]
        return TokenSequences.concatenate([_column(found, column) for column in columns])

    return tokens_of


def _table(sequences: TokenSequences, num_columns: int) -> Any:
    """The sequences of some rows as an Arrow table, of which a column is empty where nothing is to be said."""
    import pyarrow as pa

    num_rows, arrays = len(sequences) // num_columns, {}
    for column in range(num_columns):
        rows = slice(column * num_rows, (column + 1) * num_rows)
        offsets = sequences.offsets[rows.start : rows.stop + 1]
        tokens = slice(offsets[0], offsets[-1])
        places = pa.array((offsets - offsets[0]).astype(np.int32))
        arrays[f"ids_{column}"] = pa.ListArray.from_arrays(places, pa.array(sequences.input_ids[tokens]))
        types, prompts = sequences.token_type_ids, sequences.prompt_lengths
        arrays[f"types_{column}"] = pa.nulls(num_rows, pa.list_(pa.int8()))
        arrays[f"prompt_{column}"] = pa.nulls(num_rows, pa.int32())
        if types is not None:
            of_texts = pa.array(types[tokens].astype(np.int8))
            arrays[f"types_{column}"] = pa.ListArray.from_arrays(places, of_texts)
        if prompts is not None:
            arrays[f"prompt_{column}"] = pa.array(prompts[rows].astype(np.int32))
    return pa.table(arrays)


def _column(table: Any, column: int) -> TokenSequences:
    """The sequences of a column in such a table; what is said of some rows only is 0 for the others."""
    ids = table[f"ids_{column}"].combine_chunks()
    offsets = ids.offsets.to_numpy().astype(np.int64) - ids.offsets[0].as_py()
    kinds = lengths = None
    if f"types_{column}" in table.column_names:
        types = table[f"types_{column}"].combine_chunks()
        kinds = np.zeros(offsets[-1], np.int32)
        known = types.is_valid().to_numpy(zero_copy_only=False)
        kinds[np.repeat(known, np.diff(offsets))] = types.flatten().to_numpy()
    if f"prompt_{column}" in table.column_names:
        lengths = table[f"prompt_{column}"].combine_chunks().fill_null(0).to_numpy().astype(np.int64)
    return TokenSequences(ids.flatten().to_numpy(), offsets, kinds, lengths)
