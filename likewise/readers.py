"""Readers of the older kind, under the reference's path."""

from likewise.legacy.readers import (
    InputExample,
    LabelSentenceReader,
    NLIDataReader,
    PairedFilesReader,
    STSBenchmarkDataReader,
    STSDataReader,
    TripletReader,
)

__all__ = [
    "InputExample",
    "LabelSentenceReader",
    "NLIDataReader",
    "PairedFilesReader",
    "STSBenchmarkDataReader",
    "STSDataReader",
    "TripletReader",
]

__path__: list[str] = []  # for files of older releases: likewise.compat
