"""OutputFile: embeddings written to a .npy file window by window, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.modules.images import is_picture

Rows = np.ndarray[Any, Any]


class OutputFile:
    """The file that `encode(out=...)` fills.

    Beside `vectors.npy` lies `vectors.npy.json`, which says of which texts and settings it is, and how many rows are done.

    Args:
        path: The .npy file.
        texts: All texts.
        settings: What else decides the embeddings.

    Raises:
        ValueError: The file is of other texts or settings, or not of this making.
    """

    def __init__(self, path: str | os.PathLike[str], texts: Sequence[Any], settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.record_path = Path(f"{self.path}.json")
        self.num_rows = len(texts)
        self.fingerprint = _fingerprint(texts, settings)
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
        if record.get("fingerprint") != self.fingerprint:
            raise ValueError(
                f"{self.path} exists, but was not made of these texts with these settings. "
                "Delete it, or write to another file."
            )
        self.done = int(record["done"])
        self._rows = np.load(self.path, mmap_mode="r+")

    def first_row(self) -> Rows | None:
        """The first row that an earlier run wrote, if there is one."""
        return None if self._rows is None or not self.done else self._rows[0]

    def write(self, rows: Rows) -> None:
        """Add the next rows; once this returns they are safe."""
        if self._rows is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rows = np.lib.format.open_memmap(
                self.path, mode="w+", dtype=rows.dtype, shape=(self.num_rows, rows.shape[1])
            )
        self._rows[self.done : self.done + len(rows)] = rows
        self._rows.flush()  # type: ignore[union-attr]
        self.done += len(rows)
        self._record()

    def _record(self) -> None:
        written = Path(f"{self.record_path}.new")
        written.write_text(
            json.dumps({"fingerprint": self.fingerprint, "done": self.done, "of": self.num_rows})
        )
        written.replace(self.record_path)

    def result(self) -> Rows:
        """All rows, read from the file as they are needed."""
        if self._rows is None:
            self.write(np.empty((0, 0), np.float32))
        rows: Rows = np.load(self.path, mmap_mode="r")
        return rows


def _fingerprint(texts: Sequence[Any], settings: dict[str, Any]) -> str:
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for text in texts:
        part = text.tobytes() if is_picture(text) else str(text).encode("utf8", errors="surrogatepass")
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
