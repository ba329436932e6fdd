"""Exact search in a folder of token embeddings, reranking, and rank."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from multi_common import DOCUMENTS, QUERIES, small_encoder

from likewise import MultiVectorEncoder
from likewise.multi_vector_encoder import centroids, token_corpus
from likewise.multi_vector_encoder.token_corpus import TokenCorpus


@pytest.fixture
def model(tmp_path: Path) -> MultiVectorEncoder:
    return small_encoder(tmp_path / "plain", query_expansion={"strategy": "fixed", "length": 8})


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
@pytest.mark.parametrize("tokens", [1, 40, 10_000])
def test_a_search_finds_what_all_scores_say(
    model: MultiVectorEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, similarity: str
) -> None:
    monkeypatch.setattr(token_corpus, "TOKENS", tokens)
    monkeypatch.setattr(token_corpus, "WINDOW", 5)
    model.similarity_fn_name = similarity
    queries = model.encode_query(QUERIES)
    expected = model.similarity(queries, model.encode_document(DOCUMENTS))
    TokenCorpus.write(model, DOCUMENTS, tmp_path / "corpus", "float32")
    corpus = TokenCorpus.open(tmp_path / "corpus")
    found = corpus.search(queries, top_k=4)
    best = expected.topk(4)
    assert [[hit["corpus_id"] for hit in hits] for hits in found] == best.indices.tolist()
    torch.testing.assert_close(torch.tensor([[hit["score"] for hit in hits] for hits in found]), best.values)
    assert len(corpus.search(queries, top_k=100)[0]) == len(DOCUMENTS)
    assert corpus.search([]) == []


def test_candidates_are_ordered_by_their_exact_scores(model: MultiVectorEncoder, tmp_path: Path) -> None:
    corpus = TokenCorpus.write(model, DOCUMENTS, tmp_path / "corpus")
    assert corpus.vectors.dtype == "float16"
    queries = model.encode_query(QUERIES[:2])
    scores = model.similarity(queries, model.encode_document(DOCUMENTS))
    found = corpus.rerank(queries, [[5, 1, 7], []], top_k=2)
    order = sorted([5, 1, 7], key=lambda number: -scores[0, number])[:2]
    assert [hit["corpus_id"] for hit in found[0]] == order
    assert found[0][0]["score"] == pytest.approx(float(scores[0, order[0]]), rel=2e-3)
    assert found[1] == []


def test_compressed_embeddings_are_searched_as_what_they_are_decompressed_to(
    model: MultiVectorEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(token_corpus, "TOKENS", 50)
    whole = TokenCorpus.write(model, DOCUMENTS, tmp_path / "whole")
    TokenCorpus.write(model, DOCUMENTS, tmp_path / "small", "IVF4,SQ4")
    corpus = TokenCorpus.open(tmp_path / "small")
    assert corpus.vectors.nbytes < 0.26 * whole.vectors.nbytes
    decoded = torch.from_numpy(corpus.codec.sa_decode(corpus.vectors[:]))
    documents = list(decoded.split(corpus.lengths.tolist()))
    for ours, exact in zip(documents, model.encode_document(DOCUMENTS), strict=True):
        assert torch.cosine_similarity(ours, exact).mean() > 0.98
        assert not torch.equal(ours, exact)
    queries = model.encode_query(QUERIES)
    best = model.similarity(queries, documents).topk(4)
    found = corpus.search(queries, top_k=4)
    assert [[hit["corpus_id"] for hit in hits] for hits in found] == best.indices.tolist()
    torch.testing.assert_close(torch.tensor([[hit["score"] for hit in hits] for hits in found]), best.values)
    ranked = corpus.rerank(queries, best.indices.flip(1).tolist())
    assert [[hit["corpus_id"] for hit in hits] for hits in ranked] == best.indices.tolist()
    with pytest.raises(ValueError, match=r"Query 0 is \(2, 3\), but must be \(tokens, 128\)"):
        corpus.search([torch.zeros(2, 3)])
    for name in ("int8", "IVF4096,SQ4"):
        with pytest.raises(ValueError, match=f"such as 'SQ8' or 'IVF64,SQ4', but is '{name}'. faiss says: "):
            TokenCorpus.write(model, DOCUMENTS, tmp_path / name, name)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        TokenCorpus.open(tmp_path / "small")


@pytest.mark.parametrize("precision", ["IVF4,SQ8", "PCA64,IVF4,SQ8"])
def test_candidates_are_those_that_look_best_by_their_centroids(
    model: MultiVectorEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(centroids, "TOKENS", 7)
    monkeypatch.setattr(centroids, "DOCUMENTS", 5)
    monkeypatch.setattr(centroids, "PROBES", 4)
    corpus = TokenCorpus.write(model, [*DOCUMENTS[:4], "", *DOCUMENTS[4:]], tmp_path / "corpus", precision)
    queries = [torch.as_tensor(query) for query in model.encode_query(QUERIES)]
    index = faiss.extract_index_ivf(corpus.codec)
    tokens = torch.from_numpy(corpus.codec.sa_decode(corpus.vectors[:]))
    turned = corpus.codec.chain.at(0).apply if "PCA" in precision else np.asarray
    near = torch.from_numpy(index.quantizer.search(turned(tokens.numpy()), 1)[1][:, 0])
    assert len(near.unique()) == 4
    kept = torch.from_numpy(index.quantizer.reconstruct_n(0, 4))
    with_tokens = [number for number, length in enumerate(corpus.lengths.tolist()) if length]
    for query in queries:
        by_centroid = torch.from_numpy(turned(query.numpy())) @ kept.T  # (tokens, 4)
        looks = [
            float(by_centroid[:, own].amax(dim=1).sum()) if len(own) else float("-inf")
            for own in near.split(corpus.lengths.tolist())
        ]
        order = torch.tensor(looks).argsort(descending=True, stable=True).tolist()
        assert sorted(looks[i] for i in corpus.centroids.best(query, 3)) == pytest.approx(
            sorted(looks[i] for i in order[:3])
        )
        assert sorted(corpus.centroids.best(query, 100)) == with_tokens
    exact = corpus.search(queries, top_k=5)
    for hits, expected in zip(corpus.search(queries, top_k=5, candidates=13), exact, strict=True):
        assert [hit["corpus_id"] for hit in hits] == [hit["corpus_id"] for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in expected])
    monkeypatch.setattr(centroids, "PROBES", 1)
    for query in queries:
        near_to_query = (torch.from_numpy(turned(query.numpy())) @ kept.T).argmax(dim=1)
        found = corpus.centroids.best(query, 100)
        assert sorted(found) == [
            number
            for number, own in enumerate(near.split(corpus.lengths.tolist()))
            if set(own.tolist()) & set(near_to_query.tolist())
        ]
    assert [len(hits) for hits in corpus.search(queries, top_k=2, candidates=2)] == [2] * len(queries)


def test_candidates_need_centroids(model: MultiVectorEncoder, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    queries = model.encode_query(QUERIES[:1])
    for number, precision in enumerate(("float16", "SQ8")):
        corpus = TokenCorpus.write(model, DOCUMENTS, tmp_path / str(number), precision)
        with pytest.raises(ValueError, match="chosen by the centroids of tokens, and this corpus has none"):
            corpus.search(queries, top_k=2, candidates=5)
    with pytest.raises(ValueError, match="`candidates` must be at least `top_k`, but is 1, not 2"):
        corpus.search(queries, top_k=2, candidates=1)
    with pytest.raises(ValueError, match=r"`candidates` must be a whole number of at least 1, but is 5\.0"):
        corpus.search(queries, top_k=2, candidates=5.0)  # type: ignore[arg-type]


def test_candidates_that_are_alike_come_in_their_order(model: MultiVectorEncoder, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    corpus = TokenCorpus.write(model, [*DOCUMENTS, *[DOCUMENTS[3]] * 5], tmp_path / "corpus", "IVF4,SQ8")
    query = model.encode_document(DOCUMENTS[3:4])
    places = [hit["corpus_id"] for hit in corpus.search(query, top_k=17, candidates=17)[0]]
    alike = [3, 12, 13, 14, 15, 16]
    assert [number for number in places if number in alike] == alike
    for count in range(1, 18):
        chosen = [i for i in corpus.centroids.best(torch.as_tensor(query[0]), count) if i in alike]
        assert chosen == alike[: len(chosen)]
    assert corpus.search([], candidates=10) == corpus.rerank([], []) == []


def test_equal_documents_come_in_their_order(model: MultiVectorEncoder, tmp_path: Path) -> None:
    corpus = TokenCorpus.write(model, ["a cat", "the dog", "a cat"], tmp_path / "corpus")
    hits = corpus.search(model.encode_query(["a cat"]), top_k=3)[0]
    places = [hit["corpus_id"] for hit in hits]
    assert places.index(0) + 1 == places.index(2)


def test_rank_orders_texts(model: MultiVectorEncoder) -> None:
    ranked = model.rank(QUERIES[0], DOCUMENTS, top_k=3, return_documents=True)
    scores = model.similarity([model.encode_query(QUERIES[0])], model.encode_document(DOCUMENTS))[0]
    assert [hit["corpus_id"] for hit in ranked] == scores.topk(3).indices.tolist()
    assert [hit["text"] for hit in ranked] == [DOCUMENTS[hit["corpus_id"]] for hit in ranked]
    assert model.rank(QUERIES[0], []) == []


def test_bad_input_is_refused_in_words(model: MultiVectorEncoder, tmp_path: Path) -> None:
    for documents in ("b", {"id": "b"}):
        with pytest.raises(TypeError, match="takes a query and a list of documents"):
            model.rank("a", documents)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`documents` is empty"):
        TokenCorpus.write(model, [], tmp_path / "corpus")
    with pytest.raises(FileNotFoundError, match="holds no corpus of token embeddings"):
        TokenCorpus.open(tmp_path)
    corpus = TokenCorpus.write(model, DOCUMENTS, tmp_path / "corpus")
    with pytest.raises(FileExistsError, match="holds a corpus already"):
        TokenCorpus.write(model, DOCUMENTS, tmp_path / "corpus")
    for texts in ("a cat", ["a cat"]):
        with pytest.raises(
            TypeError, match=r"Queries are embeddings, but one is 'a.*\. Embed it first, by `model.enc"
        ):
            corpus.search(texts)
    queries = model.encode_query(QUERIES[:1])
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 1, but is 0"):
        corpus.search(queries, top_k=0)
    with pytest.raises(ValueError, match=r"Query 0 is \(2, 3\), but must be \(tokens, 128\)"):
        corpus.search([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="There are 1 queries, but 2 lists of candidates"):
        corpus.rerank(queries, [[1], [2]])
    with pytest.raises(ValueError, match="There is no document 12: the corpus has 0 to 11"):
        corpus.rerank(queries, [[12]])
    (tmp_path / "corpus" / "vectors.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="has 5 bytes, but"):
        TokenCorpus.open(tmp_path / "corpus")
