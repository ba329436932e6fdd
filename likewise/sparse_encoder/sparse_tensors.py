"""Sparse embeddings: COO tensors of (N, V), of which each row has few entries; cut, counted, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from likewise.checked import positive

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix


def select_max_active_dims(embeddings: Any, max_active_dims: int | None) -> Any:
    """(..., D) with the entries of the largest size kept, and zeros elsewhere, as a new tensor.

    Args:
        embeddings: A tensor, an array or a list.
        max_active_dims: How many entries to keep; None hands the embeddings back as they are.

    Raises:
        ValueError: It is below 1.
    """
    if max_active_dims is None:
        return embeddings
    positive(max_active_dims, "max_active_dims", "None keeps all.")
    tensor = torch.as_tensor(embeddings)
    kept = tensor.abs().topk(min(max_active_dims, tensor.shape[-1]), dim=-1).indices
    return torch.zeros_like(tensor).scatter(-1, kept, tensor.gather(-1, kept))


def to_scipy_coo(x: Tensor) -> coo_matrix:
    """A sparse tensor (N, D) as scipy's coo_matrix; bfloat16 becomes float32."""
    from scipy.sparse import coo_matrix

    x = x.coalesce()
    values = x.values().float() if x.dtype == torch.bfloat16 else x.values()
    return coo_matrix((values.cpu().numpy(), x.indices().cpu().numpy()), shape=x.shape)


def compute_count_vector(embeddings: Tensor) -> Tensor:
    """How many rows of (N, D) or (D,), dense or sparse, have something else than 0 in each dimension: (D,) int32.

    As in the reference, a 0 that a sparse tensor stores counts as an entry.

    Raises:
        ValueError: There are more dimensions.
    """
    if embeddings.dim() not in (1, 2):
        raise ValueError(f"Expected embeddings (N, D) or (D,), but got {embeddings.dim()} dimensions.")
    sparse = embeddings if embeddings.is_sparse else embeddings.to_sparse()
    column = sparse.coalesce().indices()[-1]
    return torch.bincount(column, minlength=embeddings.shape[-1]).int()


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


def rows_of(embeddings: Tensor) -> list[Tensor]:
    """The N rows of (N, V) embeddings, each (V,); of COO all at once, since taking one looks at the entries of all."""
    if not embeddings.is_sparse or embeddings.ndim < 2:
        return list(embeddings)
    embeddings = embeddings.coalesce()
    (row, column), values = embeddings.indices(), embeddings.values()
    counts = torch.bincount(row, minlength=embeddings.shape[0]).tolist()
    return [
        torch.sparse_coo_tensor(
            places.unsqueeze(0), part, (embeddings.shape[1],), is_coalesced=True, check_invariants=False
        )
        for places, part in zip(column.split(counts), values.split(counts), strict=True)
    ]


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
