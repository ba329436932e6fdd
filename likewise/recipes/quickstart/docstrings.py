"""What functions are for, in words: pairs of a docstring's first sentence and the name it describes.

Python sources are read with `ast`, never imported. Every machine with Python has thousands of such pairs.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MIN_WORDS, MAX_WORDS = 3, 40  # of a sentence: shorter ones say nothing, longer ones are no summary
MOST_PER_FILE = 5  # for training, so that no package's style of writing rules
LEFT_OUT = frozenset(
    {"test", "tests", "testing", "idlelib", "lib2to3", "turtledemo", "distutils", "ensurepip"}
    | {"site-packages", "dist-packages"}
)


@dataclass(frozen=True)
class Described:
    """A function, method or class and what its docstring says first.

    Attributes:
        sentence: The first sentence of the docstring.
        name: The qualified name with its parameters, as in `json.dumps(obj, indent)`.
    """

    sentence: str
    name: str


def standard_library() -> list[Described]:
    """Everything public and documented in Python's standard library, in order of its files."""
    root = Path(sysconfig.get_path("stdlib"))
    found = (item for path in _sources(root) for item in described(path, root))
    return list(dict.fromkeys(found))


def installed_packages(number: int, seed: int, known: Sequence[Described] = ()) -> list[Described]:
    """So many sentences with their names from the installed packages, each sentence and each name once.

    Args:
        number: How many to find; fewer are returned where there are no more.
        seed: Decides which files are read.
        known: What must not be among them, neither the sentence nor the name.
    """
    roots = sorted({Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))})
    files = [(path, root) for root in roots for path in _sources(root)]
    random.Random(seed).shuffle(files)
    taken = {text.casefold() for item in known for text in (item.sentence, item.name)}
    found: list[Described] = []
    for path, root in files:
        for item in islice(described(path, root), MOST_PER_FILE):
            texts = {item.sentence.casefold(), item.name.casefold()}
            if taken.isdisjoint(texts):
                taken |= texts
                found.append(item)
                if len(found) == number:
                    return found
    return found


def described(path: Path, root: Path) -> Iterator[Described]:
    """The public functions, methods and classes of a source file that have a docstring.

    Args:
        path: The file.
        root: The folder that its module's name starts from.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # written for another Python, or a test of the parser
    parts = [*path.relative_to(root).parent.parts, path.stem]
    if parts[-1] == "__init__":
        parts.pop()
    # `_pydatetime` is the source of `datetime`; other modules with an underscore are nobody's to call.
    parts = [part.removeprefix("_py") for part in parts]
    if not any(part.startswith("_") for part in parts):
        yield from _definitions(tree, ".".join(parts))


def _sources(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if LEFT_OUT.isdisjoint(path.relative_to(root).parts))


def _definitions(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Described]:
    for node in parent.body:
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        function = _constructor(node) if isinstance(node, ast.ClassDef) else node
        sentence = first_sentence(ast.get_docstring(node, clean=False) or "")
        if sentence:
            yield Described(sentence, f"{name}({', '.join(_parameters(function)) if function else ''})")
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, name)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return names


def first_sentence(docstring: str) -> str:
    """The first sentence without markup; empty where there is none of 3 to 40 words.

    Examples:
        >>> first_sentence("Parse :class:`str` to a date.  Time zones are ignored.")
        'Parse str to a date.'
    """
    paragraph = " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s", re.sub(r":\w+:`~?|`", "", paragraph))[0]
    return sentence if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS and sentence.isascii() else ""
