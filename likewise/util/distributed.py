"""Values and evaluation across the processes of a distributed run; in a single process there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from likewise.losses.gather import join_processes
from likewise.processes import get_rank as get_rank
from likewise.processes import get_world_size as get_world_size
from likewise.processes import is_dist_initialized

if TYPE_CHECKING:
    from likewise.sentence_transformer.model import SentenceTransformer


def all_gather(tensor: Tensor, with_grad: bool = False) -> Tensor:
    """(B, ...) of each process -> (sum of all B, ...), in the order of the processes. B may differ between them.

    Args:
        tensor: This process's rows.
        with_grad: Whether the other processes' rows carry gradients back to them; this process's own always do.
    """
    if not is_dist_initialized():
        return tensor
    if with_grad:
        return join_processes([tensor]).tensors[0]
    joined = join_processes([tensor.detach()])
    rows, first = joined.tensors[0], joined.first
    return torch.cat([rows[:first], tensor, rows[first + len(tensor) :]])


def all_gather_with_grad(tensor: Tensor) -> Tensor:
    """`all_gather` with gradients for the rows of all processes."""
    return all_gather(tensor, with_grad=True)


def all_gather_padded(tensor: Tensor, mask: Tensor, with_grad: bool = False) -> tuple[Tensor, Tensor]:
    """`all_gather` of embeddings of tokens (B, T, D) and their mask (B, T), where T differs between processes.

    Returns:
        The embeddings (sum of all B, largest T, D), with zeros added, and the mask, with False added.
    """
    if is_dist_initialized():
        widths = all_gather(torch.tensor([tensor.shape[1]], device=tensor.device))
        missing = int(widths.max()) - tensor.shape[1]
        tensor = torch.nn.functional.pad(tensor, (0, 0, 0, missing))
        mask = torch.nn.functional.pad(mask, (0, missing))
    return all_gather(tensor, with_grad), all_gather(mask)


@contextmanager
def distributed_evaluation(model: SentenceTransformer, enabled: bool = True) -> Iterator[bool]:
    """Within this context each process embeds a share of what `model.encode` is given, and gets the embeddings of all.

    Every process must run the evaluator then, so that the value of this context is always True. The trainer evaluates
    in this way by itself.

        with distributed_evaluation(model) as runs:
            if runs:
                evaluator(model)

    Args:
        model: The model.
        enabled: False leaves the model as it is: each process embeds everything.
    """
    from likewise.training.run.evaluating import encode_shared

    if not enabled:
        yield True
        return
    with encode_shared(model):
        yield True
