"""Callbacks of trainings of sparse models."""

from likewise.sparse_encoder.callbacks.splade_callbacks import (
    SchedulerType,
    SpladeRegularizerWeightSchedulerCallback,
)

__all__ = ["SchedulerType", "SpladeRegularizerWeightSchedulerCallback"]
