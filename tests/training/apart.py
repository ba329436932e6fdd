"""Starts `run_apart.py` in processes of its own.

A server that has imported everything forks for each run, since imports take longer than the runs. One test uses
`torchrun` as a user would, and one `accelerate launch`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent


def run_apart(
    work: Path,
    name: str,
    model: str,
    kind: str,
    processes: int = 1,
    expect: int = 0,
    launcher: Sequence[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Run in a process (or several) and return what it wrote; nothing where it was killed.

    `launcher` is a module that starts processes, with its arguments; else the server forks `processes` of them.
    """
    arguments = {
        "output_dir": str(work / name),
        "per_device_train_batch_size": 8,
        "max_steps": 9,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 2,
    } | settings.pop("arguments", {})
    written = settings | {"model": model, "kind": kind, "folder": str(work / name), "arguments": arguments}
    path = work / f"{name}.json"
    path.write_text(json.dumps(written), encoding="utf-8")
    status, said = _by_the_server(path, processes) if launcher is None else _launched(launcher, path)
    assert status == expect, said[-3000:]
    result = work / name / "result.pt"
    return torch.load(result, weights_only=False) if result.exists() else {}


def _environment() -> dict[str, str]:
    found = os.environ.get("PYTHONPATH")
    paths = [str(HERE), str(HERE.parent), *([found] if found else [])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _launched(launcher: Sequence[str], path: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", *launcher, str(HERE / "run_apart.py"), str(path)]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def _by_the_server(path: Path, processes: int) -> tuple[int, str]:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server.stdin.write(json.dumps({"path": str(path), "processes": processes, "port": port}) + "\n")
    server.stdin.flush()
    status = int(server.stdout.readline())
    return status, path.with_suffix(".said").read_text(encoding="utf-8", errors="replace")


@cache
def _server() -> subprocess.Popen[str]:
    """It ends with this process, whose end closes its standard input."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "run_apart.py")],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
