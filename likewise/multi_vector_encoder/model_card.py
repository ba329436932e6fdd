"""MultiVectorEncoderModelCardData: what the card of a late interaction model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.examples import listed, printed, similarities, usage_texts
from likewise.card.write import NO_MODEL_ID
from likewise.modules import Transformer
from likewise.multi_vector_encoder.modules.multi_vector_mask import MultiVectorMask

TAGS = ("sentence-transformers", "multi-vector", "colbert", "late-interaction")
TASK = "semantic search with late interaction"
SIMILARITIES = {"maxsim": "MaxSim", "meanmaxsim": "MeanMaxSim"}


@dataclass
class MultiVectorEncoderModelCardData(BaseModelCardData):
    """What is known of a MultiVectorEncoder beside its weights. The Hub is never asked for anything.

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

    kind: ClassVar[str] = "MultiVectorEncoder"
    task_name: str | None = TASK
    tags: list[str] = field(default_factory=lambda: list(TAGS))
    generate_widget_examples: bool = True

    def pipeline_tag(self, model: Any) -> str:
        """The Hub's name for what the model is for."""
        return "feature-extraction"

    def purpose(self, model: Any) -> str:
        """What the model does with its inputs, as a sentence."""
        size = model.get_embedding_dimension()
        return f"It turns each token of a text into a vector of {size} numbers, for {self.task_name}."

    def facts(self, model: Any) -> Mapping[str, str]:
        """What the card lists of the embeddings and of how queries and documents are read."""
        facts = {
            "Model Type": "Multi-Vector Encoder",
            "Output Dimensionality": f"{model.get_embedding_dimension()} dimensions a token",
            "Similarity Function": SIMILARITIES[model.similarity_fn_name],
        }
        for module in model.modules():
            if isinstance(module, Transformer):
                expansion = module.query_expansion
                length = (
                    expansion["length"]
                    if expansion and expansion["strategy"] == "fixed"
                    else module.query_length
                )
                facts |= {"Query Length": f"{length} tokens"} if length else {}
                facts |= (
                    {"Document Length": f"{module.document_length} tokens"} if module.document_length else {}
                )
                facts |= {"Query Expansion": str(expansion)} if expansion else {}
            elif isinstance(module, MultiVectorMask) and module.skiplist_words:
                facts["Skiplist"] = f"{len(module.skiplist_words)} words"
        return facts

    def usage(self, model: Any) -> str:
        """A runnable example, with the similarities that the model really gives."""
        query, *documents = usage_texts(self.widget if self.generate_widget_examples else (), True)
        lines = [
            "from likewise import MultiVectorEncoder  # or: from sentence_transformers import MultiVectorEncoder",
            "",
            f'model = MultiVectorEncoder("{self.model_id or NO_MODEL_ID}")',
            listed("queries", [query]),
            listed("documents", documents),
            "query_embeddings = model.encode_query(queries)  # a list with a tensor (tokens, size) for each",
            "document_embeddings = model.encode_document(documents)",
            "",
            "similarities = model.similarity(query_embeddings, document_embeddings)",
            "print(similarities)",
        ]
        found = similarities(model, [query, *documents], True) if self.generate_widget_examples else None
        return "\n".join(lines if found is None else [*lines, *printed(found)])

    @property
    def first_sentence_of_usage(self) -> str:
        """What stands above the example."""
        return "Then load the model and embed the tokens of texts:"

    @property
    def resources(self) -> Mapping[str, str]:
        """Pages of the reference's blog worth reading, by title."""
        return {"Training and Finetuning Embedding Models": "train-sentence-transformers"}


def __getattr__(name: str) -> Any:
    if name != "MultiVectorEncoderModelCardCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from likewise.multi_vector_encoder.trainer import MultiVectorEncoderModelCardCallback

    return MultiVectorEncoderModelCardCallback
