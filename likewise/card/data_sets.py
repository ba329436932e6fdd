"""What the card tells of a data set: its columns, what is in them, a few rows, and the loss it went to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.card.markdown import class_name
from likewise.modules import CLIPModel, Router
from likewise.modules.images import is_picture

if TYPE_CHECKING:
    from likewise.model.model import Model

STATISTICS_ROWS = 100
SAMPLES = 3
MAX_CLASSES = 50
# What `datasets` calls a data set that was read from a file or made in memory: no name of its own.
NAMELESS = {"", "arrow", "csv", "generator", "json", "pandas", "parquet", "text"}
HUB_PREFIX = "hf://datasets/"


def describe(
    dataset: Any,
    loss: Any,
    model: Model,
    known: Mapping[str, Any] | None = None,
    name: str = "",
    routes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything the card tells of a data set, of a stream without reading a row.

    Args:
        dataset: The data set.
        loss: The loss it goes to.
        model: Whose tokens are counted.
        known: What its owner told of it, such as its `name` and `id`; wins over what is found.
        name: Its key in a dict of data sets.
        routes: The routes of a Router that columns take.

    Returns:
        `name`, `id` and `revision` on the Hub, as far as they are known; `size`, `columns`, `stats` by column,
        `examples` by column, and `loss`.
    """
    described = {**origin(dataset, name), **(known or {})}
    rows = _first_rows(dataset) if hasattr(dataset, "__len__") else {}
    if rows:
        described["size"] = len(dataset)
        routes = routes or {}
        described["stats"] = {name: statistics(some, model, routes.get(name)) for name, some in rows.items()}
        described["examples"] = {column: list(values[:SAMPLES]) for column, values in rows.items()}
    described["columns"] = list(rows or dataset.column_names or ())
    described["loss"] = describe_loss(loss)
    return described


def by_name(data_sets: Any) -> dict[str, Any]:
    """Data sets by name; an only one by the name ""."""
    if data_sets is None:
        return {}
    return dict(data_sets) if isinstance(data_sets, Mapping) else {"": data_sets}


def _first_rows(dataset: Any) -> dict[str, list[Any]]:
    """The first rows by column; of images no more is read than their size."""
    images = image_columns(dataset)
    for column in images:
        dataset = dataset.cast_column(column, type(dataset.features[column])(decode=False))
    rows = dict(dataset[:STATISTICS_ROWS])
    return rows | {column: [_opened(value) for value in rows[column]] for column in images}


def image_columns(dataset: Any) -> list[str]:
    """The columns of encoded images."""
    return [name for name, kind in (dataset.features or {}).items() if type(kind).__name__ == "Image"]


def _opened(value: Mapping[str, Any]) -> Any:
    """An image whose pixels are not read yet, from `{"bytes": ..., "path": ...}`."""
    from PIL import Image

    return Image.open(value["path"] if value["bytes"] is None else BytesIO(value["bytes"]))


def origin(dataset: Any, name: str = "") -> dict[str, Any]:
    """A data set's name, and where it is on the Hub if it was loaded from there."""
    found: dict[str, Any] = {}
    own_name = str(getattr(dataset.info, "dataset_name", None) or "")
    if name or own_name not in NAMELESS:
        found["name"] = name or own_name
    source = next(iter(dataset.info.download_checksums or ()), "")
    if source.startswith(HUB_PREFIX) and "@" in source:
        found["id"], _, rest = source.removeprefix(HUB_PREFIX).partition("@")
        revision = rest.partition("/")[0]
        if len(revision) == 40:  # a commit
            found["revision"] = revision
    return found


def statistics(values: Sequence[Any], model: Model, route: str | None = None) -> dict[str, Any]:
    """What kind of values these are (`dtype`, `modality`), and the numbers worth telling of them (`data`)."""
    first = values[0]
    if isinstance(first, str):
        return {"dtype": "string", "modality": "text", "data": _lengths_of_texts(values, model, route)}
    if isinstance(first, bool | int):
        return {"dtype": type(first).__name__, "modality": "", "data": _shares(values)}
    if isinstance(first, float):
        return {"dtype": "float", "modality": "", "data": _spread(values)}
    if isinstance(first, list):
        lengths = [len(value) for value in values]
        same = {"size": f"{lengths[0]} elements"} if len(set(lengths)) == 1 else None
        return {"dtype": "list", "modality": "", "data": same or _spread(lengths, " elements")}
    if is_picture(first):
        return {"dtype": "image", "modality": "image", "data": _sizes(values)}
    return {"dtype": type(first).__name__, "modality": "", "data": {}}


def _lengths_of_texts(texts: Sequence[str], model: Model, route: str | None) -> dict[str, str]:
    """In tokens, as the model reads them (cut at its limit); in characters if it has no tokens."""
    first = model._first_module()
    if isinstance(first, Router):
        first = first.first_module(route)
    if model.takes_tokens or isinstance(first, CLIPModel):
        count = first.token_sequences if model.takes_tokens else first.tokenization
        return _spread(count(list(texts)).lengths.tolist(), " tokens")
    return _spread([len(text) for text in texts], " characters")


def _spread(values: Sequence[float], unit: str = "") -> dict[str, str]:
    found = {"min": min(values), "mean": float(np.mean(values)), "max": max(values)}
    return {name: f"{round(value, 2)}{unit}" for name, value in found.items()}


def _shares(values: Sequence[int]) -> dict[str, str]:
    counts = Counter(values)
    if len(counts) > MAX_CLASSES:
        return {"classes": f"more than {MAX_CLASSES}", **_spread(values)}
    about = "~" if len(counts) > 1 else ""
    return {str(value): f"{about}{counts[value] / len(values):.2%}" for value in sorted(counts)}


def _sizes(images: Sequence[Any]) -> dict[str, str]:
    sizes = np.array([image.size for image in images])
    spread = {"min": sizes.min(0), "mean": sizes.mean(0).astype(int), "max": sizes.max(0)}
    return {name: f"{width}x{height} px" for name, (width, height) in spread.items()}


def describe_loss(loss: Any) -> dict[str, Any]:
    """A loss's name, in full where it is none of the library's, and its settings."""
    described: dict[str, Any] = {"fullname": class_name(type(loss))}
    if hasattr(loss, "get_config_dict"):
        described["config"] = {key: _setting(value) for key, value in loss.get_config_dict().items()}
    return described


def _setting(value: Any) -> Any:
    """A setting as the card shows it; a model or loss by its class and what it was made of."""
    if not hasattr(value, "named_parameters"):
        return value
    parts = []
    if (base := getattr(getattr(value, "model_card_data", None), "base_model", None)) is not None:
        parts.append(repr(base))
    if hasattr(value, "get_config_dict"):
        parts += [f"{key}={_setting(inner)!r}" for key, inner in value.get_config_dict().items()]
    return f"{type(value).__name__}({', '.join(parts)})" if parts else type(value).__name__


def with_inner(losses: Sequence[Any]) -> list[Any]:
    """The losses, and after them the losses that they wrap, each once."""
    found: list[Any] = []
    waiting = list(losses)
    while waiting:
        loss = waiting.pop(0)
        if any(loss is known for known in found):
            continue
        found.append(loss)
        if (inner := getattr(loss, "loss", None)) is not None and hasattr(inner, "forward"):
            waiting.append(inner)
    return found


def texts_of_rows(dataset: Any, most: int) -> Iterator[list[str]]:
    """The texts of rows evenly spread over a data set, at most so many; rows with an empty text are left out."""
    if images := set(image_columns(dataset)):
        dataset = dataset.select_columns([name for name in dataset.column_names if name not in images])
    stride = max(1, len(dataset) // most)
    for number in islice(range(0, len(dataset), stride), most):
        texts = [value for value in dataset[number].values() if isinstance(value, str)]
        if texts and all(text.strip() for text in texts):
            yield texts
