"""MultiVectorEncoderModelCardData: what the card of a late interaction model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.examples import loading, printed, searching, similarities, usage_texts
from likewise.modules import Transformer
from likewise.multi_vector_encoder.modules.multi_vector_mask import MultiVectorMask

TAGS = ("sentence-transformers", "multi-vector", "colbert", "late-interaction")
TASK = "semantic search with late interaction"
SIMILARITIES = {"maxsim": "MaxSim", "meanmaxsim": "MeanMaxSim"}


@dataclass
class MultiVectorEncoderModelCardData(BaseModelCardData):
    """What is known of a MultiVectorEncoder beside its weights."""

    __doc__ = f"{__doc__}\n\n    Attributes:{(BaseModelCardData.__doc__ or '').partition('Attributes:')[2]}"

    kind: ClassVar[str] = "MultiVectorEncoder"
    first_sentence_of_usage: ClassVar[str] = "Then load the model and embed the tokens of texts:"
    resources: ClassVar[Mapping[str, str]] = {
        "Training and Finetuning Embedding Models": "train-sentence-transformers"
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
        texts = usage_texts(self.widget if self.generate_widget_examples else (), True)
        note = "  # a list with a tensor (tokens, size) for each"
        lines = [*loading(self), *searching(texts, note), "print(similarities)"]
        found = similarities(model, texts, True) if self.generate_widget_examples else None
        return "\n".join([*lines, *printed(found)])


def __getattr__(name: str) -> Any:
    if name != "MultiVectorEncoderModelCardCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from likewise.multi_vector_encoder.trainer import MultiVectorEncoderModelCardCallback

    return MultiVectorEncoderModelCardCallback
