"""An index: a folder of texts, their embeddings, and which model they come from.

embeddings.npy   (M, D) float32
texts.jsonl      M lines, {"text": ...} and perhaps a "note" that is shown with it
index.json       the model's name, or its folder as seen from the index
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS_FILE, TEXTS_FILE, EMBEDDINGS_FILE = "index.json", "texts.jsonl", "embeddings.npy"


@dataclass(frozen=True)
class Index:
    """Texts that can be searched."""

    embeddings: np.ndarray[Any, Any]  # (M, D)
    texts: Sequence[str]  # M texts
    notes: Sequence[str]  # M texts that are shown with them, but not searched; "" for none
    model: str  # the model's folder or name

    def save(self, folder: Path) -> None:
        """Write the index to a folder, which is made if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        model, is_folder = self.model, Path(self.model).is_dir()
        if is_folder:
            target = Path(self.model).resolve()
            # A folder with index and model in it may be moved.
            is_near = target.is_relative_to(folder.resolve().parent)
            model = os.path.relpath(target, folder.resolve()) if is_near else str(target)
        np.save(folder / EMBEDDINGS_FILE, self.embeddings)
        with (folder / TEXTS_FILE).open("w", encoding="utf-8") as file:
            for text, note in zip(self.texts, self.notes, strict=True):
                row = {"text": text, "note": note} if note else {"text": text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        settings = {"model": model, "model_is_folder": is_folder}
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read an index from a folder; refused where that is none, or its files do not belong together."""
        files = (SETTINGS_FILE, TEXTS_FILE, EMBEDDINGS_FILE)
        if missing := [name for name in files if not (folder / name).is_file()]:
            raise ValueError(
                f"{folder} is no index: it has no {missing[0]}. Make one with `likewise encode TEXTS --out {folder}`."
            )
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        lines = (folder / TEXTS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        embeddings = np.load(folder / EMBEDDINGS_FILE, mmap_mode="r")
        if len(embeddings) != len(rows):
            raise ValueError(
                f"{folder} has {len(rows)} texts, but {len(embeddings)} embeddings. Make the index again with "
                f"`likewise encode TEXTS --out {folder}`."
            )
        model = settings["model"]
        if settings["model_is_folder"]:
            model = os.path.normpath(folder / model)
        return cls(embeddings, [row["text"] for row in rows], [row.get("note", "") for row in rows], model)
