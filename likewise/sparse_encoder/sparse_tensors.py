"""Sparse embeddings: COO tensors of (N, V), of which each row has few entries; cut, counted, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.similarity import Similarity, SimilarityFunction, to_tensor


def select_max_active_dims(embeddings: Tensor, max_active_dims: int) -> Tensor:
    """(N, V) with no more than `max_active_dims` entries a row, those of the largest absolute value; the others 0."""
    if max_active_dims >= embeddings.shape[-1]:
        return embeddings
    places = embeddings.abs().topk(max_active_dims, dim=-1).indices
    return torch.zeros_like(embeddings).scatter(-1, places, embeddings.gather(-1, places))


class SparseRows:
    """Collects batches of (n, V) rows, in any order, to one COO tensor.

    Args:
        num_rows: N.
        device: Where the result is.
    """

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.num_rows, self.device = num_rows, device
        self.width = 0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def put(self, rows: Tensor, embeddings: Tensor) -> None:
        """Put (n, V) dense embeddings at these (n,) rows."""
        row, column = embeddings.nonzero(as_tuple=True)
        values = embeddings[row, column]
        self.width = embeddings.shape[1]
        self._parts.append(
            tuple(part.to(self.device) for part in (rows.to(row.device)[row], column, values))  # type: ignore[arg-type]
        )

    def result(self) -> Tensor:
        """(N, V) COO, coalesced; (0,) where nothing came."""
        if not self._parts:
            return torch.empty(0, device=self.device).to_sparse()
        row, column, values = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        order = torch.argsort(row, stable=True)  # columns ascend within each part, and a row is in one part
        indices = torch.stack([row[order], column[order]])
        shape = (self.num_rows, self.width)
        return torch.sparse_coo_tensor(
            indices, values[order], shape, is_coalesced=True, check_invariants=False
        )


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
    matrix = csr_matrix(
        (tensor.values().float().numpy(), column, np.concatenate([[0], ends])), shape=tuple(tensor.shape)
    )
    return matrix


def similarity_of(name: str) -> Similarity:
    """The all-pairs similarity of this name, (N, V), (M, V) -> (N, M) dense, of COO or dense embeddings."""
    dense = SimilarityFunction.to_similarity_fn(name)

    def compare(first: Any, second: Any) -> Tensor:
        first, second = to_tensor(first), to_tensor(second)
        if not (first.is_sparse or second.is_sparse):
            return dense(first, second)
        device = first.device
        if name == "manhattan":  # no product of matrices gives it
            return torch.cat(
                [dense(row.to_dense(), second.to_dense()) for row in (first if first.ndim > 1 else [first])]
            )
        a, b = to_scipy_csr(first), to_scipy_csr(second)
        scores = torch.from_numpy((a @ b.T).toarray())
        if name == "dot":
            return scores.to(device)
        squares = [torch.from_numpy(np.asarray(x.multiply(x).sum(axis=1))).float().view(-1) for x in (a, b)]
        if name == "cosine":
            lengths = [square.sqrt().clamp(min=1e-12) for square in squares]
            return (scores / lengths[0].unsqueeze(1) / lengths[1]).to(device)
        distance = (squares[0].unsqueeze(1) + squares[1] - 2 * scores).clamp(min=0).sqrt()
        return -distance.to(device)

    return compare


def pairwise_similarity_of(name: str) -> Similarity:
    """The row-by-row similarity of this name, (N, V), (N, V) -> (N,), of COO or dense embeddings."""
    dense = SimilarityFunction.to_similarity_pairwise_fn(name)

    def compare(first: Any, second: Any) -> Tensor:
        first, second = to_tensor(first), to_tensor(second)
        if not (first.is_sparse or second.is_sparse):
            return dense(first, second)
        if first.ndim == 1:
            return dense(first.to_dense(), second.to_dense())
        rows = zip(first, second, strict=True)
        found = [dense(a.to_dense(), b.to_dense()).reshape(1) for a, b in rows]
        return torch.cat(found) if found else torch.empty(0)

    return compare


def sparsity(embeddings: Any) -> dict[str, float]:
    """The mean number of active dimensions of a row, `active_dims`, and the share of those that are not, `sparsity_ratio`.

    Raises:
        TypeError: It is no tensor.
    """
    if not isinstance(embeddings, Tensor):
        raise TypeError(
            f"`embeddings` must be a tensor, but is {type(embeddings).__name__}. Stack them: `torch.stack(embeddings)`."
        )
    if not embeddings.numel():
        return {"active_dims": 0.0, "sparsity_ratio": 1.0}
    rows = 1 if embeddings.ndim == 1 else embeddings.shape[0]
    values = embeddings.coalesce().values() if embeddings.is_sparse else embeddings
    active = float((values != 0).sum()) / rows
    return {"active_dims": active, "sparsity_ratio": 1.0 - active / embeddings.shape[-1]}


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """What two texts have in common: the products, entry by entry, that are positive, as COO.

    Args:
        first: (V,).
        second: (V,), or (N, V) to compare with each.

    Raises:
        ValueError: They are of other shapes.
    """
    if first.ndim != 1 or second.ndim not in (1, 2) or second.shape[-1] != first.shape[0]:
        raise ValueError(
            f"`intersection` takes (V,) and (V,) or (N, V) embeddings, but got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    product = first.to_dense() * second.to_dense()
    return product.clamp(min=0).to_sparse().coalesce()


def decoded_row(row: Tensor, tokenizer: Any, top_k: int | None) -> list[tuple[str, float]]:
    """(V,) -> the tokens of its entries with their weights, the heaviest first."""
    if row.is_sparse:
        row = row.coalesce()
        places, values = row.indices()[0], row.values()
        places, values = places[values != 0], values[values != 0]
    else:
        places = row.nonzero().squeeze(1)
        values = row[places]
    values, order = values.sort(descending=True, stable=True)
    places = places[order][:top_k]
    tokens = tokenizer.convert_ids_to_tokens(places.tolist())
    return list(zip(tokens, values[:top_k].tolist(), strict=True))
