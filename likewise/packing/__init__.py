"""Sequences end to end: token batches, and attention that never pads."""

from likewise.packing.column_batch import ColumnBatch
from likewise.packing.token_batch import TokenBatch
from likewise.packing.token_sequences import TokenSequences

__all__ = ["ColumnBatch", "TokenBatch", "TokenSequences"]
