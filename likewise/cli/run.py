"""`likewise run`: a script that was written for the reference, as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer
from typer import Argument, Option


def run(
    target: Annotated[str, Argument(help="A script, or with -m a module.", metavar="SCRIPT | MODULE")],
    arguments: Annotated[list[str] | None, Argument(help="Its own arguments.", metavar="[ARGS]...")] = None,
    module: Annotated[bool, Option("-m", help="Run a module, as `python -m` does.")] = False,
) -> None:
    """Run a script in which `sentence_transformers` is this library, also in all the processes that it starts.

    Nothing in the script changes, and nothing needs to be installed under that name.
    """
    from likewise.compat import with_alias

    if not module and not os.path.exists(target):
        raise FileNotFoundError(
            f"There is no script {target!r}. To run a module: `likewise run -m {target}`."
        )
    command = [sys.executable, *(["-m"] if module else []), target, *(arguments or [])]
    if os.name == "posix":  # signals, standard input and the exit status are then the script's own
        sys.stdout.flush()
        os.execve(command[0], command, with_alias())
    raise typer.Exit(subprocess.run(command, env=with_alias()).returncode)
