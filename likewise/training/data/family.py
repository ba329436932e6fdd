"""Family: what the trainer asks of a family of models. Everything else is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.engine import TokenSequences
from likewise.engine.embed import Embed
from likewise.evaluation.measurement import Array
from likewise.losses.base import Columns
from likewise.model.model import Model
from likewise.similarity import to_float_tensor
from likewise.training.data.batch import Batch
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.sample import Sample

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Making:
    """How rows become a batch."""

    model: Model  # turns texts into tokens
    family: Family  # what the model's family takes
    # Makes the batches in its place; None for the trainer's own way.
    collator: Callable[..., Any] | None = None
    # Whether batches have their columns by name, for methods that are written for the reference.
    by_name: bool = False
    loss_of: Callable[[str], Any] = lambda name: None  # the loss of a data set, by the data set's name
    seed: int = 0  # of what losses draw, with the numbers of a batch's rows
    # What the family keeps from batch to batch, such as token ids.
    kept: dict[str, Any] = field(default_factory=dict)


class Family(ABC):
    """How a family's rows are checked and become batches, and how a batch becomes the number that is minimised."""

    model_name: ClassVar[str]
    """The class of the family's models, for messages."""
    output: ClassVar[str]
    """The feature that losses are computed from."""
    own_loss: ClassVar[str]
    """What a loss is to be so that the trainer runs the model for it, in words."""
    by_task: ClassVar[bool] = False
    """Whether columns are told apart as queries and documents, without a Router too."""
    keeps_tokens: ClassVar[bool]
    """Whether each column's texts are tokenised by themselves, so that their tokens serve every epoch."""

    @abstractmethod
    def runs_for(self, loss: nn.Module) -> bool:
        """Whether a loss leaves it to the trainer to run the model."""

    @abstractmethod
    def value(
        self, model: Any, loss: nn.Module, columns: Any, label: Any, embed: Embed | None
    ) -> tuple[Any, Sequence[Tensor]]:
        """What a loss makes of a batch's columns: its value, or values by name; and the embeddings it was computed from.

        `columns` are as `features` gave them; `embed` says how the model is run, None for the loss's own way.
        """

    def answers(self, model: Any, sample: Sample) -> tuple[Array, Array | None]:
        """The scores of a sample's pairs, (P,), and the embeddings of its queries and documents, (Q + M, D), or None."""
        texts, routes, found = (sample.queries, sample.documents), sample.routes or (None, None), []
        for some, prompt, route in zip(texts, sample.prompts, routes, strict=True):
            task = {"task": route} if route else {}
            rows = to_float_tensor(model.encode(some, prompt=prompt, convert_to_tensor=True, **task))
            found.append(rows.to_dense() if rows.is_sparse else rows)
        queries, documents = found
        scores = model.similarity(queries, documents).float().cpu().numpy()
        return scores[tuple(sample.pairs.T)], torch.cat([queries, documents]).float().cpu().numpy()

    @abstractmethod
    def check_prompts(self, prompts: Any, data: dict[str, Any]) -> None:
        """Refuse an argument `prompts` that does not fit the data sets."""

    @abstractmethod
    def prompts(self, prompts: Any, name: str, columns: Sequence[str]) -> tuple[str, ...]:
        """The prompt of each column of a data set; "" for none."""

    @abstractmethod
    def checked_columns(
        self, rows: Dataset, columns: Sequence[str], loss: nn.Module, where: str, modalities: Collection[str]
    ) -> None:
        """Refuse cells that are no inputs.

        `rows` are the data set, or its first rows; `where` is the data set, in words; `modalities` are what the model takes.
        """

    @abstractmethod
    def check_labels(
        self, rows: Dataset, label: str, columns: Sequence[str], loss: nn.Module, shape: Columns, where: str
    ) -> None:
        """Refuse labels that the loss does not take."""

    @abstractmethod
    def collate(
        self,
        making: Making,
        plan: DataSetPlan,
        values: Mapping[str, Sequence[Any]],
        rows: Sequence[int],
        tokens: TokenSequences | None = None,
    ) -> Batch:
        """A batch of rows, of these numbers, from the values of each column; `tokens` are the token ids, column by column, where kept."""

    @abstractmethod
    def features(self, batch: Mapping[str, Any], names: Collection[str]) -> Any:
        """The columns of a batch, as the losses take them; `names` are the plans' columns."""
