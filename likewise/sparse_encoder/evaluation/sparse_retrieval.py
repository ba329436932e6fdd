"""Search with sparse embeddings: what is found, how sparse they are, and how many products a score takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from likewise.evaluation import InformationRetrievalEvaluator, NanoBEIREvaluator
from likewise.evaluation.measurement import Measurement
from likewise.sparse_encoder.evaluation.base import Seen, SparseEvaluator, figures_of

DENSE_ROWS = 1024  # documents whose embeddings are dense at the same time


class SparseInformationRetrievalEvaluator(SparseEvaluator, InformationRetrievalEvaluator):
    """InformationRetrievalEvaluator, with figures of queries and documents (`query_`, `corpus_`), and `avg_flops`.

    The latter is the number of products that the score of a query and a document takes, on average: the sum over entries of
    the share of queries times the share of documents in which it is active.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.corpus_chunk_size = min(self.corpus_chunk_size, DENSE_ROWS)

    def measure(
        self,
        model: Any,
        corpus_model: Any = None,
        corpus_embeddings: Tensor | None = None,
        output_path: str | None = None,
    ) -> dict[str, Measurement]:
        """As for dense models; `corpus_embeddings` may be COO."""
        given: dict[str, Any] = {"corpus_model": corpus_model, "output_path": output_path}
        if corpus_embeddings is None:
            return super().measure(model, **given)
        dense = corpus_embeddings.to_dense().cpu()
        self._given = Seen.of(dense, "document")
        try:
            return super().measure(model, corpus_embeddings=dense, **given)
        finally:
            del self._given

    def seen(self) -> dict[str, Seen]:
        """How sparse the queries and the documents were, each as a whole."""
        given = getattr(self, "_given", None)
        documents = [one for one in self._seen if one.task != "query"] if given is None else [given]
        return {
            "query": joined([one for one in self._seen if one.task == "query"]),
            "corpus": joined(documents),
        }

    def figures(self) -> dict[str, float]:
        """By `query_` and `corpus_`, and `avg_flops`."""
        self.last_seen = self.seen()
        return figures_of_search(self.last_seen)


class SparseNanoBEIREvaluator(SparseEvaluator, NanoBEIREvaluator):
    """NanoBEIREvaluator, with the figures of SparseInformationRetrievalEvaluator over all queries and documents."""

    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = (
        SparseInformationRetrievalEvaluator
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.max_active_dims is not None:
            self.name += f"_{self.max_active_dims}"

    def _get_human_readable_name(self, dataset_name: str) -> str:
        name = super()._get_human_readable_name(dataset_name)
        return name if self.max_active_dims is None else f"{name}_{self.max_active_dims}"

    def _load_dataset(self, dataset_name: str, **ir_evaluator_kwargs: Any) -> InformationRetrievalEvaluator:
        ir_evaluator_kwargs.pop("truncate_dim", None)
        return super()._load_dataset(
            dataset_name, max_active_dims=self.max_active_dims, **ir_evaluator_kwargs
        )

    def measure(self, model: Any, **kwargs: Any) -> dict[str, Measurement]:
        """The aggregated metrics, and the figures over all data sets."""
        return NanoBEIREvaluator.measure(self, model) | Measurement.fixed_each(self.figures())

    def report(
        self, model: Any, measured: Mapping[str, Measurement], *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """As every evaluator; figures are those of all data sets together."""
        figures = Measurement.fixed_each(self.figures())
        return super().report(model, {**measured, **figures}, *args, **kwargs)

    def figures(self) -> dict[str, float]:
        """By `query_` and `corpus_`, and `avg_flops`."""
        seen = [evaluator.last_seen for evaluator in self.evaluators]  # type: ignore[attr-defined]
        return figures_of_search({side: joined([one[side] for one in seen]) for side in ("query", "corpus")})


def joined(seen: Sequence[Seen]) -> Seen:
    """Several as one."""
    return Seen(seen[0].task, sum(one.num_rows for one in seen), np.sum([one.counts for one in seen], axis=0))


def figures_of_search(seen: Mapping[str, Seen]) -> dict[str, float]:
    """Those of queries and documents, and `avg_flops`."""
    shares = [one.counts / max(1, one.num_rows) for one in seen.values()]
    found: dict[str, float] = {}
    for side, one in seen.items():
        found |= figures_of([one], f"{side}_")
    return found | {"avg_flops": float(shares[0] @ shares[1])}
