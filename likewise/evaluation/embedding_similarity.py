"""Does the similarity of two embeddings order pairs of texts as people do?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import (
    checked_function,
    checked_numbers,
    checked_texts,
    file_name,
    function_names,
    primary_of,
)
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import pearson, spearman
from likewise.precision import Precision, quantize_embeddings
from likewise.similarity import SimilarityFunction

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer


@dataclass(eq=False, repr=False)
class EmbeddingSimilarityEvaluator(SentenceEvaluator):
    """Correlation of similarities with gold scores.

    Metrics: `pearson_{fn}` and `spearman_{fn}` for every similarity function, and `pearson_max`, `spearman_max` if there
    are several. Primary: `spearman_{main}`, else `spearman_max`, else that of the only function.

    Args:
        sentences1: The first text of each pair.
        sentences2: The second text of each pair.
        scores: How similar the texts of each pair are; only order and proportions matter.
        batch_size: For `encode`.
        main_similarity: The similarity function of the primary metric: cosine, dot, euclidean or manhattan.
        similarity_fn_names: The similarity functions; by default the main one, else the model's.
        name: Put in front of every metric.
        show_progress_bar: For `encode`.
        write_csv: Whether to write a csv file.
        precision: Quantise the (normalised) embeddings to this before comparing them.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    batch_size: int = 16
    main_similarity: str | SimilarityFunction | None = None
    similarity_fn_names: Sequence[str] | None = None
    name: str = ""
    show_progress_bar: bool | None = False
    write_csv: bool = True
    precision: Precision | None = None
    truncate_dim: int | None = None

    def __post_init__(self) -> None:
        self.sentences1, self.sentences2 = checked_texts(
            sentences1=self.sentences1, sentences2=self.sentences2
        )
        self._gold = checked_numbers("scores", self.scores, len(self.sentences1))
        if np.ptp(self._gold) == 0:
            raise ValueError(
                f"All `scores` are {self._gold[0]}, with which nothing correlates. Pass varied scores."
            )
        self._main = checked_function(self.main_similarity)
        self.similarity_fn_names = function_names(self.similarity_fn_names, self._main)
        self.csv_file = file_name("similarity_evaluation", self.name, self.precision, "results.csv")

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """From InputExamples with two texts and a score each."""
        texts1, texts2 = ([example.texts[i] for example in examples] for i in range(2))
        return cls(texts1, texts2, [example.label for example in examples], **kwargs)

    def measure(self, model: SentenceTransformer) -> dict[str, Measurement]:
        """See the class."""
        embeddings = self.embed(model, [*self.sentences1, *self.sentences2])
        if self.precision is not None:
            embeddings = _quantized(torch.nn.functional.normalize(embeddings, dim=-1), self.precision)
        first, second = embeddings.chunk(2)
        names = self.similarity_fn_names or [model.similarity_fn_name]
        measured = {}
        for name in names:
            similarity = SimilarityFunction.to_similarity_pairwise_fn(name)(first, second)
            rows = (self._gold, similarity.cpu().numpy())
            measured[f"pearson_{name}"] = Measurement(rows, pearson)
            measured[f"spearman_{name}"] = Measurement(rows, spearman)
        if len(names) > 1:
            for kind in ("pearson", "spearman"):
                measured[f"{kind}_max"] = Measurement.largest([measured[f"{kind}_{name}"] for name in names])
        return measured

    def primary_key(self, model: SentenceTransformer, metrics: Mapping[str, float] | None = None) -> str:
        """See the class."""
        return primary_of("spearman_{}", self.similarity_fn_names or [model.similarity_fn_name], self._main)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`{fn}_pearson`, `{fn}_spearman` for every similarity function."""
        kinds = {key: key.split("_") for key in measured if not key.endswith("_max")}
        return {f"{name}_{kind}": measured[key].value for key, (kind, name) in kinds.items()}

    @property
    def description(self) -> str:
        """What is measured, in words."""
        return "Semantic Similarity"

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments worth telling in the model card."""
        return super().get_config_dict() | ({} if self.precision is None else {"precision": self.precision})


def _quantized(embeddings: Tensor, precision: Precision) -> Tensor:
    """Embeddings quantised, and back as float32; packed bits become one number, 0 or 1, each."""
    values = quantize_embeddings(embeddings, precision)
    if precision == "binary":
        values = (values.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        values = np.unpackbits(values, axis=1)
    return torch.from_numpy(values.astype(np.float32))
