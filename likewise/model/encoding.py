"""What `encode` takes and gives: lists of texts in, arrays, tensors or lists in some precision out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from likewise.model.output_file import OutputFile
from likewise.modules.images import is_picture

logger = logging.getLogger("likewise.model.sentence_transformer")

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
OUTPUT_VALUES = ("sentence_embedding", "token_embeddings", None)


def check_arguments(batch_size: int, precision: str, output_value: str | None, to_file: bool) -> None:
    """Refuse what `encode` cannot do.

    Raises:
        ValueError: An argument is out of its range or unknown.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, but is {batch_size}.")
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}, but is {precision!r}.")
    if output_value not in OUTPUT_VALUES:
        raise ValueError(
            f"`output_value` must be 'sentence_embedding', 'token_embeddings' or None, but is {output_value!r}."
        )
    if to_file and output_value != "sentence_embedding":
        raise ValueError("`out` is for sentence embeddings only. Drop `out` or `output_value`.")
    if to_file and precision in ("int8", "uint8"):
        raise ValueError(
            f"`precision={precision!r}` takes its ranges from all embeddings, which `out` never holds together. Write "
            "float16, and use `quantize_embeddings` with ranges on it."
        )


def as_list(inputs: Any) -> tuple[Sequence[Any], bool]:
    """The inputs as something to index and cut, and whether there was just one text or image."""
    if isinstance(inputs, str) or is_picture(inputs):
        return [inputs], True
    if inputs is None:
        raise TypeError("encode() needs a text or a list of texts, but got None.")
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.kind not in "UO":
            raise TypeError(f"encode() needs texts, but got an array of {inputs.dtype}.")
        return inputs.tolist(), False
    if isinstance(inputs, Mapping) and len(inputs) == 1:  # one text with its task or its kind
        return [inputs], True
    if isinstance(inputs, Mapping) or not hasattr(inputs, "__iter__"):
        raise TypeError(
            f"encode() needs a text or a list of texts, but got {type(inputs).__name__}: {inputs!r}."
        )
    return inputs if isinstance(inputs, list) else list(inputs), False


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout and the like off, and each module back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def progress_of(total: int, wanted: bool | None) -> Iterator[Any]:
    if wanted is None:
        wanted = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
    if not wanted:
        yield lambda done: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Encoding", unit=" texts") as bar:
        yield bar.update


def converted(embeddings: Tensor, precision: str, to_numpy: bool, to_tensor: bool) -> Any:
    """The embeddings in the precision and container asked for."""
    found: Any = embeddings
    if precision == "float16":
        found = embeddings.to(torch.float16)
    elif precision != "float32" and len(embeddings):
        from likewise.precision import quantize_embeddings

        found = quantize_embeddings(embeddings, precision=precision)  # type: ignore[arg-type]
    if to_tensor:
        return torch.as_tensor(found)
    if to_numpy:
        if isinstance(found, Tensor):
            found = (found.float() if found.dtype == torch.bfloat16 else found).cpu().numpy()
        return found
    return list(torch.as_tensor(found))


def encode_to_file(
    output: OutputFile,
    texts: Sequence[Any],
    embed: Callable[[Sequence[Any]], Tensor],
    precision: str,
    window: int,
) -> Any:
    """Embed what an output file lacks, a window at a time.

    Raises:
        ValueError: What it holds was made by another model.
    """
    first = output.first_row()
    if first is not None:
        again = converted(embed(texts[:1]), precision, True, False)[0]
        if not np.allclose(first, again, rtol=1e-2, atol=1e-2 * max(1e-6, float(np.abs(again).max()))):
            raise ValueError(
                f"{output.path} exists, but was made by another model. Delete it, or write to another file."
            )
    for start in range(output.done, len(texts), window):
        output.write(converted(embed(texts[start : start + window]), precision, True, False))
    return output.result()
