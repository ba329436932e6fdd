"""TokenTexts: the family of models that turn each text of each column into an embedding for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from likewise.engine.embed import Embed
from likewise.multi_vector_encoder.losses.base import OUTPUT
from likewise.training.data.texts import Texts


class TokenTexts(Texts):
    """Columns of texts, the first of queries and the others of documents, of which each becomes token embeddings."""

    model_name = "MultiVectorEncoder"
    output = OUTPUT
    own_loss = "`likewise.multi_vector_encoder.losses.base.Loss`, and write `takes` and `compute(embeddings, labels)`"
    by_task = True

    def value(
        self, model: Any, loss: nn.Module, columns: Any, label: Any, embed: Embed | None
    ) -> tuple[Any, Sequence[Tensor]]:
        """Embed the columns' tokens, and compute the loss from them; figures of health are of whole texts' embeddings alone."""
        return super().value(model, loss, columns, label, embed)[0], ()


TOKEN_TEXTS = TokenTexts()
