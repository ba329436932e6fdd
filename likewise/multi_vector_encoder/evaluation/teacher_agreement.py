"""Do a model's scores agree with a teacher's?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from likewise.checked import above_zero_and_finite
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.measurement import Measurement
from likewise.losses.base import function_name
from likewise.multi_vector_encoder.evaluation.base import embed


@dataclass(eq=False, repr=False)
class MultiVectorDistillationEvaluator(SentenceEvaluator):
    """How near the model's scores of documents are to a teacher's.

    Metrics: `kl_divergence` (in nats, lower is better) and `spearman`. Primary: `spearman`. With several documents for each
    query both are means over queries, of which those with constant scores have no rank correlation; with one each, they are
    of all pairs together.

    Args:
        queries: Texts.
        documents: One text for each query, or equally many for each.
        scores: The teacher's, (queries,) or (queries, documents).
        temperature: Divides both sides' scores before the softmax, > 0; the divergence is multiplied by its square.
        student_temperature: Another one for the student; None for `temperature`.
        teacher_temperature: Another one for the teacher; None for `temperature`.
        similarity_fct: Scores of each query with the document of its number; None for the model's own.
        name: Put in front of every metric.
        batch_size: For `encode`.
        show_progress_bar: For `encode`.
        write_csv: Whether to write a csv file.

    Raises:
        ValueError: Numbers of texts and scores do not fit each other, or a temperature is not positive and finite.
    """

    model_type = "MultiVectorEncoder"
    primary = "spearman"
    queries: Sequence[Any]
    documents: Sequence[Any]
    scores: Any
    temperature: float = 1.0
    student_temperature: float | None = None
    teacher_temperature: float | None = None
    similarity_fct: Callable[..., Tensor] | None = None
    name: str = ""
    batch_size: int = 16
    show_progress_bar: bool | None = False
    write_csv: bool = True

    def __post_init__(self) -> None:
        self.queries, self.documents = list(self.queries), list(self.documents)
        self.scores = torch.as_tensor(self.scores, dtype=torch.float32).detach().cpu()
        self._is_nested = bool(self.documents) and isinstance(self.documents[0], list | tuple)
        number = len(self.documents[0]) if self._is_nested else 0
        shape = (len(self.queries), number) if self._is_nested else (len(self.queries),)
        is_even = not self._is_nested or all(len(row) == number for row in self.documents)
        if (
            not self.queries
            or len(self.documents) != len(self.queries)
            or not is_even
            or self.scores.shape != shape
        ):
            raise ValueError(
                f"`queries` ({len(self.queries)}), `documents` ({len(self.documents)}) and `scores` {tuple(self.scores.shape)} do not fit: "
                "give each query one document and a number, or equally many documents and a number for each."
            )
        self._student = self.temperature if self.student_temperature is None else self.student_temperature
        self._teacher = self.temperature if self.teacher_temperature is None else self.teacher_temperature
        above_zero_and_finite(self.temperature, "temperature")
        above_zero_and_finite(self._student, "student_temperature")
        above_zero_and_finite(self._teacher, "teacher_temperature")
        self.set_names("distillation_evaluation")

    def measure(self, model: Any) -> dict[str, Measurement]:
        from scipy.stats import spearmanr

        student, teacher = self._student_scores(model), self.scores
        logs = log_softmax(student / self._student, dim=-1), log_softmax(teacher / self._teacher, dim=-1)
        divergence = kl_div(*logs, reduction="none", log_target=True).sum(-1) * self._student**2
        rows = list(zip(teacher, student, strict=True)) if self._is_nested else [(teacher, student)]
        varying = [(one, other) for one, other in rows if len(one.unique()) > 1 and len(other.unique()) > 1]
        found = [spearmanr(one.numpy(), other.numpy())[0] for one, other in varying]
        if not self._is_nested:
            spearman = Measurement.fixed(float(found[0]) if found else 0.0)
            return {"kl_divergence": Measurement.fixed(float(divergence)), "spearman": spearman}
        by_query = divergence.numpy().astype(np.float64)
        ranks = Measurement((np.asarray(found),)) if found else Measurement.fixed(0.0)
        return {"kl_divergence": Measurement((by_query,)), "spearman": ranks}

    def _student_scores(self, model: Any) -> Tensor:
        score = self.similarity_fct or model.similarity_pairwise
        queries = embed(self, model, self.queries, "query")
        rows = self.documents if self._is_nested else [[text] for text in self.documents]
        columns = zip(*rows, strict=True)
        found = [score(queries, embed(self, model, list(texts), "document")).cpu() for texts in columns]
        return torch.stack(found, dim=1) if self._is_nested else found[0]

    def get_config_dict(self) -> dict[str, Any]:
        given = {
            "temperature": self.temperature,
            "student_temperature": self._student,
            "teacher_temperature": self._teacher,
        }
        usual = {
            "temperature": 1.0,
            "student_temperature": self.temperature,
            "teacher_temperature": self.temperature,
        }
        config: dict[str, Any] = {name: value for name, value in given.items() if value != usual[name]}
        if self.similarity_fct is not None:
            config["similarity_fct"] = function_name(self.similarity_fct)
        return config
