"""Which documents are worth scoring: those that look best when each of their tokens is taken for its nearest centroid.

A codec with centroids keeps, for each token, the number of the nearest one. A query's scores with the centroids are made once;
what looks best is chosen among the documents that have a centroid near to a token of the query, and no embedding is decompressed
for it.

Reference: Santhanam et al. 2022, PLAID: An Efficient Engine for Late Interaction Retrieval, https://arxiv.org/abs/2205.09707, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from likewise.checked import needed
from likewise.retrieval.quantized_search import FAISS

PROBES = 2  # centroids of each query token whose documents are looked at; PLAID takes 1 to 4
TOKENS = 1_000_000  # whose numbers are read at a time
DOCUMENTS = 2_000  # that are looked at at a time: of a hundred centroids, with 32 query tokens, 26 MB


@dataclass(frozen=True, eq=False)
class Centroids:
    """The centroids that the tokens of M documents are near to.

    Attributes:
        vectors: (C, D') float32.
        of_documents: (M, C), not zero where a token of the document has the centroid.
        documents: The same transposed.
        transforms: faiss's, from embeddings to what the centroids are compared with.
    """

    vectors: Tensor
    of_documents: csr_matrix
    documents: csr_matrix
    transforms: list[Any]

    @classmethod
    def read(cls, codec: Any, codes: Any, lengths: Tensor) -> Centroids:
        """Those of faiss's index `codec` that made `codes`, (T, bytes), of documents with these numbers of tokens, (M,).

        Raises:
            ValueError: The codec has no centroids.
        """
        faiss = needed(*FAISS)
        index = None if codec is None else faiss.try_extract_index_ivf(codec)
        if index is None:
            raise ValueError(
                "`candidates` are chosen by the centroids of tokens, and this corpus has none. Leave it out, or write the corpus "
                "with `precision='IVF1024,SQ4'`, say."
            )
        width, parts = index.coarse_code_size(), []
        for start in range(0, len(codes), TOKENS):
            numbers = np.zeros((len(codes[start : start + TOKENS]), 8), np.uint8)
            numbers[:, :width] = codes[start : start + TOKENS, :width]
            parts.append(numbers.view("<i8")[:, 0].astype(np.int32))
        ends = np.concatenate([[0], lengths.numpy().cumsum()])
        shape = len(lengths), index.nlist
        columns = np.concatenate(parts)
        found = csr_matrix((np.ones(len(columns), np.bool_), columns, ends), shape)
        found.sum_duplicates()
        chain = getattr(codec, "chain", None)
        transforms = [] if chain is None else [chain.at(number) for number in range(chain.size())]
        vectors = torch.from_numpy(index.quantizer.reconstruct_n(0, index.nlist))
        return cls(vectors, found, found.T.tocsr(), transforms)

    def best(self, query: Tensor, count: int) -> list[int]:
        """The numbers of at most `count` documents that look best for a query of (tokens, D)."""
        rows = query.numpy()
        for transform in self.transforms:
            rows = transform.apply(rows)
        scores = self.vectors @ torch.from_numpy(rows).T  # (C, tokens)
        near = scores.topk(min(PROBES, len(scores)), dim=0).indices.unique()
        numbers = np.unique(self.documents[near.numpy()].indices)
        by_centroid, looks = scores.numpy(), [np.zeros(0, np.float32)]
        for start in range(0, len(numbers), DOCUMENTS):
            some = self.of_documents[numbers[start : start + DOCUMENTS]]
            nearest = np.maximum.reduceat(by_centroid[some.indices], some.indptr[:-1], axis=0)
            looks.append(nearest.sum(1))
        # Of equal ones the lower numbers, and in their order, as all searches have them.
        order = np.argsort(-np.concatenate(looks), kind="stable")[:count]
        return sorted(numbers[order].tolist())
