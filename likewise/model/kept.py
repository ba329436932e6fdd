"""Results in files that outlive a run: complete or not there, never taken for results of something else, and gone on with."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from likewise.model import inference
from likewise.modules.images import is_picture

Array: TypeAlias = np.ndarray[Any, Any]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Where to write a file that gets its name only when it is complete: one that is there can be relied on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several may write the same.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def refuse_other(path: Path, recorded: Mapping[str, Any] | None, made_of: Mapping[str, Any]) -> None:
    """Raise unless a file that exists was made of what it would be made of now.

    Args:
        path: The file.
        recorded: What it says that it was made of, part by part; None where it says nothing.
        made_of: What decides its content, in values that JSON knows.
    """
    others = [name for name, value in made_of.items() if recorded is None or recorded.get(name) != value]
    if others:
        raise ValueError(
            f"{path} exists, but was not made of these texts with this model and these settings"
            + (f": other {', '.join(others)}. " if recorded is not None else ". ")
            + "Delete it, or write to another place."
        )


class OutputFile:
    """The file that `encode(out=...)` and `predict(out=...)` fill, so that a run that was stopped goes on where it was.

    Beside `vectors.npy` lies `vectors.npy.json`, which says what it is made of, and how many rows are done.

    Args:
        path: The .npy file.
        texts: All texts, or pairs of them.
        made_of: What else decides the rows, part by part: numbers, texts and lists of them. A file that is made of something
            else, or not of this making, is refused.
    """

    def __init__(
        self, path: str | os.PathLike[str], texts: Sequence[Any], made_of: Mapping[str, Any]
    ) -> None:
        self.path, self.record_path = Path(path), Path(f"{os.fspath(path)}.json")
        self.texts = texts
        self.made_of = {"texts": _digest(texts), **made_of}
        self.done = 0
        if self.path.exists():
            record: dict[str, Any] = {}
            with suppress(FileNotFoundError, ValueError):
                record = json.loads(self.record_path.read_text(encoding="utf8"))
            refuse_other(self.path, record.get("made_of"), self.made_of)
            self.done = int(record["done"])

    def fill(
        self, compute: Callable[[Sequence[Any]], Array], empty_shape: tuple[int, ...], as_tensor: bool
    ) -> Any:
        """Compute the rows that are lacking, a window of texts at a time; each is safe before the next one begins.

        Args:
            compute: Texts -> their rows.
            empty_shape: Of the result where there are no texts.
            as_tensor: Whether to return a tensor in place of an array.

        Returns:
            All rows, read from the file as they are needed. What is written into a tensor of them does not reach the file.
        """
        rows: Any = np.load(self.path, mmap_mode="r+") if self.path.exists() else None
        while rows is None or self.done < len(self.texts):
            part = self.texts[self.done : self.done + inference.WINDOW]
            found = compute(part) if len(part) else np.empty(empty_shape, np.float32)
            if rows is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                shape = (len(self.texts), *found.shape[1:])
                rows = np.lib.format.open_memmap(self.path, mode="w+", dtype=found.dtype, shape=shape)
            rows[self.done : self.done + len(found)] = found
            rows.flush()
            self.done += len(found)
            with written_whole(self.record_path) as path:
                record = {"made_of": self.made_of, "done": self.done, "of": len(self.texts)}
                path.write_text(json.dumps(record))
        if as_tensor:
            return torch.from_numpy(np.load(self.path, mmap_mode="c"))
        return np.load(self.path, mmap_mode="r")


@dataclass(frozen=True)
class Blocks:
    """Where blocks of results are kept, a file for each: begun again, a long computation goes on.

    Attributes:
        folder: For the files; None to keep nothing.
        size: Rows of a block.
        run: Does some work for each of several blocks, perhaps elsewhere; None to do them here, one after the other.
    """

    folder: Path | None
    size: int
    run: Callable[[Callable[[slice], object], Sequence[slice]], Iterable[int]] | None = None

    def compute(self, name: str, num_rows: int, compute: Callable[[slice], Array]) -> Sequence[Array]:
        """The results for all rows, block by block; those in files are computed once and then mapped, not loaded.

        Args:
            name: Tells these results from others in the folder; everything they depend on should be in it.
            num_rows: How many rows there are.
            compute: Gives the results for some rows.
        """
        parts = [slice(start, min(start + self.size, num_rows)) for start in range(0, num_rows, self.size)]
        if self.folder is None:
            return [compute(part) for part in parts]
        stored = StoredBlocks([self.folder / f"{name}_{part.start:09d}.npy" for part in parts])

        def write(part: slice) -> None:
            path = stored.paths[part.start // self.size]
            if not path.is_file():
                with written_whole(path) as aside, aside.open("wb") as file:
                    np.save(file, compute(part))

        missing = [part for part, path in zip(parts, stored.paths, strict=True) if not path.is_file()]
        for _ in map(write, missing) if self.run is None else self.run(write, missing):
            pass
        return stored


@dataclass(frozen=True)
class StoredBlocks(Sequence[Array]):
    """Blocks, each in a file, mapped when they are asked for; another process is sent their names only."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return np.load(self.paths[index], mmap_mode="r")


def _digest(texts: Sequence[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        part = _bytes(text)
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _bytes(text: Any) -> bytes:
    """A text, a pair, a picture or a dict of such, as bytes that no other has."""
    if is_picture(text):
        return f"{text.mode} {text.size} ".encode() + bytes(text.tobytes())
    if isinstance(text, Mapping):
        return b"".join(repr(key).encode() + _bytes(value) for key, value in text.items())
    if isinstance(text, list):
        text = tuple(text)  # a pair is a pair
    return repr(text).encode("utf8", errors="surrogatepass")
