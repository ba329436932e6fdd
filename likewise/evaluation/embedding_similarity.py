"""Does the similarity of two embeddings order pairs of texts as people do?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import checked_function, checked_numbers, function_names, primary_of
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import pearson, spearman
from likewise.precision import Precision, dequantize_embeddings, quantize_embeddings
from likewise.similarity import SimilarityFunction
from likewise.types import Encoder


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

    model_type = "SentenceTransformer"
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

    title = "Semantic Similarity"

    def __post_init__(self) -> None:
        self.check_texts("sentences1", "sentences2")
        self._gold = checked_numbers("scores", self.scores, len(self.sentences1))
        if np.ptp(self._gold) == 0:
            raise ValueError(
                f"All `scores` are {self._gold[0]}, with which nothing correlates. Pass varied scores."
            )
        self._main = checked_function(self.main_similarity)
        self.similarity_fn_names = function_names(self.similarity_fn_names, self._main)
        self.set_names("similarity_evaluation", self.precision)

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """From InputExamples with two texts and a score each."""
        texts1, texts2 = ([example.texts[i] for example in examples] for i in range(2))
        return cls(texts1, texts2, [example.label for example in examples], **kwargs)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        if self.precision in ("int8", "uint8"):  # the ranges are those of both columns together
            (whole,) = self.embed_columns(model, [*self.sentences1, *self.sentences2])
            first, second = whole.chunk(2)
        else:
            first, second = self.embed_columns(model, self.sentences1, self.sentences2)
        first, second = (_unpacked(side, self.precision) for side in (first, second))
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

    def embed_inputs(self, model: Encoder, sentences: Sequence[str], **kwargs: Any) -> Any:
        """The embeddings that are measured, (N, D), in `precision`: override it to prepare texts, or to embed otherwise."""
        found = super().embed_inputs(model, sentences, **kwargs)
        if self.precision is None:
            return found
        return quantize_embeddings(normalize(torch.from_numpy(found), dim=-1), self.precision)

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str:
        return primary_of("spearman_{}", self.similarity_fn_names or [model.similarity_fn_name], self._main)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`{fn}_pearson`, `{fn}_spearman` for every similarity function."""
        kinds = {key: key.split("_") for key in measured if not key.endswith("_max")}
        return {f"{name}_{kind}": measured[key].value for key, (kind, name) in kinds.items()}

    def get_config_dict(self) -> dict[str, Any]:
        return super().get_config_dict() | ({} if self.precision is None else {"precision": self.precision})


def _unpacked(embeddings: Tensor, precision: Precision | None) -> Tensor:
    """What 8-bit embeddings stand for, as float32: steps of equal size, or of packed bits one number, 0 or 1, for each."""
    if precision in ("binary", "ubinary"):
        bits = embeddings.numpy()
        return torch.from_numpy(dequantize_embeddings(bits, precision, 8 * bits.shape[1], None))
    return embeddings.float() if precision in ("int8", "uint8") else embeddings
