"""The command `likewise`, one file for each of its commands."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

from likewise.cli import console
from likewise.cli.check import check
from likewise.cli.encode import encode
from likewise.cli.evaluate import evaluate
from likewise.cli.mine import mine
from likewise.cli.quickstart import quickstart
from likewise.cli.recipes import recipes
from likewise.cli.report import report
from likewise.cli.rerank import rerank
from likewise.cli.run import run
from likewise.cli.search import search
from likewise.cli.train import train
from likewise.version import __version__

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Runs a command with the libraries underneath quiet, and ends it with one sentence where it cannot go on."""

    def invoke(self, ctx: Any) -> Any:
        if ctx.params.get("traceback"):
            return super().invoke(ctx)
        try:
            with console.quiet_libraries():
                return super().invoke(ctx)
        except console.USER_ERRORS as error:
            console.say(f"Error: {error}", "red", console.err)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(f"likewise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
    ] = False,
    traceback: Annotated[
        bool, Option("--traceback", help="Show where an error comes from, and all messages of libraries.")
    ] = False,
) -> None:
    """Train, evaluate and use text embedding models, dense and sparse, and cross-encoders.

    New here? `likewise quickstart` trains a model on this machine in a few minutes.
    """


app.command()(quickstart)
# A recipe that is a script takes options of its own.
app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(train)
for command in (evaluate, encode, search, rerank, mine, check, report):
    app.command()(command)
app.add_typer(recipes, name="recipes")
# What stands behind the script is the script's own.
app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})(run)


def main() -> None:
    """Run the command line."""
    app()
