"""Pages of the documentation as their readers use them: what is in their blocks is run, and what they show comes out.

```python                 run, in the names of the blocks before it
```text                   behind one of python: what that prints, warnings included; `...` stands for anything
```console                `$ command` lines are run, and print what stands below them
```                       commands, a line each
```python title="x.py"    (or any other kind) a file, written for the commands to come
```
"""

from __future__ import annotations

import contextlib
import doctest
import io
import logging
import multiprocessing
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r'^( *)```(\w*)(?: title="([^"]+)")?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
BERT = "transformers.models.bert.modeling_bert"
ANYTHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its kind, the file it is, what is in it, and the line it begins in."""

    kind: str
    title: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The blocks of a page's text, in order."""
    found = []
    for match in FENCED.finditer(page):
        indent, kind, title, text = match.groups()
        text = re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        found.append(Block(kind, title or "", text, page[: match.start()].count("\n") + 1))
    return found


def check(shown: Iterable[Block], page: str) -> None:
    """Do what the blocks of a page show, in the current folder, which they may write to."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in shown:
        where = f"{page}:{block.line}"
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            printed = run_python(block.text, names, where)
        elif not block.kind:
            for command in block.text.splitlines():
                run_command(command, where)
        elif block.kind == "text":
            assert printed is not None, f"{where} is the output of no python block"
            compare(block.text, printed, where)
        elif block.kind == "console":
            for command, expected in commands(block.text):
                result = run_command(command, where)
                if expected:
                    compare(expected, result, f"{where}: {command}")
        else:
            raise AssertionError(f"{where} is {block.kind}: nobody knows how to try it")
        printed = printed if block.kind == "python" else None


def compare(expected: str, got: str, where: str) -> None:
    """Hold what was printed against what a page shows."""
    fits = doctest.OutputChecker().check_output(expected, got, ANYTHING)
    assert fits, f"{where} shows\n{expected}\nbut this is printed:\n{got}"


@contextlib.contextmanager
def heard() -> Iterator[io.StringIO]:
    """What is printed, and the library's warnings, which a reader sees too."""
    stream, logger = io.StringIO(), logging.getLogger("likewise")
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        with contextlib.redirect_stdout(stream):
            yield stream
    finally:
        logger.removeHandler(handler)


def run_python(code: str, names: dict[str, Any], where: str) -> str:
    """Run code; what it prints, with the error that it ends in where it names one in a comment: `# ValueError`."""
    if "compat.install()" in code:  # for good, so in a process of its own
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    with heard() as stream:
        try:
            exec(compile(code, where, "exec"), names)
        except Exception as error:
            if f"# {type(error).__name__}" not in code:
                raise
            print(f"{type(error).__name__}: {error}")
    return stream.getvalue()


def commands(session: str) -> Iterator[tuple[str, str]]:
    """Each command of a session, and what is shown below it."""
    session = session.replace("\\\n", "")
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


@cache
def preloaded() -> Any:
    """Where processes are forked from one that has imported all and done nothing, since imports take longer than what they run."""
    context = multiprocessing.get_context("forkserver")
    names = ("sentence_transformer.trainer", "sentence_transformer.model", "losses", "evaluation")
    context.set_forkserver_preload([f"likewise.{name}" for name in names] + [BERT, "datasets"])
    return context


def in_processes(number: int, script: str) -> str:
    """A script in so many processes, each with what torchrun says to it; what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        preloaded().Process(target=run_as_rank, args=(rank, number, port, script)) for rank in range(number)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    said = "".join(Path(f"{script}.{rank}").read_text(encoding="utf-8") for rank in range(number))
    assert all(rank.exitcode == 0 for rank in ranks), said
    return said


def run_as_rank(rank: int, number: int, port: int, script: str) -> None:
    """In one of them, run the script."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(f"{script}.{rank}", "w", encoding="utf-8") as said, contextlib.redirect_stdout(said):
        runpy.run_path(str(Path(script).resolve()), run_name="__main__")


def run_command(command: str, where: str) -> str:
    """Do what a command does, as far as it can be done here, and return what it prints.

    Programs in Python run in this process, to import the libraries once. Nothing is installed or built: such a command
    must name an extra or a target that there is.
    """
    arguments = shlex.split(command, comments=True)
    settings = [argument for argument in arguments if re.match(r"[A-Z_]+=", argument)]
    program, *rest = [argument for argument in arguments if argument not in settings]
    with patch.dict(os.environ, dict(setting.split("=", 1) for setting in settings)):
        if program == "likewise":
            from likewise.cli import app

            result = CliRunner().invoke(app, rest)
            return str(result.output if result.exit_code else result.stdout)
        if program == "torchrun":
            return in_processes(int(rest[0].removeprefix("--nproc_per_node=")), rest[1])
        if program == "python" and rest[0].endswith(".py"):
            of_pools = patch("torch.multiprocessing.get_context", lambda _: preloaded())
            with heard() as stream, patch.object(sys, "argv", rest), of_pools:
                runpy.run_path(str(Path(rest[0]).resolve()), run_name="__main__")
            return stream.getvalue()
        if "getsitepackages" in command:
            return ""  # it changes the environment that all tests run in; tests/test_alias.py does it in one of its own
        if program == "python":
            full = [str(Path(sys.executable).parent / program), *rest]
            return subprocess.run(full, check=True, capture_output=True, text=True).stdout
    if program == "pip":
        extras = re.findall(r"likewise\[([\w,]+)\]", command)
        known = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for extra in ",".join(extras).split(",") if extras else ():
            assert re.search(rf"^{extra} = \[", known, re.MULTILINE), f"{where}: no extra {extra}"
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        named = [argument for argument in rest if "=" not in argument]
        assert set(named) <= set(targets), f"{where}: {named}"
    else:
        assert program in ("cd", "export", "git"), f"{where}: nobody knows how to try {program}"
    return ""
