"""Id columns: named in the training arguments, they reach the loss and the sampler, and are no texts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from losses_common import texts

from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from likewise.losses.base import Loss

GROUPS = [0, 0, 1, 1, 2, 2, 3, 3]


def trainer(model: Any, loss: Any, output: Path, groups: Any = GROUPS, **arguments: Any) -> Any:
    first, second = texts(8, 2, seed=4)
    arguments = {"id_columns": ["picture"], "max_steps": 1, "per_device_train_batch_size": 8} | arguments
    return SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(output), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", **arguments
        ),
        train_dataset=Dataset.from_dict({"first": first, "picture": groups, "second": second}),
        loss=loss,
    )


class Watched(losses.MultipleNegativesRankingLoss):
    """Keeps what it is given."""

    def compute(self, embeddings: Any, labels: Any = None, ids: Any = None) -> torch.Tensor:
        self.seen = (len(embeddings), ids)
        return super().compute(embeddings, labels, ids)


@pytest.mark.parametrize("groups", [GROUPS, [f"{n}.jpg" for n in GROUPS]], ids=["numbers", "texts"])
def test_rows_of_one_id_are_known_to_belong_together(model: Any, tmp_path: Path, groups: Any) -> None:
    loss = Watched(model, mask_duplicates=True)
    run = trainer(model, loss, tmp_path, groups)
    run.train()
    columns, ids = loss.seen
    assert columns == 2
    assert ids.shape == (3, 8)
    same = ids[2][:, None] == ids[2][None, :]
    assert same.sum() == 8 * 2
    (batch,) = run.get_train_dataloader()
    assert torch.equal(batch["columns"].ids[0], ids[2])


def test_the_plan_says_which_column_is_an_id(model: Any, tmp_path: Path) -> None:
    plan = trainer(model, Watched(model, mask_duplicates=True), tmp_path).plans["train"][0]
    assert plan.describe() == "8 rows: anchor=first, positive=second, id=picture -> Watched"


def test_a_wrapper_hands_the_ids_on(model: Any, tmp_path: Path) -> None:
    inner = Watched(model, mask_duplicates=True)
    run = trainer(model, losses.MatryoshkaLoss(model, inner, [32, 16]), tmp_path)
    assert run.trained.losses[0].mask_duplicates
    run.train()
    assert inner.seen[1].shape == (3, 8)


def test_the_sampler_keeps_rows_of_one_id_apart(model: Any, tmp_path: Path) -> None:
    run = trainer(
        model, Watched(model), tmp_path, batch_sampler="no_duplicates", per_device_train_batch_size=4
    )
    for batch in run.get_train_dataloader():
        (ids,) = batch["columns"].ids
        assert len(set(ids.tolist())) == len(ids) == 4


def test_ids_that_nothing_uses_are_reported(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "likewise"):
        trainer(model, losses.MultipleNegativesRankingLoss(model), tmp_path)
    assert "`id_columns` is without effect: no loss has `mask_duplicates=True`" in caplog.text


def test_an_id_column_that_is_not_there_or_has_empty_cells_is_refused(model: Any, tmp_path: Path) -> None:
    loss: Loss = Watched(model, mask_duplicates=True)
    with pytest.raises(ValueError, match=r"`id_columns` names 'pictures'.*Did you mean 'picture'\?"):
        trainer(model, loss, tmp_path, id_columns=["pictures"])
    with pytest.raises(
        ValueError, match=r"Column 'picture' of the training data has no id \(None\) in row 1"
    ):
        trainer(model, loss, tmp_path, [0, None, *GROUPS[2:]])


def test_one_column_may_be_named_without_a_list(tmp_path: Path) -> None:
    arguments: Any = {"id_columns": "picture"}
    assert SentenceTransformerTrainingArguments(str(tmp_path), use_cpu=True, **arguments).id_columns == [
        "picture"
    ]
    assert SentenceTransformerTrainingArguments(str(tmp_path), use_cpu=True).id_columns == []
