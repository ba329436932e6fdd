"""Does a CrossEncoder put the relevant documents of a given list first?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.cross_encoder.evaluation.base import PairEvaluator
from likewise.evaluation.inputs import check_sizes, check_text, file_name
from likewise.evaluation.measurement import Array, Measurement
from likewise.evaluation.metrics import reranking_metrics

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder


@dataclass(frozen=True)
class RerankingSample:
    """A query with the documents to rank.

    Attributes:
        query: The query.
        documents: What is ranked.
        is_relevant: (documents,) bool.
        base_is_relevant: Relevance by the place in the first stage's ranking; None where there is none. Relevant documents that
            it lacks stand at its end; where it has not found any it is empty.
    """

    query: str
    documents: list[str]
    is_relevant: Array
    base_is_relevant: Array | None


@dataclass(eq=False, repr=False)
class CrossEncoderRerankingEvaluator(PairEvaluator):
    """Rank each query's documents by a model's scores; all pairs are scored together.

    Metrics: `map` (mean average precision of the whole list), `mrr@k` and `ndcg@k`, which is primary. With a first stage's
    ranking (`documents`) also its own: `base_map`, `base_mrr@k`, `base_ndcg@k`. A query without a relevant document to rank
    counts 0. Tied documents are shared fairly, except in `mrr@k`, where they keep their order.

    Args:
        samples: One dict for each query, with `query`, `positive` (a text or a list of texts), and either `negative` (a list) or
            `documents` (a first stage's ranking, best first). A dict of such dicts will do too.
        at_k: The k of the metrics.
        always_rerank_positives: With `documents`: whether positives that the first stage did not find are ranked too.
        name: Put in front of every metric.
        prompt_name: For `predict`.
        batch_size: For `predict`.
        show_progress_bar: For `predict`.
        write_csv: Whether to write a csv file.
        mrr_at_k: The older name of `at_k`.
    """

    samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]]
    at_k: int = 10
    always_rerank_positives: bool = True
    name: str = ""
    prompt_name: str | None = None
    batch_size: int = 64
    show_progress_bar: bool | None = False
    write_csv: bool = True
    mrr_at_k: InitVar[int | None] = None

    def __post_init__(self, mrr_at_k: int | None) -> None:
        self.samples = (
            list(self.samples.values()) if isinstance(self.samples, Mapping) else list(self.samples)
        )
        if not self.samples:
            raise ValueError("`samples` is empty. Pass at least one query to evaluate on.")
        self.at_k = self.at_k if mrr_at_k is None else mrr_at_k
        check_sizes(at_k=self.at_k)
        self._lists = [
            _checked_sample(i, sample, self.always_rerank_positives) for i, sample in enumerate(self.samples)
        ]
        self.csv_file = file_name("CrossEncoderRerankingEvaluator", self.name, f"results_@{self.at_k}.csv")
        self.primary = f"ndcg@{self.at_k}"
        self.primary_metric = self.full_name(self.primary)

    def measure(self, model: CrossEncoder) -> dict[str, Measurement]:  # type: ignore[override]
        """See the class.

        Raises:
            ValueError: The model gives several scores to a pair.
        """
        if model.num_labels != 1:
            raise ValueError(
                f"A ranking needs one score a pair, but this model gives {model.num_labels} (`num_labels`). Take the "
                "CrossEncoderClassificationEvaluator."
            )
        relevance = [
            sample.is_relevant if sample.is_relevant.any() else sample.is_relevant[:0]
            for sample in self._lists
        ]
        pairs = [
            (sample.query, document)
            for sample, relevant in zip(self._lists, relevance, strict=True)
            for document in sample.documents[: len(relevant)]
        ]
        measured = self._metrics(self.predict(model, pairs), relevance)
        base = [sample.base_is_relevant for sample in self._lists if sample.base_is_relevant is not None]
        if base:
            in_order = np.concatenate([-np.arange(len(relevant)) for relevant in base])
            measured |= {f"base_{key}": value for key, value in self._metrics(in_order, base).items()}
        return measured

    def _metrics(self, scores: Array, relevance: Sequence[Array]) -> dict[str, Measurement]:
        with np.errstate(invalid="ignore"):  # of a query without relevant documents
            values = reranking_metrics(scores, relevance, self.at_k)
        return {key: Measurement((np.nan_to_num(each),)) for key, each in values.items()}

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`MAP`, `MRR@k`, `NDCG@k`."""
        return {
            key.upper(): measurement.value
            for key, measurement in measured.items()
            if not key.startswith("base_")
        }

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the metrics for the model card; with a first stage, as its distance from that."""
        super().store_metrics_in_model_card_data(model, with_distances(metrics), epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        with_first_stage = any(sample.base_is_relevant is not None for sample in self._lists)
        return {"at_k": self.at_k} | (
            {"always_rerank_positives": self.always_rerank_positives} if with_first_stage else {}
        )


def with_distances(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as model cards show them where there is a first stage: "0.7105 (+0.2200)"."""
    bases = {key.replace("base_", ""): value for key, value in metrics.items() if "base_" in key}
    if not bases:
        return dict(metrics)
    return {key: f"{metrics[key]:.4f} ({metrics[key] - base:+.4f})" for key, base in bases.items()}


def _checked_sample(place: int, sample: Mapping[str, Any], with_missing: bool) -> RerankingSample:
    for key in ("query", "positive"):
        if key not in sample:
            raise ValueError(
                f"Sample {place} must have `{key}`, but has only {list(sample)}. Rename its columns."
            )
    if ("negative" in sample) == ("documents" in sample):
        raise ValueError(
            f"Sample {place} must have either `negative` or `documents`, but has {list(sample)}. Drop or add one."
        )
    check_text(sample["query"], f"the query of sample {place}")
    kinds = ("positive", "negative" if "negative" in sample else "documents")
    given = [[sample[kind]] if isinstance(sample[kind], str) else list(sample[kind]) for kind in kinds]
    for kind, texts in zip(kinds, given, strict=True):
        for text in texts:
            check_text(text, f"each text in `{kind}` of sample {place}")
    positives, others = given
    if kinds[1] == "negative":
        relevant = np.arange(len(positives) + len(others)) < len(positives)
        return RerankingSample(sample["query"], positives + others, relevant, None)
    known = set(positives)
    found = [text in known for text in others]
    base = np.array(found + [True] * (len(positives) - sum(found))) if any(found) else np.zeros(0, bool)
    if not with_missing:
        return RerankingSample(sample["query"], others, np.array(found, bool), base)
    documents = positives + [text for text in others if text not in known]
    return RerankingSample(sample["query"], documents, np.arange(len(documents)) < len(positives), base)
