"""Long computations in blocks, each kept in a file when there is a folder for it: begun again, they go on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blocks:
    """Where blocks of results are kept.

    Attributes:
        folder: For the files; None to keep nothing.
        size: Rows of a block.
    """

    folder: Path | None
    size: int

    def compute(self, name: str, num_rows: int, compute: Callable[[slice], Array]) -> list[Array]:
        """The results for all rows, block by block; those in files are computed once and then mapped, not loaded.

        Args:
            name: Tells these results from others in the folder; everything they depend on should be in it.
            num_rows: How many rows there are.
            compute: Gives the results for some rows.
        """
        parts = [slice(start, min(start + self.size, num_rows)) for start in range(0, num_rows, self.size)]
        if self.folder is None:
            return [compute(part) for part in parts]
        self.folder.mkdir(parents=True, exist_ok=True)
        return [self._in_file(self.folder / f"{name}_{part.start:09d}.npy", compute, part) for part in parts]

    def _in_file(self, path: Path, compute: Callable[[slice], Array], part: slice) -> Array:
        if not path.is_file():
            unfinished = path.with_suffix(f".{os.getpid()}.tmp")
            with unfinished.open("wb") as file:
                np.save(file, compute(part))
            unfinished.replace(path)  # a file with the final name is complete
        found: Array = np.load(path, mmap_mode="r")
        return found


def digest(*parts: Any) -> str:
    """A short name for what results depend on."""
    sha = hashlib.sha256()
    for part in parts:
        for line in part if isinstance(part, list) else [part]:
            sha.update(repr(line).encode() + b"\n")
        sha.update(b"\0")
    return sha.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """A short name for a model's weights: a model that was trained further gets another."""
    sha = hashlib.sha256()
    for name, value in model.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]
