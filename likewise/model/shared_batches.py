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
from threading import Event, Lock, get_ident
from typing import Any

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
    thread: int = field(default_factory=get_ident)
    woken: Event = field(default_factory=Event)
    leads: bool = False
    features: Features | None = None


class SharedBatches:
    """The calls of one model that are under way, and those that wait."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._leaders: set[int] = set()
        self._waiting: list[_Call] = []

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

        Features by token are there only if it was alone, as the batch has them.

        Args:
            sequences: One call's.
            way: Whatever else decides the features, to be compared.
            room: Tokens that a batch may have.
            compute: The model's forward pass, which gives rows in the order of the sequences.
            device: Where the model is.
        """
        call = _Call(sequences, way)
        if call.thread in self._leaders:  # a hook that embeds, say: its own thread cannot wait for itself
            return compute(sequences)
        with self._lock:
            if len(self._leaders) < _places(device):
                self._let_lead(call)
            else:
                self._waiting.append(call)
        try:
            if not call.leads:
                call.woken.wait()
            if call.leads:
                return self._together(call, room, compute)
            # A batch that failed says nothing of each of its calls.
            return compute(sequences) if call.features is None else call.features
        finally:
            self._leave(call)

    def _let_lead(self, call: _Call) -> None:
        self._leaders.add(call.thread)
        call.leads = True

    def _together(self, call: _Call, room: int, compute: Compute) -> Features:
        """The features of a call that leads; those that wait and fit in are told theirs."""
        room -= len(call.sequences.input_ids)
        others: list[_Call] = []
        with self._lock:
            for other in list(self._waiting):
                if other.way == call.way and len(other.sequences.input_ids) <= room:
                    room -= len(other.sequences.input_ids)
                    self._waiting.remove(other)
                    others.append(other)
        if not others:
            return compute(call.sequences)
        try:
            calls = [call, *others]
            features = compute(TokenSequences.concatenate([each.sequences for each in calls]))
            ends = list(accumulate(len(each.sequences) for each in calls))
            for each, end in zip(calls, ends, strict=True):
                first = end - len(each.sequences)
                each.features = {
                    name: value[first:end]
                    for name, value in features.items()
                    if isinstance(value, Tensor) and len(value) == ends[-1]
                }
        except Exception:  # somebody's: each computes its own, and the one whose error it was gets it
            return compute(call.sequences)
        finally:
            for other in others:
                other.woken.set()
        assert call.features is not None
        return call.features

    def _leave(self, call: _Call) -> None:
        """Give a call's place to who waits longest; take one out that was interrupted while it waited."""
        with self._lock:
            if not call.leads:
                if call in self._waiting:
                    self._waiting.remove(call)
                return
            self._leaders.remove(call.thread)
            if self._waiting:
                following = self._waiting.pop(0)
                self._let_lead(following)
                following.woken.set()


def _places(device: torch.device) -> int:
    """How many batches the machine computes at once: as many as have cores, each with torch's threads; an accelerator one."""
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())
