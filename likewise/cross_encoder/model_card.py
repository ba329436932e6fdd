"""CrossEncoderModelCardData: what the card of a reranker or a classifier of pairs says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from likewise.card import BaseModelCardData
from likewise.card.examples import loading

TAGS = ("sentence-transformers", "cross-encoder", "reranker")
RANKING, CLASSIFYING = "text reranking and semantic search", "text pair classification"
PAIRS = (
    ("How many people live in Berlin?", "Berlin had 3.7 million inhabitants at the end of 2022."),
    ("How many people live in Berlin?", "The river Spree flows through the city."),
    ("How many people live in Berlin?", "A letter begins with the date and a greeting."),
)


@dataclass
class CrossEncoderModelCardData(BaseModelCardData):
    """What is known of a CrossEncoder beside its weights.

    `task_name` is None for what its number of labels says.
    """

    __doc__ = f"{__doc__}\n\n    Attributes:{(BaseModelCardData.__doc__ or '').partition('Attributes:')[2]}"

    kind: ClassVar[str] = "CrossEncoder"
    first_sentence_of_usage: ClassVar[str] = "Then load the model and score pairs of texts:"
    resources: ClassVar[Mapping[str, str]] = {"Training and Finetuning Reranker Models": "train-reranker"}
    tags: list[str] = field(default_factory=lambda: list(TAGS))

    def pipeline_tag(self, model: Any) -> str:
        """The Hub's name for what the model is for."""
        return "text-ranking" if model is None or model.num_labels == 1 else "text-classification"

    def purpose(self, model: Any) -> str:
        """What the model does with its inputs, as a sentence."""
        if model.num_labels == 1:
            return f"It gives a score to a pair of texts, for {self.task_name or RANKING}."
        return f"It gives {model.num_labels} scores to a pair of texts, for {self.task_name or CLASSIFYING}."

    def facts(self, model: Any) -> Mapping[str, str]:
        """What the card lists of the scores."""
        labels = f"{model.num_labels} label{'s' if model.num_labels > 1 else ''}"
        return {"Model Type": "Cross Encoder", "Number of Output Labels": labels}

    def usage(self, model: Any) -> str:
        """A runnable example: `predict`, and `rank` where a pair has one score."""
        lines = [
            *loading(self),
            "pairs = [",
            *(f"    [{query!r}, {document!r}]," for query, document in PAIRS),
            "]",
            "scores = model.predict(pairs)",
            "print(scores.shape)",
        ]
        if model.num_labels > 1:
            return "\n".join([*lines, f"# ({len(PAIRS)}, {model.num_labels})"])
        lines += [
            f"# ({len(PAIRS)},)",
            "",
            "# Or order texts by their relevance to one query",
            "ranks = model.rank(",
        ]
        lines += [
            f"    {PAIRS[0][0]!r},",
            "    [",
            *(f"        {document!r}," for _, document in PAIRS),
            "    ],",
            ")",
        ]
        return "\n".join([*lines, "print(ranks[0])", "# {'corpus_id': ..., 'score': ...}"])


def __getattr__(name: str) -> Any:
    if name != "CrossEncoderModelCardCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from likewise.cross_encoder.trainer import CrossEncoderModelCardCallback

    return CrossEncoderModelCardCallback
