"""The text of the model card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.card.data import SentenceTransformerModelCardData
from likewise.version import __version__

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

logger = logging.getLogger(__name__)

SENTENCE_BERT = """@inproceedings{reimers-2019-sentence-bert,
    title = "Sentence-{BERT}: Sentence Embeddings using {S}iamese {BERT}-Networks",
    author = "Reimers, Nils and Gurevych, Iryna",
    booktitle = "Proceedings of EMNLP 2019",
    year = "2019",
    url = "https://arxiv.org/abs/1908.10084",
}"""
MAX_LOG_ROWS = 100


def write_model_card(
    model: SentenceTransformer,
    folder: Path,
    model_name: str | None = None,
    train_datasets: list[str] | None = None,
) -> None:
    """Write README.md. A model that was loaded and not trained here keeps its own card; a failure is only a warning.

    Args:
        model: The model.
        folder: Where it was saved.
        model_name: Its title, if not the one in the card's data.
        train_datasets: Names of what it was trained on.
    """
    data = model.model_card_data
    try:
        if model._model_card_text and not data.losses:
            text = model._model_card_text
        else:
            known = [{"name": name} for name in train_datasets or []] + data.train_datasets
            text = f"{_metadata(data)}\n{_body(model, data, model_name, known)}"
        (folder / "README.md").write_text(text, encoding="utf8")
    except Exception as error:
        logger.warning("The model card could not be written (%s); the model itself is saved.", error)


def _metadata(data: SentenceTransformerModelCardData) -> str:
    """The YAML block, by huggingface_hub's rules."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=_slug(type(evaluator).__name__.removesuffix("Evaluator")),
            task_name=type(evaluator).__name__.removesuffix("Evaluator"),
            dataset_type="unknown",
            dataset_name=name,
            metric_type=key.removeprefix(f"{name}_"),
            metric_name=key.removeprefix(f"{name}_").replace("_", " "),
            metric_value=float(value),
        )
        for name, (evaluator, metrics) in data.evaluations.items()
        for key, value in metrics.items()
    ]
    languages = [data.language] if isinstance(data.language, str) else data.language
    card = ModelCardData(
        language=list(languages) if languages else None,
        license=data.license,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=data.tags,
        base_model=data.base_model if data.base_model and not Path(data.base_model).exists() else None,
        datasets=[d["id"] for d in data.train_datasets if d.get("id")] or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=(data.model_name or "SentenceTransformer") if results else None,
        eval_results=results or None,
    )
    return f"---\n{card.to_yaml()}\n---\n"


def _body(
    model: SentenceTransformer,
    data: SentenceTransformerModelCardData,
    name: str | None,
    known: list[dict[str, Any]],
) -> str:
    base = data.base_model or "modules put together by hand"
    title = name or data.model_name or f"SentenceTransformer based on {base}"
    size, limit = model.get_sentence_embedding_dimension(), model.get_max_seq_length()
    model_id = data.model_id or "path/to/this/model"
    parts = [
        f"# {title}",
        f"This model maps texts to vectors of {size} numbers, for {data.task_name}.",
        "## Model details",
        _table(
            [
                ("Base model", base),
                ("Maximum length", f"{limit} tokens" if limit else "unlimited"),
                ("Size of an embedding", str(size)),
                ("Similarity", model.similarity_fn_name),
                ("Training data", ", ".join(d["name"] for d in known) or "not stated"),
            ]
        ),
        f"```\n{model}\n```",
        "## Usage",
        f"""```bash
pip install likewise
```

```python
from likewise import SentenceTransformer  # or from sentence_transformers

model = SentenceTransformer({model_id!r})
embeddings = model.encode(["It is raining.", "Wet weather today.", "He drove to the stadium."])
print(embeddings.shape)  # (3, {size})
print(model.similarity(embeddings, embeddings))
```""",
        *_evaluation(data),
        *_training(data),
        "## Citation",
        "```bibtex\n" + "\n\n".join([SENTENCE_BERT, *_citations(data)]) + "\n```",
        f"Written by Likewise {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _evaluation(data: SentenceTransformerModelCardData) -> list[str]:
    parts = ["## Evaluation"] if data.evaluations else []
    for name, (evaluator, metrics) in data.evaluations.items():
        primary = getattr(evaluator, "primary_metric", None)
        rows = []
        for key, value in metrics.items():
            metric, number = key.removeprefix(f"{name}_"), f"{value:.4f}"
            rows.append((f"**{metric}**", f"**{number}**") if key == primary else (metric, number))
        parts += [f"### {name} ({type(evaluator).__name__})", _table(rows, ("Metric", "Value"))]
    return parts


def _training(data: SentenceTransformerModelCardData) -> list[str]:
    if not data.losses:
        return []
    losses = [(type(loss).__name__, _settings(loss)) for loss in data.losses]
    parts = ["## Training", _table(losses, ("Loss", "Settings"))]
    settings = [(key, f"`{value!r}`") for key, value in data.hyperparameters.items()]
    parts += (
        ["### Hyper-parameters that are not the default", _table(settings, ("Argument", "Value"))]
        if settings
        else []
    )
    if data.log:
        columns = list(dict.fromkeys(key for row in data.log for key in row))
        step = -(-len(data.log) // MAX_LOG_ROWS)
        rows = [tuple(_cell(row.get(column)) for column in columns) for row in data.log[::step]]
        parts += ["### Log", _table(rows, tuple(columns))]
    return parts


def _settings(loss: Any) -> str:
    settings = loss.get_config_dict() if hasattr(loss, "get_config_dict") else {}
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "-"


def _citations(data: SentenceTransformerModelCardData) -> list[str]:
    found = (str(getattr(loss, "citation", "")).strip() for loss in data.losses)
    return list(dict.fromkeys(citation for citation in found if citation))


def _table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] | None = None) -> str:
    if not rows:
        return ""
    header = header or ("",) * len(rows[0])
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _slug(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
