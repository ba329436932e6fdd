"""Scripts of tests, each in a process of its own, without the time that torch and transformers take to import.

One Python imports them once, and neither this library nor the reference; it forks for each script. What a script finds
there already must not matter to it: what is imported when is tested in processes that start from nothing.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

SERVER = """
import importlib, json, os, sys, types

for name in ("transformers.trainer", "transformers.models.bert.modeling_bert", "datasets", "scipy.stats", "sklearn.metrics"):
    importlib.import_module(name)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        for number, path in enumerate(asked["files"], 1):
            os.dup2(os.open(path, os.O_WRONLY), number)
        status = 1
        try:
            sys.argv = ["-c", *asked["arguments"]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(asked["script"], "<string>", "exec"), vars(main))
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def server() -> Any:
    """The Python that forks, started when it is first needed."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.kill)
    return process


def run(script: str, *arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    """Run a script as `python -c SCRIPT ARGUMENTS` would; what it printed and how it ended."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        given = [os.fspath(argument) for argument in arguments]
        asked = {"script": script, "arguments": given, "files": [out.name, err.name]}
        process = server()
        process.stdin.write(f"{json.dumps(asked)}\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(["python", "-c", script], status, out.read(), err.read())
