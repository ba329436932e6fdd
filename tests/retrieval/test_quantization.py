"""Quantised embeddings are the reference's, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from given_embeddings import parameters, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util

from likewise.precision import calibration_ranges, dequantize_embeddings
from likewise.retrieval import quantize_embeddings

ROWS = vectors(150, 21, 0).numpy()
PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def assert_identical(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ranges": calibration_ranges(0.5 * ROWS)},
        {"ranges": calibration_ranges(ROWS).astype(np.float64)},
        {"calibration_embeddings": 2 * ROWS[:120]},
        {"ranges": calibration_ranges(0.5 * ROWS), "calibration_embeddings": 2 * ROWS},
        {"ranges": np.zeros((2, 21))},
    ],
)
def test_every_precision_range_and_calibration_gives_the_references_numbers(
    precision: Any, options: dict[str, Any]
) -> None:
    found = quantize_embeddings(ROWS, precision, **options)
    assert_identical(found, util.quantize_embeddings(ROWS, precision, **options))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "embeddings",
    [
        torch.from_numpy(ROWS),
        list(ROWS),
        list(torch.from_numpy(ROWS)),
        torch.from_numpy(ROWS).bfloat16(),
        torch.from_numpy(ROWS).clone().requires_grad_(),
        ROWS.astype(np.float64),
        ROWS.astype(np.float16),
        ROWS[:0],
    ],
)
def test_tensors_lists_and_other_dtypes_are_taken(precision: Any, embeddings: Any) -> None:
    options = {"ranges": calibration_ranges(ROWS)}
    found = quantize_embeddings(embeddings, precision, **options)
    plain = embeddings.detach() if isinstance(embeddings, torch.Tensor) else embeddings
    assert_identical(found, util.quantize_embeddings(plain, precision, **options))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_single_embedding_gives_a_single_row(precision: Any) -> None:
    ranges = calibration_ranges(ROWS)
    found = quantize_embeddings(ROWS[3], precision, ranges)
    assert_identical(found, util.quantize_embeddings(ROWS[3], precision, ranges))
    assert_identical(found, quantize_embeddings(ROWS, precision, ranges)[3])


def test_the_ends_of_a_range_are_the_ends_of_the_type() -> None:
    ranges = np.array([[0.0], [255.0]])
    values = np.array([[-5.0], [0.0], [0.9], [1.0], [254.5], [255.0], [300.0]])
    assert quantize_embeddings(values, "uint8", ranges)[:, 0].tolist() == [0, 0, 0, 1, 254, 255, 255]
    assert quantize_embeddings(values, "int8", ranges)[:, 0].tolist() == [
        -128,
        -128,
        -128,
        -127,
        126,
        127,
        127,
    ]


def test_bits_stand_for_values_above_zero_the_first_dimension_highest() -> None:
    values = np.array([[1.0, -1.0, 0.0, 2.0, -0.1, 0.1, -3.0, 4.0, 5.0]])
    assert quantize_embeddings(values, "ubinary").tolist() == [[0b10010101, 0b10000000]]
    assert quantize_embeddings(values, "binary").tolist() == [[0b10010101 - 128, 0]]


@settings(max_examples=50)
@given(
    num_rows=st.integers(2, 8),
    size=st.integers(1, 20),
    seed=st.integers(0, 999),
    precision=st.sampled_from(["int8", "uint8"]),
    magnitude=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_a_value_lies_within_its_step(
    num_rows: int, size: int, seed: int, precision: Any, magnitude: float
) -> None:
    values = magnitude * vectors(num_rows, size, seed).numpy()
    ranges = calibration_ranges(values)
    restored = dequantize_embeddings(quantize_embeddings(values, precision, ranges), precision, size, ranges)
    steps = (ranges[1] - ranges[0]) / 255
    assert (np.abs(values - restored) <= 1.01 * steps + 1e-6 * magnitude).all()


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_restored_without_the_padding(precision: Any) -> None:
    restored = dequantize_embeddings(quantize_embeddings(ROWS, precision), precision, 21, None)
    np.testing.assert_array_equal(restored, ROWS > 0)


def test_few_embeddings_are_a_poor_calibration_which_is_said(caplog: pytest.LogCaptureFixture) -> None:
    quantize_embeddings(ROWS[:99], "int8")
    assert "only 99 embeddings. Pass `ranges` or `calibration_embeddings`" in caplog.text
    caplog.clear()
    quantize_embeddings(ROWS[:100], "int8")
    quantize_embeddings(ROWS[:5], "int8", calibration_embeddings=ROWS)
    quantize_embeddings(ROWS[:5], "binary")
    assert caplog.text == ""


def test_no_embeddings_need_no_calibration() -> None:
    for precision in PRECISIONS:
        assert_identical(
            quantize_embeddings(ROWS[:0], precision), util.quantize_embeddings(ROWS[:0], precision)
        )
        assert len(quantize_embeddings([], precision)) == 0


@pytest.mark.parametrize("one", [ROWS[0], ROWS[:1]])
def test_a_single_embedding_cannot_be_its_own_calibration(one: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"int8 cannot come from a single embedding. Pass `ranges`"):
        quantize_embeddings(one, "int8")


def test_quantised_embeddings_are_refused() -> None:
    for precision in PRECISIONS:
        with pytest.raises(TypeError, match="must be floating point, but are uint8"):
            quantize_embeddings(quantize_embeddings(ROWS, "uint8"), precision)


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no precision 'int4'.*int8, uint8, binary, ubinary"):
        quantize_embeddings(ROWS, "int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(21,), (3, 21), (2, 20)])
def test_ranges_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`ranges` must have the shape \(2, 21\), but has"):
        quantize_embeddings(ROWS, "int8", np.ones(shape))
    with pytest.raises(
        ValueError, match=r"shape \(2, 21\), but has \(2, 20\)\..* `calibration_embeddings` of as many"
    ):
        quantize_embeddings(ROWS, "int8", calibration_embeddings=ROWS[:, :20])


def test_arguments_have_the_references_names_order_and_defaults() -> None:
    assert parameters(quantize_embeddings) == parameters(util.quantize_embeddings)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "options", [{}, {"ranges": calibration_ranges(0.5 * ROWS)}, {"calibration_embeddings": 2 * ROWS}]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.filterwarnings("ignore:invalid value")  # the reference's
def test_token_embeddings_of_texts_are_quantised_with_the_same_ranges(
    precision: Any, options: dict[str, Any], kind: Any
) -> None:
    texts = [kind(ROWS[start:end]) for start, end in ((0, 60), (60, 60), (60, 61), (61, 150))]
    found, expected = (
        f(texts, precision, **options) for f in (quantize_embeddings, util.quantize_embeddings)
    )
    assert isinstance(found, list)
    for one, other in zip(found, expected, strict=True):
        assert_identical(one, other)
    assert quantize_embeddings([], precision, **options) == []
