"""What other packages do in a run: adapters, searches, trackers; and half precision, checkpointing and compiling, in pairs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_common import triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses

Arguments = Callable[..., Any]


def trainer_of(model: Any, args: Any, **kwargs: Any) -> SentenceTransformerTrainer:
    kwargs = {"train_dataset": triplets(), "loss": losses.MultipleNegativesRankingLoss} | kwargs
    return SentenceTransformerTrainer(model=model, args=args, **kwargs)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks for a name that transformers gives up
def test_a_lora_adapter_trains_alone_is_checkpointed_resumed_and_merged(
    model: SentenceTransformer, folder: str, arguments: Arguments, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")

    def adapted() -> SentenceTransformer:
        torch.manual_seed(0)
        fresh = SentenceTransformer(folder, device="cpu")
        config = peft.LoraConfig(r=4, target_modules=["query", "value"])
        fresh[0].auto_model = peft.get_peft_model(fresh[0].auto_model, config)
        return fresh

    plain, model = model, adapted()
    args = arguments(max_steps=6, save_strategy="steps", save_steps=3, learning_rate=1e-2)
    trainer_of(model, args).train()
    base = {
        name.replace(".base_layer", ""): p
        for name, p in model[0].auto_model.get_base_model().named_parameters()
    }
    for name, parameter in plain[0].auto_model.named_parameters():
        assert torch.equal(parameter, base[name]), name
    checkpoint = tmp_path / "run" / "checkpoint-3"
    assert (checkpoint / "adapter_config.json").exists()
    assert not (checkpoint / "model.safetensors").exists()
    resumed = adapted()
    trainer_of(resumed, args).train(resume_from_checkpoint=str(checkpoint))
    expected = model.encode("a cat sees the dog")
    np.testing.assert_array_equal(resumed.encode("a cat sees the dog"), expected)
    assert not np.allclose(plain.encode("a cat sees the dog"), expected, atol=1e-4)
    model[0].auto_model = model[0].auto_model.merge_and_unload()
    np.testing.assert_allclose(model.encode("a cat sees the dog"), expected, atol=1e-5)
    model.save(str(tmp_path / "merged"))
    merged = SentenceTransformer(str(tmp_path / "merged"), device="cpu")
    np.testing.assert_allclose(merged.encode("a cat sees the dog"), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*:Warning:optuna")
def test_optuna_searches_over_fresh_models_and_losses(folder: str, arguments: Arguments) -> None:
    pytest.importorskip("optuna")
    made: list[SentenceTransformer] = []

    def model_init() -> SentenceTransformer:
        made.append(SentenceTransformer(folder, device="cpu"))
        return made[-1]

    trainer = trainer_of(
        None,
        arguments(max_steps=3, eval_strategy="no"),
        model_init=model_init,
        loss=lambda model: losses.SoftmaxLoss(model, 32, 3),
        train_dataset=triplets(32)
        .select_columns(["anchor", "positive"])
        .add_column("label", [0, 1, 2, 1] * 8),
        eval_dataset=triplets(8).select_columns(["anchor", "positive"]).add_column("label", [0, 1] * 4),
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)},
        compute_objective=lambda metrics: metrics["eval_loss"],
        n_trials=2,
        direction="minimize",
        backend="optuna",
    )
    assert 1e-5 <= best.hyperparameters["learning_rate"] <= 1e-2
    assert len({id(model) for model in made}) == len(made) >= 3
    assert trainer.trained.model is made[-1]
    with pytest.raises(
        ValueError, match="With `model_init` every run has a model of its own, but the `loss` belongs"
    ):
        trainer_of(
            None, arguments(), model_init=model_init, loss=losses.MultipleNegativesRankingLoss(made[0])
        )


def test_tensorboard_gets_the_loss_and_the_figures_of_health(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer_of(model, arguments(report_to="tensorboard")).train()
    events = EventAccumulator(str(next((tmp_path / "board").rglob("events*")).parent)).Reload()
    assert {"train/loss", "train/in_batch_accuracy", "train/uniformity"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("train/loss")) == 4


@pytest.mark.filterwarnings("ignore")
def test_codecarbon_measures_the_run_for_the_model_card(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("codecarbon")
    from transformers.integrations import CodeCarbonCallback

    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("CODECARBON_OFFLINE", "true")
    trainer = trainer_of(model, arguments(report_to="codecarbon"))
    callback = next(c for c in trainer.callback_handler.callbacks if isinstance(c, CodeCarbonCallback))
    trainer.train()
    assert callback.tracker.final_emissions is not None


MATRIX: dict[str, dict[str, Any]] = {
    "bf16": {"bf16": True},
    "accumulation": {"gradient_accumulation_steps": 2},
    "checkpointing": {"gradient_checkpointing": True},
    "micro-batches": {"micro_batch_tokens": 60},
    "compile": {"torch_compile": True, "torch_compile_backend": "eager"},
}


@pytest.mark.filterwarnings("ignore")  # of names that transformers gives up, and of the compiler
@pytest.mark.parametrize("names", [*[(name,) for name in MATRIX], *combinations(MATRIX, 2)], ids="+".join)
def test_each_way_to_save_time_or_memory_trains_alike_alone_and_in_pairs(
    names: tuple[str, ...], folder: str, arguments: Arguments
) -> None:
    def losses_of(**changes: Any) -> list[float]:
        model = SentenceTransformer(folder, device="cpu")
        trainer = trainer_of(model, arguments(max_steps=2, **changes))
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    changes = {key: value for name in names for key, value in MATRIX[name].items()}
    plain = losses_of(**({"gradient_accumulation_steps": 2} if "accumulation" in names else {}))
    found = losses_of(**changes)
    assert found == pytest.approx(plain, abs=0.15 if "bf16" in names else 2e-4)
    assert found != plain or "bf16" not in names
