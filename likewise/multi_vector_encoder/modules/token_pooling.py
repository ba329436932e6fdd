"""Token pooling: fewer embeddings for a text, so that an index of late interaction is smaller.

Reference: Clavié, Chaffin and Adams 2024, Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact
via Token Pooling, https://arxiv.org/abs/2409.14683.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from likewise.checked import one_of
from likewise.modules.base import Features, Module
from likewise.modules.query_expansion import DOCUMENT
from likewise.multi_vector_encoder.modules.multi_vector_mask import task_names
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

Side = Literal["left", "right"]


class BaseTokenPooling(Module):
    """Makes fewer embeddings of a text's: as a model's last module, in one call of `encode`, or by itself with `pool`.

    A subclass writes `pool_one`.

    Args:
        tasks: Texts of these tasks are pooled, one or several; texts without a task count as documents.
    """

    config_keys: ClassVar[Sequence[str]] = ("tasks",)
    forward_kwargs = frozenset({"task"})

    def __init__(self, *, tasks: str | Sequence[str] | None = None) -> None:
        super().__init__()
        self.tasks = task_names(tasks)

    @abstractmethod
    def pool_one(self, embedding: Tensor, **kwargs: Any) -> Tensor:
        """One text's embeddings, (tokens, D) -> (fewer tokens, D)."""

    def applies_to(self, task: str | None) -> bool:
        """Whether texts of a task are pooled."""
        return (task or DOCUMENT) in self.tasks

    def forward(self, features: Features, task: str | None = None, **kwargs: Any) -> Features:
        """Pool `token_embeddings`, of the tokens that are scored."""
        if not self.applies_to(features.get("task") if task is None else task):
            return features
        found = TokenEmbeddings.of(features)
        if not len(found):
            return features
        pooled = TokenEmbeddings.from_list([self.pool_one(text) for text in found])
        if "tokens" in features:
            features["tokens"], features["token_embeddings"] = pooled.as_batch()
            features.pop("scoring_mask", None)
        else:
            features["token_embeddings"], features["attention_mask"] = pooled.padded()
        return features

    @overload
    def pool(
        self, embeddings: Tensor, *, task: str | None = ..., attention_mask: Tensor | None = ..., padding_side: Side = ...
    ) -> Tensor: ...  # fmt: skip
    @overload
    def pool(
        self, embeddings: list[Tensor], *, task: str | None = ..., attention_mask: Tensor | None = ..., padding_side: Side = ...
    ) -> list[Tensor]: ...  # fmt: skip
    def pool(
        self,
        embeddings: list[Tensor] | Tensor,
        *,
        task: str | None = None,
        attention_mask: Tensor | None = None,
        padding_side: Side = "right",
    ) -> list[Tensor] | Tensor:
        """Pool the embeddings of several texts.

        Args:
            embeddings: (tokens, D) for each, or (N, L, D), which comes back padded with zeros on the same side.
            task: What the texts are for; None for documents.
            attention_mask: (N, L), 1 for tokens; None where padding is zeros.
            padding_side: Where the padding is.

        Raises:
            ValueError: They have another shape, or the side is none.
        """
        if not self.applies_to(task):
            return embeddings
        one_of(padding_side, "padding_side", ("left", "right"))
        if isinstance(embeddings, Tensor):
            if embeddings.ndim != 3:
                raise ValueError(
                    f"`embeddings` must be (texts, tokens, size) or a list, but are {tuple(embeddings.shape)}. Pass one text as "
                    "[embeddings]."
                )
            if not len(embeddings):
                return embeddings.new_zeros(0, 0, embeddings.shape[-1])
            texts = _without_padding(embeddings, attention_mask, padding_side)
            return _padded([self.pool_one(text) for text in texts], padding_side)
        wrong = next((text for text in embeddings if not (isinstance(text, Tensor) and text.ndim == 2)), None)
        if wrong is not None:
            raise ValueError(
                f"Each of `embeddings` must be a tensor (tokens, size), but one is {getattr(wrong, 'shape', wrong)!r}."
            )
        return [self.pool_one(text) for text in embeddings]


class HierarchicalTokenPooling(BaseTokenPooling):
    """The means of clusters of tokens, by Ward's method on their cosine distances.

    Args:
        pool_factor: About so many tokens become one, >= 1; 1 leaves them as they are.
        num_protected_tokens: The first tokens, [CLS] for one, that are kept.
        normalize_embeddings: Whether all that comes out is scaled to length 1.
        tasks: As for every pooling.

    Raises:
        ValueError: The factor is less than 1, or the number less than 0.
    """

    config_keys = ("pool_factor", "num_protected_tokens", "normalize_embeddings", "tasks")
    saved_as = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"

    def __init__(
        self,
        pool_factor: float = 1.0,
        *,
        num_protected_tokens: int = 1,
        normalize_embeddings: bool = True,
        tasks: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(tasks=tasks)
        for name, value, least in (
            ("pool_factor", pool_factor, 1),
            ("num_protected_tokens", num_protected_tokens, 0),
        ):
            if not value >= least:
                raise ValueError(f"`{name}` must be at least {least}, but is {value}.")
        self.pool_factor = pool_factor
        self.num_protected_tokens = num_protected_tokens
        self.normalize_embeddings = normalize_embeddings

    @classmethod
    def saved_settings(cls, folder: str | Path) -> dict[str, Any]:
        """What is saved; a folder that does not say whether lengths are 1 means that they are not."""
        return {"normalize_embeddings": False, **super().saved_settings(folder)}

    def pool_one(self, embedding: Tensor, **kwargs: Any) -> Tensor:
        """One text's embeddings, (tokens, D) -> (about tokens / factor, D)."""
        protected, others = embedding.tensor_split([self.num_protected_tokens])
        wanted = max(int(len(others) // self.pool_factor), 1)
        if wanted < len(others):
            others = _cluster_means(others, wanted)
        pooled = torch.cat([protected, others])
        return normalize(pooled.float(), dim=-1).to(pooled.dtype) if self.normalize_embeddings else pooled


class LambdaTokenPooling(BaseTokenPooling):
    """Pools by a function of yours; a model with it cannot be saved.

    Args:
        pool_fn: One text's embeddings, (tokens, D) -> (fewer tokens, D).
        tasks: As for every pooling.
    """

    def __init__(
        self, pool_fn: Callable[[Tensor], Tensor], *, tasks: str | Sequence[str] | None = None
    ) -> None:
        super().__init__(tasks=tasks)
        self.pool_fn = pool_fn

    def pool_one(self, embedding: Tensor, **kwargs: Any) -> Tensor:
        """What the function gives."""
        return self.pool_fn(embedding)

    def save(self, output_path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Refuse: a function is no setting.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "A LambdaTokenPooling holds a function, which no folder can. Pass it to `encode(token_pooling=...)`, or derive a class "
            "of your own from BaseTokenPooling."
        )


def _cluster_means(embeddings: Tensor, wanted: int) -> Tensor:
    """(n, D) -> (at most `wanted`, D): the mean of each cluster of Ward's method."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    plain = embeddings.detach().float().cpu()
    distances = (1 - plain @ plain.T).clamp(0, 2).numpy()
    tree = linkage(squareform(distances, checks=False), method="ward")
    labels = fcluster(tree, t=wanted, criterion="maxclust")
    _, of_token = np.unique(labels, return_inverse=True)
    cluster = torch.from_numpy(of_token.astype(np.int64)).to(embeddings.device)
    sums = embeddings.new_zeros(int(cluster.max()) + 1, embeddings.shape[1]).index_add(0, cluster, embeddings)
    return sums / cluster.bincount().unsqueeze(1).to(sums.dtype)


def _without_padding(embeddings: Tensor, mask: Tensor | None, side: Side) -> list[Tensor]:
    """Each text's tokens; without a mask, zeros at the padded end are padding."""
    if mask is not None:
        return [text[kept] for text, kept in zip(embeddings, mask.bool(), strict=True)]
    texts = []
    for text in embeddings:
        real = text.ne(0).any(dim=1).nonzero().flatten().tolist()
        first, last = (real[0], real[-1] + 1) if real else (0, 0)
        texts.append(text[:last] if side == "right" or not real else text[first:])
    return texts


def _padded(texts: Sequence[Tensor], side: Side) -> Tensor:
    padded = texts[0].new_zeros(len(texts), max(map(len, texts)), texts[0].shape[1])
    longest = padded.shape[1]
    for row, text in zip(padded, texts, strict=True):
        start = 0 if side == "right" else longest - len(text)
        row[start : start + len(text)] = text
    return padded
