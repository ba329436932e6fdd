"""Texts: the family of models that turn each text of each column into an embedding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from likewise.engine import ColumnBatch, TokenSequences
from likewise.engine.embed import Embed, packed
from likewise.losses.base import Columns, check_number_of_columns, computes_from_embeddings
from likewise.modules.query_expansion import DOCUMENT, QUERY
from likewise.training.data import checks
from likewise.training.data.batch import Batch, by_column, features_of
from likewise.training.data.collation import collate
from likewise.training.data.columns import holds_images
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Family, Making

if TYPE_CHECKING:
    from datasets import Dataset


class Texts(Family):
    """Columns of texts (or images), each of which becomes an embedding."""

    model_name = "SentenceTransformer"
    output = "sentence_embedding"
    own_loss = "`likewise.losses.base.Loss`, and write `takes` and `compute(embeddings, labels)`"
    keeps_tokens = True

    def runs_for(self, loss: nn.Module) -> bool:
        """Whether the loss computes from embeddings."""
        return computes_from_embeddings(loss)

    def value(
        self, model: Any, loss: nn.Module, columns: Any, label: Any, embed: Embed | None
    ) -> tuple[Any, Sequence[Tensor]]:
        """Embed the columns, and compute the loss from the embeddings."""
        if not computes_from_embeddings(loss):
            # Features of its own, since others may write into them.
            return loss(columns[:] if isinstance(columns, ColumnBatch) else columns, label), ()
        if loss._forward_hooks or loss._forward_pre_hooks:  # somebody watches the calls
            return loss(columns, label, embed), ()
        batch, embed = packed(model, columns), embed or loss.embed
        check_number_of_columns(loss, len(batch))
        context = loss.context(batch, embed)  # first: a guide is done before the graph of the model exists
        embeddings = loss.read(batch, embed)
        return loss.compute(embeddings, label, **context), embeddings

    def check_prompts(self, prompts: Any, data: dict[str, Any]) -> None:
        """Prompts are by columns and data sets."""
        checks.check_prompt_names(prompts, data)

    def prompts(self, prompts: Any, name: str, columns: Sequence[str]) -> tuple[str, ...]:
        """One for all columns, by data set, by column, or by data set and column."""
        return tuple(prompt_of(prompts, name, column) for column in columns)

    def checked_columns(
        self, rows: Dataset, columns: Sequence[str], loss: nn.Module, where: str, modalities: Collection[str]
    ) -> None:
        """Texts or pairs of texts, and images where the model takes them."""
        for column in columns:
            if "image" in modalities and holds_images(rows, column):
                checks.refuse_missing(rows, column, where, "no image")
            elif "text" in modalities:
                checks.check_texts(rows, column, where)

    def check_labels(
        self, rows: Dataset, label: str, columns: Sequence[str], loss: nn.Module, shape: Columns, where: str
    ) -> None:
        """Refuse labels that the loss does not take."""
        checks.check_labels(rows, label, loss, shape, len(columns), where)

    def collate(
        self,
        making: Making,
        plan: DataSetPlan,
        values: Mapping[str, Sequence[Any]],
        rows: Sequence[int],
        tokens: TokenSequences | None = None,
    ) -> Batch:
        """All columns packed in one, or each with its padded features."""
        batch = collate(making.model, plan, values, tokens)
        return by_column(batch, plan.texts) if making.by_name else batch

    def features(self, batch: Mapping[str, Any], names: Collection[str]) -> Any:
        """A ColumnBatch, or padded features for each column."""
        return features_of(batch, names)


TEXTS = Texts()


def routes_of(
    router_mapping: Mapping[str, Any], data_set: str, columns: Sequence[str], where: str
) -> tuple[str | None, ...]:
    """The route of each column through a Router, by column, or by data set and column; refused where one has none."""
    mapping = _of_data_set(router_mapping, data_set)
    missing = [column for column in columns if not isinstance(mapping.get(column), str)]
    if missing:
        raise ValueError(
            f"The model has a Router, but `router_mapping` has no route for the column {missing[0]!r} of {where}. Set "
            f"e.g. `router_mapping={dict.fromkeys(columns, 'document') | {columns[0]: 'query'}}`."
        )
    return tuple(mapping[column] for column in columns)


def usual_tasks(router_mapping: Any, data_set: str, columns: Sequence[str]) -> dict[str, Any]:
    """The first column for queries, the others for documents, unless the mapping says something else."""
    usual = {column: DOCUMENT if number else QUERY for number, column in enumerate(columns)}
    return usual | _of_data_set(router_mapping or {}, data_set)


def _of_data_set(mapping: Mapping[str, Any], data_set: str) -> dict[str, Any]:
    inner = mapping.get(data_set)
    return dict(inner if isinstance(inner, Mapping) else mapping)


def prompt_of(prompts: Any, data_set: str, column: str) -> str:
    """The prompt of a column: one for all, or by data set, by column, or by data set and column."""
    if isinstance(prompts, dict) and data_set in prompts:
        prompts = prompts[data_set]
    elif isinstance(prompts, dict):
        prompts = {key: value for key, value in prompts.items() if isinstance(value, str)}
    if isinstance(prompts, dict):
        return prompts.get(column) or ""
    return prompts or ""
