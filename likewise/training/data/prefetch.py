"""Prefetched: the next batches are made in a thread while the model works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

DEPTH = 4  # batches that lie ready, so that one that takes long to make does not stop the model
_END = object()


class Prefetched:
    """Draws from an iterator, as nothing else may, ahead of its reader, in a thread. Items come in order; errors come where they arise."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._ahead: deque[Future[Any]] = deque()
        self._begun = self._ended = False

    def __iter__(self) -> Prefetched:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        if not self._begun:
            # The first item comes alone: whatever its making seeds or draws happens before the reader goes on.
            self._begun = True
            self._submit()
            wait(self._ahead)
        while len(self._ahead) < DEPTH:
            self._submit()
        item = self._ahead.popleft().result()
        # What comes next is known before the reader goes on: at the end nothing of the iterator is still running.
        if item is _END or self._next_is_end():
            self._ended = True
            self.close()
        if item is _END:
            raise StopIteration
        return item

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(next, self.iterator, _END))

    def _next_is_end(self) -> bool:
        following = self._ahead[0]
        return following.exception() is None and following.result() is _END

    def close(self) -> None:
        """Stop drawing; what is being made is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()
