"""Losses of late interaction: values and gradients of the reference's, cached, gathered, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentence_transformers.multi_vector_encoder.losses as theirs
import sentence_transformers.multi_vector_encoder.scoring as their_scoring
import torch
from multi_common import small_encoder, twins
from small import sentences
from torch import nn

from likewise.losses import CoSENTLoss
from likewise.multi_vector_encoder import losses, scoring
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

ROWS = 5
EXPANSION = {"strategy": "fixed", "length": 10}
COLUMNS = [sentences(ROWS, seed, longest) for seed, longest in ((1, 8), (2, 20), (3, 25), (4, 12))]
TEACHER = torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(7))


def batch(model: Any, columns: int) -> list[dict[str, Any]]:
    tasks = ["query", *["document"] * (columns - 1)]
    return [dict(model.preprocess(texts, task=task)) for texts, task in zip(COLUMNS, tasks, strict=False)]


def value_and_gradients(loss: nn.Module, columns: int, labels: Any) -> tuple[Any, list[Any]]:
    model: Any = loss.model
    model.zero_grad()
    value = loss(batch(model, columns), labels)
    value.backward()
    return value.detach(), [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]


CASES: list[tuple[str, int, Any, dict[str, Any]]] = [
    ("MultiVectorMultipleNegativesRankingLoss", 2, None, {}),
    ("MultiVectorMultipleNegativesRankingLoss", 4, None, {"scale": 0.5, "score_mini_batch_size": 2}),
    ("MultiVectorMultipleNegativesRankingLoss", 3, None, {"similarity_fct": "mean_colbert_scores", "scale": 10}),
    ("MultiVectorMultipleNegativesRankingLoss", 3, None, {"similarity_fct": "xtr_scores"}),
    ("CachedMultiVectorMultipleNegativesRankingLoss", 3, None, {"mini_batch_size": 2}),
    ("CachedMultiVectorMultipleNegativesRankingLoss", 3, None, {"mini_batch_num_tokens": 30}),
    ("MultiVectorMarginMSELoss", 3, TEACHER[:, 0], {}),
    ("MultiVectorMarginMSELoss", 4, TEACHER[:, :2], {"mini_batch_size": 3}),
    ("MultiVectorMarginMSELoss", 4, TEACHER, {"similarity_fct": "mean_colbert_scores_pairwise"}),
    ("MultiVectorDistillKLDivLoss", 4, TEACHER, {"temperature": 2.0}),
    ("MultiVectorDistillKLDivLoss", 4, TEACHER, {"student_temperature": 0.5, "similarity_fct": "mean_colbert_kd_scores"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "columns", "labels", "options"), CASES)
def test_values_and_gradients_are_the_references(
    tmp_path: Path, name: str, columns: int, labels: Any, options: dict[str, Any]
) -> None:
    models = twins(tmp_path, query_expansion=EXPANSION)
    found = []
    for model, home, functions in zip(models, (losses, theirs), (scoring, their_scoring), strict=True):
        own = dict(options)
        if "similarity_fct" in own:
            own["similarity_fct"] = getattr(functions, own["similarity_fct"])
        found.append(value_and_gradients(getattr(home, name)(model, **own), columns, labels))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_function_of_ones_own_is_handed_padded_tensors(tmp_path: Path) -> None:
    model = small_encoder(tmp_path, dropout=False)

    def scores(queries: Any, documents: Any, queries_mask: Any, documents_mask: Any) -> Any:
        assert queries.shape[:2] == queries_mask.shape
        assert documents.shape[:3] == documents_mask.shape
        return scoring.colbert_scores(queries, documents, queries_mask, documents_mask)

    own = losses.MultiVectorMultipleNegativesRankingLoss(model, similarity_fct=scores)
    plain = losses.MultiVectorMultipleNegativesRankingLoss(model)
    torch.testing.assert_close(own(batch(model, 3)), plain(batch(model, 3)))


def test_dropout_is_drawn_again_in_recomputed_chunks(tmp_path: Path) -> None:
    model = small_encoder(tmp_path, query_expansion=EXPANSION)
    model.train()
    loss = losses.CachedMultiVectorMultipleNegativesRankingLoss(model, mini_batch_size=2)
    torch.manual_seed(0)
    value, gradients = value_and_gradients(loss, 3, None)
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_by_chance_the_loss_is_the_log_of_the_number_of_documents(tmp_path: Path) -> None:
    loss = losses.MultiVectorMultipleNegativesRankingLoss(small_encoder(tmp_path))
    alike = TokenEmbeddings.from_list([torch.ones(3, 4)] * 6)
    torch.testing.assert_close(loss.compute([alike, alike, alike]), torch.tensor(12.0).log())


def test_arguments_are_told_in_the_card(tmp_path: Path) -> None:
    model = small_encoder(tmp_path)
    config = losses.MultiVectorMultipleNegativesRankingLoss(
        model, similarity_fct=scoring.XTRScores(3)
    ).get_config_dict()
    assert config["similarity_fct"] == "XTRScores"
    assert config["scale"] == 1.0
    config = losses.MultiVectorDistillKLDivLoss(model, teacher_temperature=2.0).get_config_dict()
    assert config["teacher_temperature"] == 2.0
    assert config["similarity_fct"] == "colbert_kd_scores"


def test_bad_input_is_refused_in_words(tmp_path: Path) -> None:
    model = small_encoder(tmp_path)
    with pytest.raises(ValueError, match="`scale` must be a number above 0, but is 0"):
        losses.MultiVectorMultipleNegativesRankingLoss(model, scale=0)
    with pytest.raises(ValueError, match="`mini_batch_size` must be a whole number of at least 1, but is 0"):
        losses.MultiVectorMarginMSELoss(model, mini_batch_size=0)
    with pytest.raises(
        ValueError, match="`score_mini_batch_size` must be a whole number of at least 1, but is 0"
    ):
        losses.MultiVectorMultipleNegativesRankingLoss(model, score_mini_batch_size=0)
    with pytest.raises(ValueError, match="`temperature` must be positive and finite, but is 0"):
        losses.MultiVectorDistillKLDivLoss(model, temperature=0)
    kl = losses.MultiVectorDistillKLDivLoss(model)
    with pytest.raises(
        ValueError, match=r"of shape \(5, 3\) for this batch; but got labels of shape \(5, 2\)"
    ):
        kl(batch(model, 4), TEACHER[:, :2])
    with pytest.raises(ValueError, match=r"takes query, document, document, .* but got 2 text columns"):
        kl(batch(model, 2), TEACHER[:, :1])
    with pytest.raises(ValueError, match="either 2 margins or 3 scores, the positive's first; but got none"):
        losses.MultiVectorMarginMSELoss(model)(batch(model, 4))
    assert CoSENTLoss.model_type != losses.MultiVectorMarginMSELoss.model_type
