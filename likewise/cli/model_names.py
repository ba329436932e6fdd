"""Which model a command works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.cross_encoder.model import CrossEncoder
    from likewise.families import ModelFamily
    from likewise.sentence_transformer.model import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
HUB_ORGANISATION = "sentence-transformers"


def hub_name(name: str) -> str:
    """The model's full name on the Hub; any other name or folder as it is."""
    return f"{HUB_ORGANISATION}/{DEFAULT_MODEL}" if name == DEFAULT_MODEL else name


def family_of(name: str) -> ModelFamily:
    """The family of a model, by its folder; one on the Hub is downloaded, as it is about to be used."""
    from likewise.families import SENTENCE_TRANSFORMER, family_in, family_on_hub
    from likewise.modules.find_folder import find_folder

    if hub_name(name) == hub_name(DEFAULT_MODEL) and not Path(name).is_dir():
        return SENTENCE_TRANSFORMER
    on_hub = family_on_hub(name)
    is_known = on_hub is not SENTENCE_TRANSFORMER and not Path(name).is_dir()
    return on_hub if is_known else family_in(find_folder(name))


def load_model(name: str) -> SentenceTransformer:
    """Load the model of one vector a text of that name; a cross-encoder is refused."""
    from likewise.sentence_transformer.model import SentenceTransformer

    embedding_family(name)
    return SentenceTransformer(name)


def embedding_family(name: str) -> ModelFamily:
    """The family of a model that embeds texts, in whatever form; a cross-encoder is refused."""
    from likewise.families import CROSS_ENCODER

    if (family := family_of(name)) is CROSS_ENCODER:
        raise ValueError(
            f"{name} is a cross-encoder: it scores pairs of texts and embeds none. Rank texts with `likewise rerank`, or name "
            "an embedding model."
        )
    return family


def load_cross_encoder(name: str) -> CrossEncoder:
    """Load the cross-encoder of that name; an embedding model, which has no head to score pairs with, is refused."""
    from likewise.cross_encoder.model import CrossEncoder
    from likewise.families import CROSS_ENCODER

    if family_of(name) is not CROSS_ENCODER:
        raise ValueError(
            f"{name} is an embedding model, without a head that scores pairs. Rank texts with `likewise search`, train a "
            "cross-encoder from it (a recipe with `family: cross-encoder`), or name one."
        )
    return CrossEncoder(name)
