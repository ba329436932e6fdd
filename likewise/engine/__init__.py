"""Sequences end to end: token batches, and attention that never pads."""

from likewise.engine.column_batch import ColumnBatch
from likewise.engine.token_batch import TokenBatch
from likewise.engine.token_sequences import TokenSequences

__all__ = ["ColumnBatch", "TokenBatch", "TokenSequences"]
