"""The device to compute on where nobody says."""

from __future__ import annotations

import torch


def best_device() -> str:
    """The fastest kind of device at hand."""
    for name in ("cuda", "mps", "xpu", "npu", "hpu"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available():
            return name
    return "cpu"
