"""Does a search with the model's embeddings find the documents that are relevant for a query?"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from likewise.checked import having
from likewise.evaluation import metrics as m
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import Task, checked_embeddings
from likewise.evaluation.inputs import FUNCTION_NAMES, check_sizes, check_text, checked_function, file_name
from likewise.evaluation.judgements import Judgements
from likewise.evaluation.measurement import Array, Measurement, mean
from likewise.retrieval.ranking_keys import Ranking
from likewise.retrieval.semantic_search import as_hits
from likewise.retrieval.topk import StreamingTopK
from likewise.similarity import Similarity
from likewise.types import Encoder

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class InformationRetrievalEvaluator(SentenceEvaluator):
    """Search a corpus with queries, and compare what is found with what is relevant.

    Metrics for every score function: `{fn}_accuracy@k`, `{fn}_precision@k`, `{fn}_recall@k`, `{fn}_ndcg@k`,
    `{fn}_mrr@k` and `{fn}_map@k`. Primary: `{fn}_ndcg@k` with the largest k, of the main score function, else of the
    one that does best on the first call.

    Documents with equal scores rank by ascending id. Relevant documents that are not in the corpus count as not found.

    Args:
        queries: Texts by query id. Queries without relevant documents are left out.
        corpus: Texts by document id.
        relevant_docs: For each query id, the ids of its relevant documents.
        corpus_chunk_size: So many documents are embedded and searched at a time; bounds the memory.
        mrr_at_k: Ranks for the mean reciprocal rank.
        ndcg_at_k: Ranks for the normalised discounted cumulative gain.
        accuracy_at_k: Ranks for the share of queries with a relevant document.
        precision_recall_at_k: Ranks for precision and recall.
        map_at_k: Ranks for the mean average precision.
        show_progress_bar: For `encode`.
        batch_size: For `encode`.
        name: Put in front of every metric.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
        score_functions: Functions of queries (Q, D) and documents (M, D) to scores (Q, M), by name; by default the
            model's similarity function.
        main_score_function: The name of the score function of the primary metric.
        query_prompt: Put in front of every query.
        query_prompt_name: The name of the model's prompt for queries.
        corpus_prompt: Put in front of every document.
        corpus_prompt_name: The name of the model's prompt for documents.
        write_predictions: Whether to write what was found to a file, one JSON object per query and line.
    """

    model_type = "SentenceTransformer"
    known_functions: ClassVar[Collection[str]] = FUNCTION_NAMES
    queries: Any
    corpus: Any
    relevant_docs: Mapping[Any, Collection[Any]]
    corpus_chunk_size: int = 50_000
    mrr_at_k: Sequence[int] = (10,)
    ndcg_at_k: Sequence[int] = (10,)
    accuracy_at_k: Sequence[int] = (1, 3, 5, 10)
    precision_recall_at_k: Sequence[int] = (1, 3, 5, 10)
    map_at_k: Sequence[int] = (100,)
    show_progress_bar: bool | None = False
    batch_size: int = 32
    name: str = ""
    write_csv: bool = True
    truncate_dim: int | None = None
    score_functions: Mapping[str, Similarity] | None = None
    main_score_function: Any = None
    query_prompt: str | None = None
    query_prompt_name: str | None = None
    corpus_prompt: str | None = None
    corpus_prompt_name: str | None = None
    write_predictions: bool = False

    def __post_init__(self) -> None:
        ranks = ("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k")
        for name in ranks:
            having(getattr(self, name), "__iter__", name, "a list of ranks, such as [10]")
        check_sizes(**{name: getattr(self, name) for name in (*ranks, "corpus_chunk_size")})
        if not len(self.ndcg_at_k) and type(self).primary_key is InformationRetrievalEvaluator.primary_key:
            raise ValueError("`ndcg_at_k` is empty, but the largest of its ranks is the primary metric's.")
        for name in ("queries", "corpus", "relevant_docs"):
            having(getattr(self, name), "keys", name, "a dict by id")
        queries, corpus, relevant = dict(self.queries), dict(self.corpus), self.relevant_docs
        self.queries_ids = [query for query in queries if relevant.get(query)]
        self.queries = [queries[query] for query in self.queries_ids]
        self.corpus_ids = list(corpus)
        self.corpus = list(corpus.values())
        self.main_score_function = checked_function(self.main_score_function, self.known_functions)
        base = file_name("Information-Retrieval_evaluation", self.name)
        self.csv_file = f"{base}_results.csv"
        self.predictions_file = f"{base}_predictions.jsonl"
        self.predictions: dict[str, Ranking] = {}
        for query, text in zip(self.queries_ids, self.queries, strict=True):
            check_text(text, f"query {query!r}")
            if isinstance(relevant[query], str):  # its letters would be taken for ids
                raise TypeError(f"`relevant_docs` needs a set of ids for {query!r}, not {relevant[query]!r}.")
        for document, text in corpus.items():
            check_text(text, f"document {document!r} of the corpus")
        self._judgements = Judgements.of([relevant[query] for query in self.queries_ids], self.corpus_ids)
        self._judgements.check(list(queries), list(relevant))

    def __call__(
        self, model: Encoder, output_path: str | None = None, epoch: int = -1, steps: int = -1, **kwargs: Any
    ) -> dict[str, float]:
        """Measure a model; arguments as for every evaluator, others as for `measure`."""
        self.prepare(model)
        measured = self.measure(model, output_path=output_path, **kwargs)
        return self.report(model, measured, output_path, epoch, steps)

    def measure(
        self,
        model: Encoder,
        corpus_model: Encoder | None = None,
        corpus_embeddings: Tensor | None = None,
        output_path: str | None = None,
    ) -> dict[str, Measurement]:
        """See the class.

        Args:
            model: Embeds the queries, and by default the corpus.
            corpus_model: Embeds the corpus.
            corpus_embeddings: (M, D), the corpus embedded before, in the order of `corpus`.
            output_path: For a `compute_all_metrics` of your own.
        """
        if self.is_replaced("compute_all_metrics", "compute_metrices"):
            given: dict[str, Any] = {"corpus_model": corpus_model, "corpus_embeddings": corpus_embeddings}
            given = {name: value for name, value in given.items() if value is not None}
            if self.is_replaced("compute_all_metrics"):
                return _flat(self.compute_all_metrics(model, output_path=output_path, **given))
            return _flat(self.compute_metrices(model, **given))
        return self._measured(model, corpus_model, corpus_embeddings)

    def _measured(
        self, model: Encoder, corpus_model: Encoder | None, corpus_embeddings: Tensor | None
    ) -> dict[str, Measurement]:
        rankings = self._search(model, corpus_model or model, corpus_embeddings)
        self.predictions = rankings if self.write_predictions else {}
        if self.is_replaced("compute_metrics"):
            return _flat({fn: self.compute_metrics(self._results(one)) for fn, one in rankings.items()})
        measured = {}
        for function, ranking in rankings.items():
            hits = self._judgements.hits(ranking)
            for key, values in self._per_query(hits, self._judgements.num_relevant).items():
                measured[f"{function}_{key}"] = Measurement((values,))
        return measured

    def compute_all_metrics(
        self,
        model: Encoder,
        corpus_model: Encoder | None = None,
        corpus_embeddings: Tensor | None = None,
        output_path: str | None = None,
    ) -> dict[str, dict[str, dict[int, float]]]:
        """The metrics by score function, kind and k: `["cosine"]["ndcg@k"][10]`; override it to report others.

        Args:
            model: As for `measure`, like the next two.
            output_path: Where files are written; by the evaluator itself after this.
        """
        metrics = {
            key: one.value for key, one in self._measured(model, corpus_model, corpus_embeddings).items()
        }
        return {name: _nested(metrics, name) for name in self._score_functions(model)}

    def compute_metrices(self, *args: Any, **kwargs: Any) -> dict[str, dict[str, dict[int, float]]]:
        """The older name of `compute_all_metrics`."""
        return self.compute_all_metrics(*args, **kwargs)

    def compute_metrics(
        self, queries_result_list: Sequence[Sequence[Mapping[str, Any]]]
    ) -> dict[str, dict[int, float]]:
        """The metrics of one score function by kind and k: `["ndcg@k"][10]`; override it to report others.

        Args:
            queries_result_list: For each query what was found for it, as dicts with `corpus_id` and `score`.
        """
        hits = np.zeros((len(queries_result_list), self._max_k()), dtype=bool)
        for row, found in enumerate(queries_result_list):
            ranked = sorted(found, key=lambda hit: (-hit["score"], hit["corpus_id"]))[: hits.shape[1]]
            relevant = self.relevant_docs[self.queries_ids[row]]
            hits[row, : len(ranked)] = [hit["corpus_id"] in relevant for hit in ranked]
        per_query = self._per_query(hits, self._judgements.num_relevant)
        return _nested({f"_{key}": mean(values) for key, values in per_query.items()}, "")

    def _results(self, ranking: Ranking) -> list[list[dict[str, Any]]]:
        """What was found for each query, best first, as `compute_metrics` takes it."""
        ids = self._judgements.sorted_ids
        return [[{**hit, "corpus_id": ids[hit["corpus_id"]]} for hit in hits] for hits in as_hits(ranking)]

    def _search(
        self, model: Encoder, corpus_model: Encoder, corpus_embeddings: Tensor | None
    ) -> dict[str, Ranking]:
        """The best documents of every query by every score function; ids are places in the sorted corpus ids."""
        query_prompt: dict[str, Any] = {"prompt_name": self.query_prompt_name, "prompt": self.query_prompt}
        corpus_prompt: dict[str, Any] = {"prompt_name": self.corpus_prompt_name, "prompt": self.corpus_prompt}
        (queries,) = self.embed_columns(model, self.queries, encode_fn_name="query", **query_prompt)
        searches = {
            name: StreamingTopK(queries, self._max_k(), function)
            for name, function in self._score_functions(model).items()
        }
        for start in range(0, len(self.corpus), self.corpus_chunk_size):
            part = slice(start, start + self.corpus_chunk_size)
            if corpus_embeddings is None:
                (documents,) = self.embed_columns(
                    corpus_model, self.corpus[part], encode_fn_name="document", **corpus_prompt
                )
            else:
                documents = checked_embeddings(
                    corpus_embeddings[part], self.corpus[part], "`corpus_embeddings`"
                )
            for search in searches.values():
                search.add(documents, self._judgements.places[part])
        return {name: search.result() for name, search in searches.items()}

    def _score_functions(self, model: Encoder) -> Mapping[str, Similarity]:
        return self.score_functions or self._model_score_functions(model)

    def _model_score_functions(self, model: Encoder) -> Mapping[str, Similarity]:
        """The score functions where none are given: the model's own similarity, by its name."""
        return {model.similarity_fn_name: model.similarity}

    def embed_inputs(  # type: ignore[override]
        self,
        model: Encoder,
        sentences: Sequence[str],
        encode_fn_name: Task | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The embeddings that are measured, (N, D), of queries or documents: override it to prepare or embed otherwise."""
        return self.embed(model, sentences, encode_fn_name, prompt_name=prompt_name, prompt=prompt, **kwargs)

    def _max_k(self) -> int:
        ranks = (self.accuracy_at_k, self.precision_recall_at_k, self.mrr_at_k, self.ndcg_at_k, self.map_at_k)
        return min(max(k for some in ranks for k in some), len(self.corpus))

    def _per_query(self, hits: Array, num_relevant: Array) -> dict[str, Array]:
        """Every metric of every query, in the order in which the reference lists them."""
        return (
            {f"accuracy@{k}": m.accuracy_at_k(hits, k) for k in self.accuracy_at_k}
            | {f"precision@{k}": m.precision_at_k(hits, k) for k in self.precision_recall_at_k}
            | {f"recall@{k}": m.recall_at_k(hits, num_relevant, k) for k in self.precision_recall_at_k}
            | {f"ndcg@{k}": self._ndcg_at_k(hits, num_relevant, k) for k in self.ndcg_at_k}
            | {f"mrr@{k}": m.reciprocal_rank_at_k(hits, k) for k in self.mrr_at_k}
            | {f"map@{k}": m.average_precision_at_k(hits, num_relevant, k) for k in self.map_at_k}
        )

    def _ndcg_at_k(self, hits: Array, num_relevant: Array, k: int) -> Array:
        if not self.is_replaced("compute_dcg_at_k"):
            return m.ndcg_at_k(hits, num_relevant, k)
        gains = [self.compute_dcg_at_k(row[:k].astype(int).tolist(), k) for row in hits]
        ideal = [self.compute_dcg_at_k([1] * int(number), k) for number in num_relevant]
        return np.array(gains, dtype=np.float64) / np.array(ideal, dtype=np.float64)

    @staticmethod
    def compute_dcg_at_k(relevances: Sequence[float], k: int) -> float:
        """What the first k of a ranking gain together: relevance / log2(rank + 1), summed."""
        top = np.asarray(relevances[:k], dtype=np.float64)
        return float(top @ m.discounts(len(top)))

    def get_corpus_id_ranks(self) -> Tensor:
        """(M,) the place of each document of the corpus in the ascending order of ids, by which equal scores rank."""
        return self._judgements.places

    def output_scores(self, scores: Mapping[str, Mapping[int, float]]) -> None:
        """Report one score function's metrics, as `compute_metrics` gives them; override it to do it otherwise."""
        named = [
            (kind.replace("@k", f"@{k}"), value) for kind, by_k in scores.items() for k, value in by_k.items()
        ]
        logger.info("%s", ", ".join(f"{name} {value:.4f}" for name, value in named))

    def log(self, metrics: Mapping[str, float], epoch: int, steps: int) -> None:
        """As every evaluator, unless `output_scores` was replaced, which then reports each score function."""
        if not self.is_replaced("output_scores"):
            super().log(metrics, epoch, steps)
            return
        short = {key.removeprefix(self.full_name("")): value for key, value in metrics.items()}
        for name in dict.fromkeys(key.rpartition("_")[0] for key in short):
            self.output_scores(_nested(short, name))

    def primary_key(self, model: Encoder, metrics: Mapping[str, float] | None = None) -> str | None:
        return self.choose_primary(model, metrics, self.primary_metric)

    def choose_primary(
        self, model: Encoder, metrics: Mapping[str, float] | None, chosen: str | None
    ) -> str | None:
        """The primary metric; None if `chosen` before stays, or if it cannot be known yet."""
        key = f"ndcg@{max(self.ndcg_at_k)}"
        names = sorted(self._score_functions(model))
        if self.main_score_function is not None:
            return f"{self.main_score_function.value}_{key}"
        if len(names) == 1:
            return f"{names[0]}_{key}"
        if chosen is not None or metrics is None:
            return None
        return max((f"{name}_{key}" for name in names), key=metrics.__getitem__)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`{fn}-Accuracy@k`, `-Precision@k`, `-Recall@k`, `-MRR@k`, `-NDCG@k`, `-MAP@k` for every score function."""
        columns = (
            [("accuracy", k) for k in self.accuracy_at_k]
            + [(kind, k) for k in self.precision_recall_at_k for kind in ("precision", "recall")]
            + [(kind, k) for kind in ("mrr", "ndcg", "map") for k in getattr(self, f"{kind}_at_k")]
        )
        titles = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall"}
        functions = sorted({key.rpartition("_")[0] for key in measured})
        return {
            f"{function}-{titles.get(kind, kind.upper())}@{k}": measured[f"{function}_{kind}@{k}"].value
            for function in functions
            for kind, k in columns
        }

    def write_files(self, output_path: Path, row: Mapping[str, Any]) -> None:
        """The csv file's row and, if asked for, what was found, `{fn}` in the files' names."""
        super().write_files(output_path, row)
        for function, ranking in self.predictions.items():
            name = self.predictions_file.replace(".jsonl", f"_{function}.jsonl")
            with (output_path / name).open("w", encoding="utf-8") as file:
                for prediction in self._described(ranking):
                    file.write(json.dumps(prediction) + "\n")

    def _described(self, ranking: Ranking) -> Iterator[dict[str, Any]]:
        for query, text, found in zip(self.queries_ids, self.queries, self._results(ranking), strict=True):
            yield {"query_id": query, "query": text, "results": found}

    def get_config_dict(self) -> dict[str, Any]:
        prompts = ("query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        given = {name: getattr(self, name) for name in prompts}
        return super().get_config_dict() | {name: value for name, value in given.items() if value is not None}


def _nested(metrics: Mapping[str, float], function: str) -> dict[str, dict[int, float]]:
    """One score function's metrics by kind and k: `{fn}_ndcg@10` becomes `["ndcg@k"][10]`."""
    nested: dict[str, dict[int, float]] = {}
    for key, value in metrics.items():
        name, _, kind_at_k = key.rpartition("_")
        kind, _, k = kind_at_k.partition("@")
        if name == function:
            nested.setdefault(f"{kind}@k", {})[int(k)] = value
    return nested


def _flat(scores: Mapping[str, Mapping[str, Mapping[int, float]]]) -> dict[str, Measurement]:
    """The metrics of all score functions as `{fn}_ndcg@10`; numbers without items."""
    return {
        f"{function}_{kind.replace('@k', f'@{k}')}": Measurement.fixed(value)
        for function, kinds in scores.items()
        for kind, values in kinds.items()
        for k, value in values.items()
    }
