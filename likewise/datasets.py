"""Data sets and data loaders of the older kind, under the reference's path."""

from likewise.legacy.sentences_dataset import (
    NoDuplicatesDataLoader,
    ParallelSentencesDataset,
    SentenceLabelDataset,
    SentencesDataset,
)
from likewise.losses.denoising_auto_encoder import DenoisingAutoEncoderDataset

__all__ = [
    "DenoisingAutoEncoderDataset",
    "NoDuplicatesDataLoader",
    "ParallelSentencesDataset",
    "SentenceLabelDataset",
    "SentencesDataset",
]

__path__: list[str] = []  # for files of older releases: likewise.compat
