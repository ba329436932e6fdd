"""Are the most similar pairs among many texts the ones that mean the same?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.inputs import checked_texts
from likewise.evaluation.measurement import Measurement
from likewise.evaluation.metrics import mined_pairs
from likewise.retrieval.paraphrase_mining import mine_pairs
from likewise.similarity import cos_sim
from likewise.types import Encoder


class ParaphraseMiningEvaluator(SentenceEvaluator):
    """Mine pairs of texts by cosine, and compare them with known duplicates.

    Metrics: `average_precision`, which is primary, and `f1`, `precision`, `recall` at the `threshold` that maximises F1.

    Args:
        sentences_map: Texts by id.
        duplicates_list: Pairs of ids that are duplicates. Pairs with ids that have no text are left out.
        duplicates_dict: The same as nested dicts: `duplicates_dict[id1][id2]` is true.
        add_transitive_closure: Whether duplicates of duplicates are duplicates.
        query_chunk_size: So many texts are compared at a time ...
        corpus_chunk_size: ... with at most so many others.
        max_pairs: How many pairs to mine at most.
        top_k: How many pairs each text may propose.
        show_progress_bar: For `encode`.
        batch_size: For `encode`.
        name: Put in front of every metric.
        write_csv: Whether to write a csv file.
        truncate_dim: Cut embeddings to this many entries; None for the model's own setting.
    """

    model_type = "SentenceTransformer"
    primary = "average_precision"

    def __init__(
        self,
        sentences_map: Mapping[Any, str],
        duplicates_list: Iterable[tuple[Any, Any]] | None = None,
        duplicates_dict: Mapping[Any, Mapping[Any, bool]] | None = None,
        add_transitive_closure: bool = False,
        query_chunk_size: int = 5000,
        corpus_chunk_size: int = 100_000,
        max_pairs: int = 500_000,
        top_k: int = 100,
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        self.ids = list(sentences_map)
        (self.sentences,) = checked_texts(sentences_map=sentences_map.values())
        self.query_chunk_size, self.corpus_chunk_size = query_chunk_size, corpus_chunk_size
        self.max_pairs, self.top_k = max_pairs, top_k
        self.show_progress_bar, self.batch_size = show_progress_bar, batch_size
        self.name, self.write_csv, self.truncate_dim = name, write_csv, truncate_dim
        self._is_closed = add_transitive_closure
        duplicates: dict[Any, dict[Any, bool]] = {
            a: dict(them) for a, them in (duplicates_dict or {}).items()
        }
        for a, b in duplicates_list or ():
            if a in sentences_map and b in sentences_map:
                duplicates.setdefault(a, {})[b] = duplicates.setdefault(b, {})[a] = True
        self.duplicates = self.add_transitive_closure(duplicates) if add_transitive_closure else duplicates
        self._pair_numbers = self._numbered(_pairs(self.duplicates))
        self.total_num_duplicates = len(self._pair_numbers)
        if not self.total_num_duplicates:
            raise ValueError(
                "There are no duplicates among `sentences_map`. Pass `duplicates_list` with ids of its keys."
            )
        self.set_names("paraphrase_mining_evaluation")

    def _numbered(self, pairs: Iterable[tuple[Any, Any]]) -> np.ndarray[Any, Any]:
        """Each pair of two different texts once, as the number `i * N + j` of its places i < j; sorted."""
        place = {key: i for i, key in enumerate(self.ids)}
        places = [sorted((place[a], place[b])) for a, b in pairs if a != b and a in place and b in place]
        return np.unique(np.array([i * len(place) + j for i, j in places], dtype=np.int64))

    @staticmethod
    def add_transitive_closure(graph: Mapping[Any, Mapping[Any, bool]]) -> dict[Any, dict[Any, bool]]:
        """The duplicates, `graph[id1][id2]`, and those that follow: duplicates of duplicates. Override it for others."""
        closed: dict[Any, dict[Any, bool]] = {}
        for a, b in transitive_closure(_pairs(graph)):
            closed.setdefault(a, {})[b] = closed.setdefault(b, {})[a] = True
        return closed

    def measure(self, model: Encoder) -> dict[str, Measurement]:
        embeddings = self.embed(model, self.sentences)
        scores, pairs = mine_pairs(
            embeddings, self.query_chunk_size, self.corpus_chunk_size, self.max_pairs, self.top_k, cos_sim
        )
        numbers = (pairs[:, 0] * len(self.sentences) + pairs[:, 1]).cpu().numpy()
        found = mined_pairs(
            scores.cpu().numpy(), np.isin(numbers, self._pair_numbers), len(self._pair_numbers)
        )
        return {key: Measurement.fixed(value) for key, value in found.items()}

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """`precision`, `recall`, `f1`, `threshold`, `average_precision`."""
        return {
            key: measured[key].value
            for key in ("precision", "recall", "f1", "threshold", "average_precision")
        }

    def get_config_dict(self) -> dict[str, Any]:
        own = {"add_transitive_closure": self._is_closed, "max_pairs": self.max_pairs, "top_k": self.top_k}
        return own | super().get_config_dict()


def _pairs(graph: Mapping[Any, Mapping[Any, bool]]) -> list[tuple[Any, Any]]:
    return [(a, b) for a, others in graph.items() for b, is_duplicate in others.items() if is_duplicate]


def transitive_closure(pairs: Iterable[tuple[Hashable, Hashable]]) -> list[tuple[Hashable, Hashable]]:
    """All pairs of things that the given pairs link, directly or through others."""
    group_of: dict[Hashable, list[Hashable]] = {}
    for pair in pairs:
        first, second = (group_of.setdefault(one, [one]) for one in pair)
        if first is not second:
            larger, smaller = (first, second) if len(first) >= len(second) else (second, first)
            larger.extend(smaller)
            group_of.update(dict.fromkeys(smaller, larger))
    groups = {id(group): group for group in group_of.values()}
    return [pair for group in groups.values() for pair in combinations(group, 2)]
