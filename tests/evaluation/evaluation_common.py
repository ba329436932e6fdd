"""An evaluator and the reference's, side by side: same arguments, same numbers, same files."""

from __future__ import annotations

import csv
import inspect
import math
import random
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sentence_transformers.sentence_transformer.evaluation as reference
import torch

import likewise.evaluation as ours
from likewise.similarity import SimilarityFunction

WHEN = [(-1, -1), (1, 50)]


def setting_id(settings: Mapping[str, Any]) -> str:
    """The settings in words that are the same in every process: functions by their names."""
    return re.sub(r"<(built-in )?function (\w+)[^>]*>", r"\2", str(dict(settings)))


class WordCounts:
    """Stands in for a model where scores have to tie exactly: a text's embedding counts its words in 8 buckets.

    Attributes:
        encoded: The texts of every call to `encode`.
    """

    similarity_fn_name = "cosine"
    truncate_dim = None
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.encoded: list[list[str]] = []
        self.model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def encode(
        self,
        texts: Sequence[str],
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        prompt: str | None = None,
        **_: Any,
    ) -> Any:
        """The embeddings of texts, of a single one too."""
        self.encoded.append([texts] if isinstance(texts, str) else list(texts))
        rows = [self.row((prompt or "") + text) for text in self.encoded[-1]]
        counts = np.array(rows, dtype=np.float32).reshape(len(rows), 8)[:, :truncate_dim]
        if normalize_embeddings:
            counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
        if isinstance(texts, str):
            counts = counts[0]
        if convert_to_tensor:
            return torch.from_numpy(counts)
        return counts if convert_to_numpy else list(torch.from_numpy(counts))

    encode_query = encode_document = encode

    def way_of_embedding(self, task: str | None, prompt_name: str | None, prompt: str | None) -> Any:
        """Only a prompt makes a difference."""
        return prompt or ""

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Embeddings are whole anyway."""
        yield

    def row(self, text: str) -> list[int]:
        """The embedding of a text: 8 numbers."""
        buckets = [zlib.crc32(word.encode()) % 8 for word in text.split()]
        return [buckets.count(bucket) for bucket in range(8)]

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        """Cosines."""
        return SimilarityFunction.to_similarity_fn("cosine")(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        """Cosines of pairs."""
        return SimilarityFunction.to_similarity_pairwise_fn("cosine")(a, b)


class HalfOnes(WordCounts):
    """Four ones and four zeros for each text. Cosines are multiples of a quarter, exact in any order of summation."""

    def row(self, text: str) -> list[int]:
        """The embedding of a text: 8 numbers."""
        ones = random.Random(text).sample(range(8), 4)
        return [int(bucket in ones) for bucket in range(8)]


def constructor(cls: type) -> list[tuple[str, Any]]:
    """Names and defaults of a constructor's arguments, in order."""
    return [(p.name, _comparable(p.default)) for p in inspect.signature(cls).parameters.values()]


def _comparable(default: Any) -> Any:
    if isinstance(default, list):
        return tuple(default)  # equal but safe from changes
    if callable(default) and default is not inspect.Parameter.empty:
        return default.__name__
    return None if default == "deprecated" else default


def assert_same_constructor(name: str) -> None:
    """Arguments have the same names, order and defaults."""
    assert constructor(getattr(ours, name)) == constructor(getattr(reference, name))


def assert_same_evaluation(
    name: str,
    arguments: Sequence[Any],
    settings: Mapping[str, Any],
    models: tuple[Any, Any],
    folder: Path,
    tolerance: float = 1e-6,
) -> dict[str, float]:
    """Both evaluators say the same of our and the reference's model: metrics, primary metric, rows of csv files.

    Args:
        name: The evaluator's class.
        arguments: For both constructors; a function is called with the model first.
        settings: Keyword arguments for both constructors.
        models: The model for our evaluator, and the model for the reference's.
        folder: An empty folder.
        tolerance: The largest difference, relative for numbers above 1.

    Returns:
        Our metrics.
    """
    found = []
    for library, model, path in zip((ours, reference), models, ("ours", "theirs"), strict=True):
        given = arguments(model) if callable(arguments) else arguments
        evaluator = getattr(library, name)(*given, **settings)
        metrics = [evaluator(model, str(folder / path), epoch, steps) for epoch, steps in WHEN]
        config = evaluator.get_config_dict()
        found.append((metrics, evaluator.primary_metric, evaluator.greater_is_better, config))
    mine, theirs = found
    assert mine[1:3] == theirs[1:3]
    assert theirs[3].items() <= mine[3].items()  # one of the reference's leaves out `truncate_dim`
    for a, b in zip(mine[0], theirs[0], strict=True):
        assert list(a) == list(b)
        assert_close(list(a.values()), list(b.values()), tolerance)
    assert_same_csv_files(folder / "ours", folder / "theirs", tolerance)
    return mine[0][0]


def assert_same_csv_files(mine: Path, theirs: Path, tolerance: float = 1e-6) -> None:
    """The same csv files, headers and numbers."""
    names = [[file.name for file in sorted(path.glob("*.csv"))] for path in (mine, theirs)]
    assert names[0] == names[1]
    for name in names[0]:
        (header, *rows), (their_header, *their_rows) = (rows_of(path / name) for path in (mine, theirs))
        assert header == their_header, name
        assert len(rows) == len(their_rows) == len(WHEN)
        for a, b in zip(rows, their_rows, strict=True):
            assert_close([float(x) for x in a], [float(x) for x in b], tolerance)


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a csv file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def assert_close(a: Sequence[float], b: Sequence[float], tolerance: float) -> None:
    """Equal to within a tolerance; NaN equals NaN."""
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) or (x != x and y != y), (a, b)
