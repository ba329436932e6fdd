"""SentenceTransformerModelCardData: what the card of an embedding model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.data import SIMILARITIES
from likewise.card.examples import listed, loading, printed, searching, similarities, usage_texts

TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "dense")
TASK = "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, and more"


@dataclass
class SentenceTransformerModelCardData(BaseModelCardData):
    """What is known of an embedding model beside its weights."""

    __doc__ = f"{__doc__}\n\n    Attributes:{(BaseModelCardData.__doc__ or '').partition('Attributes:')[2]}"

    kind: ClassVar[str] = "SentenceTransformer"
    first_sentence_of_usage: ClassVar[str] = "Then load the model and embed texts:"
    resources: ClassVar[Mapping[str, str]] = {
        "Training and Finetuning Embedding Models": "train-sentence-transformers",
        "Matryoshka Embedding Models": "matryoshka",
        "Binary and Scalar Embedding Quantization": "embedding-quantization",
    }
    task_name: str | None = TASK
    tags: list[str] = field(default_factory=lambda: list(TAGS))
    generate_widget_examples: bool = True

    def pipeline_tag(self, model: Any) -> str:
        """The Hub's name for what the model is for."""
        return "sentence-similarity"

    def purpose(self, model: Any) -> str:
        """What the model does with its inputs, as a sentence."""
        size = model.get_embedding_dimension()
        return f"It turns inputs into vectors of {size} numbers, for {self.task_name}."

    def facts(self, model: Any) -> Mapping[str, str]:
        """What the card lists of the embeddings."""
        return {
            "Model Type": "Sentence Transformer",
            "Output Dimensionality": f"{model.get_embedding_dimension()} dimensions",
            "Similarity Function": SIMILARITIES[model.similarity_fn_name],
        }

    def usage(self, model: Any) -> str:
        """A runnable example, with the similarities that the model really gives."""
        is_search = bool(self.ir_model)
        texts = usage_texts(self.widget if self.generate_widget_examples else (), is_search)
        lines = loading(self)
        if model.supports("image"):
            reading = "model.encode(PIL.Image.open(path)), or model.encode(path)"
            lines.append(f"# Takes images as well as texts: {reading}")
        size = model.get_embedding_dimension()
        if is_search:
            lines += searching(texts, shapes=f"(1, {size}) ({len(texts) - 1}, {size})")
            shape = [1, len(texts) - 1]
        else:
            lines += [listed("sentences", texts), "embeddings = model.encode(sentences)"]
            lines += ["print(embeddings.shape)", f"# ({len(texts)}, {size})", ""]
            lines.append("similarities = model.similarity(embeddings, embeddings)")
            shape = [len(texts), len(texts)]
        wanted = self.generate_widget_examples
        found = similarities(model, texts, is_search, convert_to_tensor=True) if wanted else None
        if found is None:
            lines += ["print(similarities.shape)", f"# torch.Size({shape})"]
        else:
            lines += ["print(similarities)", *printed(found)]
        return "\n".join(lines)
