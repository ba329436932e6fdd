"""Peak memory and time of a piece of work in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Run `work` once: what it returned, its seconds, those of the processor, and the bytes that it needed at most.

    Of a graphics card that is in use, the bytes needed there are added. `own_bytes` leaves files aside that are mapped into memory,
    which all processes share and the system takes back; it is looked at some hundred times a second.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed counts as held until it is given back
    own, most, is_done = _kibibytes("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.003):
            most[0] = max(most[0], _kibibytes("RssAnon"))

    watching = threading.Thread(target=watch)
    watching.start()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten (Linux)
    before = _kibibytes("VmRSS")
    on_card = torch.cuda.is_initialized()
    held = torch.cuda.memory_allocated() if on_card else 0
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    is_done.set()
    watching.join()
    peak = 1024 * (_kibibytes("VmHWM") - before)
    if on_card:
        peak += torch.cuda.max_memory_allocated() - held
    return {
        "result": result,
        "seconds": seconds,
        "processor_s": processor,
        "bytes": peak,
        "own_bytes": 1024 * max(0, most[0] - own),
    }


def _kibibytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def in_process(script: str, *arguments: str) -> dict[str, Any]:
    """What `script` prints as JSON in its last line, run with these arguments by this Python."""
    command: Sequence[str] = [sys.executable, script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
