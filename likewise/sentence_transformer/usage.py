"""The card's code: how to load the model and embed texts, with the similarities that it really gives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from likewise.card.examples import usage_texts
from likewise.card.write import NO_MODEL_ID
from likewise.processes import is_dist_initialized

if TYPE_CHECKING:
    from torch import Tensor

    from likewise.card import BaseModelCardData

logger = logging.getLogger(__name__)


def code(model: Any, data: BaseModelCardData) -> str:
    """A runnable example."""
    is_search = bool(data.ir_model)
    texts = usage_texts(data.widget if data.generate_widget_examples else (), is_search)
    lines = [
        "from likewise import SentenceTransformer  # or: from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{data.model_id or NO_MODEL_ID}")',
    ]
    if model.supports("image"):
        lines += [
            "# Takes images as well as texts: model.encode(PIL.Image.open(path)), or model.encode(path)"
        ]
    size = model.get_embedding_dimension()
    if is_search:
        lines += [f"queries = [\n    {texts[0]!r},\n]", _list("documents", texts[1:])]
        lines += ["query_embeddings = model.encode_query(queries)"]
        lines += ["document_embeddings = model.encode_document(documents)"]
        lines += [
            "print(query_embeddings.shape, document_embeddings.shape)",
            f"# (1, {size}) ({len(texts) - 1}, {size})",
        ]
        lines += ["", "similarities = model.similarity(query_embeddings, document_embeddings)"]
    else:
        lines += [_list("sentences", texts), "embeddings = model.encode(sentences)"]
        lines += ["print(embeddings.shape)", f"# ({len(texts)}, {size})"]
        lines += ["", "similarities = model.similarity(embeddings, embeddings)"]
    found = similarities(model, texts, is_search) if data.generate_widget_examples else None
    if found is None:
        lines += ["print(similarities.shape)"]
        lines += [
            f"# torch.Size([1, {len(texts) - 1}])"
            if is_search
            else f"# torch.Size([{len(texts)}, {len(texts)}])"
        ]
    else:
        with torch._tensor_str.printoptions(precision=4, sci_mode=False):
            lines += ["print(similarities)", *(f"# {line}" for line in str(found).splitlines())]
    return "\n".join(lines)


def _list(name: str, texts: list[str]) -> str:
    return "\n".join([f"{name} = [", *(f"    {text!r}," for text in texts), "]"])


def similarities(model: Any, texts: list[str], is_search: bool) -> Tensor | None:
    """How similar the texts are to the model; None where it cannot tell now."""
    if is_dist_initialized():
        return None  # the weights may be spread over processes that do not come here
    try:
        if is_search:
            first = model.encode_query(texts[:1], convert_to_tensor=True, show_progress_bar=False)
            second = model.encode_document(texts[1:], convert_to_tensor=True, show_progress_bar=False)
        else:
            first = second = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
        scores: Tensor = model.similarity(first, second).float().cpu()
        return scores
    except Exception as error:
        logger.warning("The model card shows no similarities: %r.", error)
        return None
