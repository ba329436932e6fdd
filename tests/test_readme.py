"""What the README says can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import blocks, check
from small import small_model_folder

from likewise import CrossEncoder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small_model_folder("all-MiniLM-L6-v2")  # folders of these names come before the Hub
    reranker = "cross-encoder/ms-marco-MiniLM-L6-v2"
    CrossEncoder(small_model_folder("plain"), num_labels=1, device="cpu").save(reranker)
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "anchor=question, positive=answer -> MultipleNegativesRankingLoss" in printed
    assert "'corpus_id': 0" in printed
    assert "label -> BinaryCrossEntropyLoss" in printed
    assert Path("my-model/modules.json").is_file()


@pytest.mark.slow
def test_the_terminal_session_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = [block for block in blocks(README) if block.title or block.kind == "console"]
    assert len(session) > 3
    check(session, "README.md")


def test_every_command_is_there() -> None:
    from likewise.cli import app

    named = set(re.findall(r"^\| `likewise (\w+)", README, re.MULTILINE))
    commands = {str(command.callback.__name__) for command in app.registered_commands if command.callback}
    assert named == commands | {group.name for group in app.registered_groups}


def test_every_link_leads_somewhere() -> None:
    for document in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", README))
    assert named
    assert named <= targets
