"""Examples for the Hub's widget and for the card's code, drawn from the user's data: the same at every run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from likewise.card.data_sets import texts_of_rows
from likewise.processes import is_dist_initialized

logger = logging.getLogger(__name__)

ROWS_LOOKED_AT = 200  # of each data set
EXAMPLES = 5
TEXTS = 4  # of each example
GOOD_LENGTH = 60  # characters: enough to say something, and fits a line
# Where the name on the Hub is not known. The reference replaces it in this form when it uploads a model.
NO_MODEL_ID = "sentence_transformers_model_id"
GENERAL = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
SEARCH = (
    "How long does a letter to another country take?",
    "Mail abroad usually arrives after five to ten working days.",
    "A letter begins with the date and a greeting.",
    "The stadium was rebuilt over the summer.",
)


def widget_examples(data_sets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A text and three to compare it with, five times over, from each data set in turn; streams give none."""
    read = [dataset for dataset in data_sets.values() if hasattr(dataset, "__len__")]
    by_data_set = [_examples(list(texts_of_rows(dataset, ROWS_LOOKED_AT))) for dataset in read]
    turns = [found[i] for i in range(EXAMPLES) for found in by_data_set if i < len(found)]
    return turns[:EXAMPLES]


def _examples(rows: Sequence[list[str]]) -> list[dict[str, Any]]:
    """Rows of handy length first; where a row has few texts, those of the rows after it fill up."""
    strangeness = [max(abs(len(text) - GOOD_LENGTH) for text in texts) for texts in rows]
    order = sorted(range(len(rows)), key=lambda i: (strangeness[i], i))
    others = [rows[i][1 % len(rows[i])] for i in order[EXAMPLES:]]  # the second: the first may be a query
    found = []
    for i in order[:EXAMPLES]:
        texts = list(dict.fromkeys(rows[i]))[:TEXTS]
        while len(texts) < TEXTS and others:
            if (other := others.pop(0)) not in texts:
                texts.append(other)
        if len(texts) == TEXTS:
            found.append({"source_sentence": texts[0], "sentences": texts[1:]})
    return found


def usage_texts(widget: Sequence[Mapping[str, Any]], is_search: bool) -> list[str]:
    """Texts for the card's code: one to search with and three to find, or three to compare."""
    general = SEARCH if is_search else GENERAL
    texts = [widget[0]["source_sentence"], *widget[0]["sentences"]] if widget else list(general)
    return texts[: len(general)]


def similarities(
    model: Any, texts: Sequence[str], is_search: bool, **encode_kwargs: Any
) -> torch.Tensor | None:
    """How similar the texts are to the model; None where it cannot tell now.

    Of a search the first is compared with the others, rather than all with all; `encode_kwargs` are for `encode`.
    """
    if is_dist_initialized():
        return None  # the weights may be spread over processes that do not come here
    encode_kwargs = {"show_progress_bar": False, **encode_kwargs}
    try:
        if is_search:
            first = model.encode_query(list(texts[:1]), **encode_kwargs)
            second = model.encode_document(list(texts[1:]), **encode_kwargs)
        else:
            first = second = model.encode(list(texts), **encode_kwargs)
        scores: torch.Tensor = model.similarity(first, second).float().cpu()
        return scores
    except Exception as error:
        logger.warning("The model card shows no similarities: %r.", error)
        return None


def loading(data: Any) -> list[str]:
    """Lines of code that load the model which a card's data is about."""
    return [
        f"from likewise import {data.kind}  # or: from sentence_transformers import {data.kind}",
        "",
        f'model = {data.kind}("{data.model_id or NO_MODEL_ID}")',
    ]


def searching(texts: Sequence[str], note: str = "", shapes: str = "") -> list[str]:
    """Lines of code that embed a query, the first of the texts, and documents, and compare them.

    `note` is a comment on the embeddings, and `shapes` are those that printing them shows; "" for none.
    """
    return [
        listed("queries", texts[:1]),
        listed("documents", texts[1:]),
        f"query_embeddings = model.encode_query(queries){note}",
        "document_embeddings = model.encode_document(documents)",
        *(["print(query_embeddings.shape, document_embeddings.shape)", f"# {shapes}"] if shapes else ()),
        "",
        "similarities = model.similarity(query_embeddings, document_embeddings)",
    ]


def printed(tensor: torch.Tensor | None) -> list[str]:
    """What `print(tensor)` shows, as lines of comment; none where it is not known."""
    if tensor is None:
        return []
    with torch._tensor_str.printoptions(precision=4, sci_mode=False):
        return [f"# {line}" for line in str(tensor).splitlines()]


def listed(name: str, texts: Sequence[str]) -> str:
    """Code that gives a list of texts a name."""
    return "\n".join([f"{name} = [", *(f"    {text!r}," for text in texts), "]"])
