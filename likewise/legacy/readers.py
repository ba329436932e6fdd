"""Readers of the older kind: from files to lists of InputExample."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from likewise.input_example import InputExample
from likewise.tables import open_text

__all__ = [
    "InputExample",
    "LabelSentenceReader",
    "NLIDataReader",
    "PairedFilesReader",
    "STSBenchmarkDataReader",
    "STSDataReader",
    "TripletReader",
]


def _first(examples: Iterable[InputExample], max_examples: int) -> list[InputExample]:
    return list(islice(examples, max_examples) if max_examples > 0 else examples)


@dataclass(eq=False)
class LabelSentenceReader:
    """Lines of a label and a sentence, for losses that compare texts of the same label. Labels become numbers from 0.

    Args:
        folder: Where the files are.
        label_col_idx: The number of the label's column.
        sentence_col_idx: The number of the sentence's column.
        separator: What stands between columns.
    """

    folder: str
    label_col_idx: int = 0
    sentence_col_idx: int = 1
    separator: str = "\t"
    label_map: dict[str, int] = field(default_factory=dict, init=False)

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The rows of a file, at most so many (0: all)."""
        return _first(self._examples(filename), max_examples)

    def _examples(self, filename: str) -> Iterator[InputExample]:
        with open_text(Path(self.folder) / filename) as file:
            for number, line in enumerate(file):
                cells = line.strip().split(self.separator)
                label = self.label_map.setdefault(cells[self.label_col_idx], len(self.label_map))
                yield InputExample(f"{filename}-{number}", [cells[self.sentence_col_idx]], label)


@dataclass(eq=False)
class NLIDataReader:
    """Pairs with an inference label, from the three files `s1.{name}`, `s2.{name}` and `labels.{name}`, packed with gzip.

    Args:
        dataset_folder: Where the files are.
    """

    dataset_folder: str

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The pairs of a split, e.g. `train.gz`, at most so many (0: all)."""
        with ExitStack() as stack:
            paths = [Path(self.dataset_folder) / f"{part}.{filename}" for part in ("s1", "s2", "labels")]
            files = [stack.enter_context(gzip.open(path, "rt", encoding="utf-8")) for path in paths]
            examples = (
                InputExample(f"{filename}-{number}", [first, second], self.map_label(label))
                for number, (first, second, label) in enumerate(zip(*files, strict=True))
            )
            return _first(examples, max_examples)

    @staticmethod
    def get_labels() -> dict[str, int]:
        """The labels and their numbers."""
        return {"contradiction": 0, "entailment": 1, "neutral": 2}

    def get_num_labels(self) -> int:
        """How many labels there are."""
        return len(self.get_labels())

    def map_label(self, label: str) -> int:
        """A label's number."""
        return self.get_labels()[label.strip().lower()]


@dataclass(eq=False)
class PairedFilesReader:
    """Rows of which each text comes from a file of its own, line by line.

    Args:
        filepaths: The files.
    """

    filepaths: Sequence[str]

    def get_examples(self, max_examples: int = 0) -> list[InputExample]:
        """The rows, as many as the shortest file has lines, at most so many (0: all)."""
        with ExitStack() as stack:
            files = [stack.enter_context(open_text(path)) for path in self.filepaths]
            rows = enumerate(zip(*files, strict=False))
            return _first((InputExample(str(n), list(texts), 1) for n, texts in rows), max_examples)


@dataclass(eq=False)
class STSDataReader:
    """Pairs with a score, from a file with columns.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: The number of the first text's column.
        s2_col_idx: The number of the second text's column.
        score_col_idx: The number of the score's column.
        delimiter: What stands between columns.
        quoting: One of csv's constants.
        normalize_scores: Whether scores are brought to 0 to 1.
        min_score: The lowest score.
        max_score: The highest score.
    """

    dataset_folder: str
    s1_col_idx: int = 0
    s2_col_idx: int = 1
    score_col_idx: int = 2
    delimiter: str = "\t"
    quoting: int = csv.QUOTE_NONE
    normalize_scores: bool = True
    min_score: float = 0
    max_score: float = 5

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The pairs of a file, at most so many (0: all)."""
        low, high = (self.min_score, self.max_score) if self.normalize_scores else (0, 1)
        examples = (
            InputExample(
                f"{filename}{number}",
                [row[self.s1_col_idx], row[self.s2_col_idx]],
                (float(row[self.score_col_idx]) - low) / (high - low),
            )
            for number, row in enumerate(_rows(self, filename))
        )
        return _first(examples, max_examples)


@dataclass(eq=False)
class STSBenchmarkDataReader(STSDataReader):
    """The STS benchmark's own files: texts in columns 5 and 6, the score in column 4. Arguments as for STSDataReader."""

    s1_col_idx: int = 5
    s2_col_idx: int = 6
    score_col_idx: int = 4


@dataclass(eq=False)
class TripletReader:
    """Triplets, from a file with columns.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: The number of the anchor's column.
        s2_col_idx: The number of the positive's column.
        s3_col_idx: The number of the negative's column.
        has_header: Whether the first line holds names.
        delimiter: What stands between columns.
        quoting: One of csv's constants.
    """

    dataset_folder: str
    s1_col_idx: int = 0
    s2_col_idx: int = 1
    s3_col_idx: int = 2
    has_header: bool = False
    delimiter: str = "\t"
    quoting: int = csv.QUOTE_NONE

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """The triplets of a file, at most so many (0: all)."""
        columns = (self.s1_col_idx, self.s2_col_idx, self.s3_col_idx)
        rows = islice(_rows(self, filename), int(self.has_header), None)
        return _first((InputExample(texts=[row[column] for column in columns]) for row in rows), max_examples)


def _rows(reader: STSDataReader | TripletReader, filename: str) -> Iterator[list[str]]:
    """The rows of a reader's file with columns."""
    with open_text(Path(reader.dataset_folder) / filename) as file:
        yield from csv.reader(file, delimiter=reader.delimiter, quoting=reader.quoting)  # type: ignore[arg-type]
