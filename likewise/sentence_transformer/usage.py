"""The card's code: how to load the model and embed texts, with the similarities that it really gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from likewise.card.examples import listed, printed, similarities, usage_texts
from likewise.card.write import NO_MODEL_ID

if TYPE_CHECKING:
    from likewise.card import BaseModelCardData


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
        lines += [f"queries = [\n    {texts[0]!r},\n]", listed("documents", texts[1:])]
        lines += ["query_embeddings = model.encode_query(queries)"]
        lines += ["document_embeddings = model.encode_document(documents)"]
        lines += [
            "print(query_embeddings.shape, document_embeddings.shape)",
            f"# (1, {size}) ({len(texts) - 1}, {size})",
        ]
        lines += ["", "similarities = model.similarity(query_embeddings, document_embeddings)"]
    else:
        lines += [listed("sentences", texts), "embeddings = model.encode(sentences)"]
        lines += ["print(embeddings.shape)", f"# ({len(texts)}, {size})"]
        lines += ["", "similarities = model.similarity(embeddings, embeddings)"]
    found = (
        similarities(model, texts, is_search, convert_to_tensor=True)
        if data.generate_widget_examples
        else None
    )
    if found is None:
        lines += ["print(similarities.shape)"]
        lines += [
            f"# torch.Size([1, {len(texts) - 1}])"
            if is_search
            else f"# torch.Size([{len(texts)}, {len(texts)}])"
        ]
    else:
        lines += ["print(similarities)", *printed(found)]
    return "\n".join(lines)
