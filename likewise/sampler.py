"""The samplers, under the reference's path."""

from torch.utils.data import SubsetRandomSampler

from likewise.training.arguments import BatchSamplers, MultiDatasetBatchSamplers
from likewise.training.multi_dataset_samplers import (
    MultiDatasetDefaultBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)
from likewise.training.no_duplicates import NoDuplicatesBatchSampler
from likewise.training.samplers import DefaultBatchSampler, GroupByLabelBatchSampler

__all__ = [
    "BatchSamplers",
    "DefaultBatchSampler",
    "GroupByLabelBatchSampler",
    "MultiDatasetBatchSamplers",
    "MultiDatasetDefaultBatchSampler",
    "NoDuplicatesBatchSampler",
    "ProportionalBatchSampler",
    "RoundRobinBatchSampler",
    "SubsetRandomSampler",
]
