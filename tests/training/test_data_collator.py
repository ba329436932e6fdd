"""A data collator passed to the trainer: label columns of other names, prompts and routes, batches of one's own making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from likewise.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.data_collator import (
    SentenceTransformerDataCollator as ReferenceCollator,
)
from small import sentences, small_model

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import CoSENTLoss
from likewise.models import Router

TEXTS = sentences(32)
DATA = Dataset.from_dict({"first": TEXTS[:16], "second": TEXTS[16:], "likeness": [i / 16 for i in range(16)]})


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path / "model")
    return made


def train(
    model: SentenceTransformer,
    folder: Path,
    data: Dataset,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> SentenceTransformerTrainer:
    args = SentenceTransformerTrainingArguments(
        str(folder),
        max_steps=3,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        **(arguments or {}),
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # so that packed and padded features train alike
    trainer = SentenceTransformerTrainer(
        model=model, args=args, train_dataset=data, eval_dataset=data, loss=CoSENTLoss(model), **options
    )
    trainer.train()
    trainer.evaluate()
    return trainer


@pytest.mark.parametrize("kind", ["itself", "a subclass"])
def test_its_label_columns_are_the_trainers(
    model: SentenceTransformer, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[set[str]] = []

    class Mine(SentenceTransformerDataCollator):
        def __call__(self, features: Any) -> dict[str, Any]:
            batch = super().__call__(features)
            seen.append(set(batch))
            return batch

    collator = (SentenceTransformerDataCollator if kind == "itself" else Mine)(
        model.preprocess, valid_label_columns=["likeness"]
    )
    losses = []
    for data, given in ((DATA, collator), (DATA.rename_column("likeness", "score"), None)):
        torch.manual_seed(0)
        made = small_model(tmp_path / "model")
        trainer = train(made, tmp_path, data, data_collator=given)
        losses.append(trainer.state.log_history[-1]["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert "label=likeness" in capsys.readouterr().out
    columns = {f"{name}_{key}" for name in ("first", "second") for key in ("input_ids", "attention_mask")}
    assert all(keys == columns | {"label"} for keys in seen)
    assert bool(seen) == (kind == "a subclass")


@pytest.mark.parametrize(
    "prompts",
    [None, "find ", {"first": "find "}, {"letters": "see "}, {"letters": {"second": "find "}}],
    ids=["none", "one", "by column", "by data set", "by both"],
)
def test_batches_are_the_references(model: SentenceTransformer, prompts: Any) -> None:
    rows = [dict(row, dataset_name="letters") for row in DATA.select(range(4))]
    made = [
        kind(preprocess_fn=model.preprocess, valid_label_columns=["likeness"], prompts=prompts)(rows)
        for kind in (SentenceTransformerDataCollator, ReferenceCollator)
    ]
    assert set(made[0]) == set(made[1])
    for name, value in made[0].items():
        assert value == made[1][name] if isinstance(value, str) else value.equal(made[1][name])


def made_here(model: SentenceTransformer) -> Any:
    """A `preprocess_fn` that is not the model's, so that the collator makes the batches."""
    return lambda texts, **options: model.preprocess(texts, **options)


@pytest.mark.parametrize("place", ["collator", "arguments", "both"])
@pytest.mark.parametrize("makes_batches", [False, True])
def test_prompts_may_be_set_in_either_place(
    tmp_path: Path, place: str, makes_batches: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = {"first": "find ", "second": ""}
    found = []
    for where in ("", place):
        made = small_model(tmp_path / "model")
        made.prompts["query"] = "find "
        function = made_here(made) if makes_batches and where else made.preprocess
        of_collator = prompts if where in ("collator", "both") else {}
        collator = SentenceTransformerDataCollator(function, ["likeness"], prompts=of_collator)
        options = {} if where == "collator" else {"prompts": prompts}
        found.append(
            train(made, tmp_path, DATA, options, data_collator=collator).state.log_history[-1]["eval_loss"]
        )
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    plain = small_model(tmp_path / "model")
    collator = SentenceTransformerDataCollator(plain.preprocess, ["likeness"])
    assert train(plain, tmp_path, DATA, data_collator=collator).state.log_history[-1]["eval_loss"] != found[0]
    assert capsys.readouterr().out.count("'find '") >= 2


def test_prompts_that_differ_are_refused(model: SentenceTransformer, tmp_path: Path) -> None:
    collator = SentenceTransformerDataCollator(model.preprocess, ["likeness"], prompts="see ")
    with pytest.raises(
        ValueError, match="`prompts` is 'see ' in the data collator, but 'find ' in the training"
    ):
        train(model, tmp_path, DATA, {"prompts": "find "}, data_collator=collator)


def test_routes_of_the_collator_are_the_trainers(tmp_path: Path) -> None:
    routes = {"first": "query", "second": "document"}
    found = []
    for in_collator in (False, True):
        torch.manual_seed(0)
        towers = {name: list(small_model(tmp_path / name)) for name in ("query", "document")}
        made = SentenceTransformer(modules=[Router(towers)], device="cpu")
        collator = SentenceTransformerDataCollator(
            tokenize_fn=made_here(made) if in_collator else made.preprocess,
            valid_label_columns=["likeness"],
            router_mapping=routes if in_collator else {},
        )
        options = {} if in_collator else {"router_mapping": routes}
        found.append(
            train(made, tmp_path, DATA, options, data_collator=collator).state.log_history[-1]["eval_loss"]
        )
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    with pytest.raises(TypeError, match="needs `preprocess_fn`"):
        SentenceTransformerDataCollator()


@pytest.mark.parametrize("sampler", ["no_duplicates", "group_by_label"])
def test_samplers_know_the_label_column(model: SentenceTransformer, tmp_path: Path, sampler: str) -> None:
    data = DATA.remove_columns("likeness").add_column("same", [0, 1] * 8)
    collator = SentenceTransformerDataCollator(model.preprocess, valid_label_columns=["same"])
    trainer = train(model, tmp_path, data, {"batch_sampler": sampler}, data_collator=collator)
    assert [len(batch["label"]) for batch in trainer.get_train_dataloader()] == [4] * 4
