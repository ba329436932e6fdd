"""Loss: what every training loss has in common.

A loss declares which columns and labels it takes, and computes a number from embeddings. How the embeddings came
about (one pass, recomputed chunks, several layers) is not its business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from likewise.engine import ColumnBatch, TokenBatch
from likewise.losses.feature_batch import FeatureBatch
from likewise.losses.ids import column_ids

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

Embed: TypeAlias = Callable[[Any], Tensor]
"""Embeds a batch, a TokenBatch or a FeatureBatch: N sequences -> (N, ...), in the caller's order."""
Run: TypeAlias = Callable[[Embed, Any], Tensor]
"""Decides how an `Embed` meets its batch: at once (`run_whole`), or in chunks that are recomputed."""
Embedder: TypeAlias = Callable[[nn.Module, dict[str, Any]], Tensor]
"""Embeds features, packed or padded, with a model: N sequences -> (N, ..., D)."""
Features: TypeAlias = Sequence[dict[str, Tensor]]
"""The text columns of a batch: a ColumnBatch, or one dict of padded features for each column."""
LossValue: TypeAlias = Tensor | dict[str, Tensor]

PACKABLE = {"input_ids", "attention_mask", "token_type_ids", "prompt_length"}
CACHED_TOKENS = 1024  # per forward pass on the CPU


class Label(Enum):
    """What a loss learns from, beside the texts."""

    NONE = "no label"
    NUMBER = "one number per row"
    BINARY = "0 or 1 per row"
    CLASS = "one whole number (the class) per row"
    NUMBERS = "one number or a list of numbers per row"
    PER_DOCUMENT = "a list with one number for each document per row"
    EMBEDDING = "one vector (or one per text column) per row"


@dataclass(frozen=True)
class Columns:
    """One shape of data that a loss takes.

    Attributes:
        roles: What the text columns are, in order.
        more: The role of any further text columns; None where there may be none.
        most: At most this many text columns in all; None for no limit.
        label: The kind of label.
        label_range: The smallest and largest label that makes sense (inclusive), or None.
        in_batch_negatives: Whether other rows serve as negatives, so that a batch needs at least two rows.
    """

    roles: tuple[str, ...]
    more: str | None = None
    most: int | None = None
    label: Label = Label.NONE
    label_range: tuple[float, float] | None = None
    in_batch_negatives: bool = False

    def describe(self) -> str:
        """In words, as error messages and the plan say it: 'anchor, positive, any number of negatives; no label'."""
        texts = ", ".join(self.roles)
        if self.more is not None:
            limit = "any number of" if self.most is None else f"at most {self.most - len(self.roles)}"
            texts += f", {limit} {self.more}s"
        return f"{texts}; {self.label.value}"


def run_whole(embed: Embed, tokens: TokenBatch) -> Tensor:
    """The plain way: the whole batch, with its graph kept.

    On the CPU it goes through in pieces of about 1,000 tokens, whose activations stay in the caches; elsewhere in one.
    """
    if tokens.device.type != "cpu" or tokens.num_tokens <= CACHED_TOKENS:
        return embed(tokens)
    return tokens.restore(torch.cat([embed(piece) for piece in tokens.chunks(CACHED_TOKENS)]))


def run_at_once(embed: Embed, tokens: TokenBatch) -> Tensor:
    """The whole batch in one pass, on every device."""
    return embed(tokens)


def sentence_embeddings(model: nn.Module, features: dict[str, Any] | TokenBatch) -> Tensor:
    """The model's embeddings of N sequences: (N, D), in the caller's order."""
    features = {"tokens": features} if isinstance(features, TokenBatch) else features
    embedding: Tensor = model(features)["sentence_embedding"]
    return embedding


class Loss(nn.Module, ABC):
    """A training loss over the embeddings of a batch's text columns.

    A subclass sets `takes` and writes `compute`, by this name or by the reference's, `compute_loss_from_embeddings`: the
    two are one. The model is kept as `self.model` (a submodule, so that `loss.parameters()` are those of the model and of
    the loss's own weights).

    Args:
        model: The model whose embeddings are trained.
    """

    takes: tuple[Columns, ...]
    """The shapes of data this loss takes, the usual one first."""
    model: SentenceTransformer
    own_run: Run = staticmethod(run_whole)
    """How the encoder meets a batch where the caller does not say; chunks for the `Cached` losses."""
    mask_duplicates: bool = False
    """Whether `compute` takes `ids` by which equal values are known (see `likewise.losses.ids`)."""

    def __init_subclass__(cls) -> None:
        """Give `compute` both of its names, whichever the subclass wrote."""
        super().__init_subclass__()
        names = ("compute", "compute_loss_from_embeddings")
        for name, other in (names, names[::-1]):
            if name in vars(cls) and other not in vars(cls):
                setattr(cls, other, vars(cls)[name])

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> LossValue:
        """One (B, D) batch of embeddings for each text column, and labels -> a scalar, or named scalars to add up.

        A subclass may take further arguments by keyword: those that its `context` returns.
        """

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None
    ) -> LossValue:
        """The reference's name of `compute`."""
        return self.compute(embeddings, labels)

    def embed(
        self, columns: Features, run: Run = run_whole, embedder: Embedder = sentence_embeddings
    ) -> Sequence[Tensor]:
        """The embeddings that `compute` takes, one (B, D) for each column.

        Args:
            columns: A ColumnBatch, embedded in one pass; or one dict of features for each column.
            run: How the encoder meets a ColumnBatch's tokens.
            embedder: Embeds features with a model; a wrapper such as AdaptiveLayerLoss puts its own here.
        """
        return embed_columns(self.model, columns, self.chosen_run(run), embedder)

    def chosen_run(self, run: Run) -> Run:
        """The caller's choice, or the loss's own where that is the plain one."""
        return self.own_run if run is run_whole else run

    def context(self, columns: Features, run: Run = run_whole) -> dict[str, Any]:
        """What `compute` takes beside embeddings and labels, by keyword: `ids` where duplicates are masked.

        A wrapper hands it to the inner loss as it is, while it transforms the embeddings.
        """
        return {"ids": column_ids(columns)} if self.mask_duplicates else {}

    def cut_labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        """The labels for embeddings cut to `size` entries: the same, unless they are embeddings themselves."""
        return labels

    def forward(
        self,
        sentence_features: Iterable[dict[str, Tensor]],
        labels: Tensor | None = None,
        run: Run = run_whole,
    ) -> LossValue:
        """Embed the columns and compute the loss.

        Raises:
            ValueError: The number of columns does not fit the loss, or the labels do not.
        """
        columns = packed(self.model, sentence_features)
        check_number_of_columns(self, len(columns))
        context = self.context(columns, run)  # first: a guide is done before the graph of the model exists
        return self.compute(self.embed(columns, run), labels, **context)

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of this loss, for the model card."""
        return {}

    @property
    def citation(self) -> str:
        """BibTeX of the paper, for the model card; empty where there is none."""
        return ""


def embed_columns(
    model: nn.Module, columns: Features, run: Run = run_whole, embedder: Embedder = sentence_embeddings
) -> tuple[Tensor, ...]:
    """Embed every column with one model: together if they are packed, else one by one.

    Raises:
        ValueError: Chunks are asked for, but the features cannot be cut into rows.
    """
    if isinstance(columns, ColumnBatch) and columns.tasks is not None:

        def embed(column: int, task: str | None) -> Tensor:
            return run(
                lambda tokens: embedder(model, {"tokens": tokens, "task": task}),
                column_tokens(columns, column),
            )

        return tuple(embed(column, task) for column, task in enumerate(columns.tasks))
    if isinstance(columns, ColumnBatch):
        if run is run_whole and getattr(next(iter(model.children()), None), "in_one_pass", False):
            run = run_at_once
        return columns.split(run(lambda tokens: embedder(model, {"tokens": tokens}), columns.tokens))
    if run is run_whole:
        return tuple(embedder(model, dict(features)) for features in columns)
    first = next(iter(model.children()), None)
    return tuple(
        run(lambda batch: embedder(model, dict(batch.features)), FeatureBatch(features, first))
        for features in columns
    )


def packed(model: nn.Module, sentence_features: Iterable[dict[str, Tensor]]) -> Features:
    """A ColumnBatch of the columns where they are padded token ids and the model takes packed ones; else a list."""
    if isinstance(sentence_features, ColumnBatch):
        return sentence_features
    columns = list(sentence_features)
    first = columns[0]
    if not (
        getattr(model, "takes_tokens", False) and {"input_ids", "attention_mask"} <= set(first) <= PACKABLE
    ):
        return columns
    if any(
        set(column) != set(first) or len(column["input_ids"]) != len(first["input_ids"]) for column in columns
    ):
        return columns
    longest = max(column["input_ids"].shape[1] for column in columns)
    joined = {}
    for key in first:
        parts = [column[key] for column in columns]
        if key == "prompt_length":
            parts = [torch.as_tensor(part).reshape(-1).expand(len(first["input_ids"])) for part in parts]
        else:
            parts = [pad(part, (0, longest - part.shape[1])) for part in parts]
        joined[key] = torch.cat(parts)
    return ColumnBatch(TokenBatch.from_padded(**joined), len(columns))


def column_tokens(columns: ColumnBatch, number: int) -> TokenBatch:
    """The sequences of one column."""
    tokens, rows = columns.tokens, columns.num_rows
    places = tokens.place[number * rows : (number + 1) * rows]
    order = places.sort().values  # the column's sequences, by length
    kept = torch.zeros(len(tokens), dtype=torch.bool)
    kept[order] = True
    mask = kept.repeat_interleave(tokens.lengths).to(tokens.device)
    return TokenBatch(
        input_ids=tokens.input_ids[mask],
        lengths=tokens.lengths[order],
        place=places.argsort().argsort(),
        token_type_ids=None if tokens.token_type_ids is None else tokens.token_type_ids[mask],
        prompt_lengths=None if tokens.prompt_lengths is None else tokens.prompt_lengths[order],
    )


def check_number_of_columns(loss: Loss, number: int) -> None:
    """Refuse a number of text columns that the loss does not take; one that declares nothing takes any."""
    if not loss.takes:
        return
    for shape in loss.takes:
        most = len(shape.roles) if shape.more is None else shape.most
        if len(shape.roles) <= number and (most is None or number <= most):
            return
    expected = ", or ".join(shape.describe() for shape in loss.takes)
    raise ValueError(f"{type(loss).__name__} takes {expected}; but got {number} text columns.")


def one_label_per_row(loss: Loss, labels: Tensor | None, embeddings: Sequence[Tensor]) -> Tensor:
    """The labels as (B,).

    Raises:
        ValueError: There are none, or not one for each row.
    """
    rows = len(embeddings[0])
    if labels is None or labels.numel() != rows:
        found = "none" if labels is None else f"{labels.numel()} in a tensor of shape {tuple(labels.shape)}"
        raise ValueError(
            f"{type(loss).__name__} takes {loss.takes[0].label.value}, so {rows} labels for this batch; but got {found}. "
            "Name the label column of the data set 'label' or 'score', or choose a loss without labels."
        )
    return labels.view(-1)


def widened(embeddings: Tensor, size: int) -> Tensor:
    """(B, d) -> (B, size): zeros behind, so that weights for whole embeddings fit truncated ones (Matryoshka)."""
    return pad(embeddings, (0, size - embeddings.shape[-1]))


def function_name(function: Callable[..., Any]) -> str:
    """What the model card calls a function: its name, with its settings if it is a partial."""
    if isinstance(function, partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in function.keywords.items())
        return f"{function_name(function.func)}({settings})" if settings else function_name(function.func)
    return getattr(function, "__name__", type(function).__name__)
