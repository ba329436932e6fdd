"""`likewise rerank`: texts in the order in which a cross-encoder finds them relevant to a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.model_names import load_cross_encoder
from likewise.cli.read_texts import Column, read_texts


def rerank(
    query: Annotated[str, Argument(help="What to look for, in your own words.")],
    documents: Annotated[
        Path,
        Argument(
            help="File with the texts: .txt (one a line), .jsonl, .json, .csv, .tsv, .parquet or .arrow."
        ),
    ],
    model: Annotated[str, Option(help="Folder or Hub name of the cross-encoder.")],
    top: Annotated[int | None, Option(min=1, help="How many to show.  [default: all]")] = None,
    column: Column = None,
) -> None:
    """Rank the texts of a file by their relevance to a query, with their scores and their places in the file, from 1.

    Every text is read together with the query, so this is for some hundred candidates, such as `likewise search` finds.

    Examples:

        likewise rerank "how do I get my money back?" answers.txt --model models/reranker/final --top 5

        likewise rerank "parse a date" found.csv --column body --model cross-encoder/ms-marco-MiniLM-L6-v2
    """
    places = [(place, text) for place, text in enumerate(read_texts(documents, column), 1) if text.strip()]
    if not places:
        raise ValueError(f"{documents} has no texts.")
    texts, shows = [text for _, text in places], console.err.is_terminal
    ranks = load_cross_encoder(model).rank(query, texts, top_k=top, show_progress_bar=shows)
    rows = [(f"{rank['score']:.4f}", *places[rank["corpus_id"]]) for rank in ranks]
    console.table([(score, f"{place:,}", text) for score, place, text in rows])
