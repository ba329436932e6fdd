"""`likewise mine`: pairs of texts to pairs with hard negatives."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import DEFAULT_MODEL, embedding_family, load_cross_encoder
from likewise.cli.read_texts import read_texts, split_names

if TYPE_CHECKING:
    from datasets import Dataset

SHARD_ROWS = 100_000
WRITERS = {".parquet": "to_parquet", ".jsonl": "to_json", ".csv": "to_csv"}


class Format(str, Enum):
    """The forms of the result."""

    triplet = "triplet"
    n_tuple = "n-tuple"
    labeled_pair = "labeled-pair"
    labeled_list = "labeled-list"


class Sampling(str, Enum):
    """Which candidates are taken."""

    top = "top"
    random = "random"


def mine(
    pairs: Annotated[
        Path,
        Argument(
            help="Table (.parquet, .csv, .jsonl, or a folder of .parquet) with a column of queries and one of positives."
        ),
    ],
    out: Annotated[
        Path, Option(help="What to write: a .parquet, .jsonl or .csv file, or a folder of .parquet.")
    ],
    model: Annotated[str, Option(help="Folder or Hub name of the model.")] = DEFAULT_MODEL,
    columns: Annotated[
        str | None, Option(help="The two columns, with a comma: question,answer  [default: the first two]")
    ] = None,
    corpus: Annotated[
        Path | None, Option(help="File of more documents to find negatives in, as for `encode`.")
    ] = None,
    cross_encoder: Annotated[
        str | None,
        Option(help="Folder or Hub name of a cross-encoder that scores candidates for the filters."),
    ] = None,
    num_negatives: Annotated[int, Option(min=1, help="Negatives per query.")] = 3,
    range_min: Annotated[int, Option(help="Skip so many of the best: they may be unlabelled positives.")] = 0,
    range_max: Annotated[int | None, Option(help="Take negatives from so many of the best.")] = None,
    max_score: Annotated[float | None, Option(help="Drop candidates that score more.")] = None,
    min_score: Annotated[float | None, Option(help="Drop candidates that score less.")] = None,
    absolute_margin: Annotated[
        float | None, Option(help="Negatives score at least this much less than the positive.")
    ] = None,
    relative_margin: Annotated[
        float | None, Option(help="The same as a share of the positive's score: 0.05 for 5 percent.")
    ] = None,
    sampling: Annotated[Sampling, Option(help="Take the best, or a random sample.")] = Sampling.top,
    output_format: Annotated[Format, Option("--format", help="Rows of the result.")] = Format.triplet,
    scores: Annotated[bool, Option("--scores", help="Add the scores.")] = False,
    ids: Annotated[bool, Option("--ids", help="Add the documents' places among the distinct texts.")] = False,
    cache: Annotated[
        Path | None, Option(help="Folder to keep embeddings and candidates in; a stopped run goes on there.")
    ] = None,
    batch_size: Annotated[int, Option(help="How much goes through the model at once.")] = 32,
    seed: Annotated[int, Option(help="Decides the random sample.")] = 0,
    ray: Annotated[
        bool, Option("--ray", help="Embed and search on a Ray cluster; needs --cache on a shared disk.")
    ] = False,
    workers: Annotated[int, Option(min=1, help="Workers of the Ray cluster.")] = 2,
) -> None:
    """Find hard negatives: documents that look like an answer to a query but are none.

    Examples:

        likewise mine pairs.parquet --out triplets.parquet --relative-margin 0.05

        likewise mine faq.csv --columns question,answer --corpus articles.txt --range-min 5 --out triplets.jsonl

        likewise mine shards/ --cache /shared/mining --ray --workers 8 --out triplets/
    """
    if out.suffix and out.suffix not in WRITERS:
        raise ValueError(
            f"`--out` must be one of {', '.join(WRITERS)}, or a folder, but is {out}. Change its ending."
        )
    if ray and cache is None:
        raise ValueError(
            "`--ray` needs `--cache`, a folder that all workers reach: through it they share what they found."
        )

    from likewise.retrieval import mine_hard_negatives
    from likewise.tables import quiet_datasets
    from likewise.training.data.sources import Source

    with quiet_datasets():
        table: Dataset = Source(str(pairs), columns=split_names(columns)).load()
        if columns is not None and len(table.column_names) != 2:
            raise ValueError(f"`--columns` must name two columns, but is {columns!r}. Write question,answer.")
        documents = None if corpus is None else read_texts(corpus)  # before the model, which costs more
        found = mine_hard_negatives(
            table,
            embedding_family(model).model_class(model),
            corpus=documents,
            cross_encoder=None if cross_encoder is None else load_cross_encoder(cross_encoder),
            range_min=range_min,
            range_max=range_max,
            max_score=max_score,
            min_score=min_score,
            absolute_margin=absolute_margin,
            relative_margin=relative_margin,
            num_negatives=num_negatives,
            sampling_strategy=sampling.value,
            output_format=output_format.value,
            output_scores=scores,
            output_ids=ids,
            batch_size=batch_size,
            cache_folder=None if cache is None else str(cache),
            seed=seed,
            ray_workers=workers if ray else None,
        )
        _write(found, out)
    console.say(f"{len(table):,} pairs -> {len(found):,} rows ({', '.join(found.column_names)}) in {out}")


def _write(found: Dataset, out: Path) -> None:
    """To a file, or to a folder of files of `SHARD_ROWS` rows, which then has no other parts."""
    if out.suffix:
        out.parent.mkdir(parents=True, exist_ok=True)
        getattr(found, WRITERS[out.suffix])(str(out))
        return
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, start in enumerate(range(0, len(found), SHARD_ROWS)):
        part = found.select(range(start, min(start + SHARD_ROWS, len(found))))
        written.append(out / f"part-{number:05d}.parquet")
        part.to_parquet(str(written[-1]))
    for stale in set(out.glob("part-*.parquet")).difference(written):
        stale.unlink()
