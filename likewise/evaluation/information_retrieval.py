"""Does a search with the model's embeddings find the documents that are relevant for a query?"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from likewise.evaluation import metrics as m
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import check_text, checked_function, file_name
from likewise.evaluation.measurement import Array, Measurement
from likewise.retrieval.finite import refuse_not_finite
from likewise.retrieval.topk import Ranking, StreamingTopK
from likewise.similarity import Similarity, SimilarityFunction

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

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
        queries, corpus, relevant = dict(self.queries), dict(self.corpus), self.relevant_docs
        self.queries_ids = [query for query in queries if relevant.get(query)]
        self.queries = [queries[query] for query in self.queries_ids]
        self.corpus_ids = list(corpus)
        self.corpus = list(corpus.values())
        self.main_score_function = checked_function(self.main_score_function)
        base = file_name("Information-Retrieval_evaluation", self.name)
        self.csv_file = f"{base}_results.csv"
        self.predictions_file = f"{base}_predictions.jsonl"
        self.predictions: dict[str, Ranking] = {}
        for query, text in zip(self.queries_ids, self.queries, strict=True):
            check_text(text, f"query {query!r}")
        for document, text in corpus.items():
            check_text(text, f"document {document!r} of the corpus")
        self._judgements = _Judgements.of([relevant[query] for query in self.queries_ids], self.corpus_ids)
        self._judgements.check(list(queries), list(relevant))

    def measure(
        self,
        model: SentenceTransformer,
        corpus_model: SentenceTransformer | None = None,
        corpus_embeddings: Tensor | None = None,
    ) -> dict[str, Measurement]:
        """See the class.

        Args:
            model: Embeds the queries, and by default the corpus.
            corpus_model: Embeds the corpus.
            corpus_embeddings: (M, D), the corpus embedded before, in the order of `corpus`.
        """
        rankings = self._search(model, corpus_model or model, corpus_embeddings)
        self.predictions = rankings if self.write_predictions else {}
        measured = {}
        for function, ranking in rankings.items():
            hits = self._judgements.hits(ranking)
            for key, values in self._per_query(hits, self._judgements.num_relevant).items():
                measured[f"{function}_{key}"] = Measurement((values,))
        return measured

    def _search(
        self, model: SentenceTransformer, corpus_model: SentenceTransformer, corpus_embeddings: Tensor | None
    ) -> dict[str, Ranking]:
        """The best documents of every query by every score function; ids are places in the sorted corpus ids."""
        query_prompt: dict[str, Any] = {"prompt_name": self.query_prompt_name, "prompt": self.query_prompt}
        corpus_prompt: dict[str, Any] = {"prompt_name": self.corpus_prompt_name, "prompt": self.corpus_prompt}
        queries = self.embed(model, self.queries, "query", **query_prompt)
        refuse_not_finite(queries, lambda row: f"The embedding of query {self.queries_ids[row]!r}")
        searches = {
            name: StreamingTopK(queries, self._max_k(), function)
            for name, function in self._score_functions(model).items()
        }
        for start in range(0, len(self.corpus), self.corpus_chunk_size):
            part = slice(start, start + self.corpus_chunk_size)
            if corpus_embeddings is None:
                documents = self.embed(corpus_model, self.corpus[part], "document", **corpus_prompt)
            else:
                documents = corpus_embeddings[part]
            named = [f"The embedding of document {document!r}" for document in self.corpus_ids[part]]
            refuse_not_finite(documents, named.__getitem__)
            for search in searches.values():
                search.add(documents, self._judgements.places[part])
        return {name: search.result() for name, search in searches.items()}

    def _score_functions(self, model: SentenceTransformer) -> Mapping[str, Similarity]:
        name = model.similarity_fn_name
        return self.score_functions or {name: SimilarityFunction.to_similarity_fn(name)}

    def _max_k(self) -> int:
        ranks = (self.accuracy_at_k, self.precision_recall_at_k, self.mrr_at_k, self.ndcg_at_k, self.map_at_k)
        return max(k for some in ranks for k in some)

    def _per_query(self, hits: Array, num_relevant: Array) -> dict[str, Array]:
        """Every metric of every query, in the order in which the reference lists them."""
        return (
            {f"accuracy@{k}": m.accuracy_at_k(hits, k) for k in self.accuracy_at_k}
            | {f"precision@{k}": m.precision_at_k(hits, k) for k in self.precision_recall_at_k}
            | {f"recall@{k}": m.recall_at_k(hits, num_relevant, k) for k in self.precision_recall_at_k}
            | {f"ndcg@{k}": m.ndcg_at_k(hits, num_relevant, k) for k in self.ndcg_at_k}
            | {f"mrr@{k}": m.reciprocal_rank_at_k(hits, k) for k in self.mrr_at_k}
            | {f"map@{k}": m.average_precision_at_k(hits, num_relevant, k) for k in self.map_at_k}
        )

    def primary_key(
        self, model: SentenceTransformer, metrics: Mapping[str, float] | None = None
    ) -> str | None:
        """See the class."""
        return self.choose_primary(model, metrics, self.primary_metric)

    def choose_primary(
        self, model: SentenceTransformer, metrics: Mapping[str, float] | None, chosen: str | None
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
            + [(kind, k) for kind, ks in self._other_ranks().items() for k in ks]
        )
        titles = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall"}
        functions = sorted({key.rpartition("_")[0] for key in measured})
        return {
            f"{function}-{titles.get(kind, kind.upper())}@{k}": measured[f"{function}_{kind}@{k}"].value
            for function in functions
            for kind, k in columns
        }

    def _other_ranks(self) -> dict[str, Sequence[int]]:
        return {"mrr": self.mrr_at_k, "ndcg": self.ndcg_at_k, "map": self.map_at_k}

    def write_files(self, output_path: Path, row: Mapping[str, Any]) -> None:
        """The csv file's row and, if asked for, what was found, `{fn}` in the files' names."""
        super().write_files(output_path, row)
        for function, ranking in self.predictions.items():
            name = self.predictions_file.replace(".jsonl", f"_{function}.jsonl")
            with (output_path / name).open("w", encoding="utf-8") as file:
                for prediction in self._described(ranking):
                    file.write(json.dumps(prediction) + "\n")

    def _described(self, ranking: Ranking) -> Iterator[dict[str, Any]]:
        rows = zip(self.queries_ids, self.queries, ranking.ids.tolist(), ranking.scores.tolist(), strict=True)
        for query, text, places, scores in rows:
            found = [
                {"corpus_id": self._judgements.sorted_ids[place], "score": score}
                for place, score in zip(places, scores, strict=True)
                if place >= 0
            ]
            yield {"query_id": query, "query": text, "results": found}

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments worth telling in the model card."""
        prompts = ("query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        given = {name: getattr(self, name) for name in prompts}
        return super().get_config_dict() | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class _Judgements:
    """Which documents are relevant for which query. A document is known by its place among the sorted corpus ids.

    Attributes:
        sorted_ids: The M corpus ids in ascending order.
        places: (M,) int64, the place of each document in the order of the corpus.
        pairs: (P,) int64, sorted: query * M + place for every relevant document that is in the corpus.
        num_relevant: (Q,) int64, relevant documents, whether in the corpus or not.
    """

    sorted_ids: list[Any]
    places: Tensor
    pairs: Array
    num_relevant: Array

    @classmethod
    def of(cls, relevant: Sequence[Collection[Any]], corpus_ids: Sequence[Any]) -> _Judgements:
        """From each query's relevant ids."""
        # Ids of different types have no order among themselves: the types are kept apart.
        order = sorted(range(len(corpus_ids)), key=lambda i: (type(corpus_ids[i]).__name__, corpus_ids[i]))
        place_of = {corpus_ids[i]: place for place, i in enumerate(order)}
        places = torch.tensor([place_of[document] for document in corpus_ids])
        found = [
            query * len(corpus_ids) + place_of[document]
            for query, documents in enumerate(relevant)
            for document in set(documents)
            if document in place_of
        ]
        counts = np.array([len(documents) for documents in relevant], dtype=np.int64)
        return cls([corpus_ids[i] for i in order], places, np.sort(np.array(found, dtype=np.int64)), counts)

    def check(self, query_ids: Sequence[Any], judged_ids: Sequence[Any]) -> None:
        """Refuse what cannot be evaluated, and warn of what lowers the results."""
        if not self.sorted_ids:
            raise ValueError("`corpus` is empty. Pass at least one document.")
        if not len(self.num_relevant):
            raise ValueError(
                f"No query has relevant documents: `queries` has ids such as {query_ids[:2]}, `relevant_docs` such as "
                f"{judged_ids[:2]}. Make the ids equal, in type too."
            )
        missing = int(self.num_relevant.sum()) - len(self.pairs)
        if not len(self.pairs):
            raise ValueError(
                f"None of the {missing} relevant documents is in `corpus`, which has ids such as {self.sorted_ids[:2]}. "
                "Make the ids of `relevant_docs` and `corpus` equal, in type too."
            )
        if missing:
            logger.warning("%d relevant documents are not in the corpus. They count as not found.", missing)

    def hits(self, ranking: Ranking) -> Array:
        """(Q, K) bool: which of the found documents are relevant."""
        ids = ranking.ids.cpu().numpy()
        pairs = np.arange(len(ids))[:, None] * len(self.sorted_ids) + ids
        return np.isin(pairs, self.pairs) & (ids >= 0)
