"""What is known of a SparseEncoder beside its weights, for its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.data import SIMILARITIES
from likewise.card.examples import loading, printed, searching, similarities, usage_texts
from likewise.modules import Router
from likewise.sparse_encoder.modules import SparseAutoEncoder, SparseStaticEmbedding, SpladePooling

TAGS = ("sentence-transformers", "sparse-encoder", "sparse")
TASK = "semantic search and sparse retrieval"


@dataclass
class SparseEncoderModelCardData(BaseModelCardData):
    """What is known of a sparse model beside its weights."""

    __doc__ = f"{__doc__}\n\n    Attributes:{(BaseModelCardData.__doc__ or '').partition('Attributes:')[2]}"

    kind: ClassVar[str] = "SparseEncoder"
    first_sentence_of_usage: ClassVar[str] = "Then load the model and embed texts:"
    resources: ClassVar[Mapping[str, str]] = {
        "Training and Finetuning Sparse Embedding Models": "train-sparse-encoder"
    }
    task_name: str | None = TASK
    tags: list[str] = field(default_factory=lambda: list(TAGS))
    generate_widget_examples: bool = True

    def pipeline_tag(self, model: Any) -> str:
        """The Hub's name for what the model is for."""
        return "feature-extraction"

    def purpose(self, model: Any) -> str:
        """What the model does with its inputs, as a sentence."""
        size = model.get_embedding_dimension()
        return f"It turns texts into sparse vectors of {size} numbers, for {self.task_name}."

    def facts(self, model: Any) -> Mapping[str, str]:
        """What the card lists of the embeddings."""
        kept = model.max_active_dims
        most = "" if kept is None else f" (with at most {kept} active ones)"
        return {
            "Model Type": f"{kind_of(model)} Sparse Encoder".strip(),
            "Output Dimensionality": f"{model.get_embedding_dimension()} dimensions{most}",
            "Similarity Function": SIMILARITIES[model.similarity_fn_name],
        }

    def usage(self, model: Any) -> str:
        """A runnable example, with the similarities that the model really gives."""
        texts = usage_texts(self.widget if self.generate_widget_examples else (), True)
        size = model.get_embedding_dimension()
        shapes = f"torch.Size([1, {size}]) torch.Size([{len(texts) - 1}, {size}])"
        lines = [*loading(self), *searching(texts, shapes=shapes), "print(similarities)"]
        found = similarities(model, texts, True) if self.generate_widget_examples else None
        return "\n".join([*lines, *printed(found)])


def kind_of(model: Any) -> str:
    """What kind of sparse model it is, in words: "SPLADE", "CSR", or nothing where its modules are others."""
    modules = list(model.modules())
    is_splade = any(isinstance(module, SpladePooling) for module in modules)
    if isinstance(model[0], Router) and any(isinstance(m, SparseStaticEmbedding) for m in modules):
        return f"Asymmetric Inference-free {'SPLADE' if is_splade else ''}".strip()
    if is_splade:
        return "SPLADE"
    return "CSR" if any(isinstance(module, SparseAutoEncoder) for module in modules) else ""


def __getattr__(name: str) -> Any:
    if name != "SparseEncoderModelCardCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from likewise.sparse_encoder.trainer import SparseEncoderModelCardCallback

    return SparseEncoderModelCardCallback
