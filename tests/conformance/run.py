"""The reference's own tests under Likewise: which pass, and why the others do not.

    python tests/conformance/run.py [SOURCES ...] [--out docs/conformance.md]

SOURCES are checkouts or unpacked source packages of the reference beside the project, with a folder `tests`; without any, the
source packages of releases that come with tests are downloaded into a temporary folder. A test counts that passes here, offline, with the
reference that is installed; tiny random models stand in for those that it names. It is then run by `likewise run`. What fails must
be in `listed.tsv`, with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LISTED = HERE / "listed.tsv"
# Of those on the registry, the last before the tests moved into folders, which a source package leaves out, and one of 3.x.
RELEASES = ("5.3.0", "3.4.1")
OTHER_FAMILIES = ("sparse_encoder", "multi_vector_encoder", "sparse", "multi_vec_encoder")
# Whole files that only ever load what cannot be had offline.
NEVER_OFFLINE = ("test_pretrained_stsb.py", "test_pretrained.py", "test_image_embeddings.py")
LONGEST_S = 900
HEAD = """# The reference's own tests

Written by `make conformance`: tests of the reference that run offline with tiny random models, and pass with the reference itself, run
again by `likewise run`. They are taken from its source packages or a checkout, which are no part of this project. A function counts as
passed if all its cases pass; the others are listed with their reason.
"""


class Outcome(NamedTuple):
    """What became of one test function.

    Attributes:
        passed: How many of its cases passed.
        cases: How many pass with the reference.
        says: The last line of a failure.
    """

    passed: int
    cases: int
    says: str


def main() -> int:
    """Run everything; the exit status tells whether something fails that is not listed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCES", help="Folders with a folder `tests`."
    )
    parser.add_argument("--out", type=Path, help="A file for the tables, beside standard output.")
    parser.add_argument("--only", default="", help="Only test files whose path has this in it.")
    asked = parser.parse_args()
    listed = dict(line.split("\t") for line in LISTED.read_text(encoding="utf-8").splitlines() if line)
    parts, unlisted = [HEAD], 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        models = folder / "models"
        subprocess.run([sys.executable, str(HERE / "stand_ins.py"), str(models)], check=True, capture_output=True)  # fmt: skip
        for source in asked.sources or [downloaded(release, folder) for release in RELEASES]:
            found = outcomes_of(source.resolve() / "tests", models, folder, asked.only)
            parts.append(table(source.resolve().name, found, listed))
            unlisted += sum(one.passed < one.cases and name not in listed for name, one in found.items())
    print("".join(parts))
    if asked.out:
        asked.out.write_text("".join(parts), encoding="utf-8")
    return 1 if unlisted else 0


def downloaded(release: str, folder: Path) -> Path:
    """The unpacked source package of a release."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
    ]
    subprocess.run([*command, str(folder / release), f"sentence-transformers=={release}"], check=True)
    (package,) = (folder / release).glob("*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(folder / release, filter="data")
    return folder / release / package.name.removesuffix(".tar.gz")


def outcomes_of(tests: Path, models: Path, folder: Path, only: str) -> dict[str, Outcome]:
    """Each function that passes with the reference, at least in some cases, by its path and name."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        place = path.relative_to(tests)
        if set(place.parts) & {*OTHER_FAMILIES, *NEVER_OFFLINE} or only not in str(place):
            continue
        theirs, _ = run(path, tests, models, folder / "theirs.json", [])
        cases = [case for case, outcome in theirs.items() if outcome == "passed"]
        if not cases:
            continue
        ours, messages = run(path, tests, models, folder / "ours.json", ["-m", "likewise", "run"])
        failed = next((says for case, says in messages.items() if case.endswith("::import")), "did not end")
        for case in cases:
            name = f"{place.as_posix()}::{case.partition('::')[2].partition('[')[0]}"
            has_passed = ours.get(case) == "passed"
            found[name].append(Outcome(has_passed, 1, "" if has_passed else messages.get(case, failed)))
    return {
        name: Outcome(sum(one.passed for one in cases), len(cases), max(one.says for one in cases))
        for name, cases in found.items()
    }


def run(
    path: Path, tests: Path, models: Path, out: Path, start: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The outcomes and messages of one file's cases, in a process of its own."""
    out.unlink(missing_ok=True)
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "CONFORMANCE_TESTS": str(tests), "CONFORMANCE_OUT": str(out),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]), "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(out.parent / "cache"),
    }  # fmt: skip
    options = ["-q", "-p", "stand_ins", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tests)]
    subprocess.run(
        [sys.executable, *(start or []), "-m", "pytest", *options, "-m", "not slow", str(path)],
        env=environment, cwd=models, capture_output=True, timeout=LONGEST_S, check=False,
    )  # fmt: skip
    if not out.exists():
        return {}, {}
    record = json.loads(out.read_text())
    assert record["library"] == ("likewise" if start else "sentence_transformers"), record["library"]
    return record["outcomes"], record["messages"]


def table(name: str, found: Mapping[str, Outcome], listed: Mapping[str, str]) -> str:
    """Counts by file, then each function that fails with its reason."""
    lines = [f"\n## {name}\n", "| file | functions | passed | listed | not listed |", "|---|---|---|---|---|"]
    by_file: dict[str, list[tuple[str, Outcome]]] = defaultdict(list)
    for function, outcome in found.items():
        by_file[function.partition("::")[0]].append((function, outcome))
        by_file["all"].append((function, outcome))
    failing = {function: one for function, one in found.items() if one.passed < one.cases}
    for file, functions in [
        *((key, by_file[key]) for key in by_file if key != "all"),
        ("all", by_file["all"]),
    ]:
        wrong = [function for function, _ in functions if function in failing]
        known = sum(function in listed for function in wrong)
        lines.append(
            f"| {file} | {len(functions)} | {len(functions) - len(wrong)} | {known} | {len(wrong) - known} |"
        )
    if failing:
        lines += ["", "| function | cases that pass | reason |", "|---|---|---|"]
    for function, one in failing.items():
        reason = listed.get(function) or f"**not listed**: {one.says}".replace("|", "\\|")
        lines.append(f"| `{function}` | {one.passed} of {one.cases} | {reason} |")
    passing = [function for function in found if function in listed and function not in failing]
    if passing:
        lines += ["", f"Listed, but passed: {', '.join(f'`{function}`' for function in passing)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
