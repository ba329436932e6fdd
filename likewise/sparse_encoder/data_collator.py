"""SparseEncoderDataCollator: which columns are labels, and how rows become a batch for those who change that."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.data.data_collator import SentenceTransformerDataCollator

__all__ = ["SparseEncoderDataCollator"]


@dataclass
class SparseEncoderDataCollator(SentenceTransformerDataCollator):
    """Which columns are labels, and what becomes of rows for those who change that: as for dense models."""

    __doc__ = f"{__doc__}\n\n{SentenceTransformerDataCollator.__doc__}"
