"""docs/losses.md: names every loss, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from losses_common import FixedModel

from likewise import losses
from likewise.cross_encoder import losses as cross_losses

PAGE = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()


@pytest.mark.parametrize(
    "name", [name for name in losses.__all__ if "Metric" not in name and "Function" not in name]
)
def test_every_loss_is_there(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", cross_losses.__all__)
def test_every_loss_of_a_cross_encoder_is_there(name: str) -> None:
    assert f"`{name}`" in PAGE.partition("## Of a CrossEncoder")[2].partition("\n## ")[0]


def test_the_code_runs_and_its_loss_can_be_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    own = names["CosineL1Loss"](FixedModel(4))  # type: ignore[operator]
    pair, labels = [torch.eye(4), torch.eye(4)], torch.tensor([1.0, 1.0, 0.5, 0.0])
    assert own.compute(pair, labels).item() == pytest.approx(0.375)
    assert losses.MatryoshkaLoss(FixedModel(4), own, [4]).compute(pair, labels).item() == pytest.approx(0.375)  # type: ignore[arg-type]
