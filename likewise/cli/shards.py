"""Embedding a folder of parquet files, one after the other or on Ray: each gives a file of the same name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.cli.models import load_model
from likewise.cli.texts import read_texts

if TYPE_CHECKING:
    from likewise.model import SentenceTransformer


@dataclass
class EncodeShard:
    """Embeds the texts of a file, and writes it with the column `embedding` to another folder.

    A file that is there already is complete, and left alone.

    Attributes:
        out: The folder to write to.
        model_name: Folder or Hub name of the model.
        column: The column with the texts; None for the usual one.
        options: For `encode_document`.
    """

    out: Path
    model_name: str
    column: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _model(self) -> SentenceTransformer:
        return load_model(self.model_name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the model, which each process loads for itself."""
        return {name: value for name, value in vars(self).items() if name != "_model"}

    def __call__(self, shard: Path) -> None:
        """Embed one file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        finished = self.out / shard.name
        if finished.exists():
            return
        table = pq.read_table(shard)
        embeddings = self._model.encode_document(
            read_texts(shard, self.column), show_progress_bar=False, **self.options
        )
        size = self._model.truncate_dim or self._model.get_sentence_embedding_dimension()
        size = embeddings.shape[1] if len(embeddings) else size
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), size)
        unfinished = self.out / f".{shard.name}.{os.getpid()}"
        pq.write_table(table.append_column("embedding", vectors), unfinished)
        unfinished.replace(finished)


def shards_in(folder: Path) -> list[Path]:
    """The parquet files of a folder, by name.

    Raises:
        FileNotFoundError: There is no such folder, or none in it.
    """
    found = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(
            f"{folder} is no folder with .parquet files, which is what `--ray` takes. Split the table into some."
        )
    return found
