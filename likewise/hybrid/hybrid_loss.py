"""HybridLoss: a loss for each of several models that share their transformer, from one forward pass.

    loss = sum over models m of w_m * L_m

and, where the models teach themselves, with s_m a model's scores (times its loss's scale) of all documents of the batch:

    s = sum over m of t_m * s_m
    loss += -log softmax(s)[positive] + sum over m of w_m * cross entropy(softmax(s) as it is, softmax(s_m))

Reference: Chen et al. 2024, BGE M3-Embedding, https://arxiv.org/abs/2402.03216, section 3.3; there the terms are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from likewise.engine.embed import Batch, Embed
from likewise.hybrid.hybrid_encoder import OUTPUT, HybridEncoder
from likewise.losses import MultipleNegativesRankingLoss
from likewise.losses.base import Columns, Loss, computes_from_embeddings
from likewise.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from likewise.multi_vector_encoder.losses.base import Loss as TokenLoss
from likewise.multi_vector_encoder.losses.base import with_tasks
from likewise.multi_vector_encoder.losses.multiple_negatives_ranking import Ranked


class HybridLoss(Loss):
    """The weighted sum of a loss for each model of a HybridEncoder; the trainer is that of the first model.

    The other models' own modules are trained as the loss's weights: checkpoints keep them, and after training each model is
    saved by itself.

    Args:
        encoder: The models.
        losses: A loss for each, by the models' names, that computes from embeddings.
        weights: What each counts; None for 1 each.
        teacher_weights: What each model's scores count in their sum, from which all of them learn (self-distillation), e.g. 1 for
            dense and late, 0.3 for sparse; None for no such teacher. It scores the documents of this process, duplicates too.

    Raises:
        TypeError: A loss computes from something else.
        ValueError: The names do not fit, the losses take different columns, or those that are to be taught are not of the kind
            that ranks all documents of a batch (MultipleNegativesRankingLoss).
    """

    model_type = None

    def __init__(
        self,
        encoder: HybridEncoder,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float] | None = None,
        teacher_weights: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(encoder, HybridEncoder):
            raise TypeError(f"`encoder` must be a HybridEncoder, but is a {type(encoder).__name__}.")
        super().__init__(encoder.first)
        self.encoder = encoder
        self.weights = weights or dict.fromkeys(losses, 1.0)
        self.teacher_weights = teacher_weights
        given = {"losses": losses, "weights": self.weights, "teacher_weights": teacher_weights}
        for argument, value in given.items():
            if value is not None and set(value) != set(encoder.models):
                raise ValueError(
                    f"`{argument}` must have an entry for each model ({', '.join(encoder.models)}), but has: {', '.join(map(str, value))}."
                )
        for name, loss in losses.items():
            if not computes_from_embeddings(loss) or loss.model is not encoder[name]:
                raise TypeError(
                    f"The loss of `{name}`, a {type(loss).__name__}, must be one that computes from embeddings, and of that model. "
                    "Make it with the model of the encoder."
                )
            if teacher_weights is not None and not isinstance(_ranking(loss), RANKING):
                raise ValueError(
                    f"`teacher_weights` are for losses that rank all documents of a batch, but that of `{name}` is a "
                    f"{type(loss).__name__}. Drop them, or take a MultipleNegativesRankingLoss of its family."
                )
        self.losses = torch.nn.ModuleDict({name: losses[name] for name in encoder.models})
        self.takes = _common(list(losses.values()))
        self.mask_duplicates = any(loss.mask_duplicates for loss in losses.values())

    @property
    def embed(self) -> Embed:
        """As the first model's loss says."""
        first: Any = next(iter(self.losses.values()))
        found: Embed = first.embed
        return found

    def read(self, batch: Batch, embed: Embed) -> Sequence[Any]:
        """The embeddings of each column by the first model, then those by the second, and so on: from one forward pass."""
        if self.model is not self.encoder.first:
            raise ValueError(
                "The trainer's model is no longer the HybridEncoder's first. Make both anew, with a function for `loss`."
            )
        self.encoder.train(self.model.training)  # type: ignore[attr-defined]
        if any(isinstance(loss, TokenLoss) for loss in self.losses.values()):
            batch = with_tasks(batch)
        columns: Any = replace(embed, output=OUTPUT)(self.encoder, batch)  # type: ignore[arg-type]
        return [column.by_name[name] for name in self.losses for column in columns]

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """What each loss takes beside embeddings and labels."""
        return {"contexts": {name: loss.context(batch, embed) for name, loss in self.losses.items()}}  # type: ignore[operator]

    def compute(
        self,
        embeddings: Sequence[Any],
        labels: Tensor | None = None,
        contexts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """Embeddings of each column, model by model, and labels -> each loss, or its parts, by the models' names."""
        number = len(embeddings) // len(self.losses)
        parts: dict[str, Tensor] = {}
        scores: dict[str, Tensor] = {}
        for place, (name, loss) in enumerate(self.losses.items()):
            columns = embeddings[place * number : (place + 1) * number]
            context = dict((contexts or {}).get(name, {}))
            if self.teacher_weights is not None:
                scores[name] = _scores(_ranking(loss), columns, context)
            value = loss.compute(columns, labels, **context)  # type: ignore[operator]
            named = value if isinstance(value, dict) else {"loss": value}
            parts |= {f"{name}_{part}": self.weights[name] * each for part, each in named.items()}
        return parts | (self._taught(scores, number - 1) if scores else {})

    def _taught(self, scores: Mapping[str, Tensor], num_documents: int) -> dict[str, Tensor]:
        """What the sum of the models' scores, (B, B * C) each, is worth as a teacher, and how far each is from it."""
        weights = self.teacher_weights or {}
        teacher = torch.stack([weights[name] * each for name, each in scores.items()]).sum(dim=0)
        positives = torch.arange(len(teacher), device=teacher.device) * num_documents
        wanted = teacher.detach().softmax(dim=1)
        return {"teacher_loss": cross_entropy(teacher, positives)} | {
            f"{name}_distillation_loss": self.weights[name] * cross_entropy(each, wanted)
            for name, each in scores.items()
        }

    def get_config_dict(self) -> dict[str, Any]:
        """The losses' names and their weights, for the model card."""
        named = {name: type(loss).__name__ for name, loss in self.losses.items()}
        config = {"losses": named, "weights": dict(self.weights)}
        return config | ({"teacher_weights": dict(self.teacher_weights)} if self.teacher_weights else {})


RANKING = (MultipleNegativesRankingLoss, MultiVectorMultipleNegativesRankingLoss)


def _ranking(loss: Any) -> Any:
    """The loss that ranks, which may stand within another (SpladeLoss)."""
    return getattr(loss, "loss", loss)


def _scores(loss: Any, columns: Sequence[Any], context: dict[str, Any]) -> Tensor:
    """(B, B * C): of each query with all C columns of documents, row by row, times the loss's scale.

    MaxSim takes long: what the loss needs of it is put into the context of its `compute`, and not made again.
    """
    queries, *documents = columns
    scores: Tensor
    if isinstance(queries, Tensor):
        found = loss.similarity_fct(queries, torch.stack(documents, dim=1).flatten(0, 1))
        scores = found.float() * loss.scale
    else:
        ranked: Ranked = loss.rank(columns)
        if "ranked" in signature(loss.compute).parameters:  # a subclass may compute in a way of its own
            context["ranked"] = ranked
        # Documents of other processes are not of this one's teacher.
        own = ranked.right[0] + torch.arange(len(queries) * len(documents), device=queries.device)
        scores = ranked.scores.index_select(1, own).float()
    return scores


def _common(losses: Sequence[Loss]) -> tuple[Columns, ...]:
    """The shapes of data that the first loss takes, and all others too."""

    def shape(columns: Columns) -> tuple[Any, ...]:
        return len(columns.roles), columns.more, columns.label

    taken = [{shape(columns) for columns in loss.takes} for loss in losses]
    found = tuple(columns for columns in losses[0].takes if all(shape(columns) in each for each in taken))
    if not found:
        words = "; ".join(f"{type(loss).__name__}: {loss.takes[0].describe()}" for loss in losses)
        raise ValueError(f"The losses must take the same columns, but these do not: {words}.")
    return found
