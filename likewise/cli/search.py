"""`likewise search`: the texts that are most similar to a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from likewise.cli import console
from likewise.cli.index import Index
from likewise.cli.model_names import DEFAULT_MODEL, load_model
from likewise.cli.read_texts import read_texts

if TYPE_CHECKING:
    from likewise.sentence_transformer.model import SentenceTransformer


def search(
    query: Annotated[str, Argument(help="What to look for, in your own words.")],
    where: Annotated[
        Path, Argument(help="Folder made by `likewise encode --out FOLDER`, or a file of texts.")
    ],
    top_k: Annotated[int, Option("--top-k", "-k", min=1, help="How many to show.")] = 5,
    model: Annotated[
        str | None, Option(help=f"For a file: folder or Hub name of the model.  [default: {DEFAULT_MODEL}]")
    ] = None,
    column: Annotated[str | None, Option(help="For a file: the column with the texts.")] = None,
) -> None:
    """Show the texts that are most similar to a query.

    Examples:

        likewise search "parse a date string" demo/library

        likewise search "how do I get my money back?" questions.txt
    """
    if where.is_dir():
        if model is not None or column is not None:
            raise ValueError(f"`--model` and `--column` are for files; {where} knows its model. Drop them.")
        index = Index.load(where)
        encoder = load_model(index.model)
    else:
        texts = [text for text in read_texts(where, column) if text.strip()]
        if not texts:
            raise ValueError(f"{where} has no texts.")
        encoder = load_model(model or DEFAULT_MODEL)
        embeddings = encoder.encode_document(texts, show_progress_bar=console.err.is_terminal)
        index = Index(embeddings, texts, [""] * len(texts), model or DEFAULT_MODEL)
    console.table([(f"{score:.3f}", text, note) for score, text, note in best(encoder, index, query, top_k)])


def best(model: SentenceTransformer, index: Index, query: str, top_k: int) -> list[tuple[float, str, str]]:
    """The `top_k` texts most similar to a query, best first: (score, text, note)."""
    from likewise.retrieval import semantic_search

    size = index.embeddings.shape[1]
    embedding = model.encode_query(query)[:size]  # those of the index may have been cut
    if len(embedding) != size:
        raise ValueError(
            f"The index holds embeddings of {size} numbers, but {index.model} makes {len(embedding)}. Make the index "
            "again with this model."
        )
    hits = semantic_search(embedding, index.embeddings, top_k=top_k, score_function=model.similarity)[0]
    return [(hit["score"], index.texts[hit["corpus_id"]], index.notes[hit["corpus_id"]]) for hit in hits]
