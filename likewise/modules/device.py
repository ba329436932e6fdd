"""The device to compute on where nobody says."""

from __future__ import annotations

import os

import torch


def best_device() -> str:
    """The fastest kind of device at hand; of several graphics cards, in a run of several processes, this process's own."""
    for name in ("cuda", "mps", "xpu", "npu", "hpu"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available():
            rank = os.environ.get("LOCAL_RANK") if name == "cuda" else None
            return name if rank is None else f"{name}:{rank}"
    return "cpu"
