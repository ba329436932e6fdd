"""TokenTexts: the family of models that turn each text of each column into an embedding for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from likewise.engine.embed import Embed
from likewise.evaluation.measurement import Array
from likewise.modules.query_expansion import DOCUMENT, QUERY
from likewise.multi_vector_encoder.losses.base import OUTPUT
from likewise.training.data.sample import Sample
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

    def answers(self, model: Any, sample: Sample) -> tuple[Array, Array | None]:
        """The scores of a sample's pairs, (P,); None in place of embeddings, as no text has one of its own."""
        queries, documents = (
            model.encode(texts, prompt=prompt, task=task)
            for texts, prompt, task in zip(
                (sample.queries, sample.documents),
                sample.prompts,
                sample.routes or (QUERY, DOCUMENT),
                strict=True,
            )
        )
        scores: Array = model.similarity(queries, documents).cpu().numpy()
        return scores[tuple(sample.pairs.T)], None


TOKEN_TEXTS = TokenTexts()
