"""The documentation: what its pages show can be done, and its API pages name all that is public."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import TOKEN
from pages import ROOT, blocks, check
from small import small_model_folder

from likewise import CrossEncoder

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if blocks(path.read_text(encoding="utf-8")))
RERANKERS = ("cross-encoder/ms-marco-MiniLM-L6-v2",)


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cross-encoder with random weights."""
    folder = tmp_path_factory.mktemp("reranker")
    encoder = small_model_folder(folder / "encoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CrossEncoder(encoder, num_labels=1, device="cpu").save_pretrained(str(folder / "saved"))
    return folder / "saved"


@pytest.fixture
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reranker: Path) -> Iterator[None]:
    """Where nothing is but the rerankers that pages name, which a reader would get from the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for name in RERANKERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(reranker)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub
@pytest.mark.usefixtures("_in_an_empty_folder")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(DOCS).with_suffix("").as_posix())
def test_what_a_page_shows_can_be_done(page: Path, request: pytest.FixtureRequest) -> None:
    if page.name == "publishing.md":  # a small model goes up, to a Hub on this machine
        request.getfixturevalue("hub")
        request.getfixturevalue("monkeypatch").setenv("HF_TOKEN", TOKEN)
        small_model_folder("all-MiniLM-L6-v2")
    check(blocks(page.read_text(encoding="utf-8")), page.name)


PUBLIC = (
    "likewise", "likewise.backend", "likewise.compat", "likewise.cross_encoder", "likewise.cross_encoder.evaluation",
    "likewise.cross_encoder.losses", "likewise.cross_encoder.modules", "likewise.datasets", "likewise.evaluation", "likewise.hybrid",
    "likewise.losses", "likewise.model_card", "likewise.modules", "likewise.multi_vector_encoder",
    "likewise.multi_vector_encoder.evaluation", "likewise.multi_vector_encoder.losses", "likewise.multi_vector_encoder.modules",
    "likewise.multi_vector_encoder.scoring", "likewise.quantization", "likewise.readers", "likewise.retrieval", "likewise.sampler",
    "likewise.similarity_functions", "likewise.sparse_encoder", "likewise.sparse_encoder.callbacks",
    "likewise.sparse_encoder.evaluation", "likewise.sparse_encoder.losses", "likewise.sparse_encoder.modules",
    "likewise.sparse_encoder.search_engines", "likewise.trainer", "likewise.training_args", "likewise.util",
)  # fmt: skip
OF_TORCH = {"SubsetRandomSampler"}
NAMES = {
    name: page
    for page in sorted((DOCS / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}


def found(name: str) -> Any:
    """What a dotted name stands for."""
    owner, _, attribute = name.rpartition(".")
    in_a_class = owner.rpartition(".")[2][0].isupper()
    return getattr(found(owner) if in_a_class else import_module(owner), attribute)


def test_no_module_with_public_names_is_forgotten() -> None:
    faces = {
        f"likewise.{path.stem}"
        for path in (ROOT / "likewise").glob("*.py")
        if re.search(r"^__all__", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    below = {"likewise.__init__", "likewise.hub", "likewise.similarity"}  # their names are in `util`
    assert faces - below <= set(PUBLIC)


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_on_an_api_page(module: str) -> None:
    described = [found(name) for name in NAMES]
    missing = [
        name
        for name in import_module(module).__all__
        if name not in OF_TORCH and not any(found(f"{module}.{name}") is other for other in described)
    ]
    assert missing == []


def test_api_pages_name_only_what_there_is_each_once() -> None:
    for name in NAMES:
        found(name)
    pages = [page.read_text(encoding="utf-8") for page in set(NAMES.values())]
    written = re.findall(r"^::: ([\w.]+)$", "\n".join(pages), re.MULTILINE)
    assert len(written) == len(NAMES) > 200


class Assets(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")
        elif tag in ("script", "img", "iframe", "source", "video"):
            self.found.append(given.get("src") or "")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built."""
    pytest.importorskip("zensical")  # Python 3.11
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for name in ("docs", "likewise"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
def test_every_page_is_in_the_site_and_in_its_search(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert built == pages
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    assert {item["location"].partition("#")[0] for item in items} == pages
    assert any(item["title"] == "CoSENTLoss" for item in items)
    assert (
        "var __index = " in (site / "search.js").read_text(encoding="utf-8")[:100]
    )  # for pages opened as files


@pytest.mark.slow
def test_every_name_on_an_api_page_says_what_it_is(site: Path) -> None:
    silent = []
    for name, page in NAMES.items():
        html = (site / "api" / f"{page.stem}.html").read_text(encoding="utf-8")
        part = re.split(r"<h[234] ", html.partition(f'<h3 id="{name}"')[2], maxsplit=1)[0]
        said = [
            re.sub(r"<[^>]+>", "", text).strip()
            for text in re.findall(r"<p(?: [^>]*)?>(.*?)</p>", part, re.DOTALL)
        ]
        if not any(text and not text.startswith("Bases:") for text in said):
            silent.append(name)
    assert silent == []


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assets = Assets()
        assets.feed(page.read_text(encoding="utf-8"))
        assert assets.found
        assert [asset for asset in assets.found if re.match(r"(https?:)?//", asset)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style.name
