"""What reading a batch does to random numbers that others draw."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from likewise.training.data.reader import seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(1))  # noqa: NPY002


def test_a_transform_draws_by_its_rows_and_leaves_everybody_elses_numbers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(seed: int) -> None:
        raise AssertionError("a device was seeded, whose state nobody puts back")

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = draw()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refused)
    with seeded([3, 4]):
        first = draw()
    with pytest.raises(ZeroDivisionError), seeded([3, 4]):
        1 // (draw() != first)
    with seeded([4, 3]):
        assert draw() != first
    assert draw() == expected
