"""OutputFile: embeddings or scores written to a .npy file window by window, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.model.kept import refuse_other, written_whole
from likewise.modules.images import is_picture

Rows = np.ndarray[Any, Any]


class OutputFile:
    """The file that `encode(out=...)` and `predict(out=...)` fill.

    Beside `vectors.npy` lies `vectors.npy.json`, which says what it is made of, and how many rows are done.

    Args:
        path: The .npy file.
        texts: All texts, or pairs of them.
        made_of: What else decides the rows, part by part: numbers, texts and lists of them.

    Raises:
        ValueError: The file is made of something else, or not of this making.
    """

    def __init__(
        self, path: str | os.PathLike[str], texts: Sequence[Any], made_of: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self.record_path = Path(f"{self.path}.json")
        self.num_rows = len(texts)
        self.made_of = {"texts": _digest(texts), **made_of}
        self.done = 0
        self._rows: Rows | None = None
        if self.path.exists():
            self._resume()

    def _resume(self) -> None:
        record: dict[str, Any] = {}
        if self.record_path.exists():
            try:
                record = json.loads(self.record_path.read_text(encoding="utf8"))
            except ValueError:
                record = {}
        refuse_other(self.path, record.get("made_of"), self.made_of)
        self.done = int(record["done"])
        self._rows = np.load(self.path, mmap_mode="r+")

    def write(self, rows: Rows) -> None:
        """Add the next rows; once this returns they are safe."""
        if self._rows is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rows = np.lib.format.open_memmap(
                self.path, mode="w+", dtype=rows.dtype, shape=(self.num_rows, *rows.shape[1:])
            )
        self._rows[self.done : self.done + len(rows)] = rows
        self._rows.flush()  # type: ignore[union-attr]
        self.done += len(rows)
        self._record()

    def _record(self) -> None:
        with written_whole(self.record_path) as path:
            path.write_text(json.dumps({"made_of": self.made_of, "done": self.done, "of": self.num_rows}))

    def result(self) -> Rows:
        """All rows, read from the file as they are needed."""
        if self._rows is None:
            self.write(np.empty((0, 0), np.float32))
        rows: Rows = np.load(self.path, mmap_mode="r")
        return rows


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
