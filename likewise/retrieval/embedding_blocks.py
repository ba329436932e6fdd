"""Long computations in blocks, each kept in a file when there is a folder for it: begun again, they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from likewise.model.kept import written_whole

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blocks:
    """Where blocks of results are kept.

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
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = StoredBlocks([self.folder / f"{name}_{part.start:09d}.npy" for part in parts])
        missing = [part for part, path in zip(parts, stored.paths, strict=True) if not path.is_file()]

        def write(part: slice) -> None:
            path = stored.paths[part.start // self.size]
            if not path.is_file():
                with written_whole(path) as aside, aside.open("wb") as file:
                    np.save(file, compute(part))

        for _ in map(write, missing) if self.run is None else self.run(write, missing):
            pass
        return stored


@dataclass(frozen=True)
class StoredBlocks(Sequence[Array]):
    """Blocks in files, mapped when they are asked for; another process is sent their names only.

    Attributes:
        paths: A file for each block.
    """

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return np.load(self.paths[index], mmap_mode="r")
