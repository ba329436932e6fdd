"""WorkerPool: several processes that encode shards of texts, or score shards of pairs, one a device."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from io import BytesIO
from multiprocessing.connection import Connection, wait
from threading import RLock
from typing import Any, cast

import torch
from torch import nn

from likewise.checked import having, positive
from likewise.engine.modes import has_captures, without_captures
from likewise.model.placement import on_cpu, refuse_spread

logger = logging.getLogger(__name__)

LARGEST_SHARD = 5_000  # texts
SHARDS_PER_WORKER = 10
CPU_WORKERS = 4


class WorkerPool:
    """Processes that hold a copy of the model each. Made by `model.start_multi_process_pool`.

    Threads may share it; their calls wait for one another.

    Args:
        model: The model.
        devices: A device for each process.

    Raises:
        ValueError: There are no devices, or one in place of a list.
        RuntimeError: One is no device; a process died while it started, as it does without a main guard; or the model is spread over devices.
    """

    def __init__(self, model: nn.Module, devices: Sequence[str]) -> None:
        import torch.multiprocessing

        if isinstance(devices, str) or not devices:
            raise ValueError(
                f"The devices of a pool are a list with one for each process, but are {devices!r}. Pass e.g. ['cpu', 'cpu']."
            )
        for device in devices:
            torch.device(device)  # refuses what is none before a process is started
        refuse_spread(model, "be copied to processes")
        context = torch.multiprocessing.get_context("spawn")
        if getattr(context.current_process(), "_inheriting", False):
            # A process of a script without a main guard, which runs it again: the first one says what is wrong.
            sys.exit(1)
        self._one_call = RLock()
        self.devices = list(devices)
        self._workers: list[_Worker] = []
        bare: Any = copy.copy(model)
        bare._model_card_data = None  # it points back to the model, and no process writes a card
        content = BytesIO()
        _Pickler(content).dump(bare)
        try:
            for device in self.devices:
                self._workers.append(_Worker(context, device))
                self._workers[-1].send(content.getvalue(), "while it started")
            for worker in self._workers:
                worker.receive()
        except BaseException:
            self.stop(at_once=True)
            raise

    @property
    def processes(self) -> list[Any]:
        """The processes, one a device; none when they have been stopped."""
        return [worker.process for worker in self._workers]

    @property
    def closed(self) -> bool:
        """Whether the processes have been stopped."""
        return not self._workers

    def map(
        self,
        texts: Sequence[Any],
        options: dict[str, Any],
        chunk_size: int | None,
        progress: Callable[[int], object],
    ) -> list[Any]:
        """Encode texts (or score pairs) shard by shard, each by the process that is free first.

        Args:
            texts: The texts, or pairs.
            options: Arguments of `encode` (of a CrossEncoder's `predict`).
            chunk_size: Texts in a shard; None for a tenth of a process's share, 5,000 at most.
            progress: Told how many texts are done, shard by shard.

        Returns:
            What it gave for each shard, in order.

        Raises:
            ValueError: `chunk_size` is no whole number of at least 1.
            RuntimeError: A process died, which ends the pool, or `encode` failed in one, which does not; the message names the
                texts it had.
        """
        with self._one_call:
            if self.closed:
                raise RuntimeError(
                    "The pool has been stopped. Start another with `start_multi_process_pool()`."
                )
            share = -(-len(texts) // (len(self._workers) * SHARDS_PER_WORKER))
            usual = max(1, min(share, LARGEST_SHARD))
            size = usual if chunk_size is None else positive(chunk_size, "chunk_size")
            shards = [slice(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]
            results: list[Any] = [None] * len(shards)
            waiting = list(enumerate(shards))[::-1]
            held: dict[Connection, tuple[_Worker, int]] = {}  # which shard a worker has
            failed = ""

            def give(worker: _Worker) -> None:
                if waiting:
                    number, shard = waiting.pop()
                    message = pickle.dumps((texts[shard], options))
                    worker.send(message, f"while it had the {texts_of(shard)}")
                    held[worker.connection] = worker, number

            try:
                for worker in self._workers:
                    give(worker)
                while held:  # also after a failure: what is still sent would be taken for the next call's
                    for connection in wait(list(held)):
                        worker, number = held.pop(cast(Connection, connection))
                        results[number], error = worker.receive()
                        shard = shards[number]
                        if error is None:
                            progress(shard.stop - shard.start)
                        else:
                            waiting.clear()
                            told = f"Encoding {texts_of(shard)} failed in the process on {worker.device}:\n{error}"
                            failed = failed or told
                        give(worker)
            except BaseException:
                self.stop(at_once=True)
                raise
            if failed:
                raise RuntimeError(failed)
            return results

    def stop(self, at_once: bool = False) -> None:
        """End the processes: after what they are doing (another thread's call among it), or at once."""
        with self._one_call:
            for worker in self._workers:
                worker.dismiss(at_once)
            for worker in self._workers:
                worker.end()
            self._workers = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop(at_once=error[0] is not None)


class _Worker:
    """A process with a copy of the model, at the other end of a connection."""

    def __init__(self, context: Any, device: str) -> None:
        self.device = device
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, message: bytes, doing: str) -> None:
        """Give it something to do, which is told in words should it die of it."""
        self._doing = doing
        try:
            self.connection.send_bytes(message)
        except OSError:
            raise self._death() from None

    def receive(self) -> tuple[Any, str | None]:
        """What came of it, or what went wrong."""
        try:
            answer: tuple[Any, str | None] = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise self._death() from None
        return answer

    def _death(self) -> RuntimeError:
        self.process.join(timeout=5)
        return RuntimeError(
            f"The process on {self.device} (pid {self.process.pid}) died with exit code {self.process.exitcode} {self._doing}. A "
            "script that starts processes must guard its work with `if __name__ == '__main__':`; if memory ran out, use fewer "
            "processes or a smaller `batch_size`."
        )

    def dismiss(self, at_once: bool) -> None:
        """Let it end when it is done, or at once."""
        if at_once:
            self.process.terminate()
            return
        try:
            self.connection.send_bytes(pickle.dumps(None))
        except OSError:
            logger.debug("A process of the pool had ended before.")

    def end(self) -> None:
        """Wait for its end, ten seconds at most."""
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def start_multi_process_pool(self: Any, target_devices: Sequence[str] | None = None) -> WorkerPool:
    """Processes for `encode(pool=...)` or `predict(pool=...)`, each with a copy of the model.

    Args:
        target_devices: A device for each process; None for every GPU, or four processes on the CPU without any.

    Stop the pool with `stop_multi_process_pool`, or use it in a `with` statement.
    """
    return WorkerPool(self, default_devices() if target_devices is None else target_devices)


def stop_multi_process_pool(pool: WorkerPool) -> None:
    """End the processes of a pool; refuse, by a TypeError, what is none."""
    having(pool, "stop", "pool", "what `start_multi_process_pool()` returns")
    pool.stop()


def texts_of(shard: slice) -> str:
    """Which they are, in words."""
    return f"texts {shard.start} to {shard.stop - 1}"


class _Pickler(pickle.Pickler):
    """Leaves out the hooks by which transformers captures hidden states, which cannot be pickled."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, nn.Module) or not has_captures(vars(value)):
            return NotImplemented
        reduced: Any = value.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        return *reduced[:2], without_captures(reduced[2]), *reduced[3:]


def default_devices() -> list[str]:
    """Every GPU (or other accelerator); four times the CPU where there is none."""
    for kind in ("cuda", "npu", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            return [f"{kind}:{number}" for number in range(backend.device_count())]
    return ["cpu"] * CPU_WORKERS


def _work(connection: Connection, device: str) -> None:
    """A process of the pool: the model first, then texts and options, until None."""
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        model = pickle.loads(connection.recv_bytes()).to(device)
        connection.send_bytes(pickle.dumps((None, None)))
        while True:
            message = pickle.loads(connection.recv_bytes())
            if message is None:
                return
            texts, options = message
            answer: tuple[Any, str | None]
            try:
                run = getattr(model, model.over_inputs)
                answer = (on_cpu(run(texts, show_progress_bar=False, **options)), None)
            except Exception:
                answer = (None, traceback.format_exc())
            connection.send_bytes(pickle.dumps(answer))
    except (EOFError, KeyboardInterrupt):
        return  # the parent is gone
