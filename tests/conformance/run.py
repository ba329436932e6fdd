"""The reference's own tests under Likewise: which pass, and why the others do not.

    python tests/conformance/run.py [SOURCES ...] [--out docs/conformance.md] [--work FOLDER]

SOURCES are checkouts or unpacked source packages of the reference beside the project, with a folder `tests`; without any, the
source packages of releases that come with tests are downloaded. A test counts that passes here, offline, with the reference that is
installed; tiny random models stand in for those that it names. It is then run by `likewise run`. What fails must be in `listed.tsv`,
with its reason. Each file of tests is a process of its own, and what is done is kept: a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LISTED = HERE / "listed.tsv"
PACKAGE = HERE.parents[1] / "likewise"
# On the registry, with the files that are run; none for all. The one that is installed, of which one file is left, since source
# packages leave out the folders that the tests moved into with 5.4 (6.1.0, 5.7.0 and 5.4.1 have no test at all); the last before
# that; of the last that tests sparse tensors, these; one of 3.x; one of the time of `fit`.
RELEASES: Mapping[str, tuple[str, ...]] = {
    "6.2.0": (), "5.3.0": (), "5.0.0": ("test_sparse_tensor.py",), "3.4.1": (), "2.7.0": (),
}  # fmt: skip
# Whole files that only ever load what cannot be had offline.
NEVER_OFFLINE = ("test_pretrained_stsb.py", "test_pretrained.py", "test_image_embeddings.py")
# A file's; a single case has `CASE_S` of stand_ins.py.
LONGEST_S = 1800
HEAD = """# The reference's own tests

Written by `make conformance`: tests of the reference that run offline with tiny random models, and pass with the reference itself, run
again by `likewise run`. They are taken from its source packages or a checkout, which are no part of this project. A function has passed
if all its cases pass. "In other words" are those of which only the text of an error or a warning, not its kind, is another than
the test expects: messages are the project's own. The others have their reason, which stands in `tests/conformance/listed.tsv`.

Source packages since 5.4 leave the tests out; that of 6.2.0 has one file by chance. What the other tests of 6.x say takes a checkout
(`make conformance REFERENCE=FOLDER`). The reasons in `tests/conformance/listed.tsv` for functions that are not below come from such a run,
which was of an earlier state of this library and of embedding models alone.
"""
WORDED = "in other words"


class Outcome(NamedTuple):
    """What became of one test function.

    Attributes:
        passed: How many of its cases passed, in other words or not.
        worded: How many of them in other words.
        cases: How many pass with the reference.
        says: The first line of a failure.
    """

    passed: int
    worded: int
    cases: int
    says: str


class Ran(NamedTuple):
    """What became of one file's cases.

    Attributes:
        outcomes: "passed", "in other words", "failed" or "skipped" by case.
        messages: The first line of each failure.
    """

    outcomes: dict[str, str]
    messages: dict[str, str]


def main() -> int:
    """Run everything; the exit status tells whether something fails that is not listed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCES", help="Folders with a folder `tests`."
    )
    parser.add_argument("--out", type=Path, help="A file for the tables, beside standard output.")
    parser.add_argument("--only", default="", help="Only test files whose path has this in it.")
    parser.add_argument("--work", type=Path, default=Path("build/conformance"), help="Models, downloads and what is done.")  # fmt: skip
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it started ends with it
    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    listed = dict(line.split("\t") for line in LISTED.read_text(encoding="utf-8").splitlines() if line)
    if not (work / "models" / "done").exists():
        subprocess.run([sys.executable, str(HERE / "stand_ins.py"), str(work / "models")], check=True, capture_output=True)  # fmt: skip
        (work / "models" / "done").touch()
    parts, unlisted = [HEAD], 0
    sources = dict.fromkeys(asked.sources, ()) or {
        downloaded(one, work): files for one, files in RELEASES.items()
    }
    for source, files in sources.items():
        found = outcomes_of(source.resolve(), work, asked.only, files)
        parts.append(table(source.resolve().name, found, listed))
        failing = {name for name, one in found.items() if one.passed < one.cases}
        unlisted += len(failing - set(listed))
    print("".join(parts))
    if asked.out:
        asked.out.write_text("".join(parts), encoding="utf-8")
    return 1 if unlisted else 0


def downloaded(release: str, folder: Path) -> Path:
    """The unpacked source package of a release."""
    done = folder / f"sentence_transformers-{release}"
    if not done.exists():
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder / release)]
        package = f"sentence-transformers=={release}"
        subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
        (archive,) = (folder / release).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder / release, filter="data")
        (folder / release / archive.name.removesuffix(".tar.gz")).rename(done)
    return done


def outcomes_of(source: Path, work: Path, only: str, files: Sequence[str] = ()) -> dict[str, Outcome]:
    """Each function that passes with the reference, at least in some cases, by its path and name; of these files, or of all."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for path in sorted((source / "tests").rglob("test_*.py")):
        place = path.relative_to(source / "tests")
        if place.name in NEVER_OFFLINE or only not in str(place) or (files and place.name not in files):
            continue
        kept = work / "done" / source.name / place.as_posix().replace("/", "-")
        kept.parent.mkdir(parents=True, exist_ok=True)
        theirs = ran(path, source, work / "models", Path(f"{kept}.{version('sentence-transformers')}"), [])
        cases = [case for case, outcome in theirs.outcomes.items() if outcome == "passed"]
        if not cases:
            continue
        ours = ran(path, source, work / "models", Path(f"{kept}.{edition()}"), ["-m", "likewise", "run"])
        imported = next(
            (says for case, says in ours.messages.items() if case.endswith("::import")), "did not end"
        )
        passed = [case for case in cases if ours.outcomes.get(case) in ("passed", WORDED)]
        print(f"{source.name} {place}: {len(passed)} of {len(cases)} cases", file=sys.stderr, flush=True)
        for case in cases:
            name = f"{place.as_posix()}::{case.partition('::')[2].partition('[')[0]}"
            says = "" if case in passed else ours.messages.get(case, imported)
            found[name].append(Outcome(int(case in passed), int(ours.outcomes.get(case) == WORDED), 1, says))
    return {
        name: Outcome(
            *(sum(numbers) for numbers in list(zip(*cases, strict=True))[:3]), max(one.says for one in cases)
        )
        for name, cases in found.items()
    }


def edition() -> str:
    """A short name for the library's files as they are: what was found with others is not kept."""
    texts = (path.read_bytes() for path in sorted(PACKAGE.rglob("*.py")))
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def ran(path: Path, source: Path, models: Path, kept: Path, start: list[str]) -> Ran:
    """Run one file in a process of its own, unless what it gave is kept; cases that were not reached are missing."""
    tests, lines = source / "tests", kept.with_name(f"{kept.name}.running")
    if not kept.exists():
        lines.unlink(missing_ok=True)
        environment = {
            **os.environ, "HF_HUB_OFFLINE": "1", "CONFORMANCE_TESTS": str(tests), "CONFORMANCE_OUT": str(lines),
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]), "PYTHONDONTWRITEBYTECODE": "1",
            "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(models.parent / "cache"),
        }  # fmt: skip
        options = [
            "-q",
            "-p",
            "stand_ins",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            "--rootdir",
            str(tests),
        ]
        command = [sys.executable, *start, "-m", "pytest", *options, "-m", "not slow", str(path)]
        # A session, and no pipes: processes that a test starts end with it, and cannot keep this one waiting.
        with Path(f"{kept}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, cwd=models, stdout=log, stderr=log, start_new_session=True)  # fmt: skip
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LONGEST_S)
            finally:
                end(process.pid)
                process.wait()
        if process.returncode in (3, 4):  # pytest's own: nothing was run
            raise RuntimeError(f"pytest did not start: see {kept}.log.")
        lines.touch()
        lines.rename(kept)
    outcomes, messages = {}, {}
    for line in kept.read_text().splitlines():
        record = json.loads(line)
        assert record["library"] == ("likewise" if start else "sentence_transformers"), record["library"]
        outcomes[record["case"]] = record["outcome"]
        if record["says"]:
            messages[record["case"]] = record["says"]
    return Ran(outcomes, messages)


def end(session: int) -> None:
    """End all processes of a session; most have ended by then."""
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def table(name: str, found: Mapping[str, Outcome], listed: Mapping[str, str]) -> str:
    """Counts by file, then each function with what became of it."""
    kinds = ("passed", WORDED, "listed", "not listed")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    rows = []
    for function, one in found.items():
        kind, says = "passed", "passed"
        if one.passed < one.cases:
            kind = "listed" if function in listed else "not listed"
            says = listed.get(function) or f"**not listed**: {one.says}".replace("|", "\\|")
        elif one.worded:
            kind = says = WORDED
        for place in (function.partition("::")[0], "all"):
            counts[place][kind] += 1
        rows.append(f"| `{function}` | {one.passed} of {one.cases} | {says} |")
    counts["all"] = counts.pop("all", Counter())
    lines = [f"\n## {name}\n", f"| file | functions | {' | '.join(kinds)} |", "|---|---|---|---|---|---|"]
    for place, count in counts.items():
        lines.append(f"| {place} | {count.total()} | {' | '.join(str(count[kind]) for kind in kinds)} |")
    lines += ["", "| function | cases | |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
