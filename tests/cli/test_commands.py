"""The command line as a whole: help, errors, quiet libraries."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from likewise.cli import console

COMMANDS = ("quickstart", "train", "evaluate", "encode", "search", "check")


def test_help_names_every_command(run: Callable[..., Any]) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Callable[..., Any], command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, likewise.cli; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_traceback_is_shown_on_request(run: Callable[..., Any]) -> None:
    result = run("--traceback", "search", "x", "nowhere.txt")
    assert isinstance(result.exception, FileNotFoundError)


def test_tables_are_aligned_with_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    console.table([("a", "1.5", "x"), ("bcd", "+10.25", "")], header=("name", "n", "note"))
    assert capsys.readouterr().out.splitlines() == [
        "  name       n  note",
        "  a        1.5  x",
        "  bcd   +10.25",
    ]


def test_warnings_of_the_package_become_notes_and_others_stay_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.quiet_libraries():
        logging.getLogger("likewise.model").warning("Two [red]texts[/red] were cut.")
        logging.getLogger("likewise.model").warning("Two [red]texts[/red] were cut.")
        logging.getLogger("likewise.model").info("Not worth a note.")
        logging.getLogger("somebody.else").warning("Noise.")
    logging.getLogger("likewise.model").warning("Afterwards.")
    captured = capsys.readouterr()
    assert captured.err.count("Note: Two [red]texts[/red] were cut.\n") == 1
    assert "Noise" not in captured.err
    assert "Note: Afterwards" not in captured.err
