"""Read retrieval data in BEIR layout, from a folder or from the Hub.

A folder holds `corpus.jsonl` and `queries.jsonl` (or .gz), a JSON object with `_id`, `text` and perhaps `title` per
line, and `qrels/SPLIT.tsv` with the columns query-id, corpus-id and score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.tables import Row, read_rows

_ROLES = {"bm25": " (the first stage's ranking)"}


@dataclass(frozen=True)
class RetrievalTask:
    """What there is to find.

    Attributes:
        queries: Texts by query id.
        corpus: Texts by document id; a title stands in front of its text.
        relevant: For each query id the ids of its relevant documents (score above 0).
    """

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant: dict[str, set[str]]


def is_beir_folder(folder: Path) -> bool:
    """Whether a folder is in BEIR layout."""
    return _find(folder, "corpus") is not None


def read_folder(folder: Path, split: str = "test") -> RetrievalTask:
    """Read a folder in BEIR layout.

    Args:
        folder: The folder.
        split: Whose relevant documents to read; where the folder has only one split, that one is read.
    """
    files = {file.stem: file for file in sorted((folder / "qrels").glob("*.tsv"))}
    if split not in files and len(files) != 1:
        raise FileNotFoundError(
            f"{folder}/qrels must have {split}.tsv, but has {sorted(files) or 'no .tsv file'}."
        )
    judgements = files.get(split) or next(iter(files.values()))
    return _task(_objects(folder, "queries"), _objects(folder, "corpus"), read_rows(judgements))


def read_hub(load: Callable[[str, str, list[str]], Any], split: str) -> RetrievalTask:
    """Read one task of a data set with the subsets corpus, queries and qrels, such as NanoBEIR.

    Args:
        load: A subset's name, the split and the columns it must have -> its rows.
        split: The split that is the task.
    """
    corpus, queries = (load(subset, split, ["_id", "text"]) for subset in ("corpus", "queries"))
    return _task(queries, corpus, load("qrels", split, ["query-id", "corpus-id"]))


def load_subset(dataset_id: str, subset: str, split: str, columns: Sequence[str]) -> Any:
    """The rows of a subset of a data set on the Hub, or in a folder."""
    from datasets import load_dataset

    try:
        rows = load_dataset(dataset_id, subset, split=split)
    except Exception as error:
        raise ValueError(
            f"Cannot load the subset {subset!r}{_ROLES.get(subset, '')}, split {split!r}, of the data set {dataset_id!r}."
        ) from error
    if missing := set(columns) - set(rows.column_names):
        raise ValueError(f"The subset {subset!r} of {dataset_id!r} lacks the columns {sorted(missing)}.")
    return rows


def _task(queries: Any, corpus: Any, judgements: Any) -> RetrievalTask:
    relevant: dict[str, set[str]] = {}
    for row in judgements:
        if float(row.get("score") or 1) > 0:
            documents = row["corpus-id"]
            relevant.setdefault(row["query-id"], set()).update(
                documents if isinstance(documents, list) else [documents]
            )
    return RetrievalTask(_texts(queries), _texts(corpus), relevant)


def _texts(rows: Any) -> dict[str, str]:
    """Texts by id, without empty ones."""
    texts = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows}
    return {key: text for key, text in texts.items() if text}


def _objects(folder: Path, name: str) -> Iterator[Row]:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder} must have {name}.jsonl or {name}.jsonl.gz. Is it in BEIR layout?")
    return read_rows(path)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for end in ("jsonl", "jsonl.gz") if (path := folder / f"{name}.{end}").is_file()), None)
