"""MTEB: three kinds of tasks on texts from here, with a model, its wrapper and a ModelMeta; and a reranker."""

from collections import Counter

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper
from sentence_transformers import CrossEncoder, SentenceTransformer
from shared import MODEL, NAMES, RERANKER, SENTENCES, TOPICS, save, timed

ABOUT = {
    "description": "Docstrings of Python's functions.", "reference": None, "dataset": {"path": "none/none", "revision": "1"},
    "category": "t2t", "modalities": ["text"], "eval_splits": ["test"], "eval_langs": ["eng-Latn"],
    "date": ("2024-01-01", "2024-01-01"), "dialect": [], "domains": ["Written"], "task_subtypes": [],
    "license": "mit", "annotations_creators": "derived", "sample_creation": "found", "bibtex_citation": "",
}  # fmt: skip
COMMON = [topic for topic, _ in Counter(TOPICS).most_common(3)]


class Topics(AbsTaskClassification):
    metadata = TaskMetadata(name="Topics", type="Classification", main_score="accuracy", **ABOUT)
    n_experiments, samples_per_label = 2, 4

    def load_data(self, num_proc=None, **kwargs):
        rows = [
            (t, COMMON.index(topic)) for t, topic in zip(SENTENCES, TOPICS, strict=True) if topic in COMMON
        ]
        table = Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
        self.dataset = DatasetDict({"train": table, "test": table})
        self.data_loaded = True


class Shared(AbsTaskSTS):
    metadata = TaskMetadata(name="Shared", type="STS", main_score="cosine_spearman", **ABOUT)
    min_score, max_score = 0, 1

    def load_data(self, num_proc=None, **kwargs):
        pairs = list(zip(SENTENCES[:60], SENTENCES[60:120], strict=True))
        words = [(set(one.split()), set(other.split())) for one, other in pairs]
        columns = {
            "sentence1": [one for one, _ in pairs],
            "sentence2": [other for _, other in pairs],
            "score": [len(one & other) / len(one | other) for one, other in words],
        }
        self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
        self.data_loaded = True


class Functions(AbsTaskRetrieval):
    metadata = TaskMetadata(name="Functions", type="Retrieval", main_score="ndcg_at_10", **ABOUT)

    def load_data(self, num_proc=None, **kwargs):
        ids = [f"d{index}" for index in range(100)]
        queries = {"id": [f"q{index}" for index in range(30)], "text": NAMES[:30]}
        corpus = {"id": ids, "title": [""] * 100, "text": SENTENCES[:100]}
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_dict(corpus),
                    "queries": Dataset.from_dict(queries),
                    "relevant_docs": {f"q{index}": {f"d{index}": 1} for index in range(30)},
                    "top_ranked": dict.fromkeys(queries["id"], ids[:40]) if self.is_reranked else None,
                }
            }
        }
        self.data_loaded = True

    is_reranked = False


class Reranked(Functions):
    metadata = TaskMetadata(name="Reranked", type="Reranking", main_score="ndcg_at_10", **ABOUT)
    is_reranked = True


def loader(name, revision=None, device=None, **kwargs):
    return SentenceTransformerEncoderWrapper(MODEL, device="cpu")


def scores(model, tasks):
    with timed():
        result = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
    return [
        [score for _, score in sorted(part.items()) if isinstance(score, float)]
        for task in result.task_results
        for parts in task.scores.values()
        for part in parts
    ]


model = SentenceTransformer(MODEL, device="cpu")
meta = ModelMeta.create_empty({"loader": loader, "name": "local/model", "revision": "1"})
save(
    model=scores(model, [Topics(), Shared(), Functions()]),
    wrapper=scores(SentenceTransformerEncoderWrapper(MODEL, device="cpu"), [Shared(), Functions()]),
    meta=scores(meta, [Shared()]),
    reranker=scores(CrossEncoder(RERANKER, device="cpu"), [Reranked()]),
)
