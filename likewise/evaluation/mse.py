"""How far are a student's embeddings from a teacher's?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np

from likewise.checked import having
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import checked_texts, file_name
from likewise.evaluation.measurement import Array, Measurement
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class MSEEvaluator(SentenceEvaluator):
    """Mean squared error between the teacher's embeddings of texts and the student's of their translations.

    Metrics: `negative_mse`, which is primary: -100 times the squared difference, averaged over texts and dimensions; at
    most 0.

    Args:
        source_sentences: The texts that the teacher embeds, when the evaluator is made.
        target_sentences: For each of them the text that the student embeds: a translation, or the same.
        teacher_model: The teacher.
        show_progress_bar: For `encode`.
        batch_size: For `encode`.
        name: Put in front of every metric.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for each model's own setting.
    """

    model_type = "SentenceTransformer"
    source_sentences: InitVar[Sequence[str]]
    target_sentences: Sequence[str]
    teacher_model: InitVar[Encoder | None] = None
    show_progress_bar: bool | None = False
    batch_size: int = 32
    name: str = ""
    write_csv: bool = True
    truncate_dim: int | None = None

    primary = "negative_mse"
    title = "Knowledge Distillation"

    def __post_init__(self, source_sentences: Sequence[str], teacher_model: Any) -> None:
        sources, self.target_sentences = checked_texts(
            source_sentences=source_sentences, target_sentences=self.target_sentences
        )
        if not self.is_replaced("embed_inputs"):
            having(teacher_model, "encode", "teacher_model", "the model whose embeddings are the goal")
        self.csv_file = file_name(f"mse_evaluation_{self.name}_results.csv")
        self.primary_metric = self.full_name("negative_mse")
        self.source_embeddings = self._embedded(teacher_model, sources)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        errors = squared_errors(self.source_embeddings, self._embedded(model, self.target_sentences))
        return {"negative_mse": Measurement((-100 * errors,))}

    def _embedded(self, model: Encoder, texts: Sequence[str]) -> Array:
        (found,) = self.embed_columns(model, texts)
        return found.cpu().numpy()

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`MSE`, positive."""
        return {"MSE": -measured["negative_mse"].value}


def squared_errors(teacher: Array, student: Array) -> Array:
    """The squared difference of each text, averaged over dimensions: (N, D), (N, D) -> (N,)."""
    if teacher.shape != student.shape:
        raise ValueError(
            f"The teacher's embeddings have {teacher.shape[1]} dimensions, the student's {student.shape[1]}. "
            "Pass `truncate_dim`, or give the student a Dense module of the teacher's size."
        )
    return np.asarray(((teacher - student) ** 2).mean(axis=1, dtype=np.float64))
