"""Several retrieval tasks, and their mean: NanoBEIR, or any tasks in BEIR layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.beir import RetrievalTask, is_beir_folder, load_subset, read_folder, read_hub
from likewise.evaluation.embedding import sharing_embeddings
from likewise.evaluation.information_retrieval import InformationRetrievalEvaluator
from likewise.evaluation.inputs import checked_column
from likewise.evaluation.measurement import Measurement
from likewise.similarity import Similarity, SimilarityFunction
from likewise.types import Encoder

_TITLES = (
    "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ", "QuoraRetrieval", "SCIDOCS",
    "ArguAna", "SciFact", "Touche2020",
)  # fmt: skip
TITLES = {title.lower(): title for title in _TITLES}
_SHARED_SETTINGS = (
    *("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k"),
    *("show_progress_bar", "batch_size", "write_csv", "truncate_dim"),
    *("score_functions", "main_score_function", "write_predictions"),
)
Prompts: TypeAlias = str | Mapping[str, str] | None


@dataclass(eq=False, repr=False)
class NanoBEIREvaluator(SentenceEvaluator):
    """Information retrieval on several small data sets, and the mean over them.

    Metrics: those of InformationRetrievalEvaluator for each data set, named `Nano{Title}_...` (or after its folder),
    and their aggregate, `NanoBEIR_{aggregate_key}_...`. Primary: the aggregate of `{fn}_ndcg@k` with the largest k.

    Args:
        dataset_names: The data sets; by default all of NanoBEIR, or all that the folder `dataset_id` contains.
        dataset_id: A data set, on the Hub or in a folder, with the subsets corpus, queries and qrels; or a folder that
            is in BEIR layout, or whose subfolders are.
        mrr_at_k: As in InformationRetrievalEvaluator, like the next four.
        show_progress_bar: For `encode`.
        batch_size: For `encode`.
        write_csv: Whether to write csv files, one for each data set and one for the aggregate.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
        score_functions: Functions of queries (Q, D) and documents (M, D) to scores (Q, M), by name; by default the
            model's similarity function.
        main_score_function: The name of the score function of the primary metric.
        aggregate_fn: Makes one number of the data sets' numbers.
        aggregate_key: What to call that.
        query_prompts: Put in front of every query; one text, or one for each data set.
        corpus_prompts: Put in front of every document; one text, or one for each data set.
        write_predictions: Whether to write what was found to files.
    """

    model_type = "SentenceTransformer"
    dataset_names: Sequence[str] | None = None
    dataset_id: str = "sentence-transformers/NanoBEIR-en"
    mrr_at_k: Sequence[int] = (10,)
    ndcg_at_k: Sequence[int] = (10,)
    accuracy_at_k: Sequence[int] = (1, 3, 5, 10)
    precision_recall_at_k: Sequence[int] = (1, 3, 5, 10)
    map_at_k: Sequence[int] = (100,)
    show_progress_bar: bool | None = False
    batch_size: int = 32
    write_csv: bool = True
    truncate_dim: int | None = None
    score_functions: Mapping[str, Similarity] | None = None
    main_score_function: str | SimilarityFunction | None = None
    aggregate_fn: Callable[[list[float]], float] = np.mean
    aggregate_key: str = "mean"
    query_prompts: Prompts = None
    corpus_prompts: Prompts = None
    write_predictions: bool = False

    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = InformationRetrievalEvaluator

    def __post_init__(self) -> None:
        self._folder = _beir_folder(self.dataset_id)
        names = known_names(self._folder) if self.dataset_names is None else self.dataset_names
        self.dataset_names = checked_column("dataset_names", names)
        end = "" if self.truncate_dim is None else f"_{self.truncate_dim}"
        self.name = f"NanoBEIR_{self.aggregate_key}{end}"
        self.csv_file = f"NanoBEIR_evaluation_{self.aggregate_key}_results.csv"
        self._validate_dataset_names()
        self._validate_prompts()
        settings = {name: getattr(self, name) for name in _SHARED_SETTINGS}
        self.evaluators = [self._load_dataset(name, **settings) for name in self.dataset_names]

    # What follows is called while the evaluator is made; a subclass replaces it for collections of its own.

    def _validate_dataset_names(self) -> None:
        """Refuse names of data sets that there are not."""
        check_names(self.dataset_names or [], known_names(self._folder))

    def _validate_prompts(self) -> None:
        """Make a prompt for each data set of a prompt for all."""
        names = self.dataset_names or []
        self.query_prompts = _checked_prompts("query_prompts", self.query_prompts, names)
        self.corpus_prompts = _checked_prompts("corpus_prompts", self.corpus_prompts, names)

    def _load_dataset(self, dataset_name: str, **ir_evaluator_kwargs: Any) -> InformationRetrievalEvaluator:
        """The evaluator of one data set.

        Args:
            dataset_name: As in `dataset_names`.
            **ir_evaluator_kwargs: For `information_retrieval_class`.
        """
        task = self._read(dataset_name)
        prompts: dict[str, Prompts] = {
            "query_prompt": self.query_prompts,
            "corpus_prompt": self.corpus_prompts,
        }
        given: dict[str, Any] = {
            key: by_name.get(dataset_name) for key, by_name in prompts.items() if isinstance(by_name, Mapping)
        }
        return self.information_retrieval_class(
            queries=task.queries, corpus=task.corpus, relevant_docs=task.relevant,
            name=self._get_human_readable_name(dataset_name), **ir_evaluator_kwargs, **given,
        )  # fmt: skip

    def _read(self, name: str) -> RetrievalTask:
        if self._folder is None:
            return read_hub(self._load_dataset_subset_split, title_of(name))
        return read_folder(self._folder if is_beir_folder(self._folder) else self._folder / name)

    def _load_dataset_subset_split(self, subset: str, split: str, required_columns: Sequence[str]) -> Any:
        """The rows, as dicts, of a subset (corpus, queries or qrels) of `dataset_id`."""
        return load_subset(self.dataset_id, subset, split, required_columns)

    def _get_human_readable_name(self, dataset_name: str) -> str:
        """What stands in front of a data set's metrics."""
        return title_of(dataset_name) + ("" if self.truncate_dim is None else f"_{self.truncate_dim}")

    def __call__(
        self, model: Encoder, output_path: str | None = None, epoch: int = -1, steps: int = -1, **kwargs: Any
    ) -> dict[str, float]:
        self.prepare(model)
        results: dict[str, float] = {}
        by_metric: dict[str, list[float]] = {}
        with sharing_embeddings(model):
            for evaluator in self.evaluators:
                found = evaluator(model, output_path, epoch, steps, **kwargs)
                results |= found
                for key, value in found.items():
                    by_metric.setdefault(key.removeprefix(evaluator.full_name("")), []).append(value)
        aggregated = {key: float(self.aggregate_fn(values)) for key, values in by_metric.items()}
        return results | self.report(model, Measurement.fixed_each(aggregated), output_path, epoch, steps)

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        with sharing_embeddings(model):
            measured = [evaluator.measure(model) for evaluator in self.evaluators]
        if not all(one.rows for some in measured for one in some.values()):  # numbers without items
            values = {key: [some[key].value for some in measured] for key in measured[0]}
            return Measurement.fixed_each({key: self.aggregate_fn(them) for key, them in values.items()})
        return {
            key: Measurement.mean_of_means([some[key].rows[0] for some in measured], self.aggregate_fn)
            for key in measured[0]
        }

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str | None:
        return self.evaluators[0].choose_primary(model, metrics, self.primary_metric)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """As InformationRetrievalEvaluator's."""
        return self.evaluators[0].csv_row(measured)

    def store_metrics_in_model_card_data(
        self, model: Encoder, metrics: Mapping[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the aggregate for the model card, unless there is only one data set, of which it would be a copy."""
        if len(self.dataset_names or []) > 1:
            super().store_metrics_in_model_card_data(model, metrics, epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        prompts = {"query_prompts": self.query_prompts, "corpus_prompts": self.corpus_prompts}
        given = {key: value for key, value in prompts.items() if value is not None}
        return (
            {"dataset_names": self.dataset_names, "dataset_id": self.dataset_id}
            | super().get_config_dict()
            | given
        )


def known_names(folder: Path | None) -> list[str]:
    """The data sets of a folder, which is one or holds several; without a folder those of NanoBEIR."""
    if folder is None:
        return list(TITLES)
    if is_beir_folder(folder):
        return [folder.resolve().name]
    return [path.name for path in sorted(folder.iterdir()) if is_beir_folder(path)]


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names of data sets that are not known, and none at all."""
    if unknown := [name for name in names if name.lower() not in {one.lower() for one in known}]:
        raise ValueError(f"There is no data set {unknown[0]!r}. Choose from {', '.join(known) or 'none'}.")
    if not names:
        raise ValueError("`dataset_names` is empty. Pass names, or drop it to evaluate on all data sets.")


def _beir_folder(dataset_id: str) -> Path | None:
    """The folder of that name, if it is in BEIR layout or contains folders that are; None for a data set to load."""
    folder = Path(dataset_id)
    if folder.is_dir() and any(is_beir_folder(path) for path in (folder, *folder.iterdir())):
        return folder
    return None


def _checked_prompts(argument: str, prompts: Prompts, names: Sequence[str]) -> dict[str, str] | None:
    if prompts is None or isinstance(prompts, str):
        return None if prompts is None else dict.fromkeys(names, prompts)
    if missing := [name for name in names if name not in prompts]:
        raise ValueError(
            f"`{argument}` must have a prompt for each data set, but has none for {missing}. Add ''."
        )
    return dict(prompts)


def title_of(name: str) -> str:
    """The data set's name as metrics and splits spell it: "NanoSciFact" for scifact."""
    return f"Nano{TITLES[name.lower()]}" if name.lower() in TITLES else name
