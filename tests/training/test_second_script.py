"""The script of several data sets, a loss each, as its users write it; and the other ways in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer
from likewise.evaluation import EmbeddingSimilarityEvaluator, SequentialEvaluator, TripletEvaluator
from likewise.losses import CoSENTLoss, MatryoshkaLoss, MultipleNegativesRankingLoss, SoftmaxLoss

Arguments = Callable[..., Any]


@pytest.fixture
def in_folder(tmp_path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def four_sets() -> dict[str, Dataset]:
    pairs = triplets(24).select_columns(["anchor", "positive"])
    classes = (
        triplets(16)
        .select_columns(["anchor", "positive"])
        .rename_columns({"anchor": "premise", "positive": "hypothesis"})
    )
    return {
        "pairs": pairs,
        "classes": classes.add_column("label", [0, 1, 2, 1] * 4),
        "scores": scored_pairs(16),
        "triplets": triplets(16),
    }


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("as_dict", [True, False])
def test_several_data_sets_with_a_loss_each_train_without_arguments(
    model: SentenceTransformer, as_dict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    mnrl = MultipleNegativesRankingLoss(model)
    softmax = SoftmaxLoss(model, model.get_sentence_embedding_dimension(), 3)
    cosent = CoSENTLoss(model)
    train = four_sets()
    trainer = SentenceTransformerTrainer(
        model=model,
        train_dataset=train if as_dict else DatasetDict(train),
        eval_dataset={"triplets": triplets(8, seed=3), "scores": scored_pairs(8, seed=3)},
        loss={
            "pairs": mnrl,
            "classes": softmax,
            "scores": cosent,
            "triplets": MatryoshkaLoss(model, mnrl, [32, 16]),
        },
    )
    head = softmax.classifier.weight.detach().clone()
    trainer.train()
    assert trainer.state.global_step == 3 * (3 + 2 + 2 + 2)
    assert not head.equal(softmax.classifier.weight)
    assert {"eval_triplets_loss", "eval_scores_loss"} <= set(trainer.evaluate())
    assert Path("tmp_trainer").is_dir()


def test_lists_of_evaluators_write_their_csv_files_and_tell_the_best_checkpoint(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    scores, tripled = scored_pairs(20, seed=5), triplets(20, seed=6)
    evaluators = [
        EmbeddingSimilarityEvaluator(scores["sentence1"], scores["sentence2"], scores["score"], name="sts"),
        TripletEvaluator(tripled["anchor"], tripled["positive"], tripled["negative"], name="nli"),
    ]
    args = arguments(
        max_steps=6, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        load_best_model_at_end=True, save_total_limit=1,
    )  # fmt: skip
    for evaluator in (evaluators, SequentialEvaluator(evaluators, main_score_function=min)):
        trainer = SentenceTransformerTrainer(
            model, args, triplets(), {"dev": triplets(8)}, MultipleNegativesRankingLoss(model), evaluator
        )
        assert trainer.args.metric_for_best_model == "eval_sequential_score"
        trainer.train()
        entries = [entry for entry in trainer.state.log_history if "eval_sequential_score" in entry]
        assert [entry["step"] for entry in entries] == [2, 4, 6]
        assert all(
            {"eval_sts_spearman_cosine", "eval_nli_cosine_accuracy"} <= set(entry) for entry in entries
        )
    names = {path.name for path in (tmp_path / "run" / "eval").iterdir()}
    assert names == {"similarity_evaluation_sts_results.csv", "triplet_evaluation_nli_results.csv"}
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) <= 2


def test_a_metric_that_was_named_is_looked_for_before_the_first_step(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    data = triplets(20, seed=6)
    evaluator = TripletEvaluator(data["anchor"], data["positive"], data["negative"], name="nli")

    def trainer(metric: str) -> SentenceTransformerTrainer:
        args = arguments(
            max_steps=2, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
            load_best_model_at_end=True, metric_for_best_model=metric,
        )  # fmt: skip
        loss = MultipleNegativesRankingLoss(model)
        return SentenceTransformerTrainer(model, args, triplets(), loss=loss, evaluator=evaluator)

    wrong = trainer("nli_cosine_acuracy")
    with pytest.raises(
        ValueError, match=r"is 'nli_cosine_acuracy', .* Did you mean 'eval_nli_cosine_accuracy'\?"
    ):
        wrong.train()
    assert wrong.state.global_step == 0
    right = trainer("nli_cosine_accuracy")
    right.train()
    assert right.state.best_global_step == 2


def test_a_best_checkpoint_that_cannot_be_loaded_is_an_error(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    args = arguments(
        max_steps=2, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        load_best_model_at_end=True,
    )  # fmt: skip

    class Damaging(SentenceTransformerTrainer):
        def _save_checkpoint(self, *args: Any) -> None:
            super()._save_checkpoint(*args)
            assert self.state.best_model_checkpoint is not None
            (Path(self.state.best_model_checkpoint) / "model.safetensors").write_bytes(b"cut")

    trainer = Damaging(model, args, triplets(), triplets(8), MultipleNegativesRankingLoss(model))
    with pytest.raises(Exception, match=r"model\.safetensors|HeaderTooSmall|header"):
        trainer.train()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "arrow", "sql"])
def test_files_of_every_kind_are_data(
    kind: str, model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    data, path = triplets(16), str(tmp_path / f"rows.{kind}")
    if kind == "sql":
        import sqlite3

        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE rows (anchor TEXT, positive TEXT, negative TEXT)")
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", [tuple(row.values()) for row in data])
        connection.close()
        loaded = Dataset.from_sql(
            "SELECT * FROM rows", f"sqlite:///{path}", cache_dir=str(tmp_path / "cache")
        )
    else:
        if kind == "arrow":
            data.save_to_disk(str(tmp_path / "saved"))
            path = str(next((tmp_path / "saved").glob("*.arrow")))
        else:
            getattr(data, f"to_{kind}")(path)
        loaded = load_dataset(kind, data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    trainer = SentenceTransformerTrainer(
        model, arguments(max_steps=2), loaded, loss=MultipleNegativesRankingLoss(model)
    )
    assert trainer.plans["train"][0].texts == ("anchor", "positive", "negative")
    trainer.train()
