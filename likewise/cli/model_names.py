"""Which model a command works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.sentence_transformer.model import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
HUB_ORGANISATION = "sentence-transformers"


def hub_name(name: str) -> str:
    """The model's full name on the Hub; any other name or folder as it is."""
    return f"{HUB_ORGANISATION}/{DEFAULT_MODEL}" if name == DEFAULT_MODEL else name


def load_model(name: str) -> SentenceTransformer:
    """Load the model of that name."""
    from likewise.sentence_transformer.model import SentenceTransformer

    return SentenceTransformer(name)
