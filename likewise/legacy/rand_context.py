"""The state of random numbers at one moment, for losses of one's own that run a forward pass a second time."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor


class RandContext:
    """Within it random numbers are drawn again as they were from the moment when it was made; outside nothing changes.

    The library's own losses need none: what they compute again is a checkpoint, which keeps its random state.

    Args:
        *tensors: What is computed with; the states of their devices are kept beside the CPU's.

    Reference: Gao et al. 2021, https://arxiv.org/abs/2101.06983, whose losses draw dropout twice.
    """

    def __init__(self, *tensors: Tensor) -> None:
        kinds = {tensor.device.type for tensor in tensors} - {"cpu"}
        self._kind = kinds.pop() if kinds else "cuda"
        self._devices = sorted({x.get_device() for x in tensors if x.device.type == self._kind})
        self._cpu = torch.get_rng_state()
        self._states = [self._of_device().get_rng_state(device) for device in self._devices]

    def _of_device(self) -> Any:
        return getattr(torch, self._kind)

    def __enter__(self) -> None:
        """Go back to that moment."""
        self._fork = torch.random.fork_rng(self._devices, device_type=self._kind)
        self._fork.__enter__()
        torch.set_rng_state(self._cpu)
        for device, state in zip(self._devices, self._states, strict=True):
            self._of_device().set_rng_state(state, device)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go on as if nothing had been drawn."""
        self._fork.__exit__(kind, error, trace)
