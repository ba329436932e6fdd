"""SentenceTransformerModelCardData: what the card of an embedding model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.data import SIMILARITIES
from likewise.card.examples import listed, printed, similarities, usage_texts
from likewise.card.write import NO_MODEL_ID

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
        is_search = bool(self.ir_model)
        texts = usage_texts(self.widget if self.generate_widget_examples else (), is_search)
        lines = [
            "from likewise import SentenceTransformer  # or: from sentence_transformers import SentenceTransformer",
            "",
            f'model = SentenceTransformer("{self.model_id or NO_MODEL_ID}")',
        ]
        if model.supports("image"):
            reading = "model.encode(PIL.Image.open(path)), or model.encode(path)"
            lines.append(f"# Takes images as well as texts: {reading}")
        size = model.get_embedding_dimension()
        if is_search:
            lines += [
                f"queries = [\n    {texts[0]!r},\n]",
                listed("documents", texts[1:]),
                "query_embeddings = model.encode_query(queries)",
                "document_embeddings = model.encode_document(documents)",
                "print(query_embeddings.shape, document_embeddings.shape)",
                f"# (1, {size}) ({len(texts) - 1}, {size})",
            ]
            compared, shape = "query_embeddings, document_embeddings", [1, len(texts) - 1]
        else:
            lines += [listed("sentences", texts), "embeddings = model.encode(sentences)"]
            lines += ["print(embeddings.shape)", f"# ({len(texts)}, {size})"]
            compared, shape = "embeddings, embeddings", [len(texts), len(texts)]
        lines += ["", f"similarities = model.similarity({compared})"]
        wanted = self.generate_widget_examples
        found = similarities(model, texts, is_search, convert_to_tensor=True) if wanted else None
        if found is None:
            lines += ["print(similarities.shape)", f"# torch.Size({shape})"]
        else:
            lines += ["print(similarities)", *printed(found)]
        return "\n".join(lines)

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
