"""Scores of queries and documents by their tokens, as losses take them: MaxSim, its mean, and XTR.

All take padded tensors with masks, as in the reference, and TokenEmbeddings, which have no padding: then the documents come
column by column, each with one document for every query. Padded tensors without a mask: tokens of zeros are padding.

References: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832; Lee et al. 2023, XTR,
https://arxiv.org/abs/2304.01982, equation 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from likewise.checked import positive
from likewise.multi_vector_encoder.packed_maxsim import WITHOUT_TOKENS, Groups, packed_maxsim
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

Score = Callable[..., Tensor]

__all__ = [
    "XTRKDScores",
    "XTRScores",
    "colbert_kd_scores",
    "colbert_scores",
    "colbert_scores_pairwise",
    "mean_colbert_kd_scores",
    "mean_colbert_scores",
    "mean_colbert_scores_pairwise",
    "xtr_kd_scores",
    "xtr_scores",
    "xtr_scores_pairwise",
]


def colbert_scores(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """The MaxSim of every query with every document: (A, B * N) float32, column i * N + j for document j of row i.

    Args:
        queries_embeddings: (A, S, D), or TokenEmbeddings of A queries.
        documents_embeddings: (B, N, T, D), or N TokenEmbeddings of B documents each.
        queries_mask: (A, S), 1 for tokens.
        documents_mask: (B, N, T), 1 for tokens.
        chunk_elements: Products to hold at a time, about.
        length_normalize: Whether to divide by the number of the query's tokens.
    """
    queries = _queries(queries_embeddings, queries_mask)
    columns = _columns(documents_embeddings, documents_mask)
    scores = _maxsim(queries, TokenEmbeddings.join(columns), None, chunk_elements, length_normalize)
    return _by_rows(scores, len(columns))


def colbert_kd_scores(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """The MaxSim of each query with its own documents: (B, N) float32. Arguments as in `colbert_scores`."""
    queries = _queries(queries_embeddings, queries_mask)
    columns = _columns(documents_embeddings, documents_mask)
    documents, number = TokenEmbeddings.join(columns), len(columns)
    rows = (
        torch.arange(len(queries) * number).view(number, -1).T.flatten()
    )  # a query's documents side by side
    groups = [(slice(i, i + 1), slice(i * number, (i + 1) * number)) for i in range(len(queries))]
    return _maxsim(queries, documents.select(rows), groups, chunk_elements, length_normalize)


def colbert_scores_pairwise(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
) -> Tensor:
    """The MaxSim of each query with the document of its row: (B,) float32.

    Args:
        queries_embeddings: (B, S, D), or TokenEmbeddings.
        documents_embeddings: (B, T, D), or TokenEmbeddings.
        queries_mask: (B, S), 1 for tokens.
        documents_mask: (B, T), 1 for tokens.
        chunk_elements: Products to hold at a time, about.
        length_normalize: Whether to divide by the number of the query's tokens.
    """
    queries = _queries(queries_embeddings, queries_mask)
    documents = _queries(documents_embeddings, documents_mask)
    groups = [(slice(i, i + 1), slice(i, i + 1)) for i in range(len(queries))]
    return _maxsim(queries, documents, groups, chunk_elements, length_normalize).squeeze(1)


def mean_colbert_scores(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """`colbert_scores` divided by the number of the query's tokens."""
    return colbert_scores(
        queries_embeddings,
        documents_embeddings,
        queries_mask,
        documents_mask,
        chunk_elements,
        length_normalize,
    )


def mean_colbert_kd_scores(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """`colbert_kd_scores` divided by the number of the query's tokens."""
    return colbert_kd_scores(
        queries_embeddings,
        documents_embeddings,
        queries_mask,
        documents_mask,
        chunk_elements,
        length_normalize,
    )


def mean_colbert_scores_pairwise(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
) -> Tensor:
    """`colbert_scores_pairwise` divided by the number of the query's tokens."""
    return colbert_scores_pairwise(
        queries_embeddings,
        documents_embeddings,
        queries_mask,
        documents_mask,
        chunk_elements,
        length_normalize,
    )


def xtr_scores(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    top_k: int = 256,
    chunk_elements: int | None = None,
) -> Tensor:
    """As if tokens were searched for: only the `top_k` nearest of all documents' tokens count, for each query token.

    A document's score is the sum of its best counted tokens, over the number of query tokens that found any of it. The
    products of all tokens exist at once; `chunk_elements` is taken for the reference's sake.

    Args:
        queries_embeddings: (A, S, D), or TokenEmbeddings of A queries.
        documents_embeddings: (B, N, T, D), or N TokenEmbeddings of B documents each.
        queries_mask: (A, S), 1 for tokens.
        documents_mask: (B, N, T), 1 for tokens.
        top_k: How many tokens of all documents count, >= 1.
        chunk_elements: Without effect: nothing is padded.

    Returns:
        (A, B * N) float32, column i * N + j for document j of row i.

    Raises:
        ValueError: `top_k` is less than 1.
    """
    positive(top_k, "top_k")
    queries = _queries(queries_embeddings, queries_mask)
    columns = _columns(documents_embeddings, documents_mask)
    documents = TokenEmbeddings.join(columns)
    products = (queries.vectors @ documents.vectors.T).float()  # (T, U)
    values, places = products.topk(min(top_k, products.shape[1]), dim=1)
    device, number = products.device, len(documents)
    of_token = torch.arange(number).repeat_interleave(documents.lengths).to(device)
    found = of_token[places]  # (T, k): the document that each counted token is of
    lowest = torch.finfo(values.dtype).min
    best = values.new_full((len(values), number), lowest).scatter_reduce(1, found, values, "amax")
    is_found = torch.zeros(len(values), number, dtype=torch.bool, device=device).scatter_(1, found, True)
    best = best.masked_fill(~is_found, 0.0)
    of_query = torch.arange(len(queries)).repeat_interleave(queries.lengths).to(device)
    sums = best.new_zeros(len(queries), number).index_add(0, of_query, best)
    counts = best.new_zeros(len(queries), number).index_add(0, of_query, is_found.float()).clamp(min=1)
    scores = (sums / counts).masked_fill((documents.lengths == 0).to(device), WITHOUT_TOKENS)
    return _by_rows(scores, len(columns))


def xtr_kd_scores(queries_embeddings: Any, documents_embeddings: Any, *args: Any, **kwargs: Any) -> Tensor:
    """`xtr_scores` of each query's own documents: (B, N). The tokens of all documents compete."""
    scores = xtr_scores(queries_embeddings, documents_embeddings, *args, **kwargs)
    rows = len(scores)
    return scores.view(rows, rows, -1).diagonal().T


def xtr_scores_pairwise(
    queries_embeddings: Any,
    documents_embeddings: Any,
    queries_mask: Any = None,
    documents_mask: Any = None,
    **kwargs: Any,
) -> Tensor:
    """`xtr_scores` of each query with the document of its row: (B,). Arguments as in `colbert_scores_pairwise`."""
    documents = _queries(documents_embeddings, documents_mask)
    return xtr_kd_scores(queries_embeddings, [documents], queries_mask, **kwargs).squeeze(1)


class XTRScores:
    """`xtr_scores` with settings of its own, for a loss's `similarity_fct`.

    Args:
        top_k: How many tokens of all documents count, for each query token.
        chunk_elements: See there.
    """

    score: Score = staticmethod(xtr_scores)

    def __init__(self, top_k: int = 256, *, chunk_elements: int | None = None) -> None:
        self.top_k = top_k
        self.chunk_elements = chunk_elements

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Scores; arguments as of the function."""
        return self.score(*args, top_k=self.top_k, chunk_elements=self.chunk_elements, **kwargs)

    def get_config_dict(self) -> dict[str, int | None]:
        """The settings."""
        return {"top_k": self.top_k, "chunk_elements": self.chunk_elements}


class XTRKDScores(XTRScores):
    """`xtr_kd_scores` with settings of its own; as XTRScores."""

    score = staticmethod(xtr_kd_scores)


OWN: frozenset[Any] = frozenset(
    value for name, value in list(globals().items()) if name in __all__ and not isinstance(value, type)
)


def takes_packed(function: Any) -> bool:
    """Whether a function of scores takes TokenEmbeddings; what somebody else wrote is handed padded tensors."""
    while isinstance(function, partial):
        function = function.func
    return isinstance(function, XTRScores) or function in OWN


def scored(function: Score, queries: TokenEmbeddings, documents: Sequence[TokenEmbeddings]) -> Tensor:
    """What a function makes of queries and of their documents, column by column."""
    if takes_packed(function):
        return function(queries, documents)
    embeddings, mask = queries.padded()
    found, found_mask = TokenEmbeddings.join(documents).padded()  # column by column
    by_row = found.unflatten(0, (len(documents), -1)).transpose(0, 1)
    masks = found_mask.unflatten(0, (len(documents), -1)).transpose(0, 1)
    return function(embeddings, by_row, queries_mask=mask, documents_mask=masks)


def scored_pairwise(function: Score, queries: TokenEmbeddings, documents: TokenEmbeddings) -> Tensor:
    """What a function makes of each query with the document of its row."""
    if takes_packed(function):
        return function(queries, documents)
    (embeddings, mask), (found, found_mask) = queries.padded(), documents.padded()
    return function(embeddings, found, queries_mask=mask, documents_mask=found_mask)


def _maxsim(
    queries: TokenEmbeddings,
    documents: TokenEmbeddings,
    groups: Groups | None,
    chunk_elements: int | None,
    length_normalize: bool,
) -> Tensor:
    lengths = queries.lengths.tolist(), documents.lengths.tolist()
    scores = packed_maxsim(
        queries.vectors, documents.vectors, *lengths, groups=groups, tile_entries=chunk_elements
    )
    if length_normalize:
        scores = scores / queries.lengths.clamp(min=1).unsqueeze(1).to(scores.device)
    return scores


def _by_rows(scores: Tensor, number: int) -> Tensor:
    """(A, N * B), column by column -> (A, B * N), row by row."""
    by_rows: Tensor = scores.unflatten(1, (number, -1)).transpose(1, 2).flatten(1)  # type: ignore[no-untyped-call]
    return by_rows


def _queries(embeddings: Any, mask: Any) -> TokenEmbeddings:
    if isinstance(embeddings, TokenEmbeddings):
        return embeddings
    return TokenEmbeddings.from_padded(_tensor(embeddings), None if mask is None else torch.as_tensor(mask))


def _columns(embeddings: Any, mask: Any) -> list[TokenEmbeddings]:
    if isinstance(embeddings, Sequence) and all(isinstance(one, TokenEmbeddings) for one in embeddings):
        return list(embeddings)
    embeddings = _tensor(embeddings)
    masks = [None] * embeddings.shape[1] if mask is None else torch.as_tensor(mask).unbind(1)
    return [
        TokenEmbeddings.from_padded(one, kept) for one, kept in zip(embeddings.unbind(1), masks, strict=True)
    ]


def _tensor(embeddings: Any) -> Tensor:
    if isinstance(embeddings, list | tuple) and embeddings and isinstance(embeddings[0], Tensor):
        embeddings = torch.stack(list(embeddings))
    found = torch.as_tensor(embeddings)
    as_floats: Tensor = found if found.is_floating_point() else found.float()
    return as_floats
