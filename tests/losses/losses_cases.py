"""Losses by arguments that both libraries take, and embeddings for them; the models stand aside."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from losses_common import FixedModel
from small import small_tokenizer
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import util as reference_util

from likewise import losses, similarity

SIZE = 8
DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


@dataclass
class Case:
    """A loss by the same arguments in both libraries.

    Attributes:
        name: The class's name.
        columns: How many text columns.
        labels: Makes labels for a number of rows; None for none.
        ours: Keyword arguments.
        theirs: Keyword arguments of the reference, where they differ.
        guided: Whether the loss takes a guide.
        inner: The class inside a wrapper.
    """

    name: str
    columns: int = 2
    labels: Callable[[int], Tensor] | None = None
    ours: dict[str, Any] | None = None
    theirs: dict[str, Any] | None = None
    guided: bool = False
    inner: str | None = None

    def __str__(self) -> str:
        arguments = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in (self.ours or {}).items())
        return f"{self.name}({arguments})-{self.columns}" + (f"-{self.inner}" if self.inner else "")


def classes(rows: int) -> Tensor:
    return torch.arange(rows) % 3


def one_class(rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.long)


def all_different(rows: int) -> Tensor:
    return torch.arange(rows)


def binary(rows: int) -> Tensor:
    return torch.arange(rows) % 2


def zeros(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.long)


def graded(rows: int) -> Tensor:
    return (torch.arange(rows) * 7 % 5) / 4


def equal(rows: int) -> Tensor:
    return torch.full((rows,), 0.5)


def lists(width: int) -> Callable[[int], Tensor]:
    return lambda rows: torch.randn(rows, width, generator=torch.Generator().manual_seed(5))


def ranking_cases() -> list[Case]:
    cases = []
    for number in range(1, 5):
        for directions in itertools.combinations(DIRECTIONS, number):
            if "query_to_doc" not in directions:
                continue
            modes = ["joint"]
            if set(directions) <= {"query_to_doc", "doc_to_query"}:
                modes.append("per_direction")
            for mode in modes:
                cases.append(
                    Case(
                        "MultipleNegativesRankingLoss",
                        3,
                        None,
                        {"directions": directions, "partition_mode": mode},
                    )
                )
    for hardness in ("in_batch_negatives", "hard_negatives", "all_negatives"):
        for columns in (2, 4):
            arguments = {
                "hardness_mode": hardness, "hardness_strength": 5.0, "directions": DIRECTIONS, "scale": 7.0
            }  # fmt: skip
            cases.append(Case("MultipleNegativesRankingLoss", columns, None, arguments))
    for name in ("dot_score", "euclidean_sim", "manhattan_sim", "pytorch_cos_sim"):
        arguments = {
            "scale": 2.0,
            "directions": DIRECTIONS,
            "hardness_mode": "all_negatives",
            "hardness_strength": 1.0,
        }
        cases.append(
            Case(
                "MultipleNegativesRankingLoss",
                4,
                None,
                {**arguments, "similarity_fct": getattr(similarity, name)},
                {**arguments, "similarity_fct": getattr(reference_util, name)},
            )
        )
    cases += [Case("MultipleNegativesSymmetricRankingLoss", columns) for columns in (2, 3)]
    return cases


def triplet_cases() -> list[Case]:
    names = (
        "BatchAllTripletLoss",
        "BatchHardTripletLoss",
        "BatchHardSoftMarginTripletLoss",
        "BatchSemiHardTripletLoss",
    )
    cases = []
    for name in names:
        for labels in (classes, one_class, all_different):
            cases.append(Case(name, 1, labels))
            metric = "cosine_distance"
            margin = {} if "Soft" in name else {"margin": 0.4}
            ours = {"distance_metric": losses.BatchHardTripletLossDistanceFunction.cosine_distance, **margin}
            theirs = {
                "distance_metric": getattr(reference.BatchHardTripletLossDistanceFunction, metric),
                **margin,
            }
            cases.append(Case(name, 1, labels, ours, theirs))
    for metric in ("COSINE", "EUCLIDEAN", "MANHATTAN"):
        cases.append(
            Case(
                "TripletLoss",
                3,
                None,
                {"distance_metric": getattr(losses.TripletDistanceMetric, metric), "triplet_margin": 1.5},
                {"distance_metric": getattr(reference.TripletDistanceMetric, metric), "triplet_margin": 1.5},
            )
        )
    return cases


def pair_cases() -> list[Case]:
    cases = [
        *(Case("CoSENTLoss", 2, labels, {"scale": 5.0}) for labels in (graded, equal, binary)),
        Case("CoSENTLoss", 2, lambda rows: binary(rows).bool()),
        *(Case("AnglELoss", 2, labels) for labels in (graded, equal)),
        Case("AnglELoss", 3),
        Case("AnglELoss", 4, graded, {"scale": 3.0}),
        *(Case("CosineSimilarityLoss", 2, labels) for labels in (graded, equal)),
        Case("CosineSimilarityLoss", 2, graded, {"loss_fct": nn.L1Loss(), "cos_score_transformation": nn.Sigmoid()}),
        Case("ContrastiveLoss", 2, binary, {"size_average": False, "margin": 1.2}),
        Case("SoftmaxLoss", 2, classes, {"embedding_dimension": SIZE, "num_labels": 3}),
        Case(
            "SoftmaxLoss",
            2,
            classes,
            {
                "embedding_dimension": SIZE, "num_labels": 3, "concatenation_sent_rep": False,
                "concatenation_sent_multiplication": True,
            },
        ),
    ]  # fmt: skip
    for name in ("ContrastiveLoss", "OnlineContrastiveLoss"):
        for labels in (binary, one_class, zeros):
            cases.append(Case(name, 2, labels))
        for metric in ("EUCLIDEAN", "MANHATTAN"):
            ours = {"distance_metric": getattr(losses.SiameseDistanceMetric, metric), "margin": 3.0}
            theirs = {"distance_metric": getattr(reference.SiameseDistanceMetric, metric), "margin": 3.0}
            cases.append(Case(name, 2, binary, ours, theirs))
    return cases


def distillation_cases() -> list[Case]:
    shared, each = lists(SIZE), lambda rows: lists(3 * SIZE)(rows).view(rows, 3, SIZE)
    cases = [Case("MSELoss", 3, shared), Case("MSELoss", 3, each), Case("MSELoss", 1, shared)]
    cases += [Case("MSELoss", 2, lists(5), {"projection_dim": 5})]
    for metric in ("cosine", "mse", "l2"):
        cases += [
            Case("EmbedDistillLoss", 3, labels, {"distance_metric": metric}) for labels in (shared, each)
        ]
    cases += [Case("EmbedDistillLoss", 1, lists(5), {"projection_dim": 5})]
    cases += [Case("MarginMSELoss", 3, graded)]
    cases += [Case("MarginMSELoss", 5, lists(width)) for width in (3, 4)]
    cosine = (
        {"similarity_fct": similarity.pairwise_cos_sim},
        {"similarity_fct": reference_util.pairwise_cos_sim},
    )
    cases += [Case("MarginMSELoss", 3, lists(2), *cosine), Case("DistillKLDivLoss", 4, lists(3), *cosine)]
    for arguments in ({}, {"temperature": 2.0}, {"student_temperature": 0.5, "teacher_temperature": 3.0}):
        cases.append(Case("DistillKLDivLoss", 5, lists(4), arguments))
    return cases


def other_cases() -> list[Case]:
    cases = [
        Case("MegaBatchMarginLoss", 2, None, {"use_mini_batched_version": False}),
        Case(
            "MegaBatchMarginLoss",
            2,
            None,
            {"positive_margin": 2.0, "negative_margin": -1.0, "use_mini_batched_version": False},
        ),
    ]
    for arguments in (
        {},
        {"aggregation": "sum", "mean_weight": None},
        {"second_moment_weight": 0, "mean_weight": 2.0},
    ):
        cases.append(Case("GlobalOrthogonalRegularizationLoss", 3, None, arguments))
    for columns in (2, 3):
        for anchors, positives in itertools.product((True, False), repeat=2):
            arguments = {"contrast_anchors": anchors, "contrast_positives": positives, "temperature": 0.1}
            cases.append(Case("GISTEmbedLoss", columns, None, arguments, guided=True))
        for strategy in ("absolute", "relative"):
            arguments = {"margin_strategy": strategy, "margin": 0.2, "temperature": 0.1}
            cases.append(Case("GISTEmbedLoss", columns, None, arguments, guided=True))
    dims = {"matryoshka_dims": [SIZE, 6, 4], "matryoshka_weights": [1, 0.5, 2]}
    for inner, columns, labels in (
        ("MultipleNegativesRankingLoss", 3, None),
        ("CoSENTLoss", 2, graded),
        ("TripletLoss", 3, None),
        ("MSELoss", 2, lists(SIZE)),
        ("BatchHardTripletLoss", 1, classes),
    ):
        cases.append(Case("MatryoshkaLoss", columns, labels, dims, inner=inner))
    return cases


CASES = ranking_cases() + triplet_cases() + pair_cases() + distillation_cases() + other_cases()
SITUATIONS = ("random", "two rows", "a zero vector", "large norms")


def embeddings_for(case: Case, situation: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = 2 if situation == "two rows" else 9
    found = torch.randn(case.columns, rows, SIZE, generator=generator)
    if situation == "a zero vector":
        found[:, 1] = 0
    if situation == "large norms":
        found *= 3
    return [column.clone().requires_grad_() for column in found]


def build(module: Any, case: Case, arguments: dict[str, Any], model: FixedModel, guide: FixedModel) -> Any:
    if case.guided:
        return getattr(module, case.name)(model, guide, **arguments)
    inner = () if case.inner is None else (getattr(module, case.inner)(model),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(module, case.name)(model, *inner, **arguments)


def small_models(case: Case) -> tuple[FixedModel, FixedModel]:
    """A model and a guide for a case."""
    tokenizer = small_tokenizer() if case.guided else None
    return FixedModel(SIZE, tokenizer), FixedModel(6, tokenizer)
