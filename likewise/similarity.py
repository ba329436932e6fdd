"""How alike two embeddings are: cosine, dot product, negative Euclidean and negative Manhattan distance.

Every function takes tensors, arrays or lists, computes in float32 when given half precision, and comes in two
forms: all pairs, (N, D) and (M, D) -> (N, M), and `pairwise_*`, (N, D) and (N, D) -> (N,). Larger is more alike. Axes before
these are batches: (B, N, D) and (B, M, D) -> (B, N, M). Of COO tensors, as sparse models give, they compute with scipy's
matrices; what they return is dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

Embeddings: TypeAlias = Tensor | np.ndarray[Any, Any] | Sequence[Any]
Similarity: TypeAlias = Callable[[Any, Any], Tensor]

__all__ = [
    "SimilarityFunction",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "pytorch_cos_sim",
    "to_float_tensor",
    "to_tensor",
]


QUANTISED = (torch.int8, torch.uint8)
ROW_BY_ROW = " row by row"


def to_float_tensor(embeddings: Embeddings) -> Tensor:
    """The embeddings as one tensor of at least float32; a tensor that is one already is returned as it is.

    Raises:
        TypeError: They are bytes, which hold eight bits each, or a step on a scale of each dimension's own.
    """
    tensor = to_tensor(embeddings)
    if tensor.dtype in QUANTISED:
        name = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(
            f"The embeddings are {name}, as `precision` in `encode` makes them, so that they are not numbers to compare. Bits "
            "(binary, ubinary) compare by Hamming distance: `semantic_search_faiss` and `semantic_search_usearch` do so, or "
            "unpack both sides, `np.unpackbits(x.view(np.uint8) ^ 128 if x.dtype == np.int8 else x, axis=-1)`, and turn them "
            "into floats. Of int8 and uint8, `x.astype(np.float32)` compares the steps."
        )
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def to_tensor(embeddings: Embeddings) -> Tensor:
    """The embeddings as one tensor, of the type that they have.

    Raises:
        TypeError: They are texts.
        ValueError: They are a list of several shapes.
    """
    if isinstance(embeddings, Tensor):
        return embeddings
    if isinstance(embeddings, np.ndarray) and embeddings.dtype.kind != "U":
        return torch.from_numpy(embeddings)
    if isinstance(embeddings, str) or (len(embeddings) and isinstance(embeddings[0], str)):
        raise TypeError(
            f"Expected embeddings, but got texts ({str(embeddings)[:40]}). Embed them first, by `model.encode(...)`."
        )
    shapes = {tuple(one.shape) for one in embeddings if isinstance(one, Tensor | np.ndarray)}
    if len(shapes) > 1:
        raise ValueError(
            f"Expected embeddings of one shape, but got {sorted(shapes)[:3]}. Those of tokens, as a MultiVectorEncoder gives them, "
            "are compared by its `similarity` and `rank`."
        )
    if len(embeddings) and isinstance(embeddings[0], Tensor):
        return torch.stack(list(embeddings))
    if len(embeddings) and isinstance(embeddings[0], np.ndarray):
        return torch.from_numpy(np.asarray(embeddings))
    # Python's own numbers count as float32, as in torch.tensor.
    return torch.from_numpy(np.asarray(embeddings, dtype=np.float32))


def cos_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Cosine of every a with every b: (N, D), (M, D) -> (N, M), in [-1, 1]. One vector counts as a batch of one."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_scores(a, b, "cosine")
    return dot_score(*(normalize(side, dim=-1) for side in _sides(a, b)))


def pytorch_cos_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """The older name of `cos_sim`."""
    return cos_sim(a, b)


def dot_score(a: Embeddings, b: Embeddings) -> Tensor:
    """Dot product of every a with every b: (N, D), (M, D) -> (N, M)."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_scores(a, b, "dot")
    first, second = _sides(a, b)
    return first @ second.mT


def euclidean_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Euclidean distance of every a to every b: (N, D), (M, D) -> (N, M), at most 0."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_scores(a, b, "euclidean")
    return -torch.cdist(*_sides(a, b), p=2.0)


def manhattan_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Manhattan distance of every a to every b: (N, D), (M, D) -> (N, M), at most 0."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_scores(a, b, "manhattan")
    return -torch.cdist(*_sides(a, b), p=1.0)


def pairwise_cos_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Cosine of each a with the b in the same row: (N, D), (N, D) -> (N,), in [-1, 1]."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_pair_scores(a, b, "cosine")
    return pairwise_dot_score(*(normalize(side, dim=-1) for side in _sides(a, b, ROW_BY_ROW)))


def pairwise_dot_score(a: Embeddings, b: Embeddings) -> Tensor:
    """Dot product of each a with the b in the same row: (N, D), (N, D) -> (N,)."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_pair_scores(a, b, "dot")
    first, second = _sides(a, b, ROW_BY_ROW)
    return (first * second).sum(dim=-1)


def pairwise_euclidean_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Euclidean distance of each a to the b in the same row: (N, D), (N, D) -> (N,), at most 0."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_pair_scores(a, b, "euclidean")
    distance: Tensor = torch.linalg.vector_norm(torch.sub(*_sides(a, b, ROW_BY_ROW)), dim=-1)
    return -distance


def pairwise_manhattan_sim(a: Embeddings, b: Embeddings) -> Tensor:
    """Negative Manhattan distance of each a to the b in the same row: (N, D), (N, D) -> (N,), at most 0."""
    if is_sparse(a) or is_sparse(b):
        return _sparse_pair_scores(a, b, "manhattan")
    return -torch.sub(*_sides(a, b, ROW_BY_ROW)).abs().sum(dim=-1)


def pairwise_angle_sim(x: Embeddings, y: Embeddings) -> Tensor:
    """Absolute normalised angle difference of each x and the y in its row, in complex space: (N, D), (N, D) -> (N,).

    Each vector is read as D/2 complex numbers (first half real, second half imaginary; a zero is added to an odd D). The
    difference is |cosine + sine| of the two vectors.

    Reference: Li and Li 2023, AnglE-optimized Text Embeddings, https://arxiv.org/abs/2309.12871, equation 7.
    """
    first, second = (normalize(vectors.to_dense(), dim=-1) for vectors in _sides(x, y, ROW_BY_ROW))
    if first.shape[-1] % 2:
        first, second = pad(first, (0, 1)), pad(second, (0, 1))
    (a, b), (c, d) = first.chunk(2, dim=-1), second.chunk(2, dim=-1)
    return (a * c + b * d + b * c - a * d).sum(dim=-1).abs()


class SimilarityFunction(Enum):
    """The ways to compare embeddings, the last two those of tokens; the value is the name that is saved with a model."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"  # an alias of DOT_PRODUCT
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MAXSIM = "maxsim"
    MEAN_MAXSIM = "meanmaxsim"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Similarity:
        """The all-pairs function of this name: (N, D), (M, D) -> (N, M); or of texts' tokens."""
        return _functions(similarity_function)[0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Similarity:
        """The row-by-row function of this name: (N, D), (N, D) -> (N,); or of texts' tokens."""
        return _functions(similarity_function)[1]

    @staticmethod
    def possible_values() -> list[str]:
        """The names of all similarity functions."""
        return [member.value for member in SimilarityFunction]


def name_for_whole_texts(function: str | SimilarityFunction) -> str:
    """The name of a function that compares one embedding of each text.

    Raises:
        ValueError: There is none of this name, or it compares tokens.
    """
    name = function.value if isinstance(function, SimilarityFunction) else function
    if name not in OF_WHOLE_TEXTS:
        hint = (
            " That one compares tokens, in a MultiVectorEncoder."
            if name in SimilarityFunction.possible_values()
            else ""
        )
        choices = ", ".join(OF_WHOLE_TEXTS)
        raise ValueError(f"There is no similarity function {name!r}. Choose one of: {choices}.{hint}")
    return name


def is_sparse(embeddings: Any) -> bool:
    """Whether these are COO embeddings: a tensor, or a list of them."""
    if not isinstance(embeddings, Tensor) and not isinstance(embeddings, np.ndarray) and len(embeddings):
        embeddings = embeddings[0]
    return isinstance(embeddings, Tensor) and embeddings.is_sparse


def to_scipy_csr(embeddings: Any) -> Any:
    """(N, V) embeddings, COO or dense, as a float32 CSR matrix of scipy."""
    from scipy.sparse import csr_matrix

    tensor = to_tensor(embeddings).detach().cpu()
    tensor = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor
    if not tensor.is_sparse:
        return csr_matrix(tensor.float().numpy())
    tensor = tensor.coalesce()
    row, column = tensor.indices().numpy()
    ends = np.cumsum(np.bincount(row, minlength=tensor.shape[0]))
    values = tensor.values().float().numpy()
    return csr_matrix((values, column, np.concatenate([[0], ends])), shape=tuple(tensor.shape))


def _sparse_scores(a: Any, b: Any, name: str) -> Tensor:
    """(N, V), (M, V) -> (N, M), on the first side's device."""
    device, first, second = to_tensor(a).device, to_scipy_csr(a), to_scipy_csr(b)
    _check_fit(first, second)
    if name == "manhattan":  # no product of matrices gives it
        whole = torch.from_numpy(second.toarray())
        parts = [-torch.cdist(torch.from_numpy(row.toarray()), whole, p=1.0) for row in first]
        return (torch.cat(parts) if parts else torch.empty(0, len(whole))).to(device)
    scores = torch.from_numpy((first @ second.T).toarray())
    if name != "dot":
        squares = [_sums(x.multiply(x)) for x in (first, second)]
        if name == "cosine":
            lengths = [square.sqrt().clamp(min=1e-12) for square in squares]
            scores = scores / lengths[0].unsqueeze(1) / lengths[1]
        else:
            scores = -(squares[0].unsqueeze(1) + squares[1] - 2 * scores).clamp(min=0).sqrt()
    return scores.to(device)


def _sparse_pair_scores(a: Any, b: Any, name: str) -> Tensor:
    """(N, V), (N, V) -> (N,), on the first side's device; of one with one, ()."""
    tensors = to_tensor(a), to_tensor(b)
    first, second = map(to_scipy_csr, tensors)
    _check_fit(first, second, ROW_BY_ROW)
    if first.shape != second.shape:  # one row is compared with each
        rows = np.zeros(first.shape[0] * second.shape[0], int)
        first, second = (x[rows] if x.shape[0] == 1 else x for x in (first, second))
    if name in ("cosine", "dot"):
        scores = _sums(first.multiply(second))
        if name == "cosine":
            for side in (first, second):
                scores = scores / _sums(side.multiply(side)).sqrt().clamp(min=1e-12)
    else:
        apart = first - second
        scores = -(_sums(apart.multiply(apart)).sqrt() if name == "euclidean" else _sums(abs(apart)))
    of_one = all(tensor.ndim == 1 for tensor in tensors)
    return (scores.squeeze(0) if of_one else scores).to(tensors[0].device)


def _sums(matrix: Any) -> Tensor:
    """Of each row of a scipy matrix: (N, V) -> (N,)."""
    return torch.from_numpy(np.asarray(matrix.sum(axis=1))).float().view(-1)


def _functions(function: str | SimilarityFunction) -> tuple[Similarity, Similarity]:
    """That of all pairs, and that row by row. MaxSim belongs to the models with an embedding for each token: loaded when asked for."""
    try:
        member = SimilarityFunction(function)
    except ValueError:
        choices = ", ".join(SimilarityFunction.possible_values())
        raise ValueError(f"There is no similarity function {function!r}. Choose one of: {choices}.") from None
    if member.value in _FUNCTIONS:
        return _FUNCTIONS[member.value]
    of_tokens, name = import_module("likewise.multi_vector_encoder.maxsim_scores"), member.name.lower()
    return getattr(of_tokens, name), getattr(of_tokens, f"{name}_pairwise")


def _sides(a: Embeddings, b: Embeddings, how: str = "") -> tuple[Tensor, Tensor]:
    """Both sides as tensors; to compare all with all, a vector becomes a batch of one."""
    first, second = to_float_tensor(a), to_float_tensor(b)
    _check_fit(first, second, how)
    if first.dtype != second.dtype:  # float32 and float64, as numpy makes of Python's numbers
        first, second = first.double(), second.double()
    return (first, second) if how else (torch.atleast_2d(first), torch.atleast_2d(second))


def _check_fit(first: Any, second: Any, how: str = "") -> None:
    """Refuse sides (tensors or scipy's matrices) of two sizes and, row by row, two batches of several rows each."""
    one, other = tuple(first.shape), tuple(second.shape)
    rest = slice(-1 if how else -2)  # what goes together row by row, or else batch by batch
    try:
        np.broadcast_shapes(one[rest], other[rest])
        fits = one[-1:] == other[-1:] != ()
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"Embeddings of the shapes {one} and {other} cannot be compared{how}. Embed both sides with one model and one "
            "`truncate_dim`; `similarity` compares all with all."
        )


# Of all pairs, and row by row.
_FUNCTIONS: dict[str, tuple[Similarity, Similarity]] = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}
OF_WHOLE_TEXTS = tuple(_FUNCTIONS)
