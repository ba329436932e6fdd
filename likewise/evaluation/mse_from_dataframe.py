"""How far are a student's embeddings of translations from a teacher's of the originals, over several languages?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass

import numpy as np

from likewise.checked import having
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import check_text
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.mse import squared_errors
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class MSEEvaluatorFromDataFrame(SentenceEvaluator):
    """Mean squared error between teacher and student, for several pairs of languages.

    Metrics: `negative_mse`, which is primary: -100 times the squared difference, averaged over texts and dimensions, and
    then over the pairs of languages.

    Args:
        dataframe: A list of dicts, each with one text in several languages: `{"en": ..., "de": ...}`. An empty text is
            one that is missing.
        teacher_model: The teacher.
        combinations: Pairs of languages: the teacher's and the student's, as in `[("en", "de"), ("en", "fr")]`.
        batch_size: For `encode`.
        name: Put in front of every metric.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for each model's own setting.
    """

    model_type = "SentenceTransformer"
    dataframe: InitVar[Sequence[Mapping[str, str]]]
    teacher_model: InitVar[Encoder]
    combinations: Sequence[tuple[str, str]]
    batch_size: int = 8
    name: str = ""
    write_csv: bool = True
    truncate_dim: int | None = None

    primary = "negative_mse"
    title = "Knowledge Distillation"

    def __post_init__(self, dataframe: Sequence[Mapping[str, str]], teacher_model: Encoder) -> None:
        if not self.combinations:
            raise ValueError('`combinations` is empty. Pass pairs of languages, such as [("en", "de")].')
        if not self.is_replaced("embed_inputs"):
            having(teacher_model, "encode", "teacher_model", "the model whose embeddings are the goal")
        self.set_names("mse_evaluation")
        pairs = [_parallel_texts(dataframe, source, target) for source, target in self.combinations]
        ends = np.cumsum([len(sources) for sources, _ in pairs])[:-1]
        texts = [text for sources, _ in pairs for text in sources]
        distinct = list(dict.fromkeys(texts))
        (teacher,) = self.embed_columns(teacher_model, distinct)
        rows = {text: i for i, text in enumerate(distinct)}
        self.source_embeddings = np.split(teacher.cpu().numpy()[[rows[text] for text in texts]], ends)
        self.target_sentences = [targets for _, targets in pairs]

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        errors = [
            -100 * squared_errors(teacher, self.embed_columns(model, targets)[0].cpu().numpy())
            for teacher, targets in zip(self.source_embeddings, self.target_sentences, strict=True)
        ]
        return {"negative_mse": Measurement.mean_of_means(errors)}

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """One column for each pair of languages, such as `en-de`: the mean squared error times 100, positive."""
        errors, combination = measured["negative_mse"].rows
        return {
            f"{source}-{target}": -float(errors[combination == i].mean())
            for i, (source, target) in enumerate(self.combinations)
        }


def _parallel_texts(
    dataframe: Sequence[Mapping[str, str]], source: str, target: str
) -> tuple[list[str], list[str]]:
    """The rows that have a text in both languages."""
    sources, targets = [], []
    for i, row in enumerate(dataframe):
        if not isinstance(row, Mapping):  # a frame of pandas gives names of columns
            raise TypeError(
                f"`dataframe` must be a list of dicts, but has {row!r:.60}. Of a frame of pandas pass `frame.to_dict('records')`."
            )
        for language in (source, target):
            if language not in row:
                raise ValueError(
                    f"Row {i} of `dataframe` must have the language {language!r}, but has {list(row)}."
                )
            check_text(row[language], f"{language!r} in row {i} of `dataframe`")
        if row[source].strip() and row[target].strip():
            sources.append(row[source])
            targets.append(row[target])
    if not sources:
        raise ValueError(
            f"No row of `dataframe` has texts in both {source!r} and {target!r}. Drop that combination."
        )
    return sources, targets
