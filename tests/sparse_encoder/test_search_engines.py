"""Search by the clients of engines: Qdrant's in memory, Elasticsearch's and OpenSearch's against a server that scores what
the bodies say, Seismic's where it is installed."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from sparse_common import small_splade

from likewise import SparseEncoder
from likewise.retrieval import semantic_search
from likewise.similarity import dot_score
from likewise.sparse_encoder import search_engines
from likewise.sparse_encoder.search_engines import (
    semantic_search_elasticsearch,
    semantic_search_opensearch,
    semantic_search_qdrant,
    semantic_search_seismic,
)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch, told once

DOCUMENTS = [
    "a cat sleeps.",
    "the dog runs",
    "two cats",
    "a dog and a cat",
    "rain. rain.",
    "the sun",
    "old houses",
]
QUERIES = ["a cat", "the sun runs.", "rain"]
OF_TOKENS = [semantic_search_elasticsearch, semantic_search_opensearch, semantic_search_seismic]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SparseEncoder:
    return small_splade(tmp_path_factory.mktemp("model"), max_active_dims=9)


@pytest.fixture(scope="module")
def expected(model: SparseEncoder) -> list[dict[int, float]]:
    """By document, for each query: the dot products that are not 0."""
    found = semantic_search(model.encode(QUERIES), model.encode(DOCUMENTS), score_function=dot_score)
    return [{hit["corpus_id"]: hit["score"] for hit in hits if hit["score"] > 0} for hits in found]


def check(found: list[list[dict[str, Any]]], expected: list[dict[int, float]]) -> None:
    assert len(found) == len(expected)
    for hits, scores in zip(found, expected, strict=True):
        assert hits
        assert {hit["corpus_id"]: hit["score"] for hit in hits} == pytest.approx(scores, rel=1e-4)
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


class Engine(ThreadingHTTPServer):
    """What such a server does with an index of `rank_features`: keeps documents, and adds up the products of a query."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.bodies: list[tuple[str, Any]] = []
        self.documents: dict[str, dict[str, float]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, lines: list[Any]) -> dict[str, Any]:
        self.bodies.append((path, lines))
        if path.endswith("_bulk"):
            for action, source in zip(lines[::2], lines[1::2], strict=True):
                self.documents[action["index"]["_id"]] = source["tokens"]
            return {"errors": False, "items": [{"index": {"status": 201}} for _ in lines[::2]]}
        if not path.endswith("_search"):
            return {"acknowledged": True}
        query = lines[0]["query"]
        if "neural_sparse" in query:
            weights = query["neural_sparse"]["tokens"]["query_tokens"]
        else:
            clauses = [clause["rank_feature"] for clause in query["bool"]["should"]]
            assert all(clause["linear"] == {} for clause in clauses)
            weights = {clause["field"].removeprefix("tokens."): clause["boost"] for clause in clauses}
        scores = {
            name: sum(weight * tokens.get(token, 0) for token, weight in weights.items())
            for name, tokens in self.documents.items()
        }
        best = sorted((name for name in scores if scores[name] > 0), key=scores.__getitem__, reverse=True)
        return {
            "hits": {"hits": [{"_id": name, "_score": scores[name]} for name in best[: lines[0]["size"]]]}
        }


class Answers(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        is_lines = self.path.endswith("_bulk")
        lines = [json.loads(line) for line in (text.splitlines() if is_lines else [text]) if line]
        body = json.dumps(self.server.answer(self.path, lines)).encode()
        self.send_response(200)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[Engine]:
    server = Engine()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_qdrant_finds_what_the_exact_search_finds(model: SparseEncoder, expected: Any) -> None:
    corpus = model.encode(DOCUMENTS)
    found, seconds, index = semantic_search_qdrant(
        model.encode(QUERIES), corpus, location=":memory:", output_index=True
    )
    check(found, expected)
    assert seconds > 0
    (single,), _ = semantic_search_qdrant(model.encode(QUERIES[0]), corpus_index=index, top_k=2)
    assert single == found[0][:2]
    index[0].close()


@pytest.mark.parametrize("search", OF_TOKENS[:2])
def test_bodies_ask_for_what_the_exact_search_finds(
    search: Any, model: SparseEncoder, expected: Any, engine: Engine
) -> None:
    queries = model.decode(model.encode(QUERIES))
    found, _, index = search(
        queries, model.decode(model.encode(DOCUMENTS)), hosts=engine.url, output_index=True
    )
    check(found, expected)
    client, name = index
    paths = [path for path, _ in engine.bodies]
    assert paths == [f"/{name}", "/_bulk", f"/{name}/_refresh", *[f"/{name}/_search"] * len(QUERIES)]
    assert engine.bodies[0][1] == [
        {"mappings": {"properties": {"tokens": {"type": "rank_features"}, "id": {"type": "keyword"}}}}
    ]
    again, _ = search([[], queries[0]], corpus_index=index, top_k=1)
    assert again == [[], found[0][:1]]  # a query without tokens finds nothing, and is not sent
    client.close()


def test_elasticsearch_gets_no_dots_and_of_two_tokens_alike_the_heavier(engine: Engine) -> None:
    *_, (client, _) = semantic_search_elasticsearch(
        [[(".", 2.0), ("_", 1.0), ("a.b", 3.0)]],
        [[("_", 1.0), (".", 5.0)]],
        hosts=engine.url,
        output_index=True,
    )
    assert engine.documents == {"0": {"_": 5.0}}
    should = engine.bodies[-1][1][0]["query"]["bool"]["should"]
    clauses = {clause["rank_feature"]["field"]: clause["rank_feature"]["boost"] for clause in should}
    assert clauses == {"tokens._": 2.0, "tokens.a_b": 3.0}
    client.close()


def test_seismic_finds_what_the_exact_search_finds(model: SparseEncoder, expected: Any) -> None:
    pytest.importorskip("seismic")
    queries = model.decode(model.encode(QUERIES))
    options = {"heap_factor": 0.0}
    found, _, index = semantic_search_seismic(
        queries, model.decode(model.encode(DOCUMENTS)), search_kwargs=options, output_index=True
    )
    assert options == {"heap_factor": 0.0}  # left as it was given
    for hits, scores in zip(
        found, expected, strict=True
    ):  # approximate: it stops early, but scores are exact
        assert hits[0]["corpus_id"] == max(scores, key=scores.__getitem__)
        for hit in hits:
            assert hit["score"] == pytest.approx(scores.get(hit["corpus_id"], 0), rel=1e-3)
    (nothing, first), _ = semantic_search_seismic([[], queries[0]], corpus_index=index, top_k=1)
    assert nothing == []
    assert first == found[0][:1]


@pytest.mark.parametrize("search", [semantic_search_qdrant, *OF_TOKENS])
def test_arguments_have_the_references_names_and_defaults(search: Any) -> None:
    theirs = pytest.importorskip("sentence_transformers.sparse_encoder.search_engines")
    expected = inspect.signature(getattr(theirs, search.__name__)).parameters.values()
    ours = inspect.signature(search).parameters.values()
    assert [(one.name, one.default, one.kind) for one in ours] == [
        (one.name, one.default, one.kind) for one in expected
    ]


@pytest.mark.parametrize("search", OF_TOKENS)
def test_what_is_not_decoded_is_refused_in_words(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_engines, "_library", lambda name, extra: None)
    with pytest.raises(ValueError, match="Pass `corpus_embeddings_decoded`, or the `corpus_index`"):
        search([[("a", 1.0)]])
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1, but is 0"):
        search([[("a", 1.0)]], [[("a", 1.0)]], top_k=0)
    for wrong in ([("a", 1.0)], torch.ones(1, 3), [["a"]], None):
        with pytest.raises(ValueError, match="`query_embeddings_decoded` must be a list with, for each text"):
            search(wrong, [[("a", 1.0)]])
    with pytest.raises(ValueError, match="`corpus_embeddings_decoded` must be a list"):
        search([[("a", 1.0)]], [("a", 1.0)])


def test_what_is_not_coo_is_refused_in_words() -> None:
    sparse = torch.eye(2).to_sparse()
    with pytest.raises(ValueError, match=r"`query_embeddings` must be a sparse COO tensor.*to_sparse\(\)"):
        semantic_search_qdrant(torch.eye(2), sparse, location=":memory:")
    with pytest.raises(ValueError, match="`corpus_embeddings` must be a sparse COO tensor"):
        semantic_search_qdrant(sparse, [[1.0]], location=":memory:")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape is \(1, 2, 2\)"):
        semantic_search_qdrant(torch.eye(2)[None].to_sparse(), sparse, location=":memory:")
    with pytest.raises(ValueError, match="Pass `corpus_embeddings`, or the `corpus_index`"):
        semantic_search_qdrant(sparse)


@pytest.mark.parametrize(
    ("search", "module", "extra"),
    [
        (semantic_search_qdrant, "qdrant_client", "qdrant"),
        (semantic_search_elasticsearch, "elasticsearch", "elasticsearch"),
        (semantic_search_opensearch, "opensearchpy", "opensearch"),
        (semantic_search_seismic, "seismic", "seismic"),
    ],
)
def test_a_client_that_is_not_installed_is_named(
    search: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}\. Install it: pip install \"likewise\[{extra}\]\""):
        search([], [])
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{extra} = [" in project
