"""What evaluators of sparse models have beside those of dense ones: how sparse the embeddings were that were measured."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from likewise.checked import positive_or_none
from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.embedding import checked_embeddings, once_each
from likewise.evaluation.measurement import Array, Measurement

FAMILY = "SparseEncoder"


@dataclass(frozen=True)
class Seen:
    """How sparse some embeddings were.

    Attributes:
        task: "query", "document" or None, as they were embedded.
        num_rows: How many there were.
        counts: (V,) in how many of them each entry was active.
    """

    task: str | None
    num_rows: int
    counts: Array

    @classmethod
    def of(cls, embeddings: Tensor, task: str | None) -> Seen:
        """That of (N, V) embeddings, COO or dense."""
        if embeddings.is_sparse:
            embeddings = embeddings.coalesce()
            active = embeddings.indices()[1][embeddings.values() != 0]
            counts = torch.bincount(active, minlength=embeddings.shape[1])
        else:
            counts = (embeddings != 0).sum(dim=0)
        return cls(task, len(embeddings), counts.cpu().numpy())

    @property
    def active_dims(self) -> float:
        """The mean number of active entries of a row."""
        return float(self.counts.sum()) / max(1, self.num_rows)

    @property
    def sparsity_ratio(self) -> float:
        """The share of entries that are not active."""
        return 1 - self.active_dims / len(self.counts)


def figures_of(seen: Sequence[Seen], prefix: str = "") -> dict[str, float]:
    """Their mean `active_dims` and `sparsity_ratio`."""
    return {
        f"{prefix}active_dims": float(np.mean([one.active_dims for one in seen])),
        f"{prefix}sparsity_ratio": float(np.mean([one.sparsity_ratio for one in seen])),
    }


class SparseEvaluator(SentenceEvaluator):
    """An evaluator of dense models that measures a SparseEncoder. It stands before that evaluator among the bases.

    It embeds with at most `max_active_dims` entries, and adds how sparse the embeddings were to the metrics and the csv file.
    """

    model_type = FAMILY
    max_active_dims: int | None = None
    in_place_of: ClassVar[str] = "truncate_dim"
    """The argument of the dense evaluator whose place `max_active_dims` has."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        base: Any = next((b for b in cls.__mro__[1:] if not issubclass(b, SparseEvaluator)), None)
        dropped = {"truncate_dim", "precision", "self"} - {cls.in_place_of}
        cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                one.replace(name="max_active_dims") if one.name == cls.in_place_of else one
                for one in inspect.signature(base.__init__).parameters.values()
                if one.name not in dropped
            ]
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            given = type(self).__signature__.bind(*args, **kwargs).arguments  # type: ignore[attr-defined]
        except TypeError as error:  # which does not say of what
            raise TypeError(f"{type(self).__name__}() {error}") from None
        dims = given.pop("max_active_dims", None)
        self.max_active_dims = positive_or_none(dims, "max_active_dims")
        self._seen: list[Seen] = []
        super().__init__(**given)

    def embed(self, model: Any, texts: Any, task: Any = None, **kwargs: Any) -> Tensor:
        """The embeddings of texts, (N, V), on the CPU, or of one text, (V,); as queries or documents, if `task` says so.

        They are dense, unless `convert_to_sparse_tensor=True` asks for COO.
        """
        if isinstance(texts, str):
            return self.embed(model, [texts], task, **kwargs)[0]
        encode = {"query": model.encode_query, "document": model.encode_document, None: model.encode}[task]
        distinct, places = once_each(texts)
        options = {
            "batch_size": self.batch_size,
            "show_progress_bar": self.show_progress_bar,
            "max_active_dims": self.max_active_dims,
            "convert_to_sparse_tensor": False,
        } | kwargs
        found: Tensor = encode(distinct, save_to_cpu=True, **options)
        if found.is_sparse:  # a row with an entry that is no finite number has such a sum
            checked_embeddings(torch.sparse.sum(found, dim=1).to_dense().unsqueeze(1), distinct)
        else:
            found = checked_embeddings(found, distinct)
        return found.index_select(0, torch.tensor(places, dtype=torch.long))

    def embed_columns(self, model: Any, *columns: Sequence[Any], **kwargs: Any) -> tuple[Tensor, ...]:
        """As every evaluator's; it notes how sparse they are."""
        found = super().embed_columns(model, *columns, **kwargs)
        self._seen += [Seen.of(one, kwargs.get("encode_fn_name")) for one in found]
        return found

    def measure(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, Measurement]:
        """What the dense evaluator measures, and how sparse the embeddings were."""
        self._seen = []
        measured = super().measure(model, *args, **kwargs)
        return measured | Measurement.fixed_each(self.figures())

    def figures(self) -> dict[str, float]:
        """How sparse the embeddings were that were measured last, by name."""
        return figures_of(self._seen)

    def csv_row(self, measured: Mapping[str, Measurement]) -> dict[str, float]:
        """The dense evaluator's columns, and the figures as the last ones."""
        names = [name for name in measured if name.endswith(("active_dims", "sparsity_ratio", "avg_flops"))]
        dense = {name: one for name, one in measured.items() if name not in names}
        return super().csv_row(dense) | {name: measured[name].value for name in names}

    def get_config_dict(self) -> dict[str, Any]:
        dims = {} if self.max_active_dims is None else {"max_active_dims": self.max_active_dims}
        return super().get_config_dict() | dims
