"""Is a text's translation the most similar text in the other language?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.measurement import Measurement
from likewise.retrieval.ranking_keys import Ranking
from likewise.retrieval.topk import top_k
from likewise.types import Encoder

_NUM_PRINTED = 5


@dataclass(eq=False, repr=False)
class TranslationEvaluator(SentenceEvaluator):
    """The share of texts whose most similar text (by cosine) in the other language is their translation.

    Metrics: `src2trg_accuracy`, `trg2src_accuracy`, and their mean, `mean_accuracy`, which is primary.

    Args:
        source_sentences: Texts in one language.
        target_sentences: Their translations.
        show_progress_bar: For `encode`.
        batch_size: For `encode`.
        name: Put in front of every metric.
        print_wrong_matches: Whether to print the source texts that are matched wrongly.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
    """

    model_type = "SentenceTransformer"
    source_sentences: Sequence[str]
    target_sentences: Sequence[str]
    show_progress_bar: bool | None = False
    batch_size: int = 16
    name: str = ""
    print_wrong_matches: bool = False
    write_csv: bool = True
    truncate_dim: int | None = None

    primary = "mean_accuracy"

    def __post_init__(self) -> None:
        self.check_texts("source_sentences", "target_sentences")
        self.set_names("translation_evaluation")

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        sources, targets = self.embed_columns(model, self.source_sentences, self.target_sentences)
        if self.print_wrong_matches:
            self._print_wrong(top_k(sources, targets, _NUM_PRINTED))
        forth = _is_match(top_k(sources, targets, 1), self.target_sentences)
        back = _is_match(top_k(targets, sources, 1), self.source_sentences)
        return {
            "src2trg_accuracy": Measurement((forth,)),
            "trg2src_accuracy": Measurement((back,)),
            "mean_accuracy": Measurement(((forth + back) / 2,)),
        }

    def embed_inputs(self, model: Encoder, sentences: Sequence[str], **kwargs: Any) -> Any:
        """As every evaluator's, but as a list of tensors."""
        return list(self.embed(model, sentences, **kwargs))

    def _print_wrong(self, ranking: Ranking) -> None:
        found = zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True)
        for row, (ids, scores) in enumerate(found):
            if self.target_sentences[ids[0]] != self.target_sentences[row]:
                print(f"\nWrong: source {row} is most similar to target {ids[0]}")
                print(
                    f"  source: {self.source_sentences[row]}\n  target: {self.target_sentences[row]}\n  best targets:"
                )
                for i, score in zip(ids, scores, strict=True):
                    if i >= 0:
                        print(f"    {i} ({score:.4f}): {self.target_sentences[i]}")

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`src2trg`, `trg2src`."""
        return {key: measured[f"{key}_accuracy"].value for key in ("src2trg", "trg2src")}


def _is_match(ranking: Ranking, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """(N,) 1.0 where the best text is the one in the same row, or equal to it."""
    best = ranking.ids[:, 0].tolist()
    return np.array([texts[i] == text for i, text in zip(best, texts, strict=True)], dtype=np.float64)
