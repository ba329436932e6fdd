"""Embedding a folder of parquet files, one after the other or on Ray: each gives a file of the same name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.cli.model_names import load_model
from likewise.cli.read_texts import read_texts
from likewise.model.kept import refuse_other, written_whole

if TYPE_CHECKING:
    from likewise.sentence_transformer.model import SentenceTransformer

RECORD = b"likewise"  # in a file's metadata: what it was made of


@dataclass
class EncodeShard:
    """Embeds the texts of a file, and writes it with the column `embedding` to another folder.

    A file that is there already is complete, and left alone; it says what it was made of.
    """

    out: Path  # the folder to write to
    model_name: str  # folder or Hub name of the model
    column: str | None = None  # the column with the texts; None for the usual one
    options: Mapping[str, Any] = field(default_factory=dict)  # for `encode_document`

    @cached_property
    def _model(self) -> SentenceTransformer:
        return load_model(self.model_name)

    @cached_property
    def _fingerprint(self) -> str:
        return self._model.fingerprint()

    def __getstate__(self) -> dict[str, Any]:
        """Without the model, which each process loads for itself."""
        return {name: value for name, value in vars(self).items() if name not in ("_model", "_fingerprint")}

    def is_done(self, shard: Path) -> bool:
        """Whether the file's embeddings are there; those of other texts, another model or other settings are refused."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        finished = self.out / shard.name
        if not finished.exists():
            return False
        recorded = None
        with suppress(pa.ArrowInvalid):  # no table at all
            recorded = (pq.read_schema(finished).metadata or {}).get(RECORD)
        made_of = self._made_of(read_texts(shard, self.column))
        refuse_other(finished, None if recorded is None else json.loads(recorded), made_of)
        return True

    def _made_of(self, texts: list[str]) -> dict[str, Any]:
        from likewise.model.fingerprint import digest

        options = {name: value for name, value in self.options.items() if name != "batch_size"}
        return {"texts": digest(texts), "fingerprint": self._fingerprint, **options}

    def __call__(self, shard: Path) -> None:
        """Embed one file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.is_done(shard):
            return
        table, texts = pq.read_table(shard), read_texts(shard, self.column)
        embeddings = self._model.encode_document(texts, show_progress_bar=False, **self.options)
        size = embeddings.shape[1] if len(embeddings) else self._model.get_sentence_embedding_dimension()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), size)
        table = table.append_column("embedding", vectors)
        record = {RECORD: json.dumps(self._made_of(texts))}
        with written_whole(self.out / shard.name) as path:
            pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **record}), path)


def shards_in(folder: Path) -> list[Path]:
    """The parquet files of a folder, by name; there must be one."""
    found = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(
            f"{folder} is no folder with .parquet files, which is what `--ray` takes. Split the table into some."
        )
    return found
