"""Search in quantised embeddings with faiss and usearch finds the reference's documents."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from given_embeddings import parameters, vectors
from sentence_transformers.util import quantization as reference

from likewise.precision import calibration_ranges
from likewise.retrieval import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_usearch,
)
from likewise.retrieval.quantized_search import rescored

CORPUS = torch.nn.functional.normalize(vectors(300, 32, 1), dim=1).numpy()
QUERIES = torch.nn.functional.normalize(vectors(11, 32, 0), dim=1).numpy()
RANGES = calibration_ranges(CORPUS)
SEARCHES = {
    "faiss": (semantic_search_faiss, reference.semantic_search_faiss),
    "usearch": (semantic_search_usearch, reference.semantic_search_usearch),
}
CASES = [
    *(("faiss", precision) for precision in ("float32", "uint8", "ubinary")),
    *(("usearch", precision) for precision in ("float32", "int8", "binary", "ubinary")),
]
OPTIONS = [{}, {"top_k": 3}, {"rescore_multiplier": 4}, {"rescore": False}, {"top_k": 400}]


def needs(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")


def found_by(library: str, place: int, precision: Any, **options: Any) -> Any:
    corpus = quantize_embeddings(CORPUS, precision, RANGES)
    search = SEARCHES[library][place]
    return search(QUERIES, corpus, corpus_precision=precision, ranges=RANGES, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("library", "precision"), CASES)
def test_documents_and_scores_are_the_references(
    library: str, precision: Any, options: dict[str, Any]
) -> None:
    needs(library)
    if (library, precision[-6:]) == ("usearch", "binary") and options.get("rescore", True):
        # Bits tie often, and usearch keeps any of those that tie: let all documents be candidates.
        options = options | {"rescore_multiplier": len(CORPUS)}
    ours, seconds = found_by(library, 0, precision, **options)
    theirs, _ = found_by(library, 1, precision, **options)
    assert seconds >= 0
    for mine, other in zip(ours, theirs, strict=True):
        scores = [[hit["score"] for hit in hits] for hits in (mine, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
        # Bits tie often: of equal scores either may come first, and at the end either may be left out.
        last = scores[0][-1]
        sure = [
            {hit["corpus_id"] for hit in hits if abs(hit["score"] - last) > 1e-4} for hits in (mine, other)
        ]
        assert sure[0] == sure[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_an_index_that_was_returned_finds_the_same_again(library: str) -> None:
    needs(library)
    hits, _, index = found_by(library, 0, "ubinary", output_index=True)
    again, _ = SEARCHES[library][0](QUERIES, corpus_index=index, corpus_precision="ubinary", ranges=RANGES)
    assert again == hits
    with pytest.raises(ValueError, match="Pass either `corpus_embeddings` or `corpus_index`"):
        SEARCHES[library][0](QUERIES)


def test_a_precision_of_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be 'float32', 'uint8' or 'ubinary', but is 'int8'\. .*faiss"):
        semantic_search_faiss(QUERIES, CORPUS, corpus_precision="int8")
    with pytest.raises(ValueError, match=r"but is 'uint8'\. .*usearch"):
        semantic_search_usearch(QUERIES, CORPUS, corpus_precision="uint8")


def test_a_missing_library_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r'needs faiss\. Install it: pip install "likewise\[faiss\]"'):
        semantic_search_faiss(QUERIES, CORPUS)


def test_candidates_are_ordered_by_their_products_and_missing_ones_last() -> None:
    documents = np.array([[[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]])
    scores, ids = rescored(np.array([[1.0, 1.0]]), documents, np.array([[5, 7, -1]]), 3)
    assert ids.tolist() == [[7, 5, -1]]
    assert scores.tolist() == [[3.0, 1.0, -np.inf]]


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_arguments_have_the_references_names_order_and_defaults(library: str) -> None:
    own, other = (parameters(search) for search in SEARCHES[library])
    assert own == other


@pytest.mark.parametrize(("library", "precision"), CASES)
def test_no_documents_and_no_places_give_no_hits(library: str, precision: Any) -> None:
    needs(library)
    search = SEARCHES[library][0]
    corpus = quantize_embeddings(CORPUS, precision, RANGES)
    empty, _, index = search(
        QUERIES,
        corpus[:0],
        corpus_precision=precision,
        ranges=RANGES,
        rescore=precision != "float32",
        output_index=True,
    )
    assert empty == [[] for _ in QUERIES]
    again, _ = search(QUERIES, corpus_index=index, corpus_precision=precision, ranges=RANGES, rescore=False)
    assert again == empty
    none, _ = search(QUERIES, corpus, corpus_precision=precision, ranges=RANGES, top_k=0, rescore=False)
    assert none == empty
    with pytest.raises(ValueError, match="`top_k` must be a whole number of at least 0, but is -1"):
        search(QUERIES, corpus, corpus_precision=precision, ranges=RANGES, top_k=-1)


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_a_row_that_is_not_finite_is_refused_by_its_number(library: str) -> None:
    needs(library)
    rows = CORPUS.copy()
    rows[7, 3] = np.nan
    with pytest.raises(ValueError, match="Row 7 of `corpus_embeddings` holds NaN or infinity"):
        SEARCHES[library][0](QUERIES, rows, rescore=False)
    with pytest.raises(ValueError, match="Row 7 of `query_embeddings` holds NaN or infinity"):
        SEARCHES[library][0](rows, CORPUS, rescore=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_tensors_and_a_single_query_are_taken(library: str) -> None:
    needs(library)
    search = SEARCHES[library][0]
    expected, _ = search(QUERIES, CORPUS, top_k=5, rescore=False)
    given = torch.from_numpy(QUERIES), torch.from_numpy(CORPUS)
    assert search(*given, top_k=5, rescore=False)[0] == expected
    assert search(given[0][0], CORPUS, top_k=5, rescore=False)[0] == expected[:1]
    everything, _ = search(QUERIES, CORPUS, top_k=10**12, rescore=False)
    assert {len(hits) for hits in everything} == {len(CORPUS)}
    with pytest.raises(ValueError, match=r"`rescore_multiplier` must be a whole number.*but is 1\.5"):
        search(QUERIES, CORPUS, rescore_multiplier=1.5)
