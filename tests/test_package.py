"""The package as a whole: what it imports and when, and its public names."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
import sentence_transformers
import torch
from small import small_model_folder, small_tokenizer
from transformers import BertConfig, BertForSequenceClassification

import likewise

PACKAGE = Path(likewise.__file__).parent
MODULES = sorted(
    module.name for module in walk_packages([str(PACKAGE)], "likewise.") if module.name != "likewise.__main__"
)

THIN_PATHS = {  # the reference's import paths: names from other layers and nothing else
    "backend", "datasets", "models", "model_card", "quantization", "readers", "sampler", "similarity_functions", "trainer",
    "training_args", "util",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(THIN_PATHS - {"util", "backend"}))
def test_thin_paths_hold_names_only(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


# In one process, which has the alias: what it adds is imported as well. Each line with what must not have been imported by then.
TRAINING = ["datasets", "pandas", "pyarrow", "sklearn", "transformers.trainer", "likewise.training"]
STEPS = [
    ("import likewise", ["torch", "transformers", "numpy", "importlib.metadata", *TRAINING]),
    ("import likewise.cli", ["torch", "transformers", "scipy", *TRAINING]),
    ("import likewise.compat; likewise.compat.install()", ["torch", "transformers", *TRAINING]),
    ("from sentence_transformers import util", ["torch", "transformers", *TRAINING]),
    ("from sentence_transformers import SentenceTransformer", ["transformers", "scipy", "accelerate", *TRAINING]),
    ("from sentence_transformers import CrossEncoder, models", ["transformers", "scipy", "accelerate", *TRAINING]),
    ("util.cos_sim, util.semantic_search, util.paraphrase_mining", ["transformers", "scipy", *TRAINING]),
    ("from sentence_transformers import losses", ["transformers", "scipy", *TRAINING]),
    ("from sentence_transformers import evaluation", TRAINING),
]  # fmt: skip


def test_importing_is_cheap() -> None:
    script = "import sys\n" + "".join(
        f"{code}\nprint([name for name in {absent} if name in sys.modules])\n" for code, absent in STEPS
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert dict(zip([code for code, _ in STEPS], run.stdout.splitlines(), strict=True)) == dict.fromkeys(
        [code for code, _ in STEPS], "[]"
    )


WITHOUT = (
    "accelerate",
    "datasets",
    "pandas",
    "peft",
    "pyarrow",
    "scipy",
    "sklearn",
)  # peft needs accelerate itself
# As if they were not installed: neither importing nor looking finds them.
BLOCKER = f"""
import sys
import zipfile
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {WITHOUT} else find(name, path, target)
PathFinder.find_spec = staticmethod(find_spec)
"""


@pytest.mark.parametrize("library", ["likewise", "sentence_transformers"])
def test_encoding_and_scoring_need_none_of_what_training_and_evaluation_need(
    tmp_path: Path, library: str
) -> None:
    pairs = tmp_path / "pairs"
    BertForSequenceClassification(
        BertConfig(vocab_size=128, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1)
    ).save_pretrained(pairs)
    small_tokenizer().save_pretrained(pairs)
    script = (
        BLOCKER
        + ("" if library == "likewise" else "import likewise.compat; likewise.compat.install()\n")
        + f"from {library} import CrossEncoder, SentenceTransformer, util\n"
        "texts = ['a cat sleeps', 'the dog runs', 'a cat']\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu')\n"
        "found = util.semantic_search(model.encode_query(texts), model.encode_document(texts), top_k=1)\n"
        "assert [hits[0]['corpus_id'] for hits in found] == [0, 1, 2]\n"
        "assert model.similarity(model.encode(texts), model.encode(texts)).shape == (3, 3)\n"
        "reranker = CrossEncoder(sys.argv[2], device='cpu')\n"
        "assert len(reranker.predict([(texts[0], text) for text in texts])) == 3 == len(reranker.rank('a', texts))\n"
    )
    folder = small_model_folder(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", script, folder, pairs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_and_explains_itself(name: str) -> None:
    module = import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def test_every_function_and_class_of_a_file_explains_itself() -> None:
    silent = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                first = node.body[0]
                is_told = isinstance(first, ast.Assign) and ast.unparse(first.targets[0]) == "__doc__"
                is_told |= "overload" in map(ast.unparse, node.decorator_list)  # of what stands below
                if not is_told and not ast.get_docstring(node):
                    silent.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert silent == []


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda stub: stub.parent.name)
def test_names_of_a_stub_are_found_and_listed(stub: Path) -> None:
    package = ".".join(("likewise", *stub.parent.relative_to(PACKAGE).parts))
    module = import_module(package)
    lines = [
        node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)
    ]
    homes = {alias.asname: line.module for line in lines for alias in line.names}
    for name in homes:
        assert getattr(module, str(name)) is not None
        assert name in dir(module)
    assert module.__all__ == sorted(name for name, home in homes.items() if home != package)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_top_level_names_of_older_scripts_are_there() -> None:
    for name in ("InputExample", "SentencesDataset", "ParallelSentencesDataset", "DefaultBatchSampler"):
        assert getattr(likewise, name).__name__ == getattr(sentence_transformers, name).__name__
    assert issubclass(likewise.MultiDatasetDefaultBatchSampler, torch.utils.data.BatchSampler)


@pytest.mark.parametrize(
    "name",
    [
        "SentenceTransformer",
        "SentenceTransformerTrainer",
        "SentenceTransformerTrainingArguments",
        "SentenceTransformerModelCardData",
    ],
)
def test_arguments_have_the_references_names_and_defaults(name: str) -> None:
    ours = inspect.signature(getattr(likewise, name)).parameters
    theirs = inspect.signature(getattr(sentence_transformers, name)).parameters
    for parameter in theirs.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert parameter.name in ours, parameter.name
        if isinstance(parameter.default, str | int | float | bool | None):
            assert ours[parameter.name].default == parameter.default, parameter.name


@pytest.mark.parametrize(
    "method", ["encode", "encode_query", "encode_document", "save", "push_to_hub", "tokenize"]
)
def test_methods_have_the_references_arguments(method: str) -> None:
    ours = inspect.signature(getattr(likewise.SentenceTransformer, method)).parameters
    theirs = inspect.signature(getattr(sentence_transformers.SentenceTransformer, method)).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
    for parameter in theirs.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        assert takes_more or parameter.name in ours, parameter.name
        if parameter.name in ours and isinstance(parameter.default, str | int | float | bool | None):
            assert ours[parameter.name].default == parameter.default, parameter.name


def test_what_is_no_code_comes_with_the_wheel_too() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]["package-data"]["likewise"]
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others
    assert others <= {path for pattern in shipped for path in PACKAGE.glob(pattern)}
    for folder in {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / "compat" / "path"}:
        assert (folder / "__init__.py").is_file(), f"{folder} is no package, which the wheel leaves out"


def test_the_description_links_to_nothing_that_does_not_come_along(tmp_path: Path) -> None:
    root = PACKAGE.parent
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "likewise").mkdir()
    (tmp_path / "likewise" / "__init__.py").touch()
    (tmp_path / "built").mkdir()
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('built'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "built").glob("*.dist-info/METADATA")
    text = file.read_text(encoding="utf-8")
    assert "[migrating]" not in text
    assert "migrating" in text  # the words stay
    assert "](https://" in text
    assert not re.findall(r"\]\((?!https?://)[^)]*\)", text)


def test_the_package_is_described_the_same_everywhere() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first = (likewise.__doc__ or "").splitlines()[0].removeprefix("Likewise: ")
    assert project["description"] == first[0].upper() + first[1:]
    assert "rerankers" in first
    assert "rerankers" in project["keywords"]


def test_the_package_is_imported_from_a_zip_too(tmp_path: Path) -> None:
    package = Path(likewise.__file__).parent
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, path.relative_to(package.parent))
    script = "import likewise; print(likewise.__file__, 'CrossEncoder' in dir(likewise), likewise.util.cos_sim.__name__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "all.zip")}
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found.split() == [str(tmp_path / "all.zip" / "likewise" / "__init__.py"), "True", "cos_sim"]
