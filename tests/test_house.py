"""The house: what a file may import, by the floor its room lies on; and no circle of files anywhere."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from small import small_model

import likewise
from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import MultipleNegativesRankingLoss

PACKAGE = Path(likewise.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")

# From the ground up: what each floor's rooms are for is told in docs/architecture.md. A file imports from lower floors
# and from its own room, whether for types, inside of functions or when it is loaded.
FLOORS = (
    {
        "checked",
        "checked_yaml",
        "compat",
        "hub",
        "input_example",
        "lazy",
        "overriding",
        "precision",
        "processes",
        "report",
        "similarity",
        "tables",
        "types",
        "version",
    },
    {"engine"},
    {"modules"},
    {"model"},
    {"backend", "card", "losses", "retrieval"},
    {"evaluation"},
    {"training"},
    {"legacy"},
    {"cross_encoder", "multi_vector_encoder", "sentence_transformer", "sparse_encoder"},
    {"families", "hybrid"},
    {"recipe", "recipes"},
    {"cli"},
)
# Names from other rooms and nothing of their own: the package's face, the reference's paths, and its name.
FACES = {
    "__init__", "__main__", "datasets", "model_card", "models", "quantization", "readers", "sampler",
    "similarity_functions", "trainer", "training_args", "util",
}  # fmt: skip

# MaxSim is a similarity like others to whoever names it, and late interaction's own to compute: loaded when it is asked for.
BY_NAME = ["similarity imports multi_vector_encoder.maxsim_scores"]

PART_OF_RECIPES = {"recipes.catalogue", "recipes.common", "recipes.quickstart"}


def files_of(package: Path) -> dict[str, Path]:
    """Each file by its dotted name below the package; a folder's `__init__` by the folder's."""
    names = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def imports_of(path: Path, files: Mapping[str, Path], root: str) -> set[str]:
    """The package's files that a file or its stub imports, anywhere in it, by `import_module` with a plain name too."""
    found: set[str] = set()
    both = [file.read_text(encoding="utf-8") for file in (path, path.with_suffix(".pyi")) if file.is_file()]
    for node in (node for text in both for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by dots"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant)]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == root:
                while rest and rest not in files:  # a name in a file, or in a folder's `__init__`
                    rest = rest.rpartition(".")[0]
                found.add(rest or "__init__")
    return found


def is_script(name: str) -> bool:
    """Whether a file is a recipe that is a script, written as a user would write it."""
    return name.startswith("recipes.") and name.count(".") == 1 and name not in PART_OF_RECIPES


def graph_of(package: Path) -> dict[str, set[str]]:
    """Each file's imports."""
    files = files_of(package)
    return {name: imports_of(path, files, package.name) - {name} for name, path in files.items()}


def breaches(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Every import of a room that does not lie lower, in words."""
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    for name, imported in graph.items():
        room = name.partition(".")[0]
        if room in FACES or is_script(name):
            continue
        if room not in floor_of:
            yield f"{name} is in no room of the house"
            continue
        for other in imported:
            other_room = other.partition(".")[0]
            if other_room != room and not floor_of.get(other_room, len(FLOORS)) < floor_of[room]:
                yield f"{name} imports {other}"


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Files that import each other in a circle, or an empty list."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            circle = visit(other, [*way, name])
            if circle:
                return circle
        done.add(name)
        return []

    return next((circle for name in sorted(graph) if (circle := visit(name, []))), [])


def test_every_file_imports_from_lower_floors_and_its_own_room_only() -> None:
    assert sorted(breaches(graph_of(PACKAGE))) == BY_NAME


def test_recipes_that_are_scripts_are_imported_by_nothing_and_import_no_command() -> None:
    graph = graph_of(PACKAGE)
    scripts = {name for name in graph if is_script(name)}
    assert scripts
    assert not {name for name, imported in graph.items() if imported & scripts}
    assert not {name for name in scripts if any(other.startswith("cli") for other in graph[name])}


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle_in(graph_of(PACKAGE)) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/attention.py", "from likewise.modules import base"),
        ("losses/cosent.py", "from likewise.retrieval.topk import top_k"),
        ("losses/cosent.py", "from likewise import util"),
        (
            "model/model.py",
            "if TYPE_CHECKING:\n    from likewise.card import SentenceTransformerModelCardData",
        ),
        ("similarity.py", "def late() -> None:\n    import likewise.engine.attention"),
        ("similarity.py", "importlib.import_module('likewise.engine.attention')"),
        ("nowhere.py", "x = 1"),
    ],
)
def test_a_planted_breach_is_seen(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "likewise"
    for name in ("engine/attention", "modules/base", "losses/cosent", "retrieval/topk", "card/data", "similarity", "util", file.removesuffix(".py")):  # fmt: skip
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        (path.parent / "__init__.py").touch()
    assert list(breaches(graph_of(package))) in ([], ["nowhere is in no room of the house"])
    (package / file).write_text(line)
    assert len(list(breaches(graph_of(package)))) == 1


@pytest.mark.parametrize("late", ["", "def later() -> None:\n    "])
def test_a_planted_circle_is_seen(tmp_path: Path, late: str) -> None:
    package = tmp_path / "likewise"
    package.mkdir()
    (package / "a.py").write_text("from likewise.b import x")
    (package / "b.py").write_text("import likewise.c")
    (package / "c.py").write_text("")
    assert circle_in(graph_of(package)) == []
    (package / "c.py").write_text(f"{late}from likewise import a")
    assert circle_in(graph_of(package)) == ["a", "b", "c"]


def test_the_map_names_every_room_with_its_floor_and_no_other() -> None:
    on_map = {room: int(floor) for floor, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)}
    assert on_map == {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    faces = PAGE.partition("Faces have")[2].partition("\n\n")[0].split("and nothing of their own:")[1]
    assert set(re.findall(r"`(\w+)`", faces)) == FACES
    assert {name.partition(".")[0] for name in files_of(PACKAGE)} == set(on_map) | FACES


def way_of(heading: str) -> list[tuple[str, str]]:
    """(stop, file) of each line of a way's table."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)` \| `([\w./]+)` \|", table, re.MULTILINE)


def first_calls(run: Callable[[], Any]) -> list[tuple[str, str]]:
    """(name, file) of the package's functions that are called, in the order of their first calls."""
    calls: dict[tuple[str, str], None] = {}

    def see(frame: Any, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            calls[frame.f_code.co_name, path.relative_to(PACKAGE).as_posix()] = None

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return list(calls)


def check_way(way: list[tuple[str, str]], calls: list[tuple[str, str]]) -> None:
    stops = [(stop.rpartition(".")[2], file) for stop, file in way]
    assert [call for call in calls if call in stops] == stops


def test_a_step_goes_the_way_that_is_written_down(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    rows = Dataset.from_dict({"anchor": ["a cat", "a dog"], "positive": ["cats", "dogs"]})
    args = SentenceTransformerTrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    trainer = SentenceTransformerTrainer(
        model=model, args=args, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
    )
    loader = trainer.get_train_dataloader()
    way = way_of("The way of a training batch")
    step = way[1:]  # the batch is made ahead
    assert len(step) <= 8
    assert len({file for _, file in step}) <= 7
    check_way(way, first_calls(lambda: trainer.compute_loss(model, dict(next(iter(loader))))))


def test_encode_goes_the_way_that_is_written_down(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    way = way_of("The way of `encode`")
    assert len(way) == 6
    check_way(way, first_calls(lambda: model.encode(["a cat", "two dogs"])))


# How large the house is. Whoever makes something shorter lowers these numbers; only a feature raises the first.
# Of all files, the families beside the dense one, the alias, the recipes and the report aside.
MOST_LINES = 33_001
APART = {"compat", "cross_encoder", "hybrid", "multi_vector_encoder", "recipes", "report", "sparse_encoder"}
MOST_LINES_OF_A_FILE = 450
LONGER_FILES = {  # public classes, whose methods the reference dictates
    "model/model.py": 580,
    "cross_encoder/model.py": 630,
}
MOST_LINES_OF_A_BODY = 60


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def bodies_of(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its body, without docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_package_and_its_files_are_no_longer_than_they_were() -> None:
    paths = [path for kind in ("py", "pyi", "jinja") for path in PACKAGE.rglob(f"*.{kind}")]
    lines = {path.relative_to(PACKAGE).as_posix(): lines_of(path) for path in paths}
    assert sum(n for file, n in lines.items() if file.partition("/")[0] not in APART) <= MOST_LINES
    too_long = {
        file: number
        for file, number in lines.items()
        if number > LONGER_FILES.get(file, MOST_LINES_OF_A_FILE)
    }
    assert too_long == {}


def test_no_function_has_a_long_body() -> None:
    long = [
        (path.name, name)
        for path in PACKAGE.rglob("*.py")
        for name, lines in bodies_of(path)
        if lines > MOST_LINES_OF_A_BODY
    ]
    assert long == []


def test_lines_are_counted_without_the_docstring(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(
        'def one():\n    """Of\n    two lines."""\n    x = 1\n\n    return x\n\ndef two():\n    """Only."""\n'
    )
    assert list(bodies_of(file)) == [("one", 3), ("two", 0)]


# Files of one name that are not the same concept in two rooms; this list only gets shorter.
SAME_NAMES = {"hub.py"}
# The same concept in two rooms: the parts that each room or family has, and what is measured as well as found or trained.
SAME_CONCEPTS = {
    "base.py", "data_collator.py", "family.py", "fit.py", "model.py", "model_card.py", "nano_beir.py", "paraphrase_mining.py", "reranking.py", "storage.py",
    "trainer.py", "training_args.py", "transformer.py", "triplet.py", "mse.py", "multiple_negatives_ranking.py",
    "information_retrieval.py", "scoring.py",
}  # fmt: skip


def test_no_other_files_have_one_name() -> None:
    paths: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if path.name != "__init__.py" and room not in FACES:
            paths.setdefault(path.name, []).append(path.relative_to(PACKAGE).as_posix())
    shared = {name: files for name, files in paths.items() if len(files) > 1}
    assert not {name: files for name, files in shared.items() if name not in SAME_NAMES | SAME_CONCEPTS}
