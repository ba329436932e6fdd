"""ReciprocalRankFusionEvaluator: what a dense and a sparse search find, each alone and fused.

    score of a document = sum over the searches that found it of 1 / (rrf_k + its rank)

Reference: Cormack et al. 2009, Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.evaluation.base import SentenceEvaluator, append_csv_row
from likewise.evaluation.inputs import check_sizes, file_name
from likewise.evaluation.metrics import discounts
from likewise.retrieval.fusion import reciprocal_rank_fusion

logger = logging.getLogger(__name__)


class ReciprocalRankFusionEvaluator(SentenceEvaluator):
    """Fuses two searches' rankings by their ranks, and compares. It is called without a model.

    Metrics: `map`, `mrr@k`, `ndcg@k` of the fused ranking (the last is primary), and the same as `dense_...` and `sparse_...`.

    Args:
        dense_samples: For each query a dict with `query_id`, `query`, `positive` (texts that are relevant) and `documents`
            (what was found, best first).
        sparse_samples: The same of the other search, in the same order.
        at_k: Ranks that count for mrr and ndcg.
        rrf_k: Added to every rank; the larger, the less the first ranks stand out.
        name: Put in front of every metric.
        batch_size: Kept for compatibility; nothing is embedded.
        show_progress_bar: Kept for compatibility; it takes no time.
        write_csv: Whether to write a csv file.
        write_predictions: Whether to write the fused rankings, one JSON object a line.

    Raises:
        ValueError: The samples do not belong together.
    """

    def __init__(
        self,
        dense_samples: Sequence[Mapping[str, Any]],
        sparse_samples: Sequence[Mapping[str, Any]],
        at_k: int = 10,
        rrf_k: int = 60,
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        write_predictions: bool = False,
    ) -> None:
        if len(dense_samples) != len(sparse_samples):
            raise ValueError(
                f"There are {len(dense_samples)} `dense_samples`, but {len(sparse_samples)} `sparse_samples`. Pass one for each "
                "query in both."
            )
        for row, (dense, sparse) in enumerate(zip(dense_samples, sparse_samples, strict=True)):
            for which, sample in (("dense", dense), ("sparse", sparse)):
                missing = {"query_id", "query", "positive", "documents"} - sample.keys()
                if missing:
                    raise ValueError(f"Sample {row} of `{which}_samples` has no `{min(missing)}`. Add it.")
            if dense["query_id"] != sparse["query_id"]:
                raise ValueError(
                    f"Sample {row} is of the query {dense['query_id']!r} in `dense_samples`, but of {sparse['query_id']!r} in "
                    "`sparse_samples`. Bring them into one order."
                )
        check_sizes(at_k=at_k)
        self.dense_samples, self.sparse_samples = dense_samples, sparse_samples
        self.at_k, self.rrf_k, self.name = at_k, rrf_k, name
        self.batch_size, self.show_progress_bar = batch_size, show_progress_bar
        self.write_csv, self.write_predictions = write_csv, write_predictions
        stem = file_name("ReciprocalRankFusion_evaluation", name)
        self.csv_file: str = f"{stem}_results.csv"
        self.predictions_file = f"{stem}_predictions.jsonl"
        self.primary_metric = self.full_name(f"ndcg@{at_k}")

    def __call__(  # type: ignore[override]
        self, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Fuse and compare.

        Args:
            output_path: The folder that files are written to; None for none.
            epoch: For the csv file.
            steps: For the csv file.
        """
        by_search: dict[str, list[tuple[float, float, float]]] = {"dense": [], "sparse": [], "": []}
        fused = []
        for dense, sparse in zip(self.dense_samples, self.sparse_samples, strict=True):
            given = dense["positive"]
            positive = [given] if isinstance(given, str) else list(given)
            documents = self.fuse(dense["documents"], sparse["documents"])
            found = {"dense": dense["documents"], "sparse": sparse["documents"], "": documents}
            for search, ranking in found.items():
                by_search[search].append(self._measured(ranking, positive))
            fused.append({key: dense[key] for key in ("query_id", "query")})
            fused[-1] |= {"positive": positive, "documents": documents}
        names = ("map", f"mrr@{self.at_k}", f"ndcg@{self.at_k}")
        means = {
            search: np.mean(values, axis=0) if values else np.zeros(3) for search, values in by_search.items()
        }
        metrics = {
            f"{search}_{name}".lstrip("_"): float(value)
            for search, values in means.items()
            for name, value in zip(names, values, strict=True)
        }
        if output_path is not None:
            self._write(Path(output_path), metrics, fused, epoch, steps)
        metrics = {self.full_name(key): value for key, value in metrics.items()}
        self.log(metrics, epoch, steps)
        return metrics

    def fuse(self, *rankings: Iterable[str]) -> list[str]:
        """Rankings, best first -> one; of documents with equal scores the one that comes first in the first ranking."""
        found = [[[{"corpus_id": document} for document in ranking]] for ranking in rankings]
        (fused,) = reciprocal_rank_fusion(found, None, rrf_k=self.rrf_k)
        return [hit["corpus_id"] for hit in fused]

    def _measured(self, ranking: Sequence[str], positive: Sequence[str]) -> tuple[float, float, float]:
        """Average precision, reciprocal rank and nDCG; positives that were not found come last, if any was found."""
        hits = np.array([document in positive for document in ranking], dtype=bool)
        if not hits.any():
            return 0.0, 0.0, 0.0
        hits = np.concatenate([hits, np.ones(max(0, len(positive) - int(hits.sum())), dtype=bool)])
        ranks = np.flatnonzero(hits) + 1
        precision = np.arange(1, len(ranks) + 1) / ranks
        gains = discounts(len(hits))[: self.at_k]
        ndcg = (hits[: self.at_k] * gains).sum() / gains[: len(ranks)].sum()
        return float(precision.mean()), float(1 / ranks[0]) if ranks[0] <= self.at_k else 0.0, float(ndcg)

    def _write(
        self, folder: Path, metrics: Mapping[str, float], fused: Sequence[Any], epoch: int, steps: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.write_csv and self.csv_file is not None:
            titles = {
                key if key.startswith(("dense", "sparse")) else f"fusion_{key}": value
                for key, value in metrics.items()
            }
            row = {
                f"{search.capitalize()}_{name.upper()}": value
                for (search, name), value in ((key.split("_"), value) for key, value in titles.items())
            }
            append_csv_row(folder / self.csv_file, {"epoch": epoch, "steps": steps, **row})
        if self.write_predictions:
            with (folder / self.predictions_file).open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(one) + "\n" for one in fused)
