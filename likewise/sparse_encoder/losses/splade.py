"""SpladeLoss: what another loss says of the embeddings, and how sparse they are.

    loss = base + document_weight * R(documents) + query_weight * R(queries)

Reference: Formal et al. 2022, From distillation to hard negative sampling, https://arxiv.org/abs/2205.04733, equation 2.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.losses.base import Loss, LossValue
from likewise.losses.wrapping import LossAround
from likewise.sparse_encoder.losses.base import FAMILY
from likewise.sparse_encoder.losses.flops import FlopsLoss

logger = logging.getLogger(__name__)


class SpladeLoss(LossAround):
    """A loss over sparse embeddings, with regularisers that keep them sparse. The first column is the queries'.

    The weights decide between quality and the number of active entries; a schedule raises them over the first third of a run
    (SpladeRegularizerWeightSchedulerCallback).

    Args:
        model: The model to train.
        loss: The inner loss: one of the Sparse... losses, or any that computes from embeddings.
        document_regularizer_weight: Of all columns but the first, >= 0.
        query_regularizer_weight: Of the first column, >= 0; None for none, as for queries that no transformer embeds.
        document_regularizer: Has `compute_loss_from_embeddings((N, V))`; None for FlopsLoss.
        query_regularizer: The same for queries.
        document_regularizer_threshold: FlopsLoss's, for documents.
        query_regularizer_threshold: FlopsLoss's, for queries.
        use_document_regularizer_only: Whether all columns are regularised as documents.

    Raises:
        TypeError: The inner loss does not compute from embeddings.
        ValueError: A weight is no number or below 0, or a regulariser lacks its method; or, with the first batch, there is one
            text column, and `use_document_regularizer_only` is False.
    """

    model_type = FAMILY
    cites = "formal2022distillationhardnegativesampling"

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
    ) -> None:
        super().__init__(model, loss)
        if use_document_regularizer_only and query_regularizer_weight is not None:
            logger.warning(
                "`query_regularizer_weight` (%r) is ignored: with `use_document_regularizer_only` all columns are regularised "
                "as documents. Drop it.",
                query_regularizer_weight,
            )
            query_regularizer_weight = None
        elif query_regularizer_weight is None and not use_document_regularizer_only:
            logger.warning(
                "`query_regularizer_weight` is None: queries are not regularised, which is right only where no transformer embeds "
                "them. Otherwise pass a weight, e.g. 5e-5."
            )
        for name, weight in (
            ("document_regularizer_weight", document_regularizer_weight),
            ("query_regularizer_weight", query_regularizer_weight),
        ):
            is_number = isinstance(weight, int | float) and weight >= 0
            if not is_number and (weight is not None or name.startswith("document")):
                raise ValueError(
                    f"`{name}` must be at least 0, but is {weight!r}. Pass a number, such as 3e-5."
                )
        self.document_regularizer_weight = document_regularizer_weight
        self.query_regularizer_weight = query_regularizer_weight
        self.use_document_regularizer_only = use_document_regularizer_only
        gather = bool(getattr(loss, "gather_across_devices", False))
        self.document_regularizer = document_regularizer or FlopsLoss(
            model, document_regularizer_threshold, gather
        )
        if query_regularizer is not None or not use_document_regularizer_only:
            self.query_regularizer = query_regularizer or FlopsLoss(
                model, query_regularizer_threshold, gather
            )
        for regularizer in (document_regularizer, query_regularizer):
            is_class = isinstance(regularizer, type)
            if regularizer is not None and (
                is_class or not hasattr(regularizer, "compute_loss_from_embeddings")
            ):
                raise ValueError(
                    f"A regulariser must be an object with a method `compute_loss_from_embeddings(embeddings)`, but is "
                    f"{regularizer!r}. Pass FlopsLoss(model), say."
                )

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, **context: Any
    ) -> dict[str, Tensor]:
        """(B, V) of each column, and labels -> `base_loss` (or the inner loss's parts) and what the regularisers say."""
        parts = named(self.loss.compute(list(embeddings), labels, **context))
        first = 0 if self.use_document_regularizer_only else 1
        if len(embeddings) <= first:
            raise ValueError(
                f"SpladeLoss takes the first text column for queries and the others for documents, but {self.inner_name} got one "
                "column. Pass `use_document_regularizer_only=True`, without a `query_regularizer_weight`."
            )
        documents: Any = self.document_regularizer
        parts["document_regularizer_loss"] = (
            documents.compute_loss_from_embeddings(torch.cat(list(embeddings)[first:]))
            * self.document_regularizer_weight
        )
        if self.query_regularizer_weight is not None:
            queries: Any = self.query_regularizer
            parts["query_regularizer_loss"] = (
                queries.compute_loss_from_embeddings(embeddings[0]) * self.query_regularizer_weight
            )
        return parts

    def get_config_dict(self) -> dict[str, Any]:
        """The inner loss's name and what differs from the defaults, for the model card."""
        config = {
            **super().get_config_dict(),
            "document_regularizer_weight": self.document_regularizer_weight,
        }
        if self.query_regularizer_weight is not None:
            config["query_regularizer_weight"] = self.query_regularizer_weight
        for kind in ("document", "query"):
            regularizer = getattr(self, f"{kind}_regularizer", None)
            if regularizer is not None and not isinstance(regularizer, FlopsLoss):
                config[f"{kind}_regularizer"] = type(regularizer).__name__
            if getattr(regularizer, "threshold", None) is not None:
                config[f"{kind}_regularizer_threshold"] = regularizer.threshold  # type: ignore[union-attr]
        return config


class CachedSpladeLoss(SpladeLoss):
    """SpladeLoss whose encoder runs in chunks that are recomputed in the backward pass: the same loss and gradients.

    The training argument `micro_batch_tokens` does this for any loss; prefer it.

    Args:
        model: The model to train.
        loss: As of SpladeLoss, and so are the other arguments of the same name.
        document_regularizer_weight: As there.
        query_regularizer_weight: As there.
        document_regularizer: As there.
        query_regularizer: As there.
        document_regularizer_threshold: As there.
        query_regularizer_threshold: As there.
        use_document_regularizer_only: As there.
        mini_batch_size: Sequences of a chunk, were they all as long as the longest of the batch.
        mini_batch_num_tokens: Tokens of a chunk; takes the place of `mini_batch_size`.
        show_progress_bar: Whether to show a bar over the chunks.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        document_regularizer_weight: float,
        query_regularizer_weight: float | None = None,
        document_regularizer: nn.Module | None = None,
        query_regularizer: nn.Module | None = None,
        document_regularizer_threshold: int | None = None,
        query_regularizer_threshold: int | None = None,
        use_document_regularizer_only: bool = False,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar
        super().__init__(
            model,
            loss,
            document_regularizer_weight,
            query_regularizer_weight,
            document_regularizer,
            query_regularizer,
            document_regularizer_threshold,
            query_regularizer_threshold,
            use_document_regularizer_only,
        )

    embed = Loss.embed  # its own, not the inner loss's


def named(value: LossValue) -> dict[str, Tensor]:
    """An inner loss's value by name."""
    return dict(value) if isinstance(value, dict) else {"base_loss": value}
