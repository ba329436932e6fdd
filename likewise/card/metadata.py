"""The card's metadata, from which the Hub makes its filters, its widget and its tables of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from likewise.card.environment import emissions
from likewise.card.results import eval_results

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from likewise.card.data import SentenceTransformerModelCardData


def metadata(data: SentenceTransformerModelCardData) -> ModelCardData:
    """The metadata, checked by huggingface_hub."""
    from huggingface_hub import ModelCardData

    results = eval_results(data.results)
    measured = list(dict.fromkeys(key for result in data.results for key in result.metrics))
    more: dict[str, Any] = {
        "widget": data.widget or None,
        "co2_eq_emissions": emissions(data.code_carbon_callback),
    }
    return ModelCardData(
        language=list(data.language or ()) or None,
        license=data.license,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=list(data.tags),
        base_model=data.base_model,
        datasets=list(dict.fromkeys(part["id"] for part in data.train_datasets if part.get("id"))) or None,
        metrics=measured or None,
        model_name=data.title() if results else None,
        eval_results=results or None,
        **{key: value for key, value in more.items() if value is not None},
    )
