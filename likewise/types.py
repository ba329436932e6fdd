"""Encoder: what losses, evaluators and retrieval need of a model, so that none of them knows a class of models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

MODEL_TYPES = {
    "SentenceTransformer": "", "CrossEncoder": "cross_encoder.", "SparseEncoder": "sparse_encoder.", "MultiVectorEncoder": "multi_vector_encoder."
}  # fmt: skip
"""The families by the name that models, losses and evaluators have as `model_type`, and where in the package each is."""


class Encoder(Protocol):
    """A model that embeds texts. Whatever has the members that are used is taken, a SentenceTransformer or a stand-in.

    In training it is called with features, packed or padded; elsewhere with texts, through `encode`.
    """

    @property
    def device(self) -> torch.device:
        """Where it takes its inputs."""

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of its weights; None without any."""

    @property
    def takes_tokens(self) -> bool:
        """Whether it can be called with packed tokens, `{"tokens": TokenBatch}`."""

    @property
    def tokenizer(self) -> Any:
        """What makes tokens of texts."""

    @property
    def truncate_dim(self) -> int | None:
        """Embeddings are cut to this many entries; None for all."""

    @property
    def similarity_fn_name(self) -> Any:
        """How its embeddings are compared: cosine, dot, euclidean or manhattan."""

    @property
    def transformers_model(self) -> Any:
        """The model of transformers inside, or None."""

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        """Features of N inputs -> features with `sentence_embedding` (N, D), in the caller's order."""

    def __getitem__(self, index: int) -> Any:
        """One of its modules."""

    def __iter__(self) -> Iterator[Any]:
        """Its modules."""

    def modules(self) -> Iterator[nn.Module]:
        """It, its modules, and all that is in them."""

    def children(self) -> Iterator[nn.Module]:
        """Its modules, the one that takes inputs first."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""

    def layer_embeddings(self, features: dict[str, Any]) -> Tensor:
        """Features of N inputs -> (N, layers, D): what it would give if it ended at each of its layers."""

    def token_sequences(self, texts: Any, prompt: str | None = None, task: str | None = None) -> Any:
        """Texts -> their TokenSequences."""

    def padded_inputs(self, texts: Any, prompt: str | None, task: str | None, **options: Any) -> Any:
        """Texts -> padded features, where it takes no packed tokens."""

    def get_sentence_embedding_dimension(self) -> int | None:
        """D, the size of its embeddings; None where that is not known."""

    def encode(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Texts -> (N, D) embeddings."""

    def encode_query(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Queries -> (N, D) embeddings."""

    def encode_document(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Documents -> (N, D) embeddings."""

    @property
    def similarity(self) -> Any:
        """Scores of all pairs, (N, D), (M, D) -> (N, M)."""

    @property
    def similarity_pairwise(self) -> Any:
        """Scores of aligned rows, (N, D), (N, D) -> (N,)."""


def check_family(part: Any, model: Any, room: str) -> None:
    """Refuse a model of another family than a loss or an evaluator is for; stand-ins, of no family, are taken.

    Args:
        part: The loss or evaluator, whose `model_type` says it; None for any.
        model: The model.
        room: Where its like are: "losses" or "evaluation".

    Raises:
        TypeError: The model is of another family, or a name.
    """
    # A loss of embeddings that are there already needs none.
    if isinstance(model, str) or (model is None and room == "evaluation"):
        raise TypeError(f"{type(part).__name__} takes a model, but got {model!r}. Load it first.")
    family = getattr(model, "model_type", None)
    if part.model_type is not None and family in MODEL_TYPES and family != part.model_type:
        raise TypeError(
            f"{type(part).__name__} is for a {part.model_type}, but the model is a {family}. Use one of "
            f"`likewise.{MODEL_TYPES[family]}{room}`."
        )
