"""The processes of a distributed run; one process where there is no such run."""

from __future__ import annotations

from torch import distributed


def is_dist_initialized() -> bool:
    """Whether this process belongs to a group of processes."""
    return distributed.is_available() and distributed.is_initialized()


def get_world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if is_dist_initialized() else 1


def get_rank() -> int:
    """This process's number among them, from 0."""
    return distributed.get_rank() if is_dist_initialized() else 0
