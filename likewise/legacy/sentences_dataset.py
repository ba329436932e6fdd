"""Data sets and data loaders of the older kind, which yield InputExample; `model.fit` takes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, IterableDataset

from likewise.input_example import InputExample
from likewise.tables import open_text

if TYPE_CHECKING:
    from likewise.model.model import Model


class SentencesDataset(Dataset[InputExample]):
    """A list of examples; a DataLoader takes such a list as well.

    Args:
        examples: The rows.
        model: Not used.
    """

    def __init__(self, examples: Sequence[InputExample], model: Model | None = None) -> None:
        self.examples = examples

    def __getitem__(self, index: int) -> InputExample:
        return self.examples[index]

    def __len__(self) -> int:
        return len(self.examples)


class NoDuplicatesDataLoader:
    """Batches in which no text comes twice, after folding case and white space at the ends.

    Args:
        train_examples: The rows; shuffled in place.
        batch_size: Rows in a batch.
    """

    def __init__(self, train_examples: list[InputExample], batch_size: int) -> None:
        self.batch_size = batch_size
        self.train_examples = train_examples
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        self._place = 0
        random.shuffle(train_examples)

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self)):
            batch: list[InputExample] = []
            taken: set[str] = set()
            for _ in range(2 * len(self.train_examples)):
                example = self._next()
                texts = {text.strip().lower() for text in example.texts}
                if not texts & taken:
                    batch.append(example)
                    taken |= texts
                if len(batch) == self.batch_size:
                    break
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def _next(self) -> InputExample:
        if self._place == len(self.train_examples):
            self._place = 0
            random.shuffle(self.train_examples)
        self._place += 1
        return self.train_examples[self._place - 1]

    def __len__(self) -> int:
        return len(self.train_examples) // self.batch_size


class SentenceLabelDataset(IterableDataset[InputExample]):
    """Some rows of one label, then some of another: for losses that find triplets within a batch.

    Args:
        examples: The rows; those of labels with fewer than `samples_per_label` rows are left out.
        samples_per_label: Different rows of one label that come after another. The batch size should be a multiple.
        with_replacement: Whether a row may come again with other rows of its label. Otherwise each comes at most once in
            a round through the labels.
    """

    def __init__(
        self, examples: Sequence[InputExample], samples_per_label: int = 2, with_replacement: bool = False
    ) -> None:
        self.samples_per_label = samples_per_label
        self.with_replacement = with_replacement
        by_label: dict[Any, list[InputExample]] = {}
        for example in examples:
            by_label.setdefault(example.label, []).append(example)
        self.groups = [group for group in by_label.values() if len(group) >= samples_per_label]
        if not self.groups:
            raise ValueError(
                f"No label has {samples_per_label} examples. Lower `samples_per_label`, or add examples."
            )

    def __iter__(self) -> Iterator[InputExample]:
        given = 0
        while given < len(self):
            order = random.sample(range(len(self.groups)), len(self.groups))
            for number in order:
                group = self.groups[number]
                given += self.samples_per_label
                yield from random.sample(group, self.samples_per_label)
                if given >= len(self):
                    return

    def __len__(self) -> int:
        return sum(map(len, self.groups))


class ParallelSentencesDataset(Dataset[InputExample]):
    """Sentences and their translations, each with the teacher's embedding of the first column's sentence as its label.

    Args:
        student_model: Not used.
        teacher_model: Embeds the first column; anything with an `encode` method.
        batch_size: For the teacher's `encode`.
        use_embedding_cache: Whether the teacher's embeddings are kept.
    """

    def __init__(
        self, student_model: Any, teacher_model: Any, batch_size: int = 8, use_embedding_cache: bool = True
    ) -> None:
        self.student_model = student_model
        self.teacher_model = teacher_model
        self.batch_size = batch_size
        self.use_embedding_cache = use_embedding_cache
        self.datasets: list[list[tuple[str, list[str]]]] = []
        self.weights: list[int] = []
        self.num_sentences = 0
        self._places: list[int] = []
        self._embeddings: dict[str, Any] = {}
        self._ready: list[InputExample] = []

    def load_data(
        self,
        filepath: str,
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add a file of tab-separated translations.

        Args:
            filepath: The file, perhaps packed with gzip.
            weight: How many of its rows come in a round through all files.
            max_sentences: Read at most so many rows.
            max_sentence_length: Rows with a longer sentence, in characters, are left out.
        """
        with open_text(filepath) as file:
            rows = [line.strip().split("\t") for line in file]
        self.add_dataset(rows, weight, max_sentences, max_sentence_length)

    def add_dataset(
        self,
        parallel_sentences: Iterable[Sequence[str]],
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add rows of translations, the teacher's language first; arguments as for `load_data`."""
        translations: dict[str, dict[str, None]] = {}
        for row in parallel_sentences:
            if max_sentence_length and max(map(len, row)) > max_sentence_length:
                continue
            if max_sentences and len(translations) >= max_sentences:
                break
            translations.setdefault(row[0], {}).update(dict.fromkeys(row))
        if translations:
            self.datasets.append([(source, list(texts)) for source, texts in translations.items()])
            self.weights.append(weight)
            self._places.append(0)
            self.num_sentences += sum(map(len, translations.values()))

    def __len__(self) -> int:
        return self.num_sentences

    def __getitem__(self, index: int) -> InputExample:
        """The next example; rows come in random order, whatever the index."""
        if not self._ready:
            self._make_round()
        return self._ready.pop()

    def _make_round(self) -> None:
        rows = [self._next(number) for number, weight in enumerate(self.weights) for _ in range(weight)]
        embeddings = self._embed([source for source, _ in rows])
        self._ready = [
            InputExample(texts=[text], label=embedding)
            for (_, texts), embedding in zip(rows, embeddings, strict=True)
            for text in texts
        ]
        random.shuffle(self._ready)

    def _next(self, number: int) -> tuple[str, list[str]]:
        if self._places[number] == len(self.datasets[number]):
            self._places[number] = 0
            random.shuffle(self.datasets[number])
        self._places[number] += 1
        return self.datasets[number][self._places[number] - 1]

    def _embed(self, sentences: list[str]) -> list[Any]:
        new = list(dict.fromkeys(text for text in sentences if text not in self._embeddings))
        if new:
            found = self.teacher_model.encode(new, batch_size=self.batch_size, show_progress_bar=False)
            self._embeddings.update(zip(new, found, strict=True))
        embeddings = [self._embeddings[text] for text in sentences]
        if not self.use_embedding_cache:
            self._embeddings.clear()
        return embeddings
