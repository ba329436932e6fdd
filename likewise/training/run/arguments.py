"""BaseTrainingArguments: everything about a training run that is neither model, data nor loss."""

from __future__ import annotations

import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields
from inspect import cleandoc
from numbers import Real
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from transformers import TrainingArguments
from transformers.training_args import ParallelMode
from transformers.utils import ExplicitEnum  # type: ignore[attr-defined]

from likewise.checked import above_zero, positive

logger = logging.getLogger(__name__)
Kind = TypeVar("Kind")

# Arguments of transformers that cannot take effect here: name, the value that asks for nothing, and what to do.
REFUSED: tuple[tuple[str, Any, str], ...] = (
    ("label_smoothing_factor", 0, "Drop the argument."),
    ("neftune_noise_alpha", None, "Drop the argument; dropout is noise too."),
    ("batch_eval_metrics", False, "Losses return no predictions: pass an `evaluator`."),
    ("label_names", None, "Drop it: the label column is named label, labels, score or scores."),
    ("parallelism_config", None, "Drop it: `torchrun` trains with DDP."),
)
_THREAD = "a thread makes batches ahead of the model"
WITHOUT_EFFECT: tuple[tuple[str, Any, str], ...] = (
    ("train_sampling_strategy", "random", "`batch_sampler` decides, and nothing is padded"),
    ("use_liger_kernel", False, "its kernels are for language models"),
    ("dataloader_num_workers", 0, _THREAD),
    ("dataloader_prefetch_factor", None, _THREAD),
    ("dataloader_persistent_workers", False, _THREAD),
    ("eval_accumulation_steps", None, "losses return no predictions that would be kept"),
    (
        "remove_unused_columns",
        True,
        "every column but the label is an input; `dataset.select_columns` chooses",
    ),
    ("bf16_full_eval", False, "`bf16` covers evaluation too"),
    ("fp16_full_eval", False, "`fp16` covers evaluation too"),
)


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


class Exhausted(ExplicitEnum):  # type: ignore[misc]
    """What happens when a data set has no batch left while others have."""

    STOP = "stop"
    """The epoch ends."""
    DROP = "drop"
    """The others go on without it, until every batch has been used once."""
    RESTART = "restart"
    """It starts over, shuffled anew, until each of the others has been used up at least once."""


class MultiDatasetBatchSamplers(ExplicitEnum):  # type: ignore[misc]
    """Which data set the next batch comes from."""

    ROUND_ROBIN = "round_robin"
    """From each in turn, until one of them is exhausted."""
    PROPORTIONAL = "proportional"
    """At random, in proportion to the data sets' numbers of batches; every batch is used."""


CHOICES: dict[str, type[ExplicitEnum]] = {
    "batch_sampler": BatchSamplers,
    "multi_dataset_batch_sampler": MultiDatasetBatchSamplers,
    "multi_dataset_exhausted": Exhausted,
}


def with_help(kind: type[Kind]) -> type[Kind]:
    """A dataclass whose fields have as help, for transformers' HfArgumentParser, what the docstring says of them."""
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", cleandoc(kind.__doc__ or ""), re.MULTILINE)
    told = {name: " ".join(text.split()) for name, text in found}
    dataclass_of_kind: Any = kind
    for each in fields(dataclass_of_kind):
        if each.name in told and each.name in kind.__annotations__:  # the others are shared with the parent
            each.metadata = MappingProxyType({"help": told[each.name]})
    return kind


@with_help
@dataclass
class BaseTrainingArguments(TrainingArguments):
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
        multi_dataset_weights: How often batches come from each data set, by name, in relation to each other; None for
            their numbers of batches.
        multi_dataset_temperature: The numbers of batches, or the weights, are raised to the power of 1 / temperature: 1 leaves
            them as they are, a large one brings small data sets up to the large ones.
        multi_dataset_exhausted: What happens when a data set has no batch left: an Exhausted or its value. None for
            "drop", and for "stop" with ROUND_ROBIN, weights or a temperature.
        fold_duplicates: With NO_DUPLICATES, texts that differ only in case and white space count as equal.
        shuffle_buffer_size: Rows of a streamed data set (an IterableDataset) that are shuffled, and dealt to batches, at a
            time; 1 keeps their order.
        save_prompts: Whether the training prompts become the model's own and are saved with it: the first text column's
            as `query`, that of the others as `document`.
        token_cache_dir: Token ids are kept in this folder, mapped into memory, for later runs on the same data; None to
            keep them in memory, for this run only.
        max_kept_tokens: At most so many token ids of the training data are kept in memory, of 4 bytes each, an equal
            share for each data set; one that has more is tokenised again in each epoch. 0 to keep none.
        warmup_ratio: The share of all steps over which the learning rate rises; the older spelling of a
            `warmup_steps` below 1.
        micro_batch_tokens: Embed a batch in chunks of at most this many tokens, recomputed in the backward pass: the
            same loss and gradients in the memory of one chunk. None for the whole batch in one pass.
        report: Whether `report.html` is written to the output folder at the end: the run's curves, and a sample of its data
            before and after. It takes the extra `report`, and the time to embed a few hundred texts twice.
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
        "multi_dataset_weights",
    ]

    # `str` comes first and `None` second, as transformers' HfArgumentParser expects them in a union.
    prompts: str | None | dict[str, str] | dict[str, dict[str, str]] = None
    batch_sampler: BatchSamplers | str | Any = BatchSamplers.BATCH_SAMPLER
    multi_dataset_batch_sampler: MultiDatasetBatchSamplers | str | Any = (
        MultiDatasetBatchSamplers.PROPORTIONAL
    )
    router_mapping: str | None | dict[str, str] | dict[str, dict[str, str]] = field(default_factory=dict)
    learning_rate_mapping: str | None | dict[str, float] = field(default_factory=dict)
    multi_dataset_weights: str | None | dict[str, float] = field(default_factory=dict)
    multi_dataset_temperature: float = 1.0
    multi_dataset_exhausted: str | None | Exhausted = None
    fold_duplicates: bool = False
    shuffle_buffer_size: int = 10_000
    save_prompts: bool = False
    token_cache_dir: str | None = None
    max_kept_tokens: int = 2**28
    warmup_ratio: float | None = None
    micro_batch_tokens: int | None = None
    report: bool = False
    id_columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.warmup_ratio is not None and not self.warmup_steps:
            self.warmup_steps = self.warmup_ratio
        self.warmup_ratio = None
        if self.deepspeed or _is_launched_with("deepspeed"):
            raise ValueError(
                "`deepspeed` is not supported: its shards are not those of torch. Use `fsdp=True`, or drop it: `torchrun` trains "
                "on several devices with DDP, and `micro_batch_tokens`, `gradient_checkpointing` or LoRA save memory."
            )
        self._refuse_unmatched_saving()
        self.names_best_metric = self.metric_for_best_model is not None
        self.found_best_metric: str | None = None  # the evaluator's, where none is named
        is_one_of_several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        if (self.bf16 or is_one_of_several) and not torch.accelerator.is_available():
            self.use_cpu = True  # bfloat16 and gloo work there too, but transformers wants to be told so
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.is_sharded:
            plugin: Any = self.fsdp_plugin_args or {"fsdp_version": os.environ.get("FSDP_VERSION", 1)}
            if int(plugin["fsdp_version"]) != 2 or (self.fsdp_config or {}).get("xla"):  # type: ignore[union-attr]
                raise ValueError(
                    "FSDP is supported in its second version. Set `fsdp_version: 2` in accelerate's configuration, or "
                    "`fsdp_config={'version': 2}`."
                )
            # Each process loads the model, then keeps its shard.
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        for name, kind in CHOICES.items():
            if isinstance(value := getattr(self, name), str):
                setattr(self, name, kind(value))
        self.id_columns = [self.id_columns] if isinstance(self.id_columns, str) else self.id_columns or []
        for name in ("router_mapping", "learning_rate_mapping", "multi_dataset_weights"):
            setattr(self, name, _mapping(name, getattr(self, name)))
        if isinstance(self.prompts, str) and self.prompts.lstrip().startswith("{"):
            self.prompts = _mapping("prompts", self.prompts)
        if self.n_gpu > 1:
            logger.warning(
                "%d devices are visible, but one process trains on one. Start it with `torchrun --nproc_per_node=%d`.",
                self.n_gpu, self.n_gpu,
            )  # fmt: skip
            self._n_gpu = 1
        self.prediction_loss_only = True  # losses return no predictions
        # BERT's buffers are constants; broadcasting them breaks the backward pass.
        self.ddp_broadcast_buffers = False
        if self.parallel_mode == ParallelMode.DISTRIBUTED and not self.dataloader_drop_last:
            logger.warning(
                "Training on several processes sets `dataloader_drop_last=True`: all need equal batches."
            )
            self.dataloader_drop_last = True
        self._check()

    def _refuse_unmatched_saving(self) -> None:
        evaluates, saves = (str(getattr(v, "value", v)) for v in (self.eval_strategy, self.save_strategy))
        if self.load_best_model_at_end and saves not in ("best", evaluates):
            raise ValueError(
                f"`load_best_model_at_end=True` needs a checkpoint for each evaluation, but `eval_strategy` is {evaluates!r} "
                f"and `save_strategy` {saves!r}. Set both to 'steps' or both to 'epoch', or `save_strategy='best'`."
            )
        if self.load_best_model_at_end and evaluates == "no":
            raise ValueError(
                "`load_best_model_at_end=True` needs evaluations, but `eval_strategy` is 'no'. Set it to 'steps' or 'epoch'."
            )

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP is asked for, by these arguments or by `accelerate launch`."""
        return bool(self.fsdp) or _is_launched_with("fsdp")

    def _check(self) -> None:
        """Refuse what cannot be, or cannot take effect; warn about what is merely without effect."""
        names = [
            "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
            "shuffle_buffer_size",
        ]  # fmt: skip
        if self.micro_batch_tokens is not None:  # None says something: a batch in one pass
            names.append("micro_batch_tokens")
        for name in names:
            positive(getattr(self, name), name, "Drop it to take the default.")
        positive(
            self.max_kept_tokens, "max_kept_tokens", "Drop it to take the default; 0 keeps none.", least=0
        )
        positive(self.max_steps, "max_steps", "Drop it for whole epochs.", least=-1)
        self._check_mixing()
        self._check_prompts()
        self._check_rates()
        folds = (BatchSamplers.NO_DUPLICATES, BatchSamplers.NO_DUPLICATES_HASHED)
        if self.fold_duplicates and self.batch_sampler not in folds:
            raise ValueError(
                "`fold_duplicates=True` has no effect without `batch_sampler='no_duplicates'`. Set that too, or drop it."
            )
        for name, idle, instead in REFUSED:
            if (value := getattr(self, name, idle)) not in (idle, None):
                raise ValueError(f"`{name}={value}` has no effect here. {instead}")
        for name, idle, why in WITHOUT_EFFECT:
            if (value := getattr(self, name, idle)) != idle:
                logger.warning("`%s=%r` is without effect: %s.", name, value, why)
        for name in ("split_batches", "dispatch_batches"):
            if getattr(self.accelerator_config, name, None):
                raise ValueError(
                    f"`accelerator_config` has `{name}=True`, but every process makes its own batches here. Drop it."
                )

    def _check_mixing(self) -> None:
        above_zero(self.multi_dataset_temperature, "multi_dataset_temperature", "1 changes nothing.")
        weights: Any = self.multi_dataset_weights
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
                raise ValueError(
                    f"`multi_dataset_weights` has {weight!r} for {name!r}, but a weight is a number above 0. Leave a data "
                    "set that is not wanted out of `train_dataset`."
                )
        weighted = bool(weights) or self.multi_dataset_temperature != 1
        proportional = self.multi_dataset_batch_sampler is MultiDatasetBatchSamplers.PROPORTIONAL
        if weighted and not proportional:
            raise ValueError(
                "`multi_dataset_weights` and `multi_dataset_temperature` need "
                "`multi_dataset_batch_sampler='proportional'`. Set that, or drop them."
            )
        if weighted and self.multi_dataset_exhausted is Exhausted.DROP:
            raise ValueError(
                "`multi_dataset_exhausted='drop'` uses every batch once, so that weights have no effect. Take 'stop' or "
                "'restart', or drop the weights."
            )

    def _check_rates(self) -> None:
        names = ("learning_rate", "weight_decay", "adam_epsilon", "num_train_epochs")
        rates: dict[str, Any] = {name: getattr(self, name) for name in names}
        by_pattern: Any = self.learning_rate_mapping  # a dict by now
        for pattern, rate in by_pattern.items():
            rates[f"learning_rate_mapping[{pattern!r}]"] = rate
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"`learning_rate_mapping` has {pattern!r}, which is no regular expression: {error}. Put a backslash in front "
                    "of signs that stand for themselves."
                ) from None
        for name, rate in rates.items():
            if not isinstance(rate, Real):
                raise TypeError(
                    f"`{name}` must be a number, but is {rate!r} ({type(rate).__name__}). In YAML write 1.0e-3: 1e-3 is a text."
                )

    def _check_prompts(self) -> None:
        given: Any = self.prompts
        for name, prompt in given.items() if isinstance(given, dict) else [("", given)]:
            for text in prompt.values() if isinstance(prompt, dict) else [prompt]:
                if not isinstance(text, str | None):
                    of = f" for {name!r}" if name else ""
                    raise TypeError(
                        f"`prompts` has {text!r} ({type(text).__name__}){of}, but a prompt is a text. Pass one for all columns, or "
                        "texts by column or by data set: `prompts={'question': 'query: '}`."
                    )

    def to_dict(self) -> dict[str, Any]:
        """All arguments, those left out that are functions or classes."""
        values: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        return {key: value for key, value in values.items() if not callable(value)}


def _is_launched_with(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name.upper()}", "false").lower() in ("1", "true")


def _mapping(name: str, value: str | dict[str, Any] | None) -> dict[str, Any]:
    if isinstance(value, str):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` must be a dict (or one written as JSON), but is {value!r}.")
    return value
