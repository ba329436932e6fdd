"""Prefetched: the next batches are made in a thread while the model works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

DEPTH = 4
_END = object()


class Prefetched:
    """Draws from an iterator ahead of its reader, in one thread. Items come in order; errors come where they arise.

    Args:
        iterator: What to draw from; nothing else may draw from it.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._ahead: deque[Future[Any]] = deque()

    def __iter__(self) -> Prefetched:
        return self

    def __next__(self) -> Any:
        # The first item comes alone: whatever its making seeds or draws happens before the reader goes on.
        depth = DEPTH if self._ahead else 1
        while len(self._ahead) < depth:
            self._submit()
        item = self._ahead.popleft().result()
        if item is _END:
            self.close()
            raise StopIteration
        self._submit()
        return item

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(next, self.iterator, _END))

    def settle(self) -> None:
        """Wait until nothing is being made."""
        wait(self._ahead)

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._ahead.clear()
