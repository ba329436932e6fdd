"""What evaluators of late interaction have in common: texts become lists of token embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.evaluation.embedding import once_each


def embed(evaluator: Any, model: Any, texts: Sequence[Any], task: str | None, **options: Any) -> list[Tensor]:
    """(tokens, D) for each text, each distinct text embedded once.

    Args:
        evaluator: Its `batch_size` and `show_progress_bar` are taken.
        model: A MultiVectorEncoder.
        texts: N texts.
        task: "query", "document" or None.
        **options: For `encode`.

    Raises:
        ValueError: A text's embeddings hold NaN or infinite entries.
    """
    encode = {"query": model.encode_query, "document": model.encode_document, None: model.encode}[task]
    settings = {"batch_size": evaluator.batch_size, "show_progress_bar": evaluator.show_progress_bar}
    distinct, places = once_each(texts)
    found = encode(distinct, **(settings | options))
    for text, embeddings in zip(distinct, found, strict=True):
        if not torch.isfinite(embeddings).all():
            raise ValueError(
                f"The model embeds tokens of {text!r:.80} with NaN or infinite entries. Look at that text, or at the model's weights."
            )
    return [found[place] for place in places]


def refuse_truncate_dim(truncate_dim: int | None) -> None:
    """Refuse to cut token embeddings.

    Raises:
        ValueError: They are to be cut.
    """
    if truncate_dim is not None:
        raise ValueError(
            f"`truncate_dim={truncate_dim}` is for embeddings of whole texts; those of tokens are not cut. Drop it."
        )
