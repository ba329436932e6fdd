"""SentenceTransformerModelCardData: what the card of an embedding model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.data import SIMILARITIES
from likewise.sentence_transformer import usage

TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "dense")
TASK = "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, and more"


@dataclass
class SentenceTransformerModelCardData(BaseModelCardData):
    """What is known of an embedding model beside its weights. The Hub is never asked for anything.

    Attributes:
        language: Language codes, e.g. "en" or ["en", "de"].
        license: Identifier of the licence, e.g. "apache-2.0".
        model_name: A title for the card.
        model_id: The name on the Hub, `owner/name`, for the card's code.
        train_datasets: What it was trained on: dicts with a `name`, and perhaps an `id` on the Hub.
        eval_datasets: What its loss was evaluated on, in the same form.
        task_name: What the model is for.
        tags: Tags on the Hub.
        local_files_only: Kept for compatibility: the Hub is not asked either way.
        generate_widget_examples: Whether examples are drawn from the data, and embedded to show their similarities.
    """

    kind: ClassVar[str] = "SentenceTransformer"
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
        return usage.code(model, self)

    @property
    def first_sentence_of_usage(self) -> str:
        """What stands above the example."""
        return "Then load the model and embed texts:"

    @property
    def resources(self) -> Mapping[str, str]:
        """Pages of the reference's blog worth reading, by title."""
        return {
            "Training and Finetuning Embedding Models": "train-sentence-transformers",
            "Matryoshka Embedding Models": "matryoshka",
            "Binary and Scalar Embedding Quantization": "embedding-quantization",
        }
