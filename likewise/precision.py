"""Embeddings in fewer bits: int8, uint8 (a number per dimension), binary, ubinary (a bit per dimension)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = np.ndarray[Any, Any]
Precision: TypeAlias = Literal["float32", "int8", "uint8", "binary", "ubinary"]

MIN_CALIBRATION = 100  # embeddings below which the ranges they give are not to be relied on
logger = logging.getLogger(__name__)


@overload
def quantize_embeddings(
    embeddings: Tensor | Array, precision: Precision, ranges: Array | None = None,
    calibration_embeddings: Tensor | Array | None = None,
) -> Array: ...  # fmt: skip
@overload
def quantize_embeddings(
    embeddings: Sequence[Tensor] | Sequence[Array], precision: Precision, ranges: Array | None = None,
    calibration_embeddings: Tensor | Array | None = None,
) -> Array | list[Array]: ...  # fmt: skip
def quantize_embeddings(
    embeddings: Tensor | Array | Sequence[Tensor] | Sequence[Array],
    precision: Precision,
    ranges: Array | None = None,
    calibration_embeddings: Tensor | Array | None = None,
) -> Array | list[Array]:
    """Embeddings in a smaller type.

    - int8, uint8: each dimension's range is cut into 256 equal steps; a value becomes the number of its step, minus
      128 for int8. Values outside of the range are clipped.
    - binary, ubinary: a bit for each dimension, 1 for values above 0; 8 dimensions to a byte, minus 128 for binary.

    Args:
        embeddings: (N, D) or (D,), floating point; or a list of (tokens, D), as a MultiVectorEncoder gives them.
        precision: float32, int8, uint8, binary or ubinary.
        ranges: (2, D), for int8 and uint8: the smallest and the largest value of each dimension. Queries and documents
            need the same ranges to be comparable.
        calibration_embeddings: (M, D), for int8 and uint8: the ranges are taken from these. By default, from the
            embeddings themselves, which should then be at least some hundreds.

    Returns:
        (N, D) float32, int8 or uint8; or (N, ceil(D / 8)) int8 for binary, uint8 for ubinary. Of a list of (tokens, D) a list
        of such, with the same ranges for all tokens; of an empty list an empty one.

    Raises:
        ValueError: The precision is unknown, the ranges are of another shape or would come from a single embedding.
        TypeError: The embeddings are quantised already.
    """
    if isinstance(embeddings, list) and all(np.ndim(one) == 2 for one in embeddings):
        if not embeddings:
            return []
        tokens = np.concatenate([to_array(one) for one in embeddings])
        joined = quantize_embeddings(tokens, precision, ranges, calibration_embeddings)
        return np.split(joined, np.cumsum([len(one) for one in embeddings])[:-1])
    values = to_array(embeddings)
    if values.dtype.kind != "f":
        raise TypeError(
            f"`embeddings` must be floating point, but are {values.dtype}. Pass them before quantisation."
        )
    if precision == "float32":
        return values.astype(np.float32)
    if precision in ("int8", "uint8"):
        limits = quantization_ranges(values, precision, ranges, calibration_embeddings)
        steps: Array = np.clip(np.floor((values - limits[0]) / step_sizes(limits)), 0, 255)
        return steps.astype(np.uint8) if precision == "uint8" else (steps - 128).astype(np.int8)
    if precision in ("binary", "ubinary"):
        bits: Array = np.packbits(values > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
    raise ValueError(
        f"There is no precision {precision!r}. Choose from float32, int8, uint8, binary, ubinary."
    )


def dequantize_embeddings(
    embeddings: Array, precision: Precision, dimension: int, ranges: Array | None
) -> Array:
    """Quantised embeddings (..., D or D / 8) as float32 (..., D): the lower ends of their steps, or 0 and 1.

    `ranges` (2, D) are for int8 and uint8.
    """
    if precision in ("int8", "uint8"):
        assert ranges is not None
        steps: Array = embeddings.astype(np.float32) + (128 if precision == "int8" else 0)
        values: Array = steps * step_sizes(ranges) + ranges[0].astype(np.float32)
        return values
    if precision in ("binary", "ubinary"):
        packed: Array = embeddings.view(np.uint8) ^ np.uint8(0x80 if precision == "binary" else 0)
        return np.unpackbits(packed, axis=-1)[..., :dimension].astype(np.float32)
    return embeddings.astype(np.float32)


def step_sizes(ranges: Array) -> Array:
    """The width of a step of each dimension: (2, D) -> (D,) float32; 1 where a dimension does not vary."""
    ranges = ranges.astype(np.float32)
    widths = (ranges[1] - ranges[0]) / 255
    return np.where(widths == 0, np.float32(1), widths)


def calibration_ranges(embeddings: Array) -> Array:
    """(N, D) -> (2, D): the smallest and the largest value of each dimension."""
    return np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])


def quantization_ranges(
    values: Array, precision: str, ranges: Array | None, calibration: Tensor | Array | None
) -> Array:
    """(2, D): the ranges that are given, those of the calibration embeddings, or the values' own."""
    if ranges is None and calibration is not None:
        ranges = calibration_ranges(to_array(calibration))
    if ranges is not None:
        if np.shape(ranges) != (2, values.shape[-1]):
            raise ValueError(
                f"`ranges` must have the shape (2, {values.shape[-1]}), but has {np.shape(ranges)}. Pass the smallest "
                "and the largest value of each dimension, or `calibration_embeddings` of as many."
            )
        return np.asarray(ranges, dtype=np.float32)
    if values.ndim == 1 or len(values) == 1:
        raise ValueError(
            f"The ranges for {precision} cannot come from a single embedding. Pass `ranges` or `calibration_embeddings`."
        )
    if not len(values):
        return np.zeros((2, values.shape[1]), dtype=np.float32)
    if len(values) < MIN_CALIBRATION:
        logger.warning(
            "The ranges for %s come from only %d embeddings. Pass `ranges` or `calibration_embeddings` of more.",
            precision, len(values),
        )  # fmt: skip
    return calibration_ranges(values).astype(np.float32)


def to_array(embeddings: Tensor | Array | Sequence[Tensor] | Sequence[Array]) -> Array:
    """Embeddings as an array; of bfloat16, which NumPy has not, in float32."""
    if isinstance(embeddings, np.ndarray):
        return embeddings
    if not isinstance(embeddings, Tensor):
        embeddings = torch.stack([torch.as_tensor(row) for row in embeddings])
    embeddings = embeddings.detach()
    return (embeddings.float() if embeddings.dtype == torch.bfloat16 else embeddings).cpu().numpy()
