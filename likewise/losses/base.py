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
from typing import Any, ClassVar, TypeAlias, TypeGuard

from torch import Tensor, nn
from torch.nn.functional import pad

from likewise.checked import having, is_number, number, positive_or_none
from likewise.engine.embed import Batch, Embed, packed
from likewise.losses.citations import bibtex
from likewise.losses.ids import column_ids
from likewise.modules.base import is_own
from likewise.types import Encoder, check_family

LossValue: TypeAlias = Tensor | dict[str, Tensor]


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
        fewer_numbers: The lengths that a list of numbers may have, as so many fewer than there are text columns; none for any.
        in_batch_negatives: Whether other rows serve as negatives; see `least_rows`.
    """

    roles: tuple[str, ...]
    more: str | None = None
    most: int | None = None
    label: Label = Label.NONE
    label_range: tuple[float, float] | None = None
    fewer_numbers: tuple[int, ...] = ()
    in_batch_negatives: bool = False

    def takes(self, num_texts: int) -> bool:
        """Whether so many text columns have this shape."""
        most = len(self.roles) if self.more is None else self.most
        return len(self.roles) <= num_texts and (most is None or num_texts <= most)

    def least_rows(self, num_texts: int) -> int:
        """The rows a batch needs, so that there is something to learn: two where only other rows give negatives, else one.

        Args:
            num_texts: How many text columns there are; those behind `roles`, where they are negatives, are the row's own.
        """
        has_own = self.more == "negative" and num_texts > len(self.roles)
        return 2 if self.in_batch_negatives and not has_own else 1

    def describe(self) -> str:
        """In words, as error messages and the plan say it: 'anchor, positive, any number of negatives; no label'."""
        texts = ", ".join(self.roles)
        if self.more is not None:
            limit = "any number of" if self.most is None else f"at most {self.most - len(self.roles)}"
            texts += f", {limit} {self.more}s"
        return f"{texts}; {self.label.value}"


def described(shapes: Iterable[Columns]) -> str:
    """Shapes of data in words, any of which will do."""
    return ", or ".join(shape.describe() for shape in shapes)


GRADCACHE = frozenset({"embed_minibatch", "embed_minibatch_iter", "forward_cached", "calculate_loss"})
"""Steps of the reference's losses that embed in chunks."""
NAMES_OF_COMPUTE = ("compute", "compute_loss_from_embeddings")


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
    model: Encoder
    config_keys: ClassVar[tuple[str, ...]] = ()
    """The attributes that the model card shows as this loss's arguments; of a dataclass, by default, all fields but the model."""
    model_type: ClassVar[str | None] = "SentenceTransformer"
    """The family of models it is for; None for any."""
    cites: ClassVar[str] = ""
    """The key of its paper in citations.bib."""
    names_are_one: bool = True
    """Whether `compute` and `compute_loss_from_embeddings` are two names of one method."""
    mask_duplicates: bool = False
    """Whether `compute` takes `ids` by which equal values are known (see `likewise.losses.ids`)."""
    mini_batch_size: int | None = None
    """Sequences of a chunk that is recomputed, were they all as long as the batch's longest; None for all at once."""
    mini_batch_num_tokens: int | None = None
    """Tokens of such a chunk, in place of its sequences."""
    show_progress_bar: bool = False
    """Whether to show a bar over the chunks."""

    never_called: ClassVar[frozenset[str]] = frozenset()
    """Steps that the reference's loss calls and this one does not have."""

    def __init_subclass__(cls) -> None:
        """Give `compute` both of its names, whichever the subclass wrote.

        Raises:
            TypeError: The subclass replaces a step that is never called.
        """
        super().__init_subclass__()
        lost = sorted(cls.never_called & vars(cls).keys())
        if lost and is_own(cls, "forward"):
            raise TypeError(
                f"`{lost[0]}` of {cls.__name__} would never be called: {cls.__mro__[1].__name__} computes the loss without it. "
                "Write `compute(embeddings, labels)` in its place, or a whole `forward(sentence_features, labels)`."
            )
        if not cls.names_are_one:
            return
        for name, other in (NAMES_OF_COMPUTE, NAMES_OF_COMPUTE[::-1]):
            if name in vars(cls) and other not in vars(cls):
                setattr(cls, other, vars(cls)[name])

    def __init__(self, model: Encoder) -> None:
        self.model = model
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check what every loss takes; a subclass that is a dataclass goes on with what it takes itself."""
        check_family(self, self.model, "losses")
        for name in ("mini_batch_size", "mini_batch_num_tokens"):
            positive_or_none(getattr(self, name), name, "Drop it to take the default.")
        for name, field in getattr(self, "__dataclass_fields__", {}).items():
            value = vars(self).get(name, field.default)  # a subclass may set it later
            if field.type in ("float", float) and value is not field.default:
                number(value, name)
            if callable(field.default) and getattr(self, name) is not None:
                having(getattr(self, name), "__call__", name, "a function of two batches of embeddings")

    def __setattr__(self, name: str, value: Any) -> None:
        """What is put on one loss as `compute`, by either name, is called by both."""
        if "_modules" not in self.__dict__:  # a dataclass sets its fields before it calls anything
            nn.Module.__init__(self)
        if hasattr(type(self), name) and self._parameters.pop(name, None) is not None:
            del self.__dict__[name]
        if isinstance(value, nn.Parameter) and hasattr(type(self), name):  # torch refuses names of the class
            self._parameters[name] = self.__dict__[name] = value
            return
        for each in self._names_of(name):
            super().__setattr__(each, value)
        if hasattr(type(self), name) and (isinstance(value, nn.Module) or name in self._modules):
            self.__dict__[name] = value  # found before the default, which a dataclass holds under this name

    def __delattr__(self, name: str) -> None:
        for each in self._names_of(name):
            if each in self._modules or each in self._parameters:
                self.__dict__.pop(each, None)
            super().__delattr__(each)

    def _names_of(self, name: str) -> tuple[str, ...]:
        return NAMES_OF_COMPUTE if self.names_are_one and name in NAMES_OF_COMPUTE else (name,)

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

    @property
    def embed(self) -> Embed:
        """How columns are embedded where the caller does not say: in recomputed chunks by losses with a `mini_batch_size`."""
        return Embed(
            self.mini_batch_num_tokens,
            recompute_rows=self.mini_batch_size,
            show_progress_bar=self.show_progress_bar,
        )

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """The embeddings that `compute` takes: by default (B, D) of each column, by the model.

        Args:
            batch: The columns.
            embed: Gives the embeddings of columns.
        """
        return embed(self.model, batch)

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """What `compute` takes beside embeddings and labels, by keyword: `ids` where duplicates are masked.

        A wrapper hands it to the inner loss as it is, while it transforms the embeddings.
        """
        return {"ids": column_ids(batch)} if self.mask_duplicates else {}

    def cut_labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        """The labels for embeddings cut to `size` entries: the same, unless they are embeddings themselves."""
        return labels

    def forward(
        self,
        sentence_features: Iterable[dict[str, Tensor]],
        labels: Tensor | None = None,
        embed: Embed | None = None,
    ) -> LossValue:
        """Embed the columns and compute the loss: the trainer's steps, for scripts.

        Raises:
            ValueError: The number of columns does not fit the loss, or the labels do not.
        """
        batch, embed = packed(self.model, sentence_features), embed or self.embed
        check_number_of_columns(self, len(batch))
        context = self.context(batch, embed)  # first: a guide is done before the graph of the model exists
        return self.compute(self.read(batch, embed), labels, **context)

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of this loss, for the model card; `mask_duplicates`, which the reference has not, where it is set."""
        names = self.config_keys or [
            name for name in getattr(self, "__dataclass_fields__", ()) if name not in ("model", "loss")
        ]
        if self.mini_batch_size is not None and "mini_batch_size" not in names:
            names = [*names, "mini_batch_size", "mini_batch_num_tokens"]
        values = {name: getattr(self, name) for name in names}
        return {k: _in_words(v) for k, v in values.items() if k != "mask_duplicates" or v}

    @property
    def citation(self) -> str:
        """BibTeX of the paper, for the model card; empty where there is none."""
        return bibtex(self.cites) if self.cites else ""


def computes_from_embeddings(loss: nn.Module) -> TypeGuard[Loss]:
    """Whether a loss leaves the embedding to others: it is of this package, and nobody has written a `forward` for it."""
    return isinstance(loss, Loss) and is_own(loss, "forward")


def check_number_of_columns(loss: Loss, number: int) -> None:
    """Refuse a number of text columns that the loss does not take; one that declares nothing takes any."""
    if loss.takes and not any(shape.takes(number) for shape in loss.takes):
        name, expected = type(loss).__name__, described(loss.takes)
        raise ValueError(f"{name} takes {expected}; but got {number} text columns.")


def one_label_per_row(loss: Loss, labels: Tensor | None, embeddings: Sequence[Tensor]) -> Tensor:
    """The labels as (B,).

    Raises:
        ValueError: There are none, or not one for each row.
    """
    rows = len(embeddings[0])
    if labels is None or labels.numel() != rows:
        given = "none" if labels is None else f"{labels.numel()} in a tensor of shape {tuple(labels.shape)}"
        raise ValueError(
            f"{type(loss).__name__} takes {loss.takes[0].label.value}, so {rows} labels for this batch; but got {given}. "
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


def full_name(thing: Any) -> str:
    """The name of a class, or of an object's class, with that of its module; without one if it is built in."""
    kind = thing if isinstance(thing, type) else type(thing)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _in_words(value: Any) -> Any:
    """A setting as the model card shows it: functions by their names, metrics with the class that lists them; plain numbers."""
    if not callable(value) or isinstance(value, nn.Module):
        return value.item() if is_number(value) and hasattr(value, "item") else value
    name = function_name(value)
    return getattr(value, "__qualname__", name) if name.isupper() else name
