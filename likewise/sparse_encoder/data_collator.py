"""SparseEncoderDataCollator: which columns are labels, and how rows become a batch for those who change that."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.data.data_collator import SentenceTransformerDataCollator

__all__ = ["SparseEncoderDataCollator"]


@dataclass
class SparseEncoderDataCollator(SentenceTransformerDataCollator):
    __doc__ = SentenceTransformerDataCollator.__doc__
