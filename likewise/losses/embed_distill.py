"""EmbedDistillLoss: a student's embeddings should be its teacher's; MSELoss: the same by the mean squared error.

With u the student's embedding (projected, if asked), t the teacher's:

    cosine: mean of 1 - cos(u, t)        mse: mean of (u - t) ** 2 over rows and entries        l2: mean of |u - t|

Several text columns: the mean of their losses.

References: Kim et al. 2023, EmbedDistill, https://arxiv.org/abs/2301.12005, section 4.2; Reimers and Gurevych 2020,
https://arxiv.org/abs/2004.09813, section 2 (MSELoss: a translation should have the embedding of the original).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss

from likewise.checked import one_of, positive
from likewise.losses.base import Columns, Label, Loss, widened
from likewise.similarity import to_float_tensor
from likewise.types import Encoder

METRICS = ("mse", "l2", "cosine")


@dataclass(eq=False, repr=False)
class EmbedDistillLoss(Loss):
    """Texts, in one or several columns, with the embedding that a teacher gives them.

    The label of a row is one vector, for all its columns, or a list of one for each column; compute them beforehand,
    with `teacher.encode`. Prefer MarginMSELoss or DistillKLDivLoss where the teacher gives scores (a cross encoder).

    Args:
        model: The student.
        distance_metric: `cosine`, `mse` or `l2`.
        projection_dim: The teacher's embedding size, where it is not the student's: the student's embeddings go
            through a linear layer of that size, which is trained along and is no part of the saved model.
    """

    takes = (Columns(("sentence",), more="sentence", label=Label.EMBEDDING),)
    names_are_one = False
    cites = "kim2023embeddistill"

    model: Encoder
    distance_metric: Literal["mse", "l2", "cosine"] = "cosine"
    projection_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.distance_metric, "distance_metric", METRICS)
        self.projection: nn.Linear | None = None
        if self.projection_dim is not None:
            size = positive(self.projection_dim, "projection_dim")
            self.projection = nn.Linear(_size(self.model), size, device=self.model.device)

    def compute(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """(B, D) batches and labels, (B, T) or (B, columns, T) -> scalar, >= 0."""
        return self.compute_loss_from_embeddings(embeddings, self._teachers(labels, len(embeddings)))

    def compute_loss_from_embeddings(  # type: ignore[override]
        self, embeddings: Sequence[Tensor], teacher_embeddings: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """(B, D) batches and the teacher's embeddings, one (B, T) for each, or labels as for `compute` -> scalar, >= 0.

        What a subclass writes here gets one (B, T) for each column.
        """
        teachers = self._teachers(teacher_embeddings, len(embeddings))
        losses = [self._distance(u, t) for u, t in zip(embeddings, teachers, strict=True)]
        return torch.stack(losses).mean()

    def cut_labels(self, labels: Tensor | None, size: int) -> Tensor | None:
        """The first entries of the teacher's embeddings; all of them where a projection leads there."""
        return labels if labels is None or self.projection is not None else labels[..., :size]

    def _teachers(self, labels: Tensor | Sequence[Tensor] | None, columns: int) -> Sequence[Tensor]:
        """One (B, T) for each column."""
        if isinstance(labels, Tensor) and labels.dim() == 2:
            return [labels] * columns
        if isinstance(labels, Tensor) and labels.dim() == 3 and labels.shape[1] == columns:
            return labels.unbind(dim=1)
        if isinstance(labels, Sequence) and len(labels) == columns:
            return labels
        found = "none" if labels is None else f"{len(labels)} of them"
        if isinstance(labels, Tensor):
            found = f"labels of shape {tuple(labels.shape)}"
        raise ValueError(
            f"{type(self).__name__} takes the teacher's embeddings for labels, (rows, size) or (rows, {columns}, size) for "
            f"{columns} text columns, but got {found}. Add them with `dataset.add_column('label', teacher.encode(...))`."
        )

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.projection is not None:
            weight = self.projection.weight
            student = self.projection(widened(student, self.projection.in_features).to(weight.dtype))
        if student.shape != teacher.shape:
            raise ValueError(
                f"The teacher's embeddings have {teacher.shape[-1]} entries, the student's {student.shape[-1]}. Pass "
                f"`projection_dim={teacher.shape[-1]}`."
            )
        student = to_float_tensor(student)
        teacher = teacher.detach().to(student)
        distances: Tensor
        if self.distance_metric == "mse":
            return mse_loss(student, teacher)
        if self.distance_metric == "l2":
            distances = torch.linalg.vector_norm(student - teacher, dim=-1)
        else:
            distances = 1 - cosine_similarity(student, teacher, dim=-1)
        return distances.mean()

    def save_projection(self, path: str | os.PathLike[str]) -> None:
        """Write the projection to a safetensors file, to go on training with it elsewhere.

        Raises:
            ValueError: There is none.
        """
        from safetensors.torch import save_file

        if self.projection is None:
            raise ValueError("There is no projection to save. Pass `projection_dim` to the loss to have one.")
        save_file({name: tensor.cpu() for name, tensor in self.projection.state_dict().items()}, path)

    def load_projection(self, path: str | os.PathLike[str]) -> None:
        """Read a projection that `save_projection` wrote; it is made where the loss has none yet.

        Raises:
            ValueError: It has another shape.
        """
        from safetensors.torch import load_file

        state = load_file(path)
        size, width = state["weight"].shape
        wanted = (_size(self.model), size if self.projection is None else self.projection.out_features)
        if (width, size) != wanted:
            raise ValueError(
                f"The projection in {path} maps {width} entries to {size}, but this loss needs {wanted[0]} to {wanted[1]}. "
                "Load it with the student it was trained with, and the same `projection_dim`."
            )
        if self.projection is None:
            self.projection = nn.Linear(width, size, device=self.model.device)
            self.projection_dim = size
        self.projection.load_state_dict(state)


class MSELoss(EmbedDistillLoss):
    """EmbedDistillLoss by the mean squared error, as used to teach a model new languages.

    The usual data: an original and its translations in the columns, the teacher's embedding of the original for label.

    Args:
        model: The student.
        projection_dim: As there.
    """

    config_keys = ("projection_dim",)
    cites = "reimers-2020-multilingual-sentence-bert"

    def __init__(self, model: Encoder, projection_dim: int | None = None) -> None:
        super().__init__(model, "mse", projection_dim)


def _size(model: Encoder) -> int:
    size = model.get_sentence_embedding_dimension()
    if size is None:
        raise ValueError("A projection needs the model's embedding size, which none of its modules tells.")
    return size
