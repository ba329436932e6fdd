"""Calls of several threads that meet a busy processor go through the model together, as one batch.

A server answers each request by a thread of its own. Eight queries in one batch take a third of the time of eight
batches, and more threads than there are cores for only take turns. So whoever finds a free place computes at once and alone, as ever; who
finds none waits, and the next to get a place takes all with it that are like it and fit into its batch. Nothing is started, and nobody
waits for others to come.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Event, Lock, local
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from likewise.engine import TokenSequences
from likewise.modules.base import Features

Compute = Callable[[TokenSequences], Features]


@dataclass(eq=False)
class _Call:
    """What a thread wants: its sequences, and how they are to be computed.

    Attributes:
        way: Calls of equal ways may be one batch.
        woken: Set when there is something to do: to compute, or to take the features.
        leads: Whether this thread has a place, and computes.
        features: What another thread has computed for it; None for nothing, where it failed.
    """

    sequences: TokenSequences
    way: tuple[Any, ...]
    woken: Event = field(default_factory=Event)
    leads: bool = False
    features: Features | None = None


class SharedBatches:
    """The calls of one model that are under way, and those that wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = 0
        self._waiting: list[_Call] = []
        _all.add(self)

    def __reduce__(self) -> tuple[type[SharedBatches], tuple[()]]:
        return SharedBatches, ()  # of a copy of the model, nothing is under way

    def features(
        self,
        sequences: TokenSequences,
        way: tuple[Any, ...],
        room: int,
        compute: Compute,
        device: torch.device,
    ) -> Features:
        """What `compute` makes of these sequences, alone or among those of other threads.

        Features by token are there only if it was alone, as the batch has them. A module must not let another thread
        embed by its own model and wait for that.

        Args:
            sequences: One call's.
            way: Whatever else decides the features, to be compared.
            room: Tokens that a batch may have, padding counted: so lengths that share a batch are alike.
            compute: The model's forward pass, which gives rows in the order of the sequences.
            device: Where the model is.
        """
        if getattr(_this_thread, "computes", False):  # a module that embeds: it cannot wait for itself
            return compute(sequences)
        call = _Call(sequences, way)
        try:
            with self._lock:
                if self._running < _places(device):
                    call.leads = True
                    self._running += 1
                else:
                    self._waiting.append(call)
            if not call.leads:
                call.woken.wait()
            if call.leads:
                _this_thread.computes = True
                self._together(call, room, compute)
            # A batch that failed says nothing of each of its calls.
            return compute(sequences) if call.features is None else call.features
        finally:
            self._leave(call)

    def _together(self, call: _Call, room: int, compute: Compute) -> None:
        """Compute a call with those that wait and fit in, if there are any, and tell each its features."""
        calls = [call]
        try:
            with self._lock:
                for other in list(self._waiting):
                    joined = [each.sequences for each in (*calls, other)]
                    longest = max(int(each.lengths.max(initial=0)) for each in joined)
                    if other.way == call.way and longest * sum(map(len, joined)) <= room:
                        self._waiting.remove(other)
                        calls.append(other)
            if len(calls) > 1:
                _spread(compute(TokenSequences.concatenate([each.sequences for each in calls])), calls)
        except Exception:  # somebody's: each computes its own, and the one whose error it was gets it
            call.features = None
        finally:
            for other in calls[1:]:
                other.woken.set()

    def _leave(self, call: _Call) -> None:
        """Give a call's place to who waits longest; take one out that was interrupted while it waited."""
        with self._lock:
            if not call.leads:
                if call in self._waiting:
                    self._waiting.remove(call)
                return
            _this_thread.computes = False
            if self._waiting:
                following = self._waiting.pop(0)
                following.leads = True
                following.woken.set()
            else:
                self._running -= 1


_this_thread = local()  # whether it computes, for any model: two of them could wait for one another
_all: WeakSet[SharedBatches] = WeakSet()


def _start_anew() -> None:
    for batches in _all:
        batches.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):  # of the threads that compute, none is in the new process
    os.register_at_fork(after_in_child=_start_anew)


def _spread(features: Features, calls: list[_Call]) -> None:
    """Tell each call the rows that are its own."""
    ends = list(accumulate(len(each.sequences) for each in calls))
    for call, end in zip(calls, ends, strict=True):
        call.features = {
            name: value[end - len(call.sequences) : end]
            for name, value in features.items()
            if isinstance(value, Tensor) and value.ndim and len(value) == ends[-1]
        }


def _places(device: torch.device) -> int:
    """How many batches the machine computes at once: as many as have cores, each with torch's threads; an accelerator one."""
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())
