"""Search and reranking by late interaction, over a corpus of token embeddings in a folder.

The embeddings lie end to end in one file that is mapped into memory, so that a corpus may be larger than that. Every document
is scored with every query, unless a search asks for candidates: then those alone that look best by the centroids of their tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.checked import positive
from likewise.multi_vector_encoder.centroids import Centroids
from likewise.multi_vector_encoder.packed_maxsim import packed_maxsim
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings
from likewise.retrieval.best_documents import BestDocuments
from likewise.retrieval.quantized_search import library

VECTORS, LENGTHS, SETTINGS, CODEC = "vectors.bin", "lengths.npy", "settings.json", "codec.faiss"
FLOATS = ("float32", "float16")
WINDOW = 2048  # documents that are embedded and written at a time
TOKENS = 200_000  # of documents that are scored at a time


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """The token embeddings of M documents, in a folder.

    Attributes:
        vectors: (T, D), mapped into memory, float32 or float16; or the (T, bytes) that a codec makes of them, uint8.
        lengths: (M,) int64, the tokens of each document.
        length_normalize: Whether a score is divided by the number of the query's tokens, as the model that wrote it does.
        codec: faiss's index that compressed them; None where they are numbers.
    """

    vectors: Any
    lengths: Tensor
    length_normalize: bool
    codec: Any = None

    @classmethod
    def write(
        cls,
        model: Any,
        documents: Sequence[str],
        folder: str | Path,
        precision: str = "float16",
        **encode_kwargs: Any,
    ) -> TokenCorpus:
        """Embed documents and write them, some thousand at a time.

        Args:
            model: A MultiVectorEncoder.
            documents: M texts.
            folder: Made if it does not exist; must hold no corpus yet.
            precision: Of what is written; scores are computed in float32. "float32", "float16", or a name that faiss's
                `index_factory` takes: "IVF64,SQ4" keeps the nearest of 64 centroids and 4 bits of each entry of what is left, a
                quarter of float16 (`pip install "likewise[faiss]"`). Such a codec is fitted to 2,048 of the documents.
            **encode_kwargs: For `encode_document`, e.g. `token_pooling`.

        Raises:
            TypeError: The model is of another family, or the documents are one text.
            ValueError: There are no documents, none has a token that is scored, or the precision is unknown.
            FileExistsError: The folder holds a corpus.
            ImportError: The precision is a codec's, and faiss is not installed.
        """
        folder = Path(folder)
        if isinstance(documents, str):
            raise TypeError(
                f"`documents` must be a list of texts, but is a text: {documents!r:.60}. Pass `[text]`."
            )
        if getattr(model, "model_type", None) != "MultiVectorEncoder":
            raise TypeError(
                f"A corpus of token embeddings takes a MultiVectorEncoder, but got {type(model).__name__}."
            )
        if not len(documents):
            raise ValueError("`documents` is empty. Pass at least one text.")
        if (folder / SETTINGS).exists():
            raise FileExistsError(f"{folder} holds a corpus already. Open it, or pass another folder.")
        encode_kwargs = {**encode_kwargs, "convert_to_numpy": True}
        codec = None if precision in FLOATS else _fitted(model, documents, precision, encode_kwargs)
        folder.mkdir(parents=True, exist_ok=True)
        lengths: list[int] = []
        size = 0
        with (folder / VECTORS).open("wb") as file:
            for start in range(0, len(documents), WINDOW):
                texts = list(documents[start : start + WINDOW])
                for embeddings in model.encode_document(texts, **encode_kwargs):
                    lengths.append(len(embeddings))
                    size = embeddings.shape[1]
                    rows = np.ascontiguousarray(embeddings, "float32" if codec is not None else precision)
                    file.write((rows if codec is None else codec.sa_encode(rows)).tobytes())
        if not sum(lengths):
            raise ValueError(
                "No token of any document is scored. Look at the skiplist, or at `token_pooling`."
            )
        np.save(folder / LENGTHS, np.asarray(lengths, np.int64))
        if codec is not None:
            library("faiss", "faiss-cpu").write_index(codec, str(folder / CODEC))
        settings = {"size": size, "precision": precision, "similarity_fn_name": model.similarity_fn_name}
        (folder / SETTINGS).write_text(
            json.dumps(settings, indent=2) + "\n", encoding="utf8"
        )  # last: it is whole
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> TokenCorpus:
        """A corpus that was written.

        Raises:
            FileNotFoundError: There is none, or it was not finished.
            ValueError: A file is cut short.
        """
        folder = Path(folder)
        if not (folder / SETTINGS).exists():
            raise FileNotFoundError(
                f"{folder} holds no corpus of token embeddings, or one that was not finished. Make it: "
                "`TokenCorpus.write(model, documents, folder)`."
            )
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf8"))
        lengths = torch.from_numpy(np.load(folder / LENGTHS))
        codec, width, kind = None, int(settings["size"]), np.dtype(np.uint8)
        if settings["precision"] in FLOATS:
            kind = np.dtype(settings["precision"])
        else:
            codec = library("faiss", "faiss-cpu").read_index(str(folder / CODEC))
            width = codec.sa_code_size()
        shape = int(lengths.sum()), width
        found = (folder / VECTORS).stat().st_size
        if found != shape[0] * shape[1] * kind.itemsize:
            raise ValueError(
                f"{folder / VECTORS} has {found} bytes, but {shape[0]} tokens of {width} {kind.name} take "
                f"{shape[0] * shape[1] * kind.itemsize}. Write the corpus again."
            )
        vectors = np.memmap(folder / VECTORS, kind, "r", shape=shape)
        return cls(vectors, lengths, settings["similarity_fn_name"] == "meanmaxsim", codec)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def centroids(self) -> Centroids:
        """The centroids of the documents' tokens, read when they are first asked for."""
        return Centroids.read(self.codec, self.vectors, self.lengths)

    def search(
        self, queries: Sequence[Any], top_k: int = 10, candidates: int | None = None
    ) -> list[list[dict[str, Any]]]:
        """The best documents of each query, by their numbers, as `util.semantic_search` gives them.

        Args:
            queries: (tokens, D) for each, as `encode_query` gives them.
            top_k: How many to return.
            candidates: How many documents to score for each query: those that look best when each token is taken for its
                centroid (PLAID), so that a good one may be missed. For a corpus with centroids, whose precision is "IVF1024,SQ4",
                say. None for all documents.

        Returns:
            For each query `{"corpus_id": ..., "score": ...}`, best first; of equal scores the lower number first.

        Raises:
            ValueError: `top_k` is less than 1, there are fewer candidates than that or no centroids to choose them by, or a query
                has another size than the corpus.
        """
        asked = self._asked(queries, top_k)
        if candidates is not None:
            if positive(candidates, "candidates") < top_k:
                raise ValueError(f"`candidates` must be at least `top_k`, but is {candidates}, not {top_k}.")
            return self._scored(asked, [self.centroids.best(query, candidates) for query in asked], top_k)
        best = BestDocuments(len(asked), min(top_k, len(self)))
        ends = self.lengths.cumsum(0)
        first = 0
        while first < len(self):
            begin = int(ends[first] - self.lengths[first])
            last = max(first + 1, int(torch.searchsorted(ends, begin + TOKENS, right=True)))
            block = self._floats(slice(begin, int(ends[last - 1])))
            scores = self._scores(asked, TokenEmbeddings(block, self.lengths[first:last]))
            best.add(scores, torch.arange(first, last))
            first = last
        ranking = best.result()
        return [_hits(*row) for row in zip(ranking.ids, ranking.scores, strict=True)]

    def rerank(
        self, queries: Sequence[Any], candidates: Sequence[Sequence[int]], top_k: int | None = None
    ) -> list[list[dict[str, Any]]]:
        """The candidates of each query, exactly scored, best first.

        Args:
            queries: (tokens, D) for each.
            candidates: For each query the numbers of documents that another search found.
            top_k: How many to return; None for all.

        Raises:
            ValueError: There are not as many lists of candidates as queries, or a number is of no document.
        """
        asked = self._asked(queries, 1 if top_k is None else top_k)
        if len(candidates) != len(asked):
            raise ValueError(
                f"There are {len(asked)} queries, but {len(candidates)} lists of candidates. Give one for each."
            )
        for numbers in candidates:
            wrong = next((number for number in numbers if not 0 <= number < len(self)), None)
            if wrong is not None:
                raise ValueError(f"There is no document {wrong}: the corpus has 0 to {len(self) - 1}.")
        return self._scored(asked, candidates, top_k)

    def _scored(
        self, asked: TokenEmbeddings, candidates: Sequence[Sequence[int]], top_k: int | None
    ) -> list[list[dict[str, Any]]]:
        ends = self.lengths.cumsum(0)
        results: list[list[dict[str, Any]]] = []
        for query, numbers in zip(asked.split(1) if len(asked) else (), candidates, strict=True):
            some = torch.tensor(list(numbers), dtype=torch.long)
            lengths = self.lengths[some]
            block = self._floats(*map(slice, (ends[some] - lengths).tolist(), ends[some].tolist()))
            scores = self._scores(query, TokenEmbeddings(block, lengths))[0]
            order = scores.argsort(descending=True, stable=True)[:top_k]
            results.append(_hits(some[order], scores[order]))
        return results

    def _asked(self, queries: Sequence[Any], top_k: int) -> TokenEmbeddings:
        positive(top_k, "top_k")
        for query in queries:
            if isinstance(query, str):
                raise TypeError(
                    f"Queries are embeddings, but one is {query[:40]!r}. Embed it first, by `model.encode_query([...])`."
                )
        size = self.vectors.shape[1] if self.codec is None else self.codec.d
        texts = [torch.as_tensor(query).float().cpu() for query in queries]
        for number, text in enumerate(texts):
            if text.ndim != 2 or text.shape[1] != size:
                raise ValueError(
                    f"Query {number} is {tuple(text.shape)}, but must be (tokens, {size}), as `encode_query` of the "
                    "model that wrote the corpus gives it."
                )
        return TokenEmbeddings.from_list(texts or [torch.empty(0, size)]).select(torch.arange(len(texts)))

    def _floats(self, *tokens: slice) -> Tensor:
        """The embeddings of some tokens, (t, D) float32: a copy, as what is mapped cannot be written to."""
        parts = [self.vectors[some] for some in (slice(0), *tokens)]
        if self.codec is None:
            return torch.from_numpy(np.concatenate(parts, dtype=np.float32))
        return torch.from_numpy(self.codec.sa_decode(np.concatenate(parts)))

    def _scores(self, queries: TokenEmbeddings, documents: TokenEmbeddings) -> Tensor:
        lengths = queries.lengths.tolist(), documents.lengths.tolist()
        scores = packed_maxsim(queries.vectors, documents.vectors, *lengths)
        return scores / queries.lengths.clamp(min=1).unsqueeze(1) if self.length_normalize else scores


def _fitted(model: Any, documents: Sequence[str], name: str, encode_kwargs: dict[str, Any]) -> Any:
    """faiss's index of that name, fitted to the tokens of some documents."""
    faiss = library("faiss", "faiss-cpu")
    some = random.Random(0).sample(list(documents), min(len(documents), WINDOW))
    tokens = np.concatenate(model.encode_document(some, **encode_kwargs)).astype(np.float32)
    try:
        codec = faiss.index_factory(tokens.shape[1], name)
        codec.train(tokens)
        codec.sa_encode(tokens[:1])
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`precision` must be 'float32', 'float16' or what faiss can compress {len(tokens)} tokens with, such as 'SQ8' or 'IVF64,SQ4', but "
            f"is {name!r}. faiss says: {str(error).strip().splitlines()[-1]}"
        ) from error
    return codec


def _hits(numbers: Tensor, scores: Tensor) -> list[dict[str, Any]]:
    return [
        {"corpus_id": number, "score": score}
        for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
        if number >= 0
    ]
