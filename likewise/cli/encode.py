"""`likewise encode`: texts in a file to embeddings in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import DEFAULT_MODEL, load_model
from likewise.cli.read_texts import Column, read_texts

if TYPE_CHECKING:
    from likewise.cli.shards import EncodeShard

FORMS = (
    "a .npy file (one row per text), a .parquet file (columns text and embedding), or a folder to search in"
)


def encode(
    texts: Annotated[
        Path,
        Argument(
            help="File with the texts: .txt, .jsonl, .json, .csv, .tsv, .parquet or .arrow; with --ray a folder of .parquet."
        ),
    ],
    out: Annotated[Path, Option(help=f"What to write: {FORMS}.")],
    model: Annotated[str, Option(help="Folder or Hub name of the model.")] = DEFAULT_MODEL,
    column: Column = None,
    prompt_name: Annotated[
        str | None, Option(help="Prompt of the model to put in front of each text.")
    ] = None,
    normalize: Annotated[bool, Option("--normalize", help="Scale embeddings to length 1.")] = False,
    truncate_dim: Annotated[int | None, Option(help="Cut embeddings to this many entries.")] = None,
    batch_size: Annotated[
        int, Option(help="How much goes through the model at once. Lower it if memory is short.")
    ] = 32,
    ray: Annotated[
        bool,
        Option(
            "--ray",
            help="Embed a folder of .parquet files on a Ray cluster: a file of the same name in --out for each.",
        ),
    ] = False,
    workers: Annotated[int, Option(min=1, help="Workers of the Ray cluster.")] = 2,
) -> None:
    """Embed the texts of a file.

    Examples:

        likewise encode questions.txt --out questions.npy

        likewise encode articles.csv --column body --out articles.parquet

        likewise encode articles.csv --column body --out articles/  # for search

        likewise encode shards/ --column body --out embedded/ --ray --workers 8  # goes on where it was stopped
    """
    options: dict[str, Any] = {
        "prompt_name": prompt_name,
        "batch_size": batch_size,
        "normalize_embeddings": normalize,
        "truncate_dim": truncate_dim,
    }
    if ray:
        from likewise.cli.shards import EncodeShard

        _encode_shards(texts, out, EncodeShard(out.resolve(), model, column, options), workers)
        return
    if out.suffix not in (".npy", ".parquet", ""):
        raise ValueError(f"`--out` must be {FORMS}, but is {out}.")
    rows = read_texts(texts, column)
    if not rows:
        raise ValueError(f"{texts} has no texts.")
    encoder = load_model(model)
    start = time.perf_counter()
    embeddings = encoder.encode_document(rows, show_progress_bar=console.err.is_terminal, **options)
    seconds = time.perf_counter() - start
    _write(out, rows, embeddings, model)
    console.say(
        f"{len(rows):,} texts -> {embeddings.shape[1]} numbers each ({embeddings.dtype}) in {out}, "
        f"{seconds:.1f} s, {len(rows) / seconds:,.0f} texts/s"
    )


def _encode_shards(folder: Path, out: Path, work: EncodeShard, workers: int) -> None:
    from tqdm import tqdm

    from likewise.cli.shards import shards_in
    from likewise.retrieval.on_ray import each_on_ray

    if out.suffix:
        raise ValueError(f"With `--ray` `--out` must be a folder, but is {out}. Drop its ending.")
    shards = shards_in(folder)
    out.mkdir(parents=True, exist_ok=True)
    left = [shard.resolve() for shard in shards if not work.is_done(shard)]
    start = time.perf_counter()
    done = each_on_ray(work, left, workers)
    for _ in tqdm(done, "Shards", len(left), disable=not console.err.is_terminal):
        pass
    console.say(
        f"{len(left):,} of {len(shards):,} files embedded in {out}, {time.perf_counter() - start:.1f} s; "
        f"{len(shards) - len(left):,} were there already"
    )


def _write(out: Path, texts: list[str], embeddings: np.ndarray[Any, Any], model: str) -> None:
    if out.suffix == "":
        from likewise.cli.index import Index

        Index(embeddings, texts, [""] * len(texts), model).save(out)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npy":
        np.save(out, embeddings)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
    pq.write_table(pa.table({"text": texts, "embedding": vectors}), out)
