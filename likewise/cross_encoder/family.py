"""Pairs: the family of models that score pairs of texts."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from likewise.cross_encoder import data_checks
from likewise.cross_encoder.kept_texts import KeptTexts
from likewise.cross_encoder.losses.base import computes_from_scores
from likewise.cross_encoder.pairs import keeping_texts
from likewise.engine import TokenSequences
from likewise.engine.embed import Embed
from likewise.engine.pair_batch import PairBatch
from likewise.evaluation.measurement import Array
from likewise.losses.base import Columns, Label
from likewise.training.data import checks
from likewise.training.data.batch import Batch, RawColumns
from likewise.training.data.collation import label_tensor
from likewise.training.data.data_set_plan import DataSetPlan
from likewise.training.data.family import Family, Making
from likewise.training.data.sample import Sample

if TYPE_CHECKING:
    from datasets import Dataset

NO_COLUMNS = ("label", "dataset_name", "return_loss")
"""Keys of a batch by name that are no columns; nor are those of single texts, the prompt and the route."""


class Pairs(Family):
    """A pair of texts, a query with a list of documents, or a query with a positive and negatives: pairs to score."""

    model_name = "CrossEncoder"
    output = "scores"
    own_loss = "`likewise.cross_encoder.losses.Loss`, and write `takes`, `pairs(inputs)` and `compute(scores, labels, lengths)`"
    keeps_tokens = False

    def runs_for(self, loss: nn.Module) -> bool:
        """Whether the loss computes from scores."""
        return computes_from_scores(loss)

    def value(
        self, model: Any, loss: nn.Module, columns: Any, label: Any, embed: Embed | None
    ) -> tuple[Any, Sequence[Tensor]]:
        """Score all pairs of the batch, and compute the loss from the scores."""
        if isinstance(columns, PairBatch):
            return loss(columns, label, score=embed), ()
        raw = columns if isinstance(columns, RawColumns) else RawColumns(list(columns))
        options: dict[str, Any] = {"prompt": raw.prompt, "task": raw.task}
        options = {name: value for name, value in options.items() if value is not None}
        if computes_from_scores(loss):
            options["score"] = embed
        return loss(raw.columns, label, **options), ()

    def answers(self, model: Any, sample: Sample) -> tuple[Array, Array | None]:
        """The scores of a sample's pairs, or of several labels the probability of the right one; there are no embeddings."""
        if not len(sample.pairs):
            return np.empty(0), None
        pairs = [(sample.queries[query], sample.documents[document]) for query, document in sample.pairs]
        scores = model.predict(pairs, prompt=sample.prompts[0] or None, apply_softmax=model.num_labels > 1)
        if scores.ndim > 1:
            classes = sample.labels.astype(np.int64)
            if classes.min() < 0 or classes.max() >= scores.shape[1]:
                raise ValueError(
                    f"The labels go from {classes.min()} to {classes.max()}, but the model has {scores.shape[1]} classes. Choose "
                    "other data, or another label column."
                )
            scores = scores[np.arange(len(pairs)), classes]
        return scores, None

    def check_prompts(self, prompts: Any, data: dict[str, Any]) -> None:
        """A prompt stands in front of a pair's first text, whatever column that is: one for all, or by data set."""
        data_checks.check_prompts(prompts, data)

    def prompts(self, prompts: Any, name: str, columns: Sequence[str]) -> tuple[str, ...]:
        """The prompt of the first column; "" for the others."""
        prompt = (prompts.get(name) if isinstance(prompts, Mapping) else prompts) or ""
        return (prompt, *("" for _ in columns[1:]))[: len(columns)]

    def checked_columns(
        self, rows: Dataset, columns: Sequence[str], loss: nn.Module, where: str, modalities: Collection[str]
    ) -> None:
        """Texts, and lists of texts where the loss takes a list of documents, or does not say what it takes."""
        roles = checks.roles_of(loss, len(columns))
        declares = bool(getattr(loss, "takes", None))
        for number, column in enumerate(columns):
            is_list = data_checks.holds_lists(rows, column, where)
            if (roles is not None and roles[number] == data_checks.DOCUMENTS) or (is_list and not declares):
                data_checks.check_documents(rows, column, loss, where)
            elif is_list and roles is not None:
                raise data_checks.list_in_place_of_text(column, loss, where)
            elif not is_list:
                checks.check_texts(rows, column, where)

    def check_labels(
        self, rows: Dataset, label: str, columns: Sequence[str], loss: nn.Module, shape: Columns, where: str
    ) -> None:
        """Refuse labels that the loss does not take; lists of them may differ in length, as the lists of documents do."""
        if shape.label is Label.PER_DOCUMENT:
            data_checks.check_labels_of_documents(rows, label, columns[1], loss, where)
        elif shape.label is Label.CLASS and data_checks.holds_lists(rows, label, where):
            data_checks.check_probabilities(rows, label, loss, where)
        else:
            checks.check_labels(rows, label, loss, shape, len(columns), where)

    def collate(
        self,
        making: Making,
        plan: DataSetPlan,
        values: Mapping[str, Sequence[Any]],
        rows: Sequence[int],
        tokens: TokenSequences | None = None,
    ) -> Batch:
        """All pairs of all rows, tokenised; or the columns as they are, for a loss that runs the model by itself."""
        columns = [list(values[column]) for column in plan.texts]
        name = values.get("dataset_name", [plan.name])[0]
        prompt = plan.prompts[0] if plan.prompts else ""
        loss = making.loss_of(plan.name)
        if making.model.takes_tokens and not making.by_name and computes_from_scores(loss):
            lists = loss.pairs(columns, drawn_from(making.seed, rows))
            kept = making.kept.setdefault("texts", KeptTexts())
            with keeping_texts(making.model.modules(), kept):
                packed = making.model.token_sequences(lists.pairs, prompt or None).pack()
            batch = Batch({"columns": PairBatch(packed, lists.lengths), "dataset_name": name})
        else:
            known = {"dataset_name": name, key_of("prompt", plan.texts): prompt}
            batch = Batch(
                dict(zip(plan.texts, columns, strict=True))
                | {key: value for key, value in known.items() if value}
            )
        if plan.label is not None:
            label = labels_of(values[plan.label])
            batch["label"] = label.long() if plan.has_classes and isinstance(label, Tensor) else label
        return batch

    def features(self, batch: Mapping[str, Any], names: Collection[str]) -> Any:
        """A PairBatch, or the columns as they are, with the prompt."""
        if "columns" in batch:
            return batch["columns"]
        columns = {
            key: value
            for key, value in batch.items()
            if key not in NO_COLUMNS and value is not None and not isinstance(value, str)
        }
        prompt, task = (batch.get(key_of(name, columns)) for name in ("prompt", "task"))
        return RawColumns([*columns.values()], prompt or None, task)


PAIRS = Pairs()


def key_of(name: str, columns: Container[str]) -> str:
    """Under which key a batch by name has the prompt or the route: its name, unless a column is called that."""
    return f"_{name}" if name in columns else name


def drawn_from(seed: int, rows: Sequence[int]) -> torch.Generator:
    """What a batch's draws come from: the same for the same seed and rows, also where a run was taken up again."""
    return torch.Generator().manual_seed(zlib.crc32(np.asarray([seed, *rows], np.int64).tobytes()))


def labels_of(values: Sequence[Any]) -> Tensor | list[Tensor]:
    """(B,); or a tensor for each row where labels are lists, which may differ in length."""
    is_list = len(values) > 0 and (isinstance(values[0], list | tuple) or getattr(values[0], "ndim", 0) > 0)
    return [torch.as_tensor(value) for value in values] if is_list else label_tensor(values)
