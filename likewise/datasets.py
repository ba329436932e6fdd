"""Data sets and data loaders of the older kind, under the reference's path."""

from likewise.losses.denoising_auto_encoder import DenoisingAutoEncoderDataset
from likewise.training.examples import (
    NoDuplicatesDataLoader,
    ParallelSentencesDataset,
    SentenceLabelDataset,
    SentencesDataset,
)

__all__ = [
    "DenoisingAutoEncoderDataset",
    "NoDuplicatesDataLoader",
    "ParallelSentencesDataset",
    "SentenceLabelDataset",
    "SentencesDataset",
]

__path__: list[str] = []  # for files of older releases: likewise.compat
