"""Losses of sparse models: values and gradients of the reference, formulas, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import sentences
from sparse_common import small_csr, small_splade

from likewise import similarity
from likewise.engine import ColumnBatch, TokenSequences
from likewise.engine.embed import Embed
from likewise.sparse_encoder import SparseEncoder, losses

reference = pytest.importorskip("sentence_transformers")
theirs = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
COLUMNS = [sentences(6, seed) for seed in (1, 2, 3)]
CASES: dict[str, tuple[str, int, Any]] = {
    "ranking": ("SparseMultipleNegativesRankingLoss", 3, None),
    "margins": ("SparseMarginMSELoss", 3, torch.linspace(-1, 1, 6)),
    "scores": ("SparseDistillKLDivLoss", 3, torch.linspace(-1, 1, 12).view(6, 2)),
    "triplet": ("SparseTripletLoss", 3, None),
    "cosine": ("SparseCosineSimilarityLoss", 2, torch.linspace(0, 1, 6)),
    "cosent": ("SparseCoSENTLoss", 2, torch.linspace(0, 1, 6)),
    "angle": ("SparseAnglELoss", 2, torch.linspace(0, 1, 6)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("losses")
    small_splade(path).save(str(path / "splade"))
    csr = small_csr(path)
    csr[2].dead_threshold = 3  # type: ignore[assignment]
    csr.save(str(path / "csr"))
    return path


def pair(folder: Path, kind: str) -> tuple[SparseEncoder, Any]:
    path = str(folder / kind)
    return SparseEncoder(path, device="cpu").train(), reference.SparseEncoder(path, device="cpu").train()


def packed(model: SparseEncoder, number: int) -> ColumnBatch:
    parts = [model.token_sequences(column) for column in COLUMNS[:number]]
    return ColumnBatch(TokenSequences.concatenate(parts).pack(), number)


def total(parts: Any) -> torch.Tensor:
    return sum(parts.values()) if isinstance(parts, dict) else parts


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name.replace("auto_model.", "model."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_same(ours: Any, theirs: Any, models: tuple[Any, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value.to(ours[name].dtype), rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
    total(ours).backward()
    total(theirs).backward()
    found, expected = (gradients(model) for model in models)
    assert found.keys() == expected.keys()
    rounding = 2e-5 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("case", CASES)
def test_splade_loss_equals_the_reference_around_each_loss(folder: Path, case: str) -> None:
    name, number, labels = CASES[case]
    models = pair(folder, "splade")
    values = []
    for model, home in zip(models, (losses, theirs), strict=True):
        loss = home.SpladeLoss(  # type: ignore[attr-defined]
            model,
            getattr(home, name)(model),
            document_regularizer_weight=0.3,
            query_regularizer_weight=0.2,
            document_regularizer_threshold=20,
        )
        if home is losses:
            values.append(loss(packed(models[0], number), labels))
        else:
            values.append(loss([dict(model.preprocess(column)) for column in COLUMNS[:number]], labels))
        assert model.similarity_fn_name == ("cosine" if number == 2 else "dot")
    assert_same(*values, models)


@pytest.mark.parametrize("arguments", [{}, {"beta": 0.5, "gamma": 2.0}])
def test_csr_loss_equals_the_reference_with_its_counts_of_dead_latents(
    folder: Path, arguments: dict[str, float]
) -> None:
    models = pair(folder, "csr")
    for _ in range(3):
        for model in models:
            model.zero_grad()
        ours = losses.CSRLoss(models[0], **arguments)(packed(models[0], 3))
        features = [dict(models[1].preprocess(column)) for column in COLUMNS]
        assert_same(ours, theirs.CSRLoss(models[1], **arguments)(features), models)
        assert torch.equal(models[0][2].stats_last_nonzero, models[1][2].stats_last_nonzero)
    assert (models[0][2].stats_last_nonzero > 3).any()


@pytest.mark.parametrize("kind", ["splade", "csr"])
def test_recomputed_chunks_give_the_same_loss_and_gradients(folder: Path, kind: str) -> None:
    results = []
    for embed in (Embed(), Embed(recompute_tokens=20)):
        model, _ = pair(folder, kind)
        inner = losses.SparseMultipleNegativesRankingLoss(model)
        loss = losses.CSRLoss(model, inner) if kind == "csr" else losses.SpladeLoss(model, inner, 0.3, 0.2)
        value = total(loss(packed(model, 3), None, embed))
        value.backward()
        results.append((value.detach(), gradients(model)))
    torch.testing.assert_close(results[0][0], results[1][0])
    rounding = 2e-5 * max(float(gradient.abs().max()) for gradient in results[0][1].values())
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-3, atol=rounding)


def test_the_cached_spelling_recomputes_chunks(folder: Path) -> None:
    model, _ = pair(folder, "splade")
    inner = losses.SparseMultipleNegativesRankingLoss(model)
    cached = losses.CachedSpladeLoss(model, inner, 0.3, 0.2, mini_batch_size=2)
    assert cached.embed.recomputes
    plain = losses.SpladeLoss(model, inner, 0.3, 0.2)
    torch.testing.assert_close(total(cached(packed(model, 3))), total(plain(packed(model, 3))))
    assert cached.get_config_dict()["mini_batch_size"] == 2


def test_flops_is_the_sum_of_squared_means_of_rows_that_are_wide_enough() -> None:
    rows = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    loss = losses.FlopsLoss(None)
    assert loss.compute_loss_from_embeddings(rows) == 2.0**2 + 1.0**2
    assert losses.FlopsLoss(None, threshold=1).compute_loss_from_embeddings(rows) == 0.5**2 + 1.0**2


def test_all_columns_may_be_regularised_as_documents(folder: Path, caplog: Any) -> None:
    model, _ = pair(folder, "splade")
    inner = losses.SparseMultipleNegativesRankingLoss(model)
    loss = losses.SpladeLoss(
        model, inner, 0.3, query_regularizer_weight=1.0, use_document_regularizer_only=True
    )
    assert "is ignored" in caplog.text
    embeddings = [torch.rand(3, 4), torch.rand(3, 4)]
    parts = loss.compute(embeddings)
    expected = 0.3 * torch.cat(embeddings).mean(dim=0).square().sum()
    torch.testing.assert_close(parts["document_regularizer_loss"], expected)
    assert "query_regularizer_loss" not in parts


@pytest.mark.parametrize("name", [name for name, _, _ in CASES.values()])
def test_a_loss_that_makes_nothing_sparse_does_not_stand_alone(folder: Path, name: str) -> None:
    model, _ = pair(folder, "splade")
    with pytest.raises(AttributeError, match=f"{name} should not be used alone"):
        getattr(losses, name)(model)(packed(model, 2), None)


def test_bad_losses_are_refused_in_words(folder: Path) -> None:
    model, _ = pair(folder, "splade")
    inner = losses.SparseMultipleNegativesRankingLoss(model)
    with pytest.raises(ValueError, match="`document_regularizer_weight` must be at least 0, but is -1"):
        losses.SpladeLoss(model, inner, -1, 0.1)
    with pytest.raises(ValueError, match="last module is a SparseAutoEncoder, but this one's is a Splade"):
        losses.CSRLoss(model)
    with pytest.raises(ValueError, match="`threshold` must be"):
        losses.FlopsLoss(model, -2)
    with pytest.raises(TypeError, match="must be a loss that computes from embeddings, but is a Identity"):
        losses.SpladeLoss(model, torch.nn.Identity(), 0.1, 0.1)
    for none, shown in ((torch.nn.Identity(), r"Identity\(\)"), (losses.FlopsLoss, "<class '.*FlopsLoss'>")):
        with pytest.raises(
            ValueError, match=rf"`compute_loss_from_embeddings\(embeddings\)`, but is {shown}"
        ):
            losses.SpladeLoss(model, inner, 0.1, 0.1, document_regularizer=none)
    for weight in (None, "3e-5"):
        with pytest.raises(ValueError, match=f"must be at least 0, but is {weight!r}. Pass a number"):
            losses.SpladeLoss(model, inner, weight)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="computes from embeddings, but is a class"):
        losses.SpladeLoss(model, losses.SparseMultipleNegativesRankingLoss, 0.1)  # type: ignore[arg-type]
    for loss in (losses.FlopsLoss(model), losses.CSRReconstructionLoss(model)):
        with pytest.raises(NotImplementedError, match="should not be used alone"):
            loss([])


@pytest.mark.parametrize(
    ("name", "argument", "wrong", "fix"),
    [
        ("SparseMultipleNegativesRankingLoss", "similarity_fct", similarity.pairwise_dot_score, "dot_score"),
        ("SparseMarginMSELoss", "similarity_fct", similarity.dot_score, "pairwise_dot_score"),
        ("SparseDistillKLDivLoss", "similarity_fct", similarity.euclidean_sim, "pairwise_euclidean_sim"),
        ("SparseCoSENTLoss", "similarity_fct", similarity.cos_sim, "pairwise_cos_sim"),
        ("SparseTripletLoss", "distance_metric", similarity.manhattan_sim, "pairwise_manhattan_sim"),
    ],
)
def test_a_similarity_of_the_other_shape_is_refused_with_the_one_that_fits(
    folder: Path, name: str, argument: str, wrong: Any, fix: str
) -> None:
    model, _ = pair(folder, "splade")
    loss = getattr(losses, name)
    with pytest.raises(
        ValueError, match=rf"`{argument}` must score .*, which {wrong.__name__} does not. Pass {fix}\."
    ):
        loss(model, **{argument: wrong})
    with pytest.raises(TypeError, match=f"`{argument}` must be a function, but is 'dot'"):
        loss(model, **{argument: "dot"})
    assert loss(model, **{argument: getattr(similarity, fix)})


def test_one_column_is_regularised_as_documents_or_refused_in_words(folder: Path) -> None:
    model, _ = pair(folder, "splade")
    inner = losses.SparseMSELoss(model)
    columns, wanted = [torch.rand(3, 5)], torch.rand(3, 5)
    with pytest.raises(
        ValueError, match=r"SparseMSELoss got one column\. Pass `use_document_regularizer_only=True`"
    ):
        losses.SpladeLoss(model, inner, 0.1, 0.1).compute(columns, wanted)
    found = losses.SpladeLoss(model, inner, 0.1, use_document_regularizer_only=True).compute(columns, wanted)
    assert found["base_loss"] == inner.compute(columns, wanted)
    assert float(found["document_regularizer_loss"]) == pytest.approx(
        0.1 * float(columns[0].mean(dim=0).square().sum())
    )
