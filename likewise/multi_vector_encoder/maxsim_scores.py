"""MaxSim: how alike two texts are that have an embedding for each token, as in ColBERT.

With q_i the embeddings of a query's tokens and d_j those of a document's, its score is the sum over i of the largest
q_i . d_j; MeanMaxSim divides it by the number of the query's tokens. Tokens stand one behind the other, without padding.

Reference: Khattab and Zaharia 2020, ColBERT, https://arxiv.org/abs/2004.12832, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from likewise.multi_vector_encoder.packed_maxsim import packed_maxsim

Texts: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[Any]

NUMBERS_AT_A_TIME = 100_000_000

__all__ = ["maxsim", "maxsim_pairwise", "mean_maxsim", "mean_maxsim_pairwise"]


def maxsim(
    a: Texts,
    b: Texts,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """The score of every query with every document: (A, B) float32, on the documents' device.

    Args:
        a: Queries: a list of (tokens, D); one tensor (A, tokens, D), in which tokens of zeros are padding unless there is
            a mask; or one query, (tokens, D).
        b: Documents, likewise. One without tokens scores -1e9.
        a_mask: (A, tokens), or a list of (tokens,): what to multiply a token's part of the score with, 0 to leave it out.
        b_mask: (B, tokens), or a list of (tokens,): which tokens count.
        chunk_elements: About how many numbers to hold at a time; by default 10**8.
        length_normalize: Whether to divide by the number of the query's tokens.
        device: Where to compute; by default where the documents are.

    Raises:
        ValueError: A mask is not as long as its tokens.
    """
    queries, documents = _items(a, a_mask, "a_mask"), _items(b, b_mask, "b_mask")
    home = _device(b, a)
    if not queries or not documents:
        return torch.zeros(len(queries), len(documents), device=home)
    size = documents[0].vectors.shape[1]
    _check_sizes(queries, documents)
    # As many tokens of either side as fit, with their products.
    most = math.isqrt((chunk_elements or NUMBERS_AT_A_TIME) + size * size) - size
    rows = []
    for some in _groups(queries, most):
        asked = _packed(some, device or home)
        parts = [_scores(asked, _packed(part, device or home)).to(home) for part in _groups(documents, most)]
        rows.append(torch.cat(parts, dim=1))
    scores = torch.cat(rows)
    return scores / _num_tokens(queries, home).unsqueeze(1) if length_normalize else scores


def maxsim_pairwise(
    a: Texts,
    b: Texts,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """The score of each query with the document of the same number: (N,) float32. Arguments as in `maxsim`.

    Raises:
        ValueError: There are not as many queries as documents, or a mask is not as long as its tokens.
    """
    queries, documents = _items(a, a_mask, "a_mask"), _items(b, b_mask, "b_mask")
    if len(queries) != len(documents):
        raise ValueError(
            f"Pairs take as many queries as documents, but there are {len(queries)} and {len(documents)}. "
            "Use `maxsim` for all with all."
        )
    home = _device(b, a)
    # A pair is small: `chunk_elements` has nothing to cut.
    pairs = [
        _scores(*(_packed([text], device or home) for text in pair)).reshape(1).to(home)
        for pair in zip(queries, documents, strict=True)
    ]
    scores = torch.cat([torch.zeros(0, device=home), *pairs])
    return scores / _num_tokens(queries, home) if length_normalize else scores


def mean_maxsim(
    a: Texts,
    b: Texts,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: str | torch.device | None = None,
) -> Tensor:
    """`maxsim` divided by the number of the query's tokens: (A, B), of cosines in [-1, 1]."""
    return maxsim(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def mean_maxsim_pairwise(
    a: Texts,
    b: Texts,
    a_mask: Any = None,
    b_mask: Any = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: str | torch.device | None = None,
) -> Tensor:
    """`maxsim_pairwise` divided by the number of the query's tokens: (N,), of cosines in [-1, 1]."""
    return maxsim_pairwise(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def _check_sizes(queries: Sequence[_Item], documents: Sequence[_Item]) -> None:
    sizes = [{item.vectors.shape[1] for item in side} for side in (queries, documents)]
    if len(sizes[0] | sizes[1]) > 1:
        raise ValueError(
            f"The tokens of queries have sizes {sorted(sizes[0])}, those of documents {sorted(sizes[1])}. Embed both with one model."
        )


@dataclass(frozen=True)
class _Item:
    """The tokens of a text that count: their embeddings (T, D) and weights (T,)."""

    vectors: Tensor
    weights: Tensor

    @classmethod
    def of(cls, vectors: Any, weights: Any, zeros_are_padding: bool) -> _Item:
        vectors = _tensor(vectors)
        vectors = vectors if vectors.is_floating_point() else vectors.float()
        if vectors.ndim != 2:
            raise ValueError(
                f"The embeddings of a text must be (tokens, size), but are {tuple(vectors.shape)}. Pass those of several texts as a "
                "list, `[embeddings]` for one."
            )
        if weights is None:
            weights = vectors.any(dim=1) if zeros_are_padding else torch.ones(len(vectors))
        weights = _tensor(weights).to(vectors.device, torch.float32)
        counts = weights != 0
        return cls(vectors[counts], weights[counts])


def _packed(items: Sequence[_Item], device: str | torch.device) -> tuple[_Item, list[int]]:
    """The tokens of several texts as those of one, on a device, and how many each text has."""
    vectors = torch.cat([item.vectors for item in items]).to(device)
    weights = torch.cat([item.weights for item in items]).to(device)
    return _Item(vectors, weights), [len(item.vectors) for item in items]


def _scores(queries: tuple[_Item, list[int]], documents: tuple[_Item, list[int]]) -> Tensor:
    """(A, B) float32 scores."""
    (first, of_first), (second, of_second) = queries, documents
    return packed_maxsim(first.vectors, second.vectors, of_first, of_second, weights=first.weights)


def _items(texts: Texts, mask: Any, name: str) -> list[_Item]:
    """The texts' tokens that count."""
    is_padded = isinstance(texts, Tensor | np.ndarray)
    if is_padded and texts.ndim == 2:  # type: ignore[union-attr]
        texts = texts[None]  # type: ignore[call-overload]
        mask = mask[None] if mask is not None and mask.ndim == 1 else mask
    if mask is None:
        return [_Item.of(text, None, is_padded) for text in texts]
    if len(mask) == 1 < len(texts):
        mask = [mask[0]] * len(texts)
    longest = max(map(len, texts), default=0)
    width = max(map(len, mask), default=0)
    if len(mask) != len(texts) or width != longest:
        raise ValueError(
            f"`{name}` is for {len(mask)} texts of up to {width} tokens, but there are {len(texts)} of up to {longest}. "
            "A mask has a number for each token."
        )
    return [_Item.of(text, row[: len(text)], False) for text, row in zip(texts, mask, strict=True)]


def _groups(items: Sequence[_Item], most: int) -> Iterator[list[_Item]]:
    """Texts in groups of at most so many tokens, or of one text."""
    group: list[_Item] = []
    total = 0
    for item in items:
        if group and total + len(item.vectors) > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += len(item.vectors)
    yield group


def _num_tokens(queries: Sequence[_Item], device: torch.device) -> Tensor:
    return torch.tensor([max(len(query.vectors), 1) for query in queries], device=device)


def _tensor(values: Any) -> Tensor:
    """A tensor or an array as it is; of lists, float32, as in `torch.tensor`."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, str):
        raise TypeError(
            f"Expected embeddings of tokens, but got the text {values[:40]!r}. Embed it first, by `model.encode(...)`."
        )
    is_array = isinstance(values, np.ndarray)
    return torch.from_numpy(values if is_array else np.asarray(values, dtype=np.float32))


def _device(*sides: Texts) -> torch.device:
    """Where the first side is that is on a device."""
    for side in sides:
        first = side if isinstance(side, Tensor) else next(iter(side), None)
        if isinstance(first, Tensor):
            return first.device
    return torch.device("cpu")
