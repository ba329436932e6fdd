"""InformationRetrievalEvaluator: the reference's metrics, ties included, under its names, in its files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_common import (
    HalfOnes,
    WordCounts,
    assert_same_constructor,
    assert_same_evaluation,
    setting_id,
)
from small import sentences

import likewise.evaluation as ours
from likewise.evaluation import InformationRetrievalEvaluator
from likewise.similarity import cos_sim, dot_score, euclidean_sim

rng = random.Random(0)
CORPUS = {f"d{i}": text for i, text in enumerate(sentences(150, seed=1))}
QUERIES = {f"q{i}": text for i, text in enumerate(sentences(30, seed=2))}
RELEVANT = {query: set(rng.sample(list(CORPUS), rng.randint(0, 12))) for query in QUERIES}
# Texts and whole documents repeat, so that scores tie across ranks and chunks.
TIED_CORPUS = {f"d{i}": text for i, text in enumerate(sentences(60, seed=3, longest=3) * 3)}
TIED_RELEVANT = {query: set(rng.sample(list(TIED_CORPUS), rng.randint(0, 30))) for query in QUERIES}
FUNCTIONS = {"cos_sim": cos_sim, "dot_score": dot_score}
SETTINGS = [
    {},
    {"name": "scifact"},
    {"corpus_chunk_size": 17},
    {
        "mrr_at_k": [3, 200],
        "ndcg_at_k": [1, 5],
        "accuracy_at_k": [2],
        "precision_recall_at_k": [4],
        "map_at_k": [2, 300],
    },
    {"score_functions": FUNCTIONS, "name": "two"},
    {"score_functions": {"euclidean": euclidean_sim, "cosine": cos_sim}, "main_score_function": "euclidean"},
    {"truncate_dim": 5, "batch_size": 7},
    {"query_prompt": "the child sees ", "corpus_prompt": "a "},
    {"write_csv": False},
]


@pytest.fixture
def tied() -> HalfOnes:
    return HalfOnes()


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("InformationRetrievalEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=setting_id)
def test_metrics_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    metrics = assert_same_evaluation(
        "InformationRetrievalEvaluator",
        (QUERIES, CORPUS, RELEVANT),
        settings,
        (model, reference_model),
        tmp_path,
    )
    assert any(0 < value < 1 for value in metrics.values())


@pytest.mark.parametrize("settings", [{**some, "truncate_dim": None} for some in SETTINGS], ids=setting_id)
def test_tied_documents_rank_as_in_the_reference(
    settings: dict[str, Any], tied: HalfOnes, tmp_path: Path
) -> None:
    assert_same_evaluation(
        "InformationRetrievalEvaluator",
        (QUERIES, TIED_CORPUS, TIED_RELEVANT),
        settings,
        (tied, tied),
        tmp_path,
    )


def test_what_was_found_is_written_as_the_reference_writes_it(tied: HalfOnes, tmp_path: Path) -> None:
    arguments = (QUERIES, TIED_CORPUS, TIED_RELEVANT)
    settings = {"write_predictions": True, "map_at_k": [20], "name": "x"}
    assert_same_evaluation("InformationRetrievalEvaluator", arguments, settings, (tied, tied), tmp_path)
    (mine,) = (tmp_path / "ours").glob("*.jsonl")
    theirs = tmp_path / "theirs" / mine.name
    for a, b in zip(mine.read_text().splitlines(), theirs.read_text().splitlines(), strict=True):
        found, expected = json.loads(a), json.loads(b)
        assert list(found) == list(expected)
        assert found["query_id"] == expected["query_id"]
        assert found["query"] == expected["query"]
        assert [hit["corpus_id"] for hit in found["results"]] == [
            hit["corpus_id"] for hit in expected["results"]
        ]
        scores = [[hit["score"] for hit in results["results"]] for results in (found, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_without_a_main_function_the_best_one_decides(counts: WordCounts) -> None:
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, score_functions=FUNCTIONS)
    assert evaluator.primary_metric is None
    metrics = evaluator(counts)
    best = max(FUNCTIONS, key=lambda name: metrics[f"{name}_ndcg@10"])
    assert evaluator.primary_metric == f"{best}_ndcg@10"


def test_a_corpus_that_was_embedded_before_is_not_embedded_again(counts: WordCounts) -> None:
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=40)
    plain = evaluator(counts)
    embedded = counts.encode(list(CORPUS.values()), convert_to_tensor=True)
    counts.encoded.clear()
    assert evaluator(counts, corpus_embeddings=embedded) == plain
    assert not set().union(*counts.encoded) & (set(CORPUS.values()) - set(QUERIES.values()))


def test_another_model_may_embed_the_corpus(model: Any, other_model: Any) -> None:
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    embedded = other_model.encode(list(CORPUS.values()), convert_to_tensor=True)
    found = evaluator(model, corpus_model=other_model)
    assert found == pytest.approx(evaluator(model, corpus_embeddings=embedded), abs=1e-9)
    assert found != evaluator(model)


def test_a_ranking_worked_by_hand() -> None:
    class OneDimension(WordCounts):
        def encode(self, texts: Any, **_: Any) -> torch.Tensor:
            return torch.tensor([[float(text)] for text in texts])

        encode_query = encode_document = encode

    # Query "1" finds d3, d2, d1, d0; query "-1" the other way round; d9 is not in the corpus.
    corpus = {"d0": "0", "d1": "1", "d2": "2", "d3": "3"}
    evaluator = InformationRetrievalEvaluator(
        {"q": "1", "r": "-1", "unjudged": "2"},
        corpus,
        {"q": {"d2", "d1"}, "r": ["d0"], "unjudged": []},
        score_functions={"dot": dot_score},
        accuracy_at_k=[1, 2],
        precision_recall_at_k=[3],
        mrr_at_k=[10],
        ndcg_at_k=[2],
        map_at_k=[10],
    )
    metrics = evaluator(OneDimension())
    gain = 1 / 1.584962500721156  # 1 / log2(3)
    assert metrics == pytest.approx(
        {
            "dot_accuracy@1": 0.5,
            "dot_accuracy@2": 1.0,
            "dot_precision@3": (2 / 3 + 1 / 3) / 2,
            "dot_recall@3": 1.0,
            "dot_ndcg@2": (gain / (1 + gain) + 1) / 2,
            "dot_mrr@10": (1 / 2 + 1) / 2,
            "dot_map@10": ((1 / 2 + 2 / 3) / 2 + 1) / 2,
        }
    )


def test_relevant_documents_outside_the_corpus_count_as_not_found(
    tied: HalfOnes, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    relevant = {query: {*found, "nowhere"} for query, found in RELEVANT.items()}
    assert_same_evaluation(
        "InformationRetrievalEvaluator", (QUERIES, CORPUS, relevant), {}, (tied, tied), tmp_path
    )
    assert "30 relevant documents are not in the corpus" in caplog.text


@pytest.mark.parametrize("kind", [int, str])
def test_ids_may_be_numbers_or_texts(kind: type, tied: HalfOnes, tmp_path: Path) -> None:
    corpus = {kind(i): text for i, text in enumerate(TIED_CORPUS.values())}
    queries = {kind(i): text for i, text in enumerate(QUERIES.values())}
    relevant = {
        kind(i): {kind(int(document[1:])) for document in found}
        for i, found in enumerate(TIED_RELEVANT.values())
    }
    assert_same_evaluation(
        "InformationRetrievalEvaluator", (queries, corpus, relevant), {}, (tied, tied), tmp_path
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({"q": "a"}, {}, {"q": ["d"]}), ValueError, "`corpus` is empty"),
        (({"q": "a"}, {"d": "b"}, {"q": ["d"]}, -1), ValueError, "`corpus_chunk_size` must be .* but is -1"),
        (({"q": "a"}, {"d": "b"}, {"q": ["d"]}, 9, [0]), ValueError, "`mrr_at_k` must be .* but is 0"),
        (
            ({"q": "a"}, {"d": "b"}, {"q": ["d"]}, 9, 10),
            TypeError,
            "`mrr_at_k` must be a list of ranks, such as .* but is 10",
        ),
        (({"q": "a"}, {"d": "b"}, {"q": ["d"]}, 9, [1], []), ValueError, "`ndcg_at_k` is empty"),
        (({"q": "a"}, {"d": "b"}, {"r": ["d"]}), ValueError, r"`queries` has ids such as \['q'\]"),
        (
            ({1: "a"}, {1: "b"}, {1: ["1"]}),
            ValueError,
            r"None of the 1 relevant documents is in `corpus`.*\[1\]",
        ),
        (({"q": None}, {"d": "b"}, {"q": ["d"]}), TypeError, "Query 'q' must be a text, but is None"),
        (
            ({"q": "a"}, {"d": 3}, {"q": ["d"]}),
            TypeError,
            "Document 'd' of the corpus must be a text, but is 3",
        ),
        ((["a cat"], {"d": "b"}, {"q": ["d"]}), TypeError, "`queries` must be a dict by id, but is a list"),
        (({"q": "a"}, {"d": "b"}, [["d"]]), TypeError, "`relevant_docs` must be a dict by id, but is a list"),
        (({"q": "a"}, {"d": "b"}, {"q": "d"}), TypeError, "needs a set of ids for 'q', not 'd'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ours.InformationRetrievalEvaluator(*arguments)


def test_ranks_beyond_the_corpus_take_no_memory(counts: WordCounts) -> None:
    queries, corpus, relevant = {"q": "a cat"}, {"d": "a cat", "e": "rain"}, {"q": {"e"}}
    metrics = InformationRetrievalEvaluator(queries, corpus, relevant, mrr_at_k=[2**40], map_at_k=[10**9])(
        counts
    )
    assert metrics[f"cosine_mrr@{2**40}"] == metrics[f"cosine_map@{10**9}"] == 0.5
