"""SentenceTransformerTrainingArguments: everything about a training run that is neither model, data nor loss."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments
from transformers.training_args import ParallelMode
from transformers.utils import ExplicitEnum  # type: ignore[attr-defined]

logger = logging.getLogger(__name__)


class BatchSamplers(ExplicitEnum):  # type: ignore[misc]
    """Which rows make up a batch."""

    BATCH_SAMPLER = "batch_sampler"
    """Rows at random."""
    NO_DUPLICATES = "no_duplicates"
    """Rows at random, but no two rows of a batch share a text; for losses with in-batch negatives."""
    NO_DUPLICATES_HASHED = "no_duplicates_hashed"
    """The same as NO_DUPLICATES, which always compares hashes."""
    GROUP_BY_LABEL = "group_by_label"
    """At least two rows of each of at least two labels; for losses that mine triplets in the batch."""


class MultiDatasetBatchSamplers(ExplicitEnum):  # type: ignore[misc]
    """Which data set the next batch comes from."""

    ROUND_ROBIN = "round_robin"
    """From each in turn, until one of them is exhausted."""
    PROPORTIONAL = "proportional"
    """At random, in proportion to the data sets' numbers of batches; every batch is used."""


@dataclass
class SentenceTransformerTrainingArguments(TrainingArguments):
    """The arguments of transformers' TrainingArguments, and these.

    Args:
        prompts: Text to put in front of the inputs: one for all columns, or a dict by column, by data set, or by
            data set and column.
        batch_sampler: Which rows make up a batch: a BatchSamplers, its value, a DefaultBatchSampler class, or a
            function `(dataset, batch_size, drop_last, valid_label_columns, generator, seed)` that returns one.
        multi_dataset_batch_sampler: Which data set the next batch comes from: a MultiDatasetBatchSamplers, its value, a
            MultiDatasetDefaultBatchSampler class, or a function `(dataset, batch_samplers, generator, seed)`.
        router_mapping: For models with a Router: the route of each column, or of each column by data set.
        learning_rate_mapping: Learning rates by regular expressions over the names of parameters.
        warmup_ratio: The share of all steps over which the learning rate rises; the older spelling of a
            `warmup_steps` below 1.
        micro_batch_tokens: Embed a batch in chunks of at most this many tokens, recomputed in the backward pass: the
            same loss and gradients in the memory of one chunk. None for the whole batch in one pass.
        id_columns: Columns of the data sets (or the name of one) that say which rows belong together, such as the id of
            the picture that two captions describe. They are no texts: a loss with `mask_duplicates=True` takes rows
            that share a value for no negatives of each other, and the sampler `no_duplicates` keeps them apart.

    Raises:
        ValueError: An argument is out of its range, or cannot take effect.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [  # type: ignore[misc]
        *TrainingArguments._VALID_DICT_FIELDS,
        "prompts",
        "router_mapping",
        "learning_rate_mapping",
    ]

    # `str` and `None` come first, as transformers' HfArgumentParser expects them in a union.
    prompts: str | dict[str, str] | dict[str, dict[str, str]] | None = field(
        default=None,
        metadata={"help": "Prompts: one for all columns, by column, by data set, or by data set and column."},
    )
    batch_sampler: BatchSamplers | str | Any = field(
        default=BatchSamplers.BATCH_SAMPLER, metadata={"help": "Which rows make up a batch."}
    )
    multi_dataset_batch_sampler: MultiDatasetBatchSamplers | str | Any = field(
        default=MultiDatasetBatchSamplers.PROPORTIONAL,
        metadata={"help": "Which data set the next batch comes from."},
    )
    router_mapping: str | dict[str, str] | dict[str, dict[str, str]] | None = field(
        default_factory=dict, metadata={"help": "The route of each column, for models with a Router."}
    )
    learning_rate_mapping: str | dict[str, float] | None = field(
        default_factory=dict, metadata={"help": "Learning rates by regular expressions over parameter names."}
    )
    warmup_ratio: float | None = field(
        default=None, metadata={"help": "The share of all steps over which the learning rate rises."}
    )
    micro_batch_tokens: int | None = field(
        default=None, metadata={"help": "Embed a batch in recomputed chunks of at most this many tokens."}
    )
    id_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns whose equal values say that rows belong together."}
    )

    def __post_init__(self) -> None:
        if self.warmup_ratio is not None and not self.warmup_steps:
            self.warmup_steps = self.warmup_ratio
        self.warmup_ratio = None
        self.names_best_metric = self.metric_for_best_model is not None
        if self.bf16 and not torch.accelerator.is_available():
            self.use_cpu = True  # bfloat16 works there too, but transformers wants to be told so
        super().__post_init__()  # type: ignore[no-untyped-call]
        if isinstance(self.batch_sampler, str):
            self.batch_sampler = BatchSamplers(self.batch_sampler)
        if isinstance(self.multi_dataset_batch_sampler, str):
            self.multi_dataset_batch_sampler = MultiDatasetBatchSamplers(self.multi_dataset_batch_sampler)
        self.router_mapping = _mapping("router_mapping", self.router_mapping)
        self.learning_rate_mapping = _mapping("learning_rate_mapping", self.learning_rate_mapping)
        self.id_columns = [self.id_columns] if isinstance(self.id_columns, str) else self.id_columns or []
        self.prediction_loss_only = True  # losses return no predictions
        self.ddp_broadcast_buffers = (
            False  # BERT's buffers are constants; broadcasting them breaks the backward pass
        )
        if self.parallel_mode == ParallelMode.DISTRIBUTED and not self.dataloader_drop_last:
            logger.warning(
                "Training on several processes sets `dataloader_drop_last=True`: all need equal batches."
            )
            self.dataloader_drop_last = True
        self._check()

    def _check(self) -> None:
        """Refuse what cannot be, or cannot take effect; warn about what is merely without effect."""
        if self.micro_batch_tokens is not None and self.micro_batch_tokens < 1:
            raise ValueError(
                f"`micro_batch_tokens` must be at least 1, but is {self.micro_batch_tokens}. "
                "Drop it to embed each batch in one pass."
            )
        unused: dict[str, Any] = {
            "label_smoothing_factor": 0,
            "neftune_noise_alpha": None,
        }
        for name, idle in unused.items():
            if getattr(self, name) != idle:
                raise ValueError(
                    f"`{name}={getattr(self, name)}` has no effect on embedding models. Drop the argument."
                )
        for name, idle, why in (
            ("train_sampling_strategy", "random", "`batch_sampler` decides, and nothing is padded"),
            ("use_liger_kernel", False, "its kernels are for language models"),
        ):
            if getattr(self, name) != idle:
                logger.warning("`%s=%r` is without effect: %s.", name, getattr(self, name), why)

    def to_dict(self) -> dict[str, Any]:
        """All arguments, those left out that are functions or classes."""
        values: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        return {key: value for key, value in values.items() if not callable(value)}


def _mapping(name: str, value: str | dict[str, Any] | None) -> dict[str, Any]:
    if isinstance(value, str):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a dict (or one written as JSON), but is {value!r}.")
    return value
