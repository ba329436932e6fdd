"""Does the similarity with a query put the relevant documents of a given list first?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import Task
from likewise.evaluation.inputs import check_sizes, check_text, file_name
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import reranking_metrics
from likewise.similarity import Similarity, cos_sim
from likewise.types import Encoder


@dataclass(eq=False, repr=False)
class RerankingEvaluator(SentenceEvaluator):
    """Rank each query's own positive and negative documents by their similarity with it.

    Metrics: `map` (mean average precision of the whole list), `mrr@k` and `ndcg@k`. Primary: `ndcg@k`. Tied documents
    are shared fairly, except in `mrr@k`, where positives come first.

    Args:
        samples: One dict for each query, with `query`, `positive` and `negative`: a text, and a text or a list of texts
            each. Samples without positives or without negatives are left out. A dict of such dicts will do too.
        at_k: The k of the metrics.
        name: Put in front of every metric.
        write_csv: Whether to write a csv file.
        similarity_fct: A query (D,) and its documents (M, D) -> scores (1, M) or (M,), larger is better.
        batch_size: For `encode`.
        show_progress_bar: For `encode`.
        use_batched_encoding: Whether to embed all queries and documents at once; else query by query, which takes longer
            and less memory.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
        mrr_at_k: The older name of `at_k`.
    """

    model_type = "SentenceTransformer"
    samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]]
    at_k: int = 10
    name: str = ""
    write_csv: bool = True
    similarity_fct: Similarity = cos_sim
    batch_size: int = 64
    show_progress_bar: bool | None = False
    use_batched_encoding: bool = True
    truncate_dim: int | None = None
    mrr_at_k: InitVar[int | None] = None

    def __post_init__(self, mrr_at_k: int | None) -> None:
        given = list(self.samples.values()) if isinstance(self.samples, Mapping) else list(self.samples)
        checked = [_checked_sample(i, sample) for i, sample in enumerate(given)]
        self._lists = [sample for sample in checked if sample["positive"] and sample["negative"]]
        if not self._lists:
            raise ValueError(
                f"None of the {len(given)} `samples` has both positives and negatives. Pass some that do."
            )
        self.samples = self._lists
        self.at_k = self.at_k if mrr_at_k is None else mrr_at_k
        check_sizes(at_k=self.at_k)
        self.csv_file = file_name("RerankingEvaluator", self.name, f"results_@{self.at_k}.csv")
        self.primary = f"ndcg@{self.at_k}"
        self.primary_metric = self.full_name(self.primary)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        newer = ("compute_metrics", "compute_metrics_batched", "compute_metrics_individual")
        older = ("compute_metrices", "compute_metrices_batched", "compute_metrices_individual")
        if not self.is_replaced(*newer, *older):
            found = self._measured(model, self.use_batched_encoding)
        else:
            compute = self.compute_metrics if self.is_replaced(*newer) else self.compute_metrices
            metrics = compute(model)
            found = Measurement.fixed_each({name: metrics[name] for name in ("map", "mrr", "ndcg")})
        return {"map": found["map"]} | {f"{key}@{self.at_k}": found[key] for key in ("mrr", "ndcg")}

    def compute_metrics(self, model: Encoder) -> dict[str, float]:
        """`map`, `mrr` and `ndcg`; override it to report others under these names."""
        if self.use_batched_encoding:
            return self.compute_metrics_batched(model)
        return self.compute_metrics_individual(model)

    def compute_metrics_batched(self, model: Encoder) -> dict[str, float]:
        """The metrics, all texts embedded at once."""
        return {key: one.value for key, one in self._measured(model, True).items()}

    def compute_metrics_individual(self, model: Encoder) -> dict[str, float]:
        """The metrics, texts embedded query by query."""
        return {key: one.value for key, one in self._measured(model, False).items()}

    def compute_metrices(self, model: Encoder) -> dict[str, float]:
        """The older name of `compute_metrics`, like the next two of theirs."""
        if self.use_batched_encoding:
            return self.compute_metrices_batched(model)
        return self.compute_metrices_individual(model)

    def compute_metrices_batched(self, model: Encoder) -> dict[str, float]:
        """See above."""
        return self.compute_metrics_batched(model)

    def compute_metrices_individual(self, model: Encoder) -> dict[str, float]:
        """See above."""
        return self.compute_metrics_individual(model)

    def embed_inputs(  # type: ignore[override]
        self,
        model: Encoder,
        sentences: Sequence[str],
        encode_fn_name: Task | None = None,
        show_progress_bar: bool | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The embeddings that are measured, (N, D), of queries or documents: override it to prepare or embed otherwise."""
        return self.embed(model, sentences, encode_fn_name, show_progress_bar=show_progress_bar, **kwargs)

    def _measured(self, model: Encoder, is_batched: bool) -> dict[str, Measurement]:
        step = len(self._lists) if is_batched else 1
        parts = [self._lists[start : start + step] for start in range(0, len(self._lists), step)]
        scores = [score for part in parts for score in self._scores(model, part)]
        is_positive = [len(sample["positive"]) for sample in self._lists]
        relevance = [np.arange(len(score)) < k for score, k in zip(scores, is_positive, strict=True)]
        found = reranking_metrics(torch.cat(scores).cpu().numpy(), relevance, self.at_k)
        return {key.partition("@")[0]: Measurement((values,)) for key, values in found.items()}

    def _scores(self, model: Encoder, samples: Sequence[Mapping[str, Any]]) -> list[Tensor]:
        """The scores of each sample's positives and then its negatives."""
        shown = {"show_progress_bar": self.show_progress_bar and self.use_batched_encoding}
        lists = [[*sample["positive"], *sample["negative"]] for sample in samples]
        texts = [sample["query"] for sample in samples], [text for some in lists for text in some]
        (queries,) = self.embed_columns(model, texts[0], encode_fn_name="query", **shown)
        (documents,) = self.embed_columns(model, texts[1], encode_fn_name="document", **shown)
        pairs = self._with_documents(queries, documents, [len(some) for some in lists])
        return [self.similarity_fct(query, own).reshape(-1) for query, own in pairs]

    def _with_documents(
        self, queries: Tensor, documents: Tensor, sizes: list[int]
    ) -> Iterable[tuple[Any, Any]]:
        """Each query with its own documents."""
        return zip(queries, documents.split(sizes), strict=True)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`MAP`, `MRR@k`, `NDCG@k`."""
        return {key.upper(): measurement.value for key, measurement in measured.items()}

    def get_config_dict(self) -> dict[str, Any]:
        return {"at_k": self.at_k} | super().get_config_dict()


def _checked_sample(place: int, sample: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("query", "positive", "negative"):
        if key not in sample:
            raise ValueError(
                f"Sample {place} must have `{key}`, but has only {list(sample)}. Rename its columns."
            )
    lists = {
        key: [sample[key]] if isinstance(sample[key], str) else list(sample[key])
        for key in ("positive", "negative")
    }
    check_text(sample["query"], f"the query of sample {place}")
    for key, texts in lists.items():
        for text in texts:
            check_text(text, f"each `{key}` of sample {place}")
    return {**sample, **lists}
