"""WorkerPool: several processes that encode shards of texts, or score shards of pairs, one a device."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from likewise.checked import positive
from likewise.model.placement import on_cpu, refuse_spread

if TYPE_CHECKING:
    from likewise.model.inference import Request

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
        self.processes: list[Any] = []
        self.connections: list[Connection] = []
        bare: Any = copy.copy(model)
        bare._model_card_data = None  # it points back to the model, and no process writes a card
        content = pickle.dumps(bare)
        try:
            for device in self.devices:
                own, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, device), daemon=True)
                process.start()
                theirs.close()
                self.processes.append(process)
                self.connections.append(own)
                self._send(len(self.processes) - 1, content, "while it started")
            for worker in range(len(self.processes)):
                self._receive(worker, "while it started")
        except BaseException:
            self.stop(at_once=True)
            raise

    @property
    def closed(self) -> bool:
        """Whether the processes have been stopped."""
        return not self.processes

    def run(
        self,
        texts: Sequence[Any],
        request: Request,
        output_value: str | None,
        batch_size: int,
        chunk_size: int | None,
        progress: Callable[[int], object],
    ) -> Any:
        """What `encode` was asked for, by the processes: one tensor of sentence embeddings on the CPU, or a list."""
        options = {
            "prompt": request.prompt or "",
            "batch_size": batch_size,
            "output_value": output_value,
            "convert_to_tensor": True,
            "normalize_embeddings": request.normalize,
            "truncate_dim": request.truncate_dim,
            **request.forward_kwargs,
            **request.reading,
        }
        parts = self.map(texts, options, chunk_size, progress)
        if output_value == "sentence_embedding":
            return torch.cat(parts) if parts else torch.empty(0)
        return [result for part in parts for result in part]

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
            if chunk_size is None:
                share = -(-len(texts) // (len(self.processes) * SHARDS_PER_WORKER))
                chunk_size = max(1, min(share, LARGEST_SHARD))
            size = positive(chunk_size, "chunk_size")
            shards = [slice(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]
            results: list[Any] = [None] * len(shards)
            held: dict[int, int] = {}  # which shard a worker has
            waiting = iter(range(len(shards)))
            failed: RuntimeError | None = None

            def give(worker: int) -> None:
                number = None if failed else next(waiting, None)
                if number is not None:
                    message = pickle.dumps((texts[shards[number]], options))
                    held[worker] = number
                    self._send(worker, message, f"while it had the {texts_of(shards[number])}")

            try:
                for worker in range(len(self.processes)):
                    give(worker)
                while held:  # also after a failure: what is still sent would be taken for the next call's
                    for worker in self._ready(held):
                        shard = shards[number := held.pop(worker)]
                        results[number], error = self._receive(worker, f"while it had the {texts_of(shard)}")
                        if error is None:
                            progress(shard.stop - shard.start)
                        else:
                            failed = failed or RuntimeError(
                                f"Encoding {texts_of(shard)} failed in the process on {self.devices[worker]}:\n{error}"
                            )
                        give(worker)
            except BaseException:
                self.stop(at_once=True)
                raise
            if failed is not None:
                raise failed
            return results

    def _send(self, worker: int, message: bytes, doing: str) -> None:
        try:
            self.connections[worker].send_bytes(message)
        except OSError:
            raise self._died(worker, doing) from None

    def _ready(self, held: dict[int, int]) -> list[int]:
        ready = wait([self.connections[worker] for worker in held])
        return [worker for worker in held if self.connections[worker] in ready]

    def _receive(self, worker: int, doing: str) -> tuple[Any, str | None]:
        try:
            answer: tuple[Any, str | None] = pickle.loads(self.connections[worker].recv_bytes())
        except (EOFError, OSError):
            raise self._died(worker, doing) from None
        return answer

    def _died(self, worker: int, doing: str) -> RuntimeError:
        process = self.processes[worker]
        process.join(timeout=5)
        return RuntimeError(
            f"The process on {self.devices[worker]} (pid {process.pid}) died with exit code {process.exitcode} {doing}. A "
            "script that starts processes must guard its work with `if __name__ == '__main__':`; if memory ran out, use fewer "
            "processes or a smaller `batch_size`."
        )

    def stop(self, at_once: bool = False) -> None:
        """End the processes: after what they are doing (another thread's call among it), or at once."""
        with self._one_call:
            for connection in self.connections:
                if not at_once:
                    try:
                        connection.send_bytes(pickle.dumps(None))
                    except OSError:
                        logger.debug("A process of the pool had ended before.")
            for process in self.processes:
                if at_once:
                    process.terminate()
                process.join(timeout=10)
                if process.is_alive():
                    process.kill()
                    process.join()
            for connection in self.connections:
                connection.close()
            self.processes, self.connections = [], []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop(at_once=error[0] is not None)


def texts_of(shard: slice) -> str:
    """Which they are, in words."""
    return f"texts {shard.start} to {shard.stop - 1}"


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
