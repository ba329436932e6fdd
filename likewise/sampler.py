"""The samplers, under the reference's path."""

from likewise.training.run.arguments import BatchSamplers, MultiDatasetBatchSamplers
from likewise.training.samplers.default import DefaultBatchSampler, GroupByLabelBatchSampler
from likewise.training.samplers.multi_dataset import (
    MultiDatasetDefaultBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from likewise.training.samplers.no_duplicates import NoDuplicatesBatchSampler

__all__ = [
    "BatchSamplers",
    "DefaultBatchSampler",
    "GroupByLabelBatchSampler",
    "MultiDatasetBatchSamplers",
    "MultiDatasetDefaultBatchSampler",
    "NoDuplicatesBatchSampler",
    "ProportionalBatchSampler",
    "RoundRobinBatchSampler",
]
