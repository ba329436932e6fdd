"""Reranking of a first stage's results on NanoBEIR's small data sets, or on any in BEIR layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.cross_encoder.evaluation.base import PairEvaluator
from likewise.cross_encoder.evaluation.reranking import CrossEncoderRerankingEvaluator, with_distances
from likewise.evaluation.beir import is_beir_folder, load_subset, read_folder, read_hub
from likewise.evaluation.inputs import checked_column
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.nano_beir import check_names, known_names, title_of
from likewise.tables import read_rows

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder

LEFT_OUT = ("arguana", "touche2020")  # they ask for arguments, another task than the others
RANKING_FILE = "bm25.jsonl"


@dataclass(eq=False, repr=False)
class CrossEncoderNanoBEIREvaluator(PairEvaluator):
    """Rank the first results of a search on several small data sets anew, and the mean over them.

    Metrics: those of CrossEncoderRerankingEvaluator for each data set, named `Nano{Title}_R{rerank_k}_...`, and their aggregate,
    `NanoBEIR_R{rerank_k}_{aggregate_key}_...`. Primary: the aggregate of `ndcg@k`.

    Args:
        dataset_names: The data sets; by default all of NanoBEIR but arguana and touche2020, or all that the folder `dataset_id`
            contains.
        dataset_id: A data set on the Hub with the subsets corpus, queries, qrels and bm25; or a folder that is in BEIR layout,
            or whose subfolders are, with a first stage's ranking in bm25.jsonl: a line `{"query-id": ..., "corpus-ids": [...]}`
            for each query.
        rerank_k: How many of a query's first results are ranked.
        at_k: The k of the metrics.
        always_rerank_positives: Whether relevant documents beyond those are ranked too.
        prompt_name: For `predict`.
        batch_size: For `predict`.
        show_progress_bar: For `predict`.
        write_csv: Whether to write csv files, one for each data set and one for the aggregate.
        aggregate_fn: Makes one number of the data sets' numbers.
        aggregate_key: What to call that.
    """

    dataset_names: Sequence[str] | None = None
    dataset_id: str = "sentence-transformers/NanoBEIR-en"
    rerank_k: int = 100
    at_k: int = 10
    always_rerank_positives: bool = True
    prompt_name: str | None = None
    batch_size: int = 32
    show_progress_bar: bool | None = False
    write_csv: bool = True
    aggregate_fn: Callable[[list[float]], float] = np.mean
    aggregate_key: str = "mean"

    def __post_init__(self) -> None:
        folder = Path(self.dataset_id) if Path(self.dataset_id).is_dir() else None
        known = known_names(folder)
        usual = [name for name in known if folder is not None or name not in LEFT_OUT]
        self.dataset_names = checked_column(
            "dataset_names", usual if self.dataset_names is None else self.dataset_names
        )
        check_names(self.dataset_names, known)
        self.name = f"NanoBEIR_R{self.rerank_k}_{self.aggregate_key}"
        self.csv_file = f"NanoBEIR_evaluation_{self.aggregate_key}_results.csv"
        self.primary = f"ndcg@{self.at_k}"
        self.primary_metric = self.full_name(self.primary)
        self.evaluators = [
            CrossEncoderRerankingEvaluator(
                self._samples(name, folder),
                at_k=self.at_k,
                always_rerank_positives=self.always_rerank_positives,
                name=f"{title_of(name)}_R{self.rerank_k}",
                prompt_name=self.prompt_name,
                batch_size=self.batch_size,
                show_progress_bar=self.show_progress_bar,
                write_csv=self.write_csv,
            )
            for name in self.dataset_names
        ]

    def _samples(self, name: str, folder: Path | None) -> list[dict[str, Any]]:
        if folder is None:
            load = partial(load_subset, self.dataset_id)
            task = read_hub(load, title_of(name))
            rows = load("bm25", title_of(name), ["query-id", "corpus-ids"])
            ranking = {row["query-id"]: row["corpus-ids"] for row in rows}
        else:
            own = folder if is_beir_folder(folder) else folder / name
            task, ranking = read_folder(own), _folder_ranking(own)
        return [
            {
                "query": task.queries[query],
                "positive": [
                    task.corpus[i] for i in sorted(task.relevant.get(query, ())) if i in task.corpus
                ],
                "documents": [task.corpus[i] for i in found[: self.rerank_k] if i in task.corpus],
            }
            for query, found in ranking.items()
            if query in task.queries
        ]

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        **kwargs: Any,
    ) -> dict[str, float]:
        self.prepare(model)
        results: dict[str, float] = {}
        measured = []
        for evaluator in self.evaluators:
            measured.append(evaluator.measure(model))
            results |= evaluator.report(model, measured[-1], output_path, epoch, steps)
        return results | self.report(model, self._aggregate(measured), output_path, epoch, steps)

    def measure(self, model: CrossEncoder) -> dict[str, Measurement]:  # type: ignore[override]
        return self._aggregate([evaluator.measure(model) for evaluator in self.evaluators])

    def _aggregate(self, measured: Sequence[Mapping[str, Measurement]]) -> dict[str, Measurement]:
        return {
            key: Measurement.mean_of_means([some[key].rows[0] for some in measured], self.aggregate_fn)
            for key in measured[0]
        }

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`MAP`, `MRR@k`, `NDCG@k`."""
        return self.evaluators[0].csv_row(measured)

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the aggregate for the model card, as its distance from the first stage."""
        super().store_metrics_in_model_card_data(model, with_distances(metrics), epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        keys = ("dataset_names", "dataset_id", "rerank_k", "at_k", "always_rerank_positives")
        return {key: getattr(self, key) for key in keys}


def _folder_ranking(folder: Path) -> dict[str, list[str]]:
    path = folder / RANKING_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} must have {RANKING_FILE}, the first stage's ranking: a line "
            '`{"query-id": "1", "corpus-ids": ["7", "3"]}` for each query.'
        )
    ranking = {}
    for number, row in enumerate(read_rows(path)):
        if missing := {"query-id", "corpus-ids"} - row.keys():
            raise ValueError(
                f"Row {number} of {path} lacks {', '.join(map(repr, sorted(missing)))}. Correct it there."
            )
        ranking[row["query-id"]] = row["corpus-ids"]
    return ranking
