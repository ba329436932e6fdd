"""Search with sparse embeddings in engines that others run: Qdrant, Elasticsearch, OpenSearch; and in memory with Seismic.

Each score is the dot product, as far as the engine keeps the weights: Elasticsearch and OpenSearch keep nine significant bits
of each. `likewise.util.semantic_search` takes COO tensors and needs no engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from likewise.checked import positive
from likewise.sparse_encoder.sparse_tensors import rows_of

__all__ = [
    "semantic_search_elasticsearch",
    "semantic_search_opensearch",
    "semantic_search_qdrant",
    "semantic_search_seismic",
]

Decoded: TypeAlias = Sequence[Sequence[tuple[str, float]]]
"""For each text its tokens with their weights, as `SparseEncoder.decode` gives them."""
Hits: TypeAlias = list[dict[str, Any]]

FIELD = "tokens"  # of an Elasticsearch or OpenSearch document, as the reference's indices have it
MAPPINGS = {"properties": {FIELD: {"type": "rank_features"}, "id": {"type": "keyword"}}}
DOCUMENTS_PER_REQUEST = 1000


def semantic_search_qdrant(
    query_embeddings: Tensor,
    corpus_embeddings: Tensor | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """The best documents of each query, found by Qdrant, which leaves out those that share no entry with the query.

    Args:
        query_embeddings: (Q, V) or (V,), COO.
        corpus_embeddings: (M, V), COO, to be kept in a new collection; None with `corpus_index`.
        corpus_index: The client and the name of a collection of an earlier call.
        top_k: How many documents per query at most.
        output_index: Whether to return the index too.
        **kwargs: For `QdrantClient`; without any it is that of this machine, `url="http://localhost:6333"`. With
            `location=":memory:"` it needs no server.

    Returns:
        For each query a list of `{"corpus_id": row, "score": score}`, best first; the seconds that the search took; and, if
        asked, the index.

    Raises:
        ImportError: qdrant-client is not installed.
        ValueError: There is neither corpus nor index, embeddings are not COO, or `top_k` is less than 1.
    """
    client_library = _library("qdrant_client", "qdrant")
    models = client_library.models
    queries = _vectors(query_embeddings, "query_embeddings", models)
    _check(corpus_embeddings, corpus_index, "corpus_embeddings", top_k)
    if corpus_index is None:
        documents = _vectors(corpus_embeddings, "corpus_embeddings", models)
        client = client_library.QdrantClient(**(kwargs or {"url": "http://localhost:6333"}))
        name = f"sparse_collection_{uuid4().hex}"
        in_memory = models.SparseVectorParams(index=models.SparseIndexParams(on_disk=False))
        client.create_collection(name, vectors_config={}, sparse_vectors_config={"text": in_memory})
        vectors = [{"text": vector} for vector in documents]
        # Without `wait` a server may answer from a part of the documents.
        client.upload_collection(name, vectors=vectors, ids=range(len(vectors)), wait=True)
        corpus_index = client, name
    client, name = corpus_index

    def search(vector: Any) -> Hits:
        found = client.query_points(name, query=vector, using="text", limit=top_k).points
        return [{"corpus_id": point.id, "score": point.score} for point in found]

    return _answers(search, queries, corpus_index, output_index)


def semantic_search_elasticsearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """The best documents of each query, found by Elasticsearch among `rank_features`, which must be positive.

    Its names of features have no dots: a token's are underscores there. Of two tokens that are alike then, the heavier counts.

    Args:
        query_embeddings_decoded: For each query its tokens with their weights, as `model.decode` gives them.
        corpus_embeddings_decoded: The documents' likewise, to be kept in a new index; None with `corpus_index`.
        corpus_index: The client and the name of an index of an earlier call.
        top_k: How many documents per query at most.
        output_index: Whether to return the index too.
        **kwargs: For `Elasticsearch`; without `hosts` it is that of this machine, "http://localhost:9200".

    Returns:
        As `semantic_search_qdrant`.

    Raises:
        ImportError: elasticsearch is not installed.
        ValueError: There is neither corpus nor index, embeddings are not decoded, or `top_k` is less than 1.
    """
    library = _library("elasticsearch", "elasticsearch")
    queries, documents = _decoded(query_embeddings_decoded, corpus_embeddings_decoded, corpus_index, top_k)
    if corpus_index is None:
        client = library.Elasticsearch(kwargs.pop("hosts", "http://localhost:9200"), **kwargs)
        name = f"sparse_index_{uuid4().hex}"
        client.indices.create(index=name, mappings=MAPPINGS)
        _fill(library, client, name, [_without_dots(document) for document in documents])
        corpus_index = client, name
    client, name = corpus_index

    def search(tokens: dict[str, float]) -> Hits:
        should = [
            {"rank_feature": {"field": f"{FIELD}.{token}", "linear": {}, "boost": weight}}
            for token, weight in _without_dots(tokens).items()
        ]
        if not should:  # a query without clauses finds everything
            return []
        query = {"bool": {"should": should, "minimum_should_match": 1}}
        return _hits(client.search(index=name, query=query, size=top_k))

    return _answers(search, queries, corpus_index, output_index)


def semantic_search_opensearch(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Any, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """The best documents of each query, found by OpenSearch's `neural_sparse` query among `rank_features`.

    Args:
        query_embeddings_decoded: For each query its tokens with their weights, as `model.decode` gives them.
        corpus_embeddings_decoded: The documents' likewise, to be kept in a new index; None with `corpus_index`.
        corpus_index: The client and the name of an index of an earlier call.
        top_k: How many documents per query at most.
        output_index: Whether to return the index too.
        **kwargs: For `OpenSearch`; without `hosts` it is that of this machine, "http://localhost:9200".

    Returns:
        As `semantic_search_qdrant`.

    Raises:
        ImportError: opensearch-py is not installed.
        ValueError: There is neither corpus nor index, embeddings are not decoded, or `top_k` is less than 1.
    """
    library = _library("opensearchpy", "opensearch")
    queries, documents = _decoded(query_embeddings_decoded, corpus_embeddings_decoded, corpus_index, top_k)
    if corpus_index is None:
        client = library.OpenSearch(kwargs.pop("hosts", "http://localhost:9200"), **kwargs)
        name = f"sparse_index_{uuid4().hex}"
        client.indices.create(index=name, body={"mappings": MAPPINGS})
        _fill(library, client, name, documents)
        corpus_index = client, name
    client, name = corpus_index

    def search(tokens: dict[str, float]) -> Hits:
        if not tokens:  # refused by the server
            return []
        query = {"neural_sparse": {FIELD: {"query_tokens": tokens}}}
        return _hits(client.search(index=name, body={"size": top_k, "query": query}))

    return _answers(search, queries, corpus_index, output_index)


def semantic_search_seismic(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: Any = None,
    top_k: int = 10,
    output_index: bool = False,
    index_kwargs: dict[str, Any] | None = None,
    search_kwargs: dict[str, Any] | None = None,
) -> tuple[Any, ...]:
    """The best documents of each query, found approximately by Seismic, in memory.

    Args:
        query_embeddings_decoded: For each query its tokens with their weights, as `model.decode` gives them.
        corpus_embeddings_decoded: The documents' likewise, to be kept in a new index; None with `corpus_index`.
        corpus_index: The SeismicIndex of an earlier call.
        top_k: How many documents per query at most.
        output_index: Whether to return the index too.
        index_kwargs: For `SeismicIndex.build_from_dataset`.
        search_kwargs: For `SeismicIndex.batch_search`; `query_cut` (tokens of a query that are looked at) is 10 and
            `heap_factor` 0.7 unless they are given.

    Returns:
        As `semantic_search_qdrant`; the index is the SeismicIndex.

    Raises:
        ImportError: pyseismic-lsr is not installed.
        ValueError: There is neither corpus nor index, embeddings are not decoded, or `top_k` is less than 1.

    Reference: Bruch, Nardini, Rulli and Venturini 2024, Efficient inverted indexes for approximate retrieval over learned sparse
    representations, SIGIR, https://arxiv.org/abs/2404.18812.
    """
    library = _library("seismic", "seismic")
    queries, documents = _decoded(query_embeddings_decoded, corpus_embeddings_decoded, corpus_index, top_k)
    string = library.get_seismic_string()

    def arrays(tokens: dict[str, float]) -> tuple[Any, Any]:
        return np.array([*tokens], dtype=string), np.array([*tokens.values()], dtype=np.float32)

    if corpus_index is None:
        data_set = library.SeismicDataset()
        for number, document in enumerate(documents):
            data_set.add_document(str(number), *arrays(document))
        corpus_index = library.SeismicIndex.build_from_dataset(data_set, **(index_kwargs or {}))
    options = {"query_cut": 10, "heap_factor": 0.7} | (search_kwargs or {})

    def search_all() -> list[Hits]:
        numbers = np.array([str(number) for number in range(len(queries))], dtype=string)
        components, weights = zip(*map(arrays, queries), strict=True) if queries else ((), ())
        found: list[Hits] = [[] for _ in queries]
        # Queries come back in any order, and those that found nothing without their number.
        for hits in corpus_index.batch_search(numbers, [*components], [*weights], k=top_k, **options):
            for query, score, document in hits:
                found[int(query)].append({"corpus_id": int(document), "score": score})
        return found

    start = time.perf_counter()
    answer = search_all(), time.perf_counter() - start
    return (*answer, corpus_index) if output_index else answer


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'This search needs the library {name}. Install it: pip install "likewise[{extra}]"'
        ) from error


def _check(corpus: Any, index: Any, name: str, top_k: int) -> None:
    if corpus is None and index is None:
        raise ValueError(
            f"There is nothing to search in. Pass `{name}`, or the `corpus_index` of an earlier call."
        )
    positive(top_k, "top_k")


def _vectors(embeddings: Any, name: str, models: Any) -> list[Any]:
    """(N, V) or (V,) COO embeddings as Qdrant's vectors."""
    if not isinstance(embeddings, Tensor) or embeddings.layout != torch.sparse_coo:
        raise ValueError(
            f"`{name}` must be a sparse COO tensor, as `model.encode(texts)` gives it, but is "
            f"{getattr(embeddings, 'layout', type(embeddings).__name__)}. Use `{name}.to_sparse()` for a dense tensor."
        )
    if embeddings.ndim not in (1, 2):
        raise ValueError(f"`{name}` must be (N, V) or (V,), but its shape is {tuple(embeddings.shape)}.")
    rows = rows_of(embeddings if embeddings.ndim == 2 else embeddings.unsqueeze(0))
    return [
        models.SparseVector(indices=row.indices()[0].tolist(), values=row.values().float().tolist())
        for row in rows
    ]


def _decoded(
    queries: Any, documents: Any, index: Any, top_k: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Decoded queries and documents, each as a dict of its tokens' weights; no documents where there is an index."""
    _check(documents, index, "corpus_embeddings_decoded", top_k)
    given = {
        "query_embeddings_decoded": queries,
        "corpus_embeddings_decoded": documents if index is None else [],
    }
    made = []
    for name, texts in given.items():
        try:
            made.append([{str(token): float(weight) for token, weight in text} for text in texts])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{name}` must be a list with, for each text, a list of (token, weight). Pass "
                "`model.decode(model.encode([text, ...]))`; that of a single text goes into a list."
            ) from error
    return made[0], made[1]


def _without_dots(tokens: dict[str, float]) -> dict[str, float]:
    clean: dict[str, float] = {}
    for token, weight in tokens.items():
        name = token.replace(".", "_")
        clean[name] = max(weight, clean.get(name, weight))
    return clean


def _fill(library: Any, client: Any, name: str, documents: list[dict[str, float]]) -> None:
    def actions() -> Iterator[dict[str, Any]]:
        for number, tokens in enumerate(documents):
            source = {"id": str(number), FIELD: tokens}
            yield {"_index": name, "_id": str(number), "_source": source}

    import_module(f"{library.__name__}.helpers").bulk(client, actions(), chunk_size=DOCUMENTS_PER_REQUEST)
    client.indices.refresh(index=name)


def _hits(answer: Any) -> Hits:
    return [{"corpus_id": int(hit["_id"]), "score": hit["_score"]} for hit in answer["hits"]["hits"]]


def _answers(
    search: Callable[[Any], Hits], queries: Sequence[Any], index: Any, output_index: bool
) -> tuple[Any, ...]:
    start = time.perf_counter()
    answer = [search(query) for query in queries], time.perf_counter() - start
    return (*answer, index) if output_index else answer
