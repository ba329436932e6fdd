"""What every loss has in common: declared columns, batches in every form, messages about what does not fit."""

from __future__ import annotations

import ast
import copy
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from losses_common import FixedModel, batch_of, texts

from likewise import losses
from likewise.engine import ColumnBatch
from likewise.engine.embed import packed
from likewise.losses.base import Columns, Label, Loss, function_name
from likewise.similarity import cos_sim


def padded(model: Any, columns: list[list[str]]) -> list[dict[str, torch.Tensor]]:
    return [model.tokenize(column) for column in columns]


def test_padded_columns_give_the_loss_of_packed_ones_and_are_embedded_together(model: Any) -> None:
    columns = texts(6, 3)
    loss = losses.MultipleNegativesRankingLoss(model)
    expected = loss(batch_of(model, columns))
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    found = loss(padded(model, columns))
    handle.remove()
    assert len(calls) == 1
    torch.testing.assert_close(found, expected)


def test_prompt_lengths_of_padded_columns_reach_the_pooling(model: Any) -> None:
    model.set_pooling_include_prompt(False)
    columns = [model.tokenize(column, "the cat ") for column in texts(4, 2)]
    batch = packed(model, columns)
    assert isinstance(batch, ColumnBatch)
    assert batch.tokens.prompt_lengths is not None
    assert set(batch.tokens.prompt_lengths.tolist()) == {3}


def test_columns_with_features_of_their_own_are_embedded_one_by_one(model: Any) -> None:
    columns = padded(model, texts(4, 2))
    for features in columns:
        features["extra"] = torch.ones(4)
    assert not isinstance(packed(model, columns), ColumnBatch)
    expected = losses.MultipleNegativesRankingLoss(model)(padded(model, texts(4, 2)))
    torch.testing.assert_close(losses.MultipleNegativesRankingLoss(model)(columns), expected)


def test_one_column_of_a_batch_is_its_texts_in_their_order(model: Any) -> None:
    columns = texts(7, 3)
    batch = batch_of(model, columns)
    for number, column in enumerate(columns):
        tokens = batch.column(number)
        assert tokens.lengths.tolist() == sorted(tokens.lengths.tolist())
        expected = model.tokenize(column)
        assert torch.equal(tokens.pad(tokens.input_ids), expected["input_ids"])


def test_the_references_name_of_compute_works() -> None:
    embeddings = [torch.randn(4, 8) for _ in range(3)]
    loss = losses.TripletLoss(FixedModel())  # type: ignore[arg-type]
    assert torch.equal(loss.compute_loss_from_embeddings(embeddings), loss.compute(embeddings))


def test_a_module_that_is_given_for_a_function_is_used_and_trained_along() -> None:
    class Weighted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(3.0))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.weight * a @ b.T

    own, pair = Weighted(), [torch.eye(4), torch.eye(4)]
    loss = losses.MultipleNegativesRankingLoss(FixedModel(4), scale=1.0, similarity_fct=own)  # type: ignore[arg-type]
    assert loss.similarity_fct is own
    assert any(weight is own.weight for weight in loss.parameters())
    assert loss.compute(pair).item() == pytest.approx(math.log(math.exp(3) + 3) - 3, rel=1e-5)
    assert copy.deepcopy(loss).similarity_fct is not own


def test_functions_are_named_with_their_settings() -> None:
    assert function_name(cos_sim) == "cos_sim"
    assert function_name(functools.partial(cos_sim)) == "cos_sim"
    assert function_name(functools.partial(cos_sim, b=1)) == "cos_sim(b=1)"
    assert function_name(torch.nn.CosineSimilarity()) == "CosineSimilarity"


@pytest.mark.parametrize("name", [name for name in losses.__all__ if name.endswith(("Loss", "Negatives"))])
def test_every_loss_declares_its_columns_and_documents_its_arguments(name: str) -> None:
    loss = getattr(losses, name)
    if name not in ("AdaptiveLayerLoss", "MatryoshkaLoss", "Matryoshka2dLoss"):
        assert all(isinstance(shape, Columns) for shape in loss.takes)
    assert "Args:\n" in loss.__doc__
    documented = set(loss.__doc__.split("Args:\n")[1].replace(":", " ").split())
    taken = loss.__init__.__code__
    arguments = taken.co_varnames[1 : taken.co_argcount + taken.co_kwonlyargcount]
    assert {a for a in arguments if a != "sentence_embedding_dimension"} <= documented


def test_labels_are_declared_by_kind_and_range() -> None:
    model: Any = FixedModel()
    assert losses.CosineSimilarityLoss(model).takes[0].label_range == (-1.0, 1.0)
    scaled = losses.CosineSimilarityLoss(model, cos_score_transformation=torch.nn.Sigmoid())
    assert scaled.takes[0].label_range is None
    softmax = losses.SoftmaxLoss(model, 8, 3)
    assert softmax.takes[0].label is Label.CLASS
    assert softmax.takes[0].label_range == (0, 2)
    assert (
        losses.SoftmaxLoss(model, 8, 3, loss_fct=torch.nn.BCEWithLogitsLoss()).takes[0].label is Label.NUMBERS
    )
    assert losses.MatryoshkaLoss(model, softmax, [8]).takes == softmax.takes
    assert losses.MultipleNegativesRankingLoss.takes[0].in_batch_negatives


def test_a_batch_of_one_is_enough_where_a_row_has_negatives_of_its_own() -> None:
    for loss in (losses.MultipleNegativesRankingLoss, losses.CachedGISTEmbedLoss):
        assert [loss.takes[0].least_rows(columns) for columns in (2, 3, 4)] == [2, 1, 1]
    assert losses.GlobalOrthogonalRegularizationLoss.takes[0].least_rows(3) == 2
    assert losses.TripletLoss.takes[0].least_rows(3) == 1


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.bool])
def test_classes_of_any_whole_number_type_are_taken(dtype: torch.dtype) -> None:
    loss = losses.SoftmaxLoss(MODEL, 8, 2)
    embeddings, labels = [torch.randn(4, 8), torch.randn(4, 8)], torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(loss.compute(embeddings, labels.to(dtype)), loss.compute(embeddings, labels))


def test_the_older_name_of_the_embedding_size_is_taken() -> None:
    loss = losses.SoftmaxLoss(FixedModel(), sentence_embedding_dimension=8, num_labels=3)  # type: ignore[arg-type]
    assert loss.classifier.in_features == 24


def test_without_labels_the_softmax_loss_returns_the_scores_of_the_classes(model: Any) -> None:
    loss = losses.SoftmaxLoss(model, 32, 3)
    embeddings, scores = loss(padded(model, texts(4, 2)), labels=None)  # type: ignore[misc]
    assert len(embeddings) == 2
    assert scores.shape == (4, 3)


def test_a_teachers_projection_is_saved_and_comes_back(tmp_path: Any) -> None:
    model: Any = FixedModel()
    first, second = losses.MSELoss(model, projection_dim=5), losses.EmbedDistillLoss(model)
    first.save_projection(tmp_path / "projection.safetensors")
    second.load_projection(tmp_path / "projection.safetensors")
    assert second.get_config_dict()["projection_dim"] == 5
    assert second.projection is not None
    assert first.projection is not None
    assert torch.equal(first.projection.weight, second.projection.weight)
    with pytest.raises(ValueError, match="maps 8 entries to 5, but this loss needs 8 to 4"):
        losses.MSELoss(model, projection_dim=4).load_projection(tmp_path / "projection.safetensors")
    with pytest.raises(ValueError, match="Pass `projection_dim`"):
        losses.MSELoss(model).save_projection(tmp_path / "other")


MODEL: Any = FixedModel()
PAIR = [torch.ones(3, 8), torch.ones(3, 8)]
WRONG_ARGUMENTS = [
    (lambda: losses.MultipleNegativesRankingLoss(MODEL, scale=0), "`scale` must be a number above 0, but is 0"),
    (lambda: losses.MultipleNegativesRankingLoss(MODEL, scale="20"), "`scale` must be a number above 0, but is '20'"),
    (lambda: losses.MultipleNegativesRankingLoss(MODEL, directions=()), "`directions` must be 'query_to_doc'"),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, directions=("query_to_doc", "x")),  # type: ignore[arg-type]
        r"but are \('query_to_doc', 'x'\)",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, partition_mode="x"),  # type: ignore[arg-type]
        "must be 'joint' or 'per_direction', but is 'x'",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(
            MODEL, directions=("query_to_doc", "doc_to_doc"), partition_mode="per_direction"
        ),
        "Drop the others, or take 'joint'",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, hardness_mode="x"),  # type: ignore[arg-type]
        "`hardness_mode` must be 'in_batch_negatives', 'hard_negatives', 'all_negatives' or None, but is 'x'",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, hardness_strength=-1.0),
        "`hardness_strength` must be at least 0, but is -1",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, mask_duplicates=True).compute(PAIR),
        "needs the `ids` of the columns",
    ),
    (
        lambda: losses.MultipleNegativesRankingLoss(MODEL, mask_duplicates=True)([{"column": 0}] * 2),  # type: ignore[list-item]
        "batch_sampler='no_duplicates'",
    ),
    (lambda: losses.GISTEmbedLoss(MODEL, MODEL), "`model` has no tokenizer"),
    (
        lambda: losses.GISTEmbedLoss(MODEL, MODEL, margin_strategy="x"),  # type: ignore[arg-type]
        "must be 'absolute' or 'relative', but is 'x'",
    ),
    (lambda: losses.GISTEmbedLoss(MODEL, MODEL, temperature=-1), "`temperature` must be a number above 0, but is -1"),
    (lambda: losses.CoSENTLoss(MODEL).compute(PAIR), "so 3 labels for this batch; but got none"),
    (lambda: losses.ContrastiveLoss(MODEL).compute(PAIR, torch.ones(3, 2)), r"got 6 in a tensor of shape \(3, 2\)"),
    (lambda: losses.AnglELoss(MODEL).compute(PAIR), "but got none"),
    (lambda: losses.CosineSimilarityLoss(MODEL)([{}], torch.ones(3)), "but got 1 text columns"),
    (lambda: losses.TripletLoss(MODEL)([{}, {}]), "takes anchor, positive, negative; no label; but got 2"),
    (
        lambda: losses.EmbedDistillLoss(MODEL, "x"),  # type: ignore[arg-type]
        "`distance_metric` must be 'mse', 'l2' or 'cosine', but is 'x'",
    ),
    (lambda: losses.MSELoss(MODEL).compute(PAIR), r"teacher\.encode"),
    (lambda: losses.MSELoss(MODEL).compute(PAIR, torch.ones(3, 3, 8)), r"labels of shape \(3, 3, 8\)"),
    (lambda: losses.MSELoss(MODEL).compute(PAIR, torch.ones(3, 5)), "Pass `projection_dim=5`"),
    (lambda: losses.MarginMSELoss(MODEL).compute([*PAIR, PAIR[0]], torch.ones(3, 4)), "1 margins or 2 scores"),
    (lambda: losses.MarginMSELoss(MODEL).compute([*PAIR, PAIR[0]]), "but got none"),
    (lambda: losses.DistillKLDivLoss(MODEL, temperature=0), "`temperature` must be positive and finite, but is 0"),
    (
        lambda: losses.DistillKLDivLoss(MODEL, teacher_temperature=float("inf")),
        "`teacher_temperature` must be positive and finite, but is inf",
    ),
    (lambda: losses.DistillKLDivLoss(MODEL).compute([*PAIR, PAIR[0]], torch.ones(3, 3)), "a list of 2 scores"),
    (
        lambda: losses.SoftmaxLoss(MODEL, 8, 3, concatenation_sent_rep=False, concatenation_sent_difference=False),
        "the classifier would see nothing",
    ),
    (lambda: losses.SoftmaxLoss(MODEL, 8, 3).compute(PAIR), "one class per row"),
    (lambda: losses.MatryoshkaLoss(MODEL, losses.CoSENTLoss(MODEL), []), r"from 1 to 8.*but is \[\]"),
    (lambda: losses.MatryoshkaLoss(MODEL, losses.CoSENTLoss(MODEL), [9]), r"but is \[9\]"),
    (lambda: losses.MatryoshkaLoss(MODEL, losses.CoSENTLoss(MODEL), [8, 4], [1.0]), "each of 2 sizes, but there are 1"),
    (
        lambda: losses.AdaptiveLayerLoss(MODEL, losses.CoSENTLoss(MODEL)),
        "whose first module is a Transformer, but it is a FixedModel",
    ),
    (
        lambda: losses.AdaptiveLayerLoss(MODEL, losses.CoSENTLoss(MODEL), layer_weighting="x"),  # type: ignore[arg-type]
        "`layer_weighting` must be one of uniform, log, linear, or a function, but is 'x'",
    ),
    (
        lambda: losses.GlobalOrthogonalRegularizationLoss(MODEL, mean_weight=0, second_moment_weight=None),
        "`mean_weight` is 0 and `second_moment_weight` is None",
    ),
    (
        lambda: losses.GlobalOrthogonalRegularizationLoss(MODEL, aggregation="x"),  # type: ignore[arg-type]
        "`aggregation` must be 'mean' or 'sum', but is 'x'",
    ),
    (lambda: losses.ContrastiveTensionLossInBatchNegatives(MODEL, scale=-1), "`scale` must be a number above 0, but is -1"),
    (lambda: losses.ContrastiveTensionLoss(MODEL).compute(PAIR), "but got none"),
    (lambda: losses.ContrastiveTensionDataLoader(["a"], 12), "Take a batch size of 8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"), WRONG_ARGUMENTS, ids=[message for _, message in WRONG_ARGUMENTS]
)
def test_what_does_not_fit_is_refused_with_the_value_and_the_fix(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


NUMBERS = [
    (losses.TripletLoss, "triplet_margin"),
    (losses.ContrastiveLoss, "margin"),
    (losses.OnlineContrastiveLoss, "margin"),
    (losses.BatchAllTripletLoss, "margin"),
    (losses.BatchHardTripletLoss, "margin"),
    (losses.MegaBatchMarginLoss, "positive_margin"),
    (losses.MegaBatchMarginLoss, "negative_margin"),
    (losses.CoSENTLoss, "scale"),
    (losses.AnglELoss, "scale"),
    (losses.GlobalOrthogonalRegularizationLoss, "mean_weight"),
    (losses.GlobalOrthogonalRegularizationLoss, "second_moment_weight"),
    (losses.MultipleNegativesRankingLoss, "hardness_strength"),
    (losses.CachedMultipleNegativesRankingLoss, "hardness_strength"),
    (functools.partial(losses.GISTEmbedLoss, guide=MODEL), "margin"),
    (functools.partial(losses.AdaptiveLayerLoss, loss=losses.CoSENTLoss(MODEL)), "kl_temperature"),
    (functools.partial(losses.AdaptiveLayerLoss, loss=losses.CoSENTLoss(MODEL)), "last_layer_weight"),
]


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_numbers_of_losses_are_numbers(kind: Any, name: str) -> None:
    for value in ("5", [1.0], math.nan, True, torch.ones(2)):
        with pytest.raises(ValueError, match=f"`{name}` must be a number, but is "):
            kind(MODEL, **{name: value})


def test_numbers_of_losses_may_be_tensors_arrays_and_learned() -> None:
    anchors, others = torch.eye(3, 8), torch.eye(3, 8).flip(0)
    for margin in (2, torch.tensor(2.0), torch.nn.Parameter(torch.tensor(2.0)), np.float32(2)):
        loss = losses.TripletLoss(MODEL, triplet_margin=margin)
        # The negative is as far as the positive in all rows.
        assert loss.get_config_dict()["triplet_margin"] == 2.0
        assert type(loss.get_config_dict()["triplet_margin"]) in (int, float)
        value = loss.compute([anchors, others, others])
        assert float(value.detach()) == 2.0
        if isinstance(margin, torch.nn.Parameter):
            value.backward()
            assert margin.grad == 1.0
            assert dict(loss.named_parameters())["triplet_margin"] is margin is loss.triplet_margin
    assert losses.GlobalOrthogonalRegularizationLoss(MODEL, mean_weight=None).mean_weight is None


def test_numbers_of_ones_own_loss_are_checked_but_for_their_default() -> None:
    @dataclass(eq=False, repr=False)
    class Own(Loss):
        model: Any
        temperature: float = None  # type: ignore[assignment]
        takes = ()

        def compute(self, embeddings: Any, labels: Any = None) -> torch.Tensor:
            return embeddings[0].sum()

    assert Own(MODEL).temperature is None
    assert Own(MODEL, 0.5).temperature == 0.5
    with pytest.raises(ValueError, match=r"`temperature` must be a number, but is '0\.5'"):
        Own(MODEL, "0.5")  # type: ignore[arg-type]


def test_sizes_of_losses_are_whole_numbers() -> None:
    inner = losses.CoSENTLoss(MODEL)
    for sizes in (["8"], "8", [4.0], [None], None, math.nan):
        with pytest.raises(ValueError, match="`matryoshka_dims` must be one or more sizes from 1 to 8, the"):
            losses.MatryoshkaLoss(MODEL, inner, sizes)  # type: ignore[arg-type]
    for given in (torch.tensor([4, 8]), np.array([8, 4]), (4, 8)):
        assert losses.MatryoshkaLoss(MODEL, inner, given).matryoshka_dims == (8, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`matryoshka_weights` must be a number, but is '1'"):
        losses.MatryoshkaLoss(MODEL, inner, [8], ["1"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"one weight for each of 2 sizes, but there are 1: \[0\.5\]"):
        losses.MatryoshkaLoss(MODEL, inner, [8, 4], 0.5)  # type: ignore[arg-type]
    for number in ("1", 1.5):
        with pytest.raises(ValueError, match="`n_dims_per_step` must be a whole number of at least -1"):
            losses.MatryoshkaLoss(MODEL, inner, [8], None, number)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`n_layers_per_step` must be a whole number of at least -1"):
            losses.AdaptiveLayerLoss(MODEL, inner, number)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`projection_dim` must be a whole number of at least 1"):
            losses.MSELoss(MODEL, number)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`num_labels` must be a whole number of at least 1"):
            losses.SoftmaxLoss(MODEL, 8, number)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`embedding_dimension` must be a whole number of at least 1"):
            losses.SoftmaxLoss(MODEL, number, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`temperature` must be positive and finite, but is '1'"):
        losses.DistillKLDivLoss(MODEL, temperature="1")  # type: ignore[arg-type]


def test_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        TypeError, match="`loss` must be a loss that computes from embeddings, but is a Linear"
    ):
        losses.MatryoshkaLoss(MODEL, torch.nn.Linear(1, 1), [8])
    with pytest.raises(TypeError, match=r"get_sentence_embedding_dimension\(\)"):
        losses.SoftmaxLoss(MODEL)


def test_functions_of_losses_are_functions() -> None:
    for kind, name in (
        (losses.MultipleNegativesRankingLoss, "similarity_fct"),
        (losses.CoSENTLoss, "similarity_fct"),
        (losses.TripletLoss, "distance_metric"),
        (losses.ContrastiveLoss, "distance_metric"),
        (losses.BatchAllTripletLoss, "distance_metric"),
    ):
        with pytest.raises(
            TypeError, match=f"`{name}` must be a function of two batches of embeddings, but is 'c"
        ):
            kind(MODEL, **{name: "cosine"})  # type: ignore[arg-type]


def test_settings_without_effect_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    losses.MultipleNegativesRankingLoss(MODEL, hardness_mode="hard_negatives")
    losses.MultipleNegativesRankingLoss(MODEL, hardness_strength=2.0)
    losses.MatryoshkaLoss(MODEL, losses.CoSENTLoss(MODEL), [4])
    assert [record.message.split()[0] for record in caplog.records] == [
        "hardness_mode='hard_negatives'", "hardness_mode=None", "`matryoshka_dims`"
    ]  # fmt: skip


def test_losses_import_no_model_no_trainer_and_no_card_not_even_for_types() -> None:
    for path in Path(losses.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith(("likewise.model.", "likewise.training", "likewise.card")), path
