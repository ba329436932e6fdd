"""Docstrings and names are read from sources as a person would, and from the standard library of this Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from likewise.recipes.quickstart.docstrings import (
    Described,
    described,
    first_sentence,
    installed_packages,
    standard_library,
)

SOURCE = '''
"""A module."""
class Box(object):
    """Holds a few things at once."""
    def __init__(self, things, *more, size=3, **rest): ...
    def open(self):
        """Take off the lid. Nothing falls out."""
    @classmethod
    async def made(cls, wood, /):
        """Make one of `wood`."""
    def _hide(self):
        """Nobody calls this one."""
class _Private:
    """Nobody uses this one."""
def short():
    """Too short."""
def undocumented(a): ...
'''


def test_functions_methods_and_classes_get_their_qualified_names(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(SOURCE)
    (tmp_path / "shop" / "_inner.py").write_text(SOURCE)
    (tmp_path / "_pyshop.py").write_text('def buy(x):\n    """Buy some of these."""\n')
    (tmp_path / "broken.py").write_text("def (:\n")
    assert list(described(tmp_path / "shop" / "__init__.py", tmp_path)) == [
        Described("Holds a few things at once.", "shop.Box(things, *more, size, **rest)"),
        Described("Take off the lid.", "shop.Box.open()"),
        Described("Make one of wood.", "shop.Box.made(wood)"),
    ]
    assert list(described(tmp_path / "shop" / "_inner.py", tmp_path)) == []
    assert list(described(tmp_path / "_pyshop.py", tmp_path)) == [
        Described("Buy some of these.", "shop.buy(x)")
    ]
    assert list(described(tmp_path / "broken.py", tmp_path)) == []


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return a\n    copy of it.  And more.", "Return a copy of it."),
        ("Return a copy\n\nand more.", "Return a copy"),
        ("See :func:`~os.path.join` first.", "See os.path.join first."),
        ("Use e.g. this. Not that.", "Use e.g. this."),
        ("Gibt zurück, was da ist.", ""),
        ("Two words.", ""),
        ("", ""),
    ],
)
def test_the_first_sentence_is_plain_text(docstring: str, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


def test_the_standard_library_has_the_functions_that_everybody_knows() -> None:
    library = standard_library()
    names = {item.name for item in library}
    assert {
        "textwrap.dedent(text)",
        "json.loads(s, cls, object_hook, parse_float, parse_int, parse_constant, object_pairs_hook, **kw)",
    } <= names
    assert len(names) > 2000
    assert not any(name.startswith(("test.", "numpy.", "site-packages.")) for name in names)


def test_training_pairs_repeat_nothing_and_depend_on_the_seed_alone() -> None:
    known = installed_packages(50, seed=1)
    again = installed_packages(50, seed=1)
    others = installed_packages(300, seed=2, known=known)
    assert known == again
    assert len(known) == 50
    texts = [text.casefold() for item in (*known, *others) for text in (item.sentence, item.name)]
    assert len(texts) == len(set(texts)) == 700
