"""SparseEncoderTrainer: plan, schedule, resume, recomputed chunks, routes, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import sentences, small_tokenizer
from sparse_common import small_csr, small_mlm_folder, small_splade
from transformers import TrainerCallback

from likewise import SentenceTransformerTrainer
from likewise import losses as dense_losses
from likewise.sparse_encoder import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments
from likewise.sparse_encoder.callbacks import SpladeRegularizerWeightSchedulerCallback
from likewise.sparse_encoder.losses import (
    CSRLoss,
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
)
from likewise.sparse_encoder.modules import MLMTransformer, Router, SparseStaticEmbedding, SpladePooling

ROWS = Dataset.from_dict(
    {"anchor": sentences(24, 1), "positive": sentences(24, 2), "negative": sentences(24, 3)}
)


def arguments(folder: Path, **changed: Any) -> SparseEncoderTrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 6,
        "learning_rate": 1e-3,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return SparseEncoderTrainingArguments(**settings | changed)


def splade_loss(model: Any) -> SpladeLoss:
    return SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 3e-3, 5e-3)


class Seen(TrainerCallback):
    """Keeps what is logged, as reporters get it."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def trained(
    folder: Path, model: SparseEncoder, loss: Any = None, callbacks: Any = None, **changed: Any
) -> SparseEncoderTrainer:
    trainer = SparseEncoderTrainer(
        model=model,
        args=arguments(folder, **changed),
        train_dataset=ROWS,
        loss=loss,
        callbacks=callbacks,
    )
    trainer.train()
    return trainer


def test_the_weights_of_the_default_loss_rise_by_the_square_and_are_logged(tmp_path: Path) -> None:
    seen = Seen()
    trainer = trained(tmp_path, small_splade(tmp_path), callbacks=[seen])
    assert type(trainer.loss) is SpladeLoss
    weights = [log["document_regularizer_weight"] for log in seen.logs[:6]]
    assert weights == pytest.approx([0.0, 3e-5 / 4, *[3e-5] * 4])
    assert seen.logs[5]["query_regularizer_weight"] == pytest.approx(5e-5)
    assert {"base_loss", "document_regularizer_loss"} <= trainer.state.log_history[0].keys()


def test_a_schedule_of_ones_own_is_kept_and_comes_second(tmp_path: Path, caplog: Any) -> None:
    model = small_splade(tmp_path)
    loss = splade_loss(model)
    own = SpladeRegularizerWeightSchedulerCallback(loss, "linear", warmup_ratio=1.0)
    seen = Seen()
    trainer = trained(tmp_path, model, loss, callbacks=[own, seen])
    assert "rise from 0" not in caplog.text
    assert trainer.callback_handler.callbacks[1] is own
    weights = [log["document_regularizer_weight"] for log in seen.logs[:6]]
    assert weights == pytest.approx([3e-3 * step / 6 for step in range(6)])


def test_a_training_makes_the_loss_smaller(tmp_path: Path) -> None:
    trainer = trained(tmp_path, small_splade(tmp_path), splade_loss, max_steps=30)
    logs = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert sum(logs[-5:]) < 0.8 * sum(logs[:5])


def test_csr_trains_too_in_chunks_and_out_of_them(tmp_path: Path) -> None:
    trainer = trained(tmp_path, small_csr(tmp_path), CSRLoss, max_steps=4)
    assert "reconstruction_loss_k" in trainer.state.log_history[0]
    trained(tmp_path, small_csr(tmp_path / "again"), CSRLoss, max_steps=2, micro_batch_tokens=40)


def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a", small_splade(tmp_path), splade_loss, save_strategy="steps", save_steps=3)
    model = small_splade(tmp_path)
    again = SparseEncoderTrainer(
        model=model,
        args=arguments(tmp_path / "a", save_strategy="steps", save_steps=3),
        train_dataset=ROWS,
        loss=splade_loss,
    )
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_recomputed_chunks_train_to_the_same_weights(tmp_path: Path) -> None:
    first, second = (
        trained(
            tmp_path,
            small_splade(tmp_path),
            splade_loss,
            max_steps=2,
            optim="sgd",
            micro_batch_tokens=size,
        ).model
        for size in (None, 30)
    )
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_an_inference_free_model_trains_its_weights_at_a_rate_of_their_own(tmp_path: Path) -> None:
    static = SparseStaticEmbedding(small_tokenizer())
    document = [MLMTransformer(small_mlm_folder(tmp_path)), SpladePooling()]
    model = SparseEncoder(
        modules=[Router.for_query_document(query_modules=[static], document_modules=document)], device="cpu"
    )
    before = static.weight.detach().clone()
    loss = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 3e-3)
    trained(
        tmp_path,
        model,
        loss,
        router_mapping={"anchor": "query", "positive": "document", "negative": "document"},
        learning_rate_mapping={r"query\.0\.weight": 1e-2},
    )
    assert not torch.equal(static.weight, before)


def test_weights_of_words_train_without_a_transformer(tmp_path: Path) -> None:
    model = SparseEncoder(modules=[SparseStaticEmbedding(small_tokenizer())], device="cpu")
    loss = SpladeLoss(model, SparseMultipleNegativesRankingLoss(model), 0.0, 0.0)
    rows = Dataset.from_dict({"anchor": sentences(24, 1), "positive": sentences(24, 1)})
    args = arguments(tmp_path, learning_rate=0.1)
    SparseEncoderTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()
    model.save_pretrained(str(tmp_path / "words"))
    weight = SparseEncoder(str(tmp_path / "words"), device="cpu")[0].weight
    assert torch.equal(weight, model[0].weight)
    assert (weight != 1).any()


def test_half_precision_computes_finite_losses(tmp_path: Path) -> None:
    trainer = trained(tmp_path, small_splade(tmp_path), splade_loss, bf16=True, max_steps=2)
    assert all(torch.isfinite(torch.tensor(log["loss"])) for log in trainer.state.log_history[:2])


def test_the_saved_card_names_loss_and_weights(tmp_path: Path) -> None:
    trainer = trained(tmp_path, small_splade(tmp_path), splade_loss, max_steps=1)
    trainer.model.save(str(tmp_path / "saved"))
    text = (tmp_path / "saved" / "README.md").read_text()
    assert "SpladeLoss" in text
    assert "document_regularizer_weight" in text
    assert "formal2022distillation" in text


def test_what_does_not_belong_together_is_refused_in_words(tmp_path: Path) -> None:
    model = small_splade(tmp_path)
    with pytest.raises(AttributeError, match="should not be used alone"):
        SparseEncoderTrainer(
            model=model,
            args=arguments(tmp_path),
            train_dataset=ROWS,
            loss=SparseMultipleNegativesRankingLoss(model),
        )
    with pytest.raises(TypeError, match="is for a SentenceTransformer, but the model is a SparseEncoder"):
        SparseEncoderTrainer(
            model=model,
            args=arguments(tmp_path),
            train_dataset=ROWS,
            loss=dense_losses.MultipleNegativesRankingLoss(model),
        )
    with pytest.raises(TypeError, match="is for a SparseEncoder"):
        SentenceTransformerTrainer(model=model, train_dataset=ROWS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="anchor, positive, any number of negatives"):
        SparseEncoderTrainer(
            model=model,
            args=arguments(tmp_path),
            train_dataset=ROWS.select_columns("anchor"),
            loss=splade_loss,
        )
    with pytest.raises(ValueError, match="must be a SpladeLoss"):
        SpladeRegularizerWeightSchedulerCallback(CSRLoss(small_csr(tmp_path)))  # type: ignore[arg-type]


def test_a_schedule_that_is_unknown_becomes_the_usual_one_with_a_warning(tmp_path: Path, caplog: Any) -> None:
    loss = splade_loss(small_splade(tmp_path))
    found = SpladeRegularizerWeightSchedulerCallback(loss, "cubic", warmup_ratio=2.0)
    assert (found.scheduler_type.value, found.warmup_ratio) == ("quadratic", 1 / 3)
    assert "There is no schedule 'cubic'" in caplog.text
    assert "`warmup_ratio` should be above 0" in caplog.text
