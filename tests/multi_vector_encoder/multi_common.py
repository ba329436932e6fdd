"""What tests of late interaction have in common: small models, and the comparison with the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder as Reference
from small import sentences, small_model_folder

from likewise import MultiVectorEncoder

QUERIES, DOCUMENTS = sentences(9, 1, 8), sentences(12, 2, 30)


def small_encoder(path: Path, size: int = 32, dropout: bool = True, **knobs: Any) -> MultiVectorEncoder:
    """A MultiVectorEncoder over a small random model, with these attributes of its Transformer."""
    config = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    model = MultiVectorEncoder(small_model_folder(path, hidden_size=size, **config), device="cpu")
    for name, value in knobs.items():
        setattr(model[0], name, value)
    return model


def twins(path: Path, size: int = 32, **knobs: Any) -> tuple[MultiVectorEncoder, Reference]:
    """The same weights here and in the reference."""
    own = small_encoder(path / "plain", size, dropout=False, **knobs)
    own.save_pretrained(path / "saved", create_model_card=False)
    return own, Reference(str(path / "saved"), device="cpu")


def check_equal(own: MultiVectorEncoder, reference: Reference) -> None:
    """Embeddings of queries, of documents and of texts without a task, and scores."""
    for task, texts in (("query", QUERIES), ("document", DOCUMENTS), (None, DOCUMENTS)):
        ours = own.encode(texts, task=task, prompt_name=task)
        theirs = reference.encode(texts, task=task, prompt_name=task)
        assert [len(one) for one in ours] == [len(one) for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    ours, theirs = (
        model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS))
        for model in (own, reference)
    )
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-6)
