"""Losses that somebody wrote, for the reference or by subclassing, work in the trainer and inside wrappers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from losses_common import batch_of, texts
from torch import Tensor, nn

from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from likewise.engine.embed import Embed
from likewise.engine.features import Padding


class ColumnByColumn(nn.Module):
    """As the reference's documentation writes it; adds to the features, as some do."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, sentence_features: Any, labels: Tensor) -> Any:
        embeddings = [self.model(features)["sentence_embedding"] for features in sentence_features]
        scores = self.scale * torch.cosine_similarity(*embeddings)
        return nn.functional.mse_loss(scores, labels.view(-1))


class InParts(ColumnByColumn):
    """Returns a dict, whose values are added up and logged."""

    def forward(self, sentence_features: Any, labels: Tensor) -> Any:
        loss = super().forward(sentence_features, labels)
        return {"near": loss * 0.25, "far": loss * 0.75}


class Split(ColumnByColumn):
    """Has the formula apart, by the reference's name."""

    def forward(self, sentence_features: Any, labels: Tensor) -> Any:
        embeddings = [self.model(features)["sentence_embedding"] for features in sentence_features]
        return self.compute_loss_from_embeddings(embeddings, labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.scale * torch.cosine_similarity(*embeddings), labels.view(-1))


class Doubled(losses.CosineSimilarityLoss):
    """A subclass by the reference's name of `compute`."""

    def compute_loss_from_embeddings(self, embeddings: Any, labels: Any = None) -> Any:
        return 2 * super().compute_loss_from_embeddings(embeddings, labels)


class OwnForward(losses.CosineSimilarityLoss):
    """A subclass with the reference's `forward`, which knows nothing of chunks."""

    def forward(self, sentence_features: Any, labels: Any = None) -> Any:  # type: ignore[override]
        return 3 * super().forward(sentence_features, labels)  # type: ignore[operator]


LABELS = torch.linspace(0, 1, 8)


def trained(model: Any, loss: Any, output: Path, **arguments: Any) -> Any:
    """The trainer after two steps."""
    first, second = texts(8, 2, seed=1)
    run = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(output), max_steps=2, per_device_train_batch_size=8, learning_rate=1e-2, logging_steps=1, use_cpu=True,
            report_to="none", disable_tqdm=True, save_strategy="no", **arguments,
        ),
        train_dataset=Dataset.from_dict({"first": first, "second": second, "label": LABELS.tolist()}),
        loss=loss,
    )  # fmt: skip
    run.train()
    return run


@pytest.mark.parametrize("kind", [ColumnByColumn, InParts, Split])
def test_a_loss_written_for_the_reference_trains_the_model_and_its_own_weights(
    kind: Any, model: Any, tmp_path: Path
) -> None:
    batch = batch_of(model, texts(8, 2, seed=1))
    expected = losses.CosineSimilarityLoss(model)(batch, LABELS).item()  # type: ignore[union-attr]
    loss = kind(model)
    before = {name: p.detach().clone() for name, p in loss.named_parameters()}
    run = trained(model, loss, tmp_path)
    first = run.state.log_history[0]
    model.eval()
    if kind is InParts:
        assert first["near"] + first["far"] == pytest.approx(first["loss"], rel=1e-4)
    changed = {name for name, p in loss.named_parameters() if not torch.equal(before[name], p)}
    assert "scale" in changed
    assert any("attention" in name for name in changed)
    assert first["loss"] == pytest.approx(expected, rel=0.2)  # dropout is on


def test_either_name_of_compute_may_be_replaced(model: Any) -> None:
    batch = batch_of(model, texts(8, 2, seed=1))
    plain = losses.CosineSimilarityLoss(model)(batch, LABELS)
    torch.testing.assert_close(Doubled(model)(batch, LABELS), 2 * plain)  # type: ignore[operator]
    wrapped = losses.MatryoshkaLoss(model, Doubled(model), [32])(batch, LABELS)
    torch.testing.assert_close(wrapped, 2 * plain)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["compute", "compute_loss_from_embeddings"])
def test_what_is_put_on_one_loss_is_called(
    model: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(model, texts(8, 2, seed=1))
    loss = losses.CosineSimilarityLoss(model)
    plain, compute = loss(batch, LABELS), getattr(loss, name)
    with monkeypatch.context() as patched:
        patched.setattr(loss, name, lambda embeddings, labels: 2 * compute(embeddings, labels))
        torch.testing.assert_close(loss(batch, LABELS), 2 * plain)
        wrapped = losses.MatryoshkaLoss(model, loss, [32])(batch, LABELS)
        torch.testing.assert_close(wrapped, 2 * plain)
    torch.testing.assert_close(loss(batch, LABELS), plain)
    calls: list[int] = []
    monkeypatch.setattr(loss, name, lambda embeddings, labels: calls.append(1) or compute(embeddings, labels))
    trained(model, loss, tmp_path)
    assert calls


def test_a_subclass_with_its_own_forward_trains(model: Any, tmp_path: Path) -> None:
    batch = batch_of(model, texts(8, 2, seed=1))
    plain = losses.CosineSimilarityLoss(model)(batch, LABELS)
    torch.testing.assert_close(OwnForward(model)(batch, LABELS), 3 * plain)  # type: ignore[operator]
    assert trained(model, OwnForward(model), tmp_path).state.global_step == 2


def test_an_own_forward_is_not_passed_by_inside_a_wrapper(model: Any) -> None:
    with pytest.raises(
        TypeError, match=r"OwnForward, whose own `forward` nothing would call inside Matryosh.*compute"
    ):
        losses.MatryoshkaLoss(model, OwnForward(model), [32])


def test_hooks_on_a_loss_see_its_calls(model: Any, tmp_path: Path) -> None:
    seen = []
    loss = losses.CosineSimilarityLoss(model)
    loss.register_forward_hook(lambda loss, inputs, value: seen.append(value.item()))
    run = trained(model, loss, tmp_path)
    logged = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert seen == pytest.approx(logged, abs=1e-4)


@pytest.mark.parametrize("kind", [ColumnByColumn, OwnForward])
def test_chunks_are_refused_where_the_loss_embeds_by_itself(kind: Any, model: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=f"{kind.__name__} embeds its batch by itself.*Drop `micro_batch_tokens`"
    ):
        trained(model, kind(model), tmp_path, micro_batch_tokens=64)


def test_a_wrapper_takes_a_foreign_loss_that_computes_from_embeddings(model: Any) -> None:
    batch = batch_of(model, texts(8, 2, seed=1))
    expected = losses.MatryoshkaLoss(model, losses.CosineSimilarityLoss(model), [32, 16])(batch, LABELS)
    foreign = losses.MatryoshkaLoss(model, Split(model), [32, 16])
    torch.testing.assert_close(foreign(batch, LABELS), expected)
    assert foreign.get_config_dict()["loss"] == "Split"
    assert any(name.endswith("scale") for name, _ in foreign.named_parameters())
    with pytest.raises(
        TypeError, match="`loss` must be a loss that computes from embeddings, but is a ColumnByColumn"
    ):
        losses.MatryoshkaLoss(model, ColumnByColumn(model), [32])


class Watching(ColumnByColumn):
    """Keeps the features it is handed."""

    seen: list[dict[str, Tensor]]

    def forward(self, sentence_features: Any, labels: Tensor) -> Any:
        self.seen = list(sentence_features)
        return super().forward(sentence_features, labels)


def test_padding_is_the_tokenizers_own(model: Any, tmp_path: Path) -> None:
    model.tokenizer.pad_token = "[MASK]"
    loss = Watching(model)
    trained(model, loss, tmp_path)
    padding = model.tokenizer.pad_token_id
    assert padding != 0
    for features in loss.seen:
        assert torch.equal(features["input_ids"] != padding, features["attention_mask"].bool())
        assert (features["attention_mask"] == 0).any()


def test_routes_with_tokenizers_of_their_own_have_their_own_padding(model: Any) -> None:
    first, second = replace(batch_of(model, texts(4, 2)), paddings=(Padding(7), Padding(0)))[:]
    assert set(first["input_ids"][first["attention_mask"] == 0].tolist()) == {7}
    assert set(second["input_ids"][second["attention_mask"] == 0].tolist()) == {0}


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (losses.BatchHardTripletLoss, "get_triplet_mask"),
        (losses.CachedMultipleNegativesRankingLoss, "calculate_loss"),
        (losses.GISTEmbedLoss, "sim_matrix"),
        (losses.MegaBatchMarginLoss, "forward_mini_batched"),
    ],
)
def test_a_step_that_would_never_be_called_cannot_be_replaced(kind: Any, step: str) -> None:
    with pytest.raises(TypeError, match=rf"`{step}` of Mine would never be called.* Write `compute\("):
        type("Mine", (kind,), {step: lambda *arguments: None})
    own = type("Own", (kind,), {"forward": lambda self, features, labels: getattr(self, step)()})
    type("Mine", (own,), {step: lambda *arguments: None})


def test_steps_that_the_reference_names_are_called(model: Any) -> None:
    class Spread(losses.GlobalOrthogonalRegularizationLoss):
        def compute_gor(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
            return embeddings.sum() * 0 + 2, embeddings.sum() * 0 + 3

    class Layers(losses.AdaptiveLayerLoss):
        def get_layer_weight(self, layer_idx: int) -> float:
            return 0.0

    batch = batch_of(model, texts(4, 2))
    assert [round(v.item()) for v in Spread(model)(batch).values()] == [2, 3]  # type: ignore[union-attr]
    inner = losses.MultipleNegativesRankingLoss(model)
    last = Layers(model, inner, n_layers_per_step=-1, kl_temperature=0)(batch)
    torch.testing.assert_close(last, inner(batch))


class Halved(losses.MSELoss):
    """Overrides what gets a teacher's embeddings for each column."""

    def compute_loss_from_embeddings(self, embeddings: Any, teacher_embeddings: Any) -> Any:
        assert len(embeddings) == len(teacher_embeddings) == 2
        return super().compute_loss_from_embeddings(embeddings, teacher_embeddings) / 2


def test_a_teachers_embeddings_come_as_one_batch_for_each_column(model: Any) -> None:
    batch, teacher = batch_of(model, texts(8, 2, seed=1)), torch.randn(8, 32)
    loss = losses.MSELoss(model)
    embeddings = loss.read(batch, Embed())
    expected = loss.compute(embeddings, teacher)
    torch.testing.assert_close(loss.compute_loss_from_embeddings(embeddings, [teacher, teacher]), expected)
    torch.testing.assert_close(Halved(model)(batch, teacher), expected / 2)
    with pytest.raises(ValueError, match="for 2 text columns, but got 1 of them"):
        loss.compute_loss_from_embeddings(embeddings, [teacher])


class Negated(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return -a @ b.T


def test_a_function_that_is_an_object_is_named_and_can_be_replaced(model: Any) -> None:
    class L2:
        def __call__(self, a: Tensor, b: Tensor) -> Tensor:
            return -torch.cdist(a, b)

    loss = losses.MultipleNegativesRankingLoss(model, similarity_fct=L2())
    assert loss.get_config_dict()["similarity_fct"] == "L2"
    loss = losses.MultipleNegativesRankingLoss(model, similarity_fct=Negated())
    loss.similarity_fct = similarity = Negated()
    assert loss.similarity_fct is similarity
    assert dict(loss.named_children())["similarity_fct"] is similarity
    loss.similarity_fct = None  # type: ignore[assignment]
    assert loss.similarity_fct is None
