"""LabelAccuracyEvaluator: the reference's accuracy, under its name, in its file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_common import assert_same_constructor, assert_same_csv_files
from sentence_transformers import InputExample as ReferenceExample
from sentence_transformers.sentence_transformer.evaluation import LabelAccuracyEvaluator as Reference
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss as ReferenceLoss
from small import sentences
from torch.utils.data import DataLoader

from likewise.evaluation import LabelAccuracyEvaluator
from likewise.input_example import InputExample
from likewise.losses import SoftmaxLoss

ROWS = list(
    zip(sentences(40, seed=1), sentences(40, seed=2), random.Random(0).choices(range(3), k=40), strict=True)
)


def loader(example: type) -> Any:
    return DataLoader([example(texts=[a, b], label=label) for a, b, label in ROWS], batch_size=16)


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("LabelAccuracyEvaluator")


@pytest.mark.parametrize("settings", [{}, {"name": "nli"}, {"write_csv": False}], ids=str)
def test_accuracy_name_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    own = SoftmaxLoss(model, sentence_embedding_dimension=32, num_labels=3)
    other = ReferenceLoss(reference_model, sentence_embedding_dimension=32, num_labels=3)
    other.classifier.load_state_dict(own.classifier.state_dict())
    mine = LabelAccuracyEvaluator(loader(InputExample), softmax_model=own, **settings)
    theirs = Reference(loader(ReferenceExample), softmax_model=other, **settings)
    for when in ((-1, -1), (1, 50)):
        found = mine(model, str(tmp_path / "ours"), *when)
        assert found == theirs(reference_model, str(tmp_path / "theirs"), *when)
        assert 0 < next(iter(found.values())) < 1
    assert mine.primary_metric == theirs.primary_metric
    if settings.get("write_csv", True):
        assert_same_csv_files(tmp_path / "ours", tmp_path / "theirs")
    else:
        assert not any(tmp_path.rglob("*.csv"))


def test_the_share_of_right_labels_by_hand(model: Any) -> None:
    def always_one(features: list[dict[str, Any]], labels: None) -> tuple[None, torch.Tensor]:
        assert labels is None
        assert len(features) == 2
        return None, torch.tensor([[0.0, 1.0, 0.0]]).expand(len(features[0]["input_ids"]), 3)

    found = LabelAccuracyEvaluator(loader(InputExample), softmax_model=always_one)(model)
    assert found == {"accuracy": sum(label == 1 for *_, label in ROWS) / 40}


def test_what_cannot_be_measured_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"`softmax_model` is missing. Pass the SoftmaxLoss"):
        LabelAccuracyEvaluator(loader(InputExample))
    with pytest.raises(ValueError, match="`dataloader` is empty"):
        LabelAccuracyEvaluator(DataLoader([]), softmax_model=lambda *_, **__: None)(model)
