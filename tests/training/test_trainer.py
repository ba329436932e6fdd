"""The trainer trains, measures, saves, resumes and reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_common import scored_pairs, triplets
from transformers import TrainerCallback

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.evaluation import EmbeddingSimilarityEvaluator, TripletEvaluator

Arguments = Callable[..., Any]


def triplet_evaluator(name: str = "dev") -> TripletEvaluator:
    data = triplets(40, seed=9)
    return TripletEvaluator(data["anchor"], data["positive"], data["negative"], name=name)


def trainer_of(model: Any, args: Any, **kwargs: Any) -> SentenceTransformerTrainer:
    kwargs = {"train_dataset": triplets(), "loss": losses.MultipleNegativesRankingLoss(model)} | kwargs
    return SentenceTransformerTrainer(model=model, args=args, **kwargs)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_lowers_the_loss_and_changes_the_model(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    before = weights(model)
    trainer = trainer_of(model, arguments(max_steps=30))
    trainer.train()
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.1
    assert not torch.equal(before, weights(model))


def test_the_plan_is_printed_before_the_first_step(
    model: SentenceTransformer, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(prompts={"anchor": "query: "}, batch_sampler="no_duplicates")
    trainer_of(model, args, eval_dataset=triplets(8), evaluator=triplet_evaluator()).train()
    plan = capsys.readouterr().out.split("{'loss'")[0]
    assert (
        "train     96 rows: anchor (prompt 'query: '), positive, negative -> MultipleNegativesRanking" in plan
    )
    assert "evaluate  8 rows: anchor" in plan
    assert "batch     8 rows, sampled by no_duplicates" in plan
    assert "run       4 steps, learning rate 0.001" in plan
    assert "measure   TripletEvaluator dev" in plan


def test_evaluators_run_in_the_loop_with_and_without_evaluation_data(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    args = arguments(eval_strategy="steps", eval_steps=2)
    for data in (None, triplets(8)):
        trainer = trainer_of(model, args, eval_dataset=data, evaluator=triplet_evaluator())
        trainer.train()
        entries = [entry for entry in trainer.state.log_history if "eval_dev_cosine_accuracy" in entry]
        assert [entry["step"] for entry in entries] == [2, 4]
        assert all(("eval_loss" in entry) == (data is not None) for entry in entries)
    rows = (tmp_path / "run" / "eval" / "triplet_evaluation_dev_results.csv").read_text().splitlines()
    assert len(rows) == 1 + 4


def test_texts_of_evaluators_are_tokenised_once_for_all_evaluations(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    trainer = trainer_of(model, arguments(), evaluator=triplet_evaluator())
    tokenization = model[0].tokenization
    first, counted = trainer.evaluate(), tokenization.num_texts
    assert counted > 0
    again = trainer.evaluate()
    assert tokenization.num_texts == counted
    assert {k: v for k, v in again.items() if "accuracy" in k} == {
        k: v for k, v in first.items() if "accuracy" in k
    }
    model.max_seq_length = 3  # other tokens
    trainer.evaluate()
    assert tokenization.num_texts == 2 * counted
    model.encode(["a cat", "a dog"])
    assert tokenization.num_texts == 2 * counted + 2
    assert tokenization.kept is None


def test_several_evaluators_are_run_one_after_the_other(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    data = scored_pairs(30, seed=5)
    sts = EmbeddingSimilarityEvaluator(data["sentence1"], data["sentence2"], data["score"], name="sts")
    metrics = trainer_of(model, arguments(), evaluator=[triplet_evaluator(), sts]).evaluate()
    assert {"eval_dev_cosine_accuracy", "eval_sts_spearman_cosine", "eval_sequential_score"} <= set(metrics)


def test_the_loss_on_evaluation_data_is_the_mean_over_its_batches(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    loss = losses.CosineSimilarityLoss(model)
    data = scored_pairs(20)
    trainer = trainer_of(model, arguments(), train_dataset=data, eval_dataset=data, loss=loss)
    a, b = (torch.tensor(model.encode(data[column][:])) for column in ("sentence1", "sentence2"))
    errors = (torch.cosine_similarity(a, b) - torch.tensor(data["score"][:])) ** 2
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(errors.mean()), rel=1e-5)


def test_several_evaluation_sets_are_measured_by_name(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    metrics = trainer_of(
        model,
        arguments(),
        train_dataset={"nli": triplets(), "sts": scored_pairs()},
        eval_dataset={"nli": triplets(8), "sts": scored_pairs(8)},
        loss={"nli": losses.TripletLoss(model), "sts": losses.CoSENTLoss(model)},
        evaluator=triplet_evaluator(),
    ).evaluate()
    assert {"eval_nli_loss", "eval_sts_loss", "eval_dev_cosine_accuracy"} <= set(metrics)


def test_the_best_checkpoint_is_loaded_at_the_end(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    args = arguments(
        max_steps=6,
        learning_rate=5e-2,  # so high that the model gets worse
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=2,
        save_steps=2,
        load_best_model_at_end=True,
    )
    trainer = trainer_of(model, args, evaluator=triplet_evaluator())
    assert trainer.args.metric_for_best_model == "eval_dev_cosine_accuracy"
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best is not None
    found = {
        entry["step"]: entry["eval_dev_cosine_accuracy"]
        for entry in trainer.state.log_history
        if "eval_dev_cosine_accuracy" in entry
    }
    assert found[int(best.rpartition("-")[2])] == max(found.values())
    np.testing.assert_array_equal(
        model.encode("a cat sees"), SentenceTransformer(best, device="cpu").encode("a cat sees")
    )


class StopAt(TrainerCallback):
    """Stops the run after a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


RESUMED: dict[str, dict[str, Any]] = {
    "one set": {},
    "no duplicates": {"batch_sampler": "no_duplicates"},
    "micro batches": {"micro_batch_tokens": 40},
    "accumulation": {"gradient_accumulation_steps": 2},
    "several epochs": {"per_device_train_batch_size": 32},
}


@pytest.mark.parametrize("several", [False, True], ids=["one set", "two sets"])
@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_ends_bit_identical_to_one_that_never_stopped(
    dropout_folder: str, arguments: Arguments, tmp_path: Path, name: str, several: bool
) -> None:
    def run(folder: str, stop: int | None = None, resume: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(1 if resume else 0)
        model = SentenceTransformer(dropout_folder, device="cpu")
        softmax = losses.SoftmaxLoss(model, 32, 3)
        args = arguments(
            output_dir=str(tmp_path / folder),
            max_steps=7,
            save_strategy="steps",
            save_steps=3,
            **RESUMED[name],
        )
        labelled = triplets(64).select_columns(["anchor", "positive"]).add_column("label", [0, 1, 2, 1] * 16)
        data: Any = {"nli": labelled, "all": triplets(48)} if several else labelled
        loss: Any = (
            {"nli": softmax, "all": losses.MultipleNegativesRankingLoss(model)} if several else softmax
        )
        callbacks = [StopAt(stop)] if stop else []
        trainer = trainer_of(model, args, train_dataset=data, loss=loss, callbacks=callbacks)
        trainer.train(resume_from_checkpoint=str(tmp_path / folder / "checkpoint-3") if resume else None)
        return weights(model), weights(softmax.classifier)

    expected = run("whole")
    run("stopped", stop=5)
    found = run("stopped", resume=True)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_checkpoint_is_a_model_with_its_losses_weights(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    loss = losses.SoftmaxLoss(model, 32, 3)
    data = triplets(32).select_columns(["anchor", "positive"]).add_column("label", [0, 1, 2, 1] * 8)
    args = arguments(save_strategy="steps", save_steps=4)
    trainer_of(model, args, train_dataset=data, loss=loss).train()
    checkpoint = tmp_path / "run" / "checkpoint-4"
    saved = load_file(checkpoint / "loss.safetensors")
    assert any(torch.equal(value, loss.classifier.weight) for value in saved.values())
    np.testing.assert_array_equal(
        SentenceTransformer(checkpoint, device="cpu").encode("a cat"), model.encode("a cat")
    )


def test_resuming_with_another_loss_is_refused(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path
) -> None:
    args = arguments(save_strategy="steps", save_steps=2)
    trainer_of(model, args).train()
    data = triplets(32).select_columns(["anchor", "positive"]).add_column("label", [0, 1, 2, 1] * 8)
    other = trainer_of(model, args, train_dataset=data, loss=losses.SoftmaxLoss(model, 32, 3))
    with pytest.raises(ValueError, match="Resume with the loss that the run began with"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_losses_with_parts_log_each_by_name(model: SentenceTransformer, arguments: Arguments) -> None:
    loss = losses.GlobalOrthogonalRegularizationLoss(model)
    trainer = trainer_of(model, arguments(), loss=loss)
    trainer.train()
    first = trainer.state.log_history[0]
    parts = {name for name in first if name.startswith("gor_")}
    assert len(parts) == 2
    assert first["loss"] == pytest.approx(sum(first[part] for part in parts), rel=1e-4)


def test_a_loss_may_be_made_by_a_function_of_the_model(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    trainer = trainer_of(model, arguments(), loss=losses.MultipleNegativesRankingLoss)
    trainer.train()
    assert isinstance(trainer.trained.losses[0], losses.MultipleNegativesRankingLoss)


def test_cosent_is_the_loss_where_none_is_given(model: SentenceTransformer, arguments: Arguments) -> None:
    trainer = trainer_of(model, arguments(), train_dataset=scored_pairs(), loss=None)
    trainer.train()
    assert isinstance(trainer.trained.losses[0], losses.CoSENTLoss)


def test_callbacks_see_the_model(model: SentenceTransformer, arguments: Arguments) -> None:
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(kwargs["model"])

    trainer_of(model, arguments(), callbacks=[Look()]).train()
    assert seen == [model] * 4


def test_weights_and_optimiser_move_by_their_own_learning_rates(
    model: SentenceTransformer, arguments: Arguments
) -> None:
    trainer = trainer_of(model, arguments(learning_rate_mapping={r"embeddings\.": 0.0}))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.train()
    for name, parameter in model.named_parameters():
        if "pooler" not in name:
            assert torch.equal(parameter, before[name]) == ("embeddings." in name), name
