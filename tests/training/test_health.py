"""Figures of health beside the loss, prompts, token caches, and collators of one's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.models import Router
from likewise.training.data.data_collator import SentenceTransformerDataCollator
from likewise.training.run.health import Health, embedding_figures

Arguments = Callable[..., Any]


def trainer_of(model: Any, args: Any, **kwargs: Any) -> SentenceTransformerTrainer:
    kwargs = {"train_dataset": triplets(), "loss": losses.MultipleNegativesRankingLoss} | kwargs
    return SentenceTransformerTrainer(model=model, args=args, **kwargs)


def test_figures_are_those_of_a_slow_computation() -> None:
    torch.manual_seed(0)
    columns = [torch.randn(12, 5) for _ in range(3)]
    a, p, n = (normalize(column, dim=-1) for column in columns)
    found = embedding_figures(columns, ("anchor", "positive", "negative"))
    right = distances = 0.0
    for i in range(12):
        scores = [float(a[i] @ text) for text in (*p, *n)]
        right += scores.index(max(scores)) == i
        distances += sum(float((-2 * (a[i] - a[j]).square().sum()).exp()) for j in range(12) if j != i)
    assert found["in_batch_accuracy"] == pytest.approx(right / 12)
    assert found["positive_cosine"] == pytest.approx(float((a * p).sum(-1).mean()), abs=1e-5)
    assert found["negative_cosine"] == pytest.approx(float((a * n).sum(-1).mean()), abs=1e-5)
    assert found["uniformity"] == pytest.approx(float(torch.tensor(distances / 132).log()), abs=1e-4)


def test_there_are_figures_where_each_column_has_one_batch_of_embeddings(model: SentenceTransformer) -> None:
    health, pair = Health(model), [torch.randn(6, 5), torch.randn(6, 5)]
    columns: list[dict[str, Any]] = [{}, {}]
    for embeddings in ((), pair[:1], [torch.stack([x, x], dim=1) for x in pair]):
        health.look(embeddings, columns, ("anchor", "positive"))
        assert not health.figures
    health.look(pair, columns, ("anchor", "positive"))
    assert health.figures == embedding_figures(pair, ("anchor", "positive"))


def test_a_run_logs_its_health(model: SentenceTransformer, arguments: Arguments) -> None:
    model.max_seq_length = 6
    trainer = trainer_of(model, arguments())
    trainer.train()
    first = trainer.state.log_history[0]
    assert 0 <= first["in_batch_accuracy"] <= 1
    assert 0 < first["truncated_share"] <= 1
    assert first["tokens_per_second"] > 0
    assert 0 <= first["padding_avoided"] < 1
    args = arguments()
    pairs = trainer_of(model, args, train_dataset=scored_pairs(), loss=losses.CoSENTLoss)
    pairs.train()
    assert -1 <= pairs.state.log_history[0]["pair_cosine"] <= 1


def test_a_collapse_is_told_once(
    model: SentenceTransformer, arguments: Arguments, caplog: pytest.LogCaptureFixture
) -> None:
    class Collapse(losses.CosineSimilarityLoss):
        def compute(self, embeddings: Any, labels: Any = None) -> Any:
            first = embeddings[0]
            return (first - first.mean(0, keepdim=True)).square().sum()

    args = arguments(max_steps=40, learning_rate=1e-2)
    with caplog.at_level(logging.WARNING):
        trainer_of(model, args, train_dataset=scored_pairs(), loss=Collapse).train()
    assert caplog.text.count("The embeddings collapse: different texts have a cosine of ") == 1
    assert "Lower `learning_rate`" in caplog.text


def test_prompts_are_saved_with_the_model_when_asked_and_missed_otherwise(
    model: SentenceTransformer, arguments: Arguments, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = {"anchor": "the child sees ", "positive": "a ", "negative": "a "}
    with caplog.at_level(logging.WARNING):
        trainer_of(model, arguments(prompts=prompts)).train()
    assert "Column 'anchor' is trained with the prompt 'the child sees '" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        trainer_of(model, arguments(prompts=prompts, save_prompts=True)).train()
    assert "prompt" not in caplog.text
    model.save(str(tmp_path / "saved"))
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert saved.prompts == {"query": "the child sees ", "document": "a "}
    with caplog.at_level(logging.WARNING):
        trainer_of(saved, arguments()).train()
    assert (
        "The model has prompts (query: 'the child sees ', document: 'a '), but is trained without"
        in caplog.text
    )
    with pytest.raises(ValueError, match=r"cannot save one document prompt: it is 'a ' .* but 'the '"):
        trainer_of(model, arguments(prompts=prompts | {"negative": "the "}, save_prompts=True)).train()
    with pytest.raises(ValueError, match="`save_prompts=True`, but there is no training prompt"):
        trainer_of(model, arguments(save_prompts=True)).train()


def test_token_ids_are_kept_for_the_next_run(
    folder: str, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**changes: Any) -> list[float]:
        trainer = trainer_of(SentenceTransformer(folder, device="cpu"), arguments(**changes))
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    cache = {"token_cache_dir": str(tmp_path / "tokens")}
    expected = run()
    assert run(**cache) == expected
    (kept,) = (tmp_path / "tokens").iterdir()

    def refuse(*args: Any) -> Any:
        raise AssertionError("tokenised again")

    monkeypatch.setattr("likewise.training.data.reader.tokenise", refuse)
    assert run(**cache) == expected
    assert list((tmp_path / "tokens").iterdir()) == [kept]
    with pytest.raises(AssertionError, match="tokenised again"):
        run(**cache, prompts="the ")


def test_kept_token_ids_are_of_their_route_and_are_found_after_other_texts(
    folder: str, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(query: str, document: str, **changes: Any) -> list[float]:
        short, long = (list(SentenceTransformer(folder, device="cpu")) for _ in range(2))
        short[0].max_seq_length = 4
        model = SentenceTransformer(modules=[Router({"short": short, "long": long})], device="cpu")
        if changes:  # leaves its own cutting and padding behind in the tokenizer
            model.encode(["a cat"] * 3, task="long")
            model.tokenize(["a cat", "a dog and a bird"], task="short")
        mapping = {"anchor": query, "positive": document, "negative": document}
        trainer = trainer_of(model, arguments(max_steps=3, router_mapping=mapping, **changes))
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    cache = {"token_cache_dir": str(tmp_path / "tokens")}
    for ways in (("short", "long"), ("long", "short")):
        assert run(*ways, **cache) == run(*ways)
    kept = set((tmp_path / "tokens").iterdir())
    assert len(kept) == 2
    run("short", "long", **cache)
    assert set((tmp_path / "tokens").iterdir()) == kept


def test_a_collator_of_ones_own_makes_the_batches(
    model: SentenceTransformer, folder: str, arguments: Arguments
) -> None:
    data = triplets().rename_columns({"positive": "anchor_b"})  # a name that begins as another one does
    calls: list[int] = []

    class Counting(SentenceTransformerDataCollator):
        def __call__(self, rows: Any) -> Any:
            calls.append(len(rows))
            return super().__call__(rows)

    def run(collator: Any) -> list[float]:
        fresh = SentenceTransformer(folder, device="cpu")
        trainer = trainer_of(fresh, arguments(), train_dataset=data, data_collator=collator)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert run(Counting(model.tokenize)) == pytest.approx(run(None), abs=1e-5)
    assert set(calls) == {8}
    with pytest.raises(ValueError, match=r"The batch has 'x', but no features: a `data_collator` calls them"):
        run(lambda rows: {"x": torch.ones(1)})
