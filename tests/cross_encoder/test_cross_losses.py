"""Losses over scores of pairs: against slow loops over their formulas, against the reference, whole and recomputed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cross_common import reranker_folder
from small import sentences
from torch import Tensor

from likewise import CrossEncoder
from likewise.cross_encoder import losses
from likewise.engine.embed import Embed

LENGTHS = (3, 1, 5, 3, 2)
QUERIES = sentences(len(LENGTHS), seed=1, longest=5)
DOCUMENTS = [sentences(n, seed=10 + n + row, longest=16) for row, n in enumerate(LENGTHS)]
LABELS = [[0.0, 2.0, 1.0], [1.0], [3.0, 0.5, 0.0, 0.5, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0]]
TEXTS = [sentences(6, seed=20 + column, longest=12) for column in range(4)]

# Name, options, columns, labels.
Case = tuple[str, dict[str, Any], list[Any], Any]
LISTS: tuple[list[Any], list[list[float]]] = ([QUERIES, DOCUMENTS], LABELS)
CASES: dict[str, Case] = {
    "bce": ("BinaryCrossEntropyLoss", {}, TEXTS[:2], [1, 0, 1, 0, 0, 1]),
    "bce, soft": ("BinaryCrossEntropyLoss", {}, TEXTS[:2], [1, 0.2, 0.7, 0, 0, 1]),
    "bce, weighted": (
        "BinaryCrossEntropyLoss",
        {"pos_weight": torch.tensor(3.0), "activation_fn": torch.nn.Tanh()},
        TEXTS[:2],
        [1, 0, 1, 0, 0, 1],
    ),
    "mse": ("MSELoss", {}, TEXTS[:2], [0.1, 0.9, -3, 0.4, 0, 1]),
    "mse, sigmoid": ("MSELoss", {"activation_fn": torch.nn.Sigmoid()}, TEXTS[:2], [0.1, 0.9, 0.3, 0.4, 0, 1]),
    "margin": ("MarginMSELoss", {}, TEXTS[:3], [0.5, -1, 2, 0, 1, 1]),
    "margins": ("MarginMSELoss", {}, TEXTS, [[0.5, 1], [-1, 0], [2, 2], [0, 1], [1, 0.2], [1, 0]]),
    "margins of scores": (
        "MarginMSELoss",
        {},
        TEXTS,
        [[0.5, 1, 0], [-1, 0, 2], [2, 2, 1], [0, 1, 1], [1, 0.2, 0], [1, 0, 0]],
    ),
    "mnrl": ("MultipleNegativesRankingLoss", {}, TEXTS[:2], None),
    "mnrl, negatives": ("MultipleNegativesRankingLoss", {"num_negatives": 2}, TEXTS, None),
    "mnrl, all": (
        "MultipleNegativesRankingLoss",
        {"num_negatives": None, "scale": 3.0, "activation_fn": torch.nn.Identity()},
        TEXTS[:3],
        None,
    ),
    "cached mnrl": ("CachedMultipleNegativesRankingLoss", {"mini_batch_size": 3}, TEXTS[:3], None),
    "lambda": ("LambdaLoss", {}, *LISTS),
    "lambda, k": ("LambdaLoss", {"k": 2}, *LISTS),
    "lambda, natural": ("LambdaLoss", {"reduction_log": "natural", "sigma": 2.0}, *LISTS),
    "lambda, mini-batches": ("LambdaLoss", {"mini_batch_size": 4}, *LISTS),
    "lambda, plain": ("LambdaLoss", {"weighting_scheme": None}, *LISTS),
    "lambda, ndcg1": ("LambdaLoss", {"weighting_scheme": "NDCGLoss1Scheme"}, *LISTS),
    "lambda, ndcg1, k": ("LambdaLoss", {"weighting_scheme": "NDCGLoss1Scheme", "k": 1}, *LISTS),
    "lambda, ndcg2": ("LambdaLoss", {"weighting_scheme": "NDCGLoss2Scheme"}, *LISTS),
    "lambda, rank": ("LambdaLoss", {"weighting_scheme": "LambdaRankScheme"}, *LISTS),
    "ranknet": ("RankNetLoss", {}, *LISTS),
    "ranknet, k": ("RankNetLoss", {"k": 1}, *LISTS),
    "listnet": ("ListNetLoss", {}, *LISTS),
    "listnet, sigmoid": ("ListNetLoss", {"activation_fn": torch.nn.Sigmoid()}, *LISTS),
    "listmle": ("ListMLELoss", {}, *LISTS),
    "listmle, sorted": ("ListMLELoss", {"respect_input_order": False}, *LISTS),
    "plistmle": ("PListMLELoss", {}, *LISTS),
    "plistmle, sorted": ("PListMLELoss", {"respect_input_order": False}, *LISTS),
    "plistmle, plain": ("PListMLELoss", {"lambda_weight": None}, *LISTS),
    "adr": ("ADRMSELoss", {}, *LISTS),
    "adr, steep": ("ADRMSELoss", {"alpha": 4.0, "activation_fn": torch.nn.Sigmoid()}, *LISTS),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"), dropout=False)


@pytest.fixture(scope="module")
def classes_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"), num_labels=3, dropout=False)


def load(folder: str) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu").train()


def theirs(folder: str) -> Any:
    import sentence_transformers

    return sentence_transformers.CrossEncoder(folder, device="cpu").train()


def as_labels(labels: Any) -> Any:
    """As a data collator gives them: a tensor of numbers, or a list of tensors."""
    if labels is None or isinstance(labels, Tensor):
        return labels
    if isinstance(labels[0], list):
        return [torch.tensor(row) for row in labels]
    return torch.tensor(labels)


def options_of(module: Any, options: dict[str, Any]) -> dict[str, Any]:
    scheme = options.get("weighting_scheme")
    return {**options, "weighting_scheme": getattr(module, scheme)()} if isinstance(scheme, str) else options


def value_and_gradients(
    loss: Any, model: Any, columns: Any, labels: Any, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(4)
    value = loss(columns, as_labels(labels), **kwargs)
    value.backward()
    return value.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_references(case: str, folder: str) -> None:
    import sentence_transformers.cross_encoder.losses as reference

    name, options, columns, labels = CASES[case]
    model, other = load(folder), theirs(folder)
    ours = getattr(losses, name)(model, **options_of(losses, options))
    their = getattr(reference, name)(other, **options_of(reference, options))
    found, gradients = value_and_gradients(ours, model, columns, labels)
    expected, wanted = value_and_gradients(their, other, columns, labels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert set(gradients) == set(wanted)
    for key, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, wanted[key], rtol=1e-3, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}"
        )
    config = {
        key: str(value).replace("sentence_transformers", "likewise")
        for key, value in their.get_config_dict().items()
    }
    assert {key: str(value) for key, value in ours.get_config_dict().items()} == config
    assert bool(ours.citation) or name in ("BinaryCrossEntropyLoss", "MSELoss")


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, torch.tensor([0, 2, 1, 1, 0, 2])),
        ({"label_smoothing": 0.1}, torch.tensor([[0], [2], [1], [1], [0], [2]])),
        ({"weight": torch.tensor([1.0, 2.0, 0.5])}, torch.tensor([0, 2, 1, 1, -100, 2])),
        ({"activation_fn": torch.nn.Tanh()}, torch.eye(3).repeat(2, 1)),
    ],
)
def test_cross_entropy_equals_the_references(options: Any, labels: Tensor, classes_folder: str) -> None:
    import sentence_transformers.cross_encoder.losses as reference

    model, other = load(classes_folder), theirs(classes_folder)
    if options.get("activation_fn") is None:
        options = {"activation_fn": torch.nn.Identity(), **options}
    found, gradients = value_and_gradients(
        losses.CrossEntropyLoss(model, **options), model, TEXTS[:2], labels
    )
    expected, wanted = value_and_gradients(
        reference.CrossEntropyLoss(other, **options), other, TEXTS[:2], labels
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_recomputed_chunks_give_the_same(case: str, folder: str) -> None:
    name, options, columns, labels = CASES[case]
    model = load(folder)
    loss = getattr(losses, name)(model, **options_of(losses, options))
    whole = value_and_gradients(loss, model, columns, labels)
    parts = value_and_gradients(
        loss, model, columns, labels, score=Embed(output="scores", recompute_tokens=30)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("case", ["bce", "margins", "mnrl, negatives", "lambda"])
def test_pairs_may_be_tokenised_ahead(case: str, folder: str) -> None:
    name, options, columns, labels = CASES[case]
    model = load(folder)
    loss = getattr(losses, name)(model, **options)
    expected = value_and_gradients(loss, model, columns, labels)
    torch.manual_seed(4)
    lists = loss.pairs(columns)
    batch = losses.PairBatch(model.token_sequences(lists.pairs).pack(), lists.lengths)
    torch.testing.assert_close(value_and_gradients(loss, model, batch, labels), expected)


@pytest.mark.parametrize("case", ["bce", "lambda"])
def test_features_of_the_pairs_will_do(case: str, folder: str) -> None:
    name, options, columns, labels = CASES[case]
    model = load(folder)
    loss = getattr(losses, name)(model, **options)
    features = dict(model.preprocess(loss.pairs(columns).pairs))
    found = value_and_gradients(loss, model, features, labels)
    torch.testing.assert_close(found, value_and_gradients(loss, model, columns, labels))


def test_a_prompt_is_in_front_of_each_query(folder: str) -> None:
    model = load(folder)
    loss = losses.ListNetLoss(model)
    prompted = [["the " + query for query in QUERIES], DOCUMENTS]
    torch.testing.assert_close(
        loss([QUERIES, DOCUMENTS], as_labels(LABELS), prompt="the "), loss(prompted, as_labels(LABELS))
    )


def test_a_padded_model_trains_too(tmp_path: Path) -> None:
    model = load(reranker_folder(tmp_path, "deberta", dropout=False))
    loss = losses.LambdaLoss(model)
    whole = value_and_gradients(loss, model, *LISTS)
    torch.testing.assert_close(
        value_and_gradients(loss, model, *LISTS, score=Embed(output="scores", recompute_tokens=40)),
        whole,
        rtol=1e-3,
        atol=2e-5,
    )


def test_dropout_draws_the_same_in_recomputed_chunks(tmp_path: Path) -> None:
    model = load(reranker_folder(tmp_path))
    loss = losses.ListNetLoss(model)
    kept, again = (
        value_and_gradients(
            loss, model, *LISTS, score=Embed(output="scores", recompute_tokens=30, keep_tokens=tokens)
        )
        for tokens in (10_000, 0)
    )
    torch.testing.assert_close(kept, again)


# Slow loops over the formulas, on scores without a model.


class OneScore(torch.nn.Module):
    """What a loss needs to know of a model when it only computes."""

    num_labels = 1


SCORES = torch.randn(sum(LENGTHS), 1, generator=torch.Generator().manual_seed(3)) * 2
SIZES = torch.tensor(LENGTHS)


def lists() -> list[tuple[list[float], list[float]]]:
    parts = SCORES.view(-1).split(list(LENGTHS))
    return [(part.tolist(), labels) for part, labels in zip(parts, LABELS, strict=True)]


def slow_lambda(
    weight: Callable[[int, int, list[float], int], float], all_pairs: bool, k: int | None
) -> float:
    terms = []
    for scores, labels in lists():
        order = sorted(range(len(scores)), key=lambda d: -scores[d])
        s, y = [scores[d] for d in order], [labels[d] for d in order]
        best = sorted(labels, reverse=True)
        dcg = sum((2**v - 1) / math.log2(2 + r) for r, v in enumerate(best[: k or len(best)]))
        gains = [(2**v - 1) / max(dcg, 1e-10) for v in y]
        for i in range(len(s)):
            for j in range(len(s)):
                if (all_pairs or y[i] > y[j]) and min(i, j) < (k or len(s)):
                    log_sigmoid = -math.log1p(math.exp(-(s[i] - s[j])))
                    terms.append(weight(i + 1, j + 1, gains, len(s)) * log_sigmoid)
    return -sum(terms) / len(terms) / math.log(2)


def ndcg2(i: int, j: int, gains: list[float], n: int) -> float:
    if i == j:
        return 0.0
    distance = abs(i - j)
    return abs(1 / math.log2(1 + distance) - 1 / math.log2(2 + distance)) * abs(gains[i - 1] - gains[j - 1])


def lambda_rank(i: int, j: int, gains: list[float], n: int) -> float:
    return abs(1 / math.log2(1 + i) - 1 / math.log2(1 + j)) * abs(gains[i - 1] - gains[j - 1])


@pytest.mark.parametrize("k", [None, 1, 2, 9])
@pytest.mark.parametrize(
    ("scheme", "weight"),
    [
        (losses.NoWeightingScheme(), lambda i, j, gains, n: 1.0),
        (losses.NDCGLoss1Scheme(), lambda i, j, gains, n: gains[i - 1] / math.log2(1 + i)),
        (losses.NDCGLoss2Scheme(), ndcg2),
        (losses.LambdaRankScheme(), lambda_rank),
        (losses.NDCGLoss2PPScheme(4.0), lambda *a: 4 * ndcg2(*a) + lambda_rank(*a)),
    ],
)
def test_lambda_loss_is_its_formula(scheme: Any, weight: Any, k: int | None) -> None:
    loss = losses.LambdaLoss(OneScore(), weighting_scheme=scheme, k=k)
    found = loss.compute(SCORES, LABELS, SIZES).item()
    assert found == pytest.approx(
        slow_lambda(weight, isinstance(scheme, losses.NDCGLoss1Scheme), k), rel=1e-5
    )


def test_list_net_is_its_formula() -> None:
    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value) for value in values]
        return [power / sum(powers) for power in powers]

    expected = -sum(
        sum(p * math.log(q) for p, q in zip(softmax(labels), softmax(scores), strict=True))
        for scores, labels in lists()
    ) / len(LENGTHS)
    assert losses.ListNetLoss(OneScore()).compute(SCORES, LABELS, SIZES).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_list_mle_is_its_formula(sort: bool, weighted: bool) -> None:
    total = 0.0
    for scores, labels in lists():
        order = sorted(range(len(scores)), key=lambda d: -labels[d]) if sort else range(len(scores))
        s, n = [scores[d] for d in order], len(scores)
        weights = [2.0 ** (n - r) - 1 for r in range(1, n + 1)] if weighted else [1.0] * n
        divisor = sum(weights) + 1e-10 if weighted else 1.0
        for r in range(n):
            rest = math.log(sum(math.exp(value) for value in s[r:]))
            total -= weights[r] / divisor * (s[r] - rest)
    options: dict[str, Any] = {"respect_input_order": not sort}
    loss = (
        losses.PListMLELoss(OneScore(), **options) if weighted else losses.ListMLELoss(OneScore(), **options)
    )
    assert loss.compute(SCORES, LABELS, SIZES).item() == pytest.approx(total / len(LENGTHS), rel=1e-5)


def test_adr_mse_is_its_formula() -> None:
    errors = []
    for scores, labels in lists():
        for i in range(len(scores)):
            above = sum(label > labels[i] for label in labels)
            rank = above + (sum(label == labels[i] for label in labels) + 1) / 2
            smooth = 1 + sum(
                1 / (1 + math.exp(-2 * (scores[j] - scores[i]))) for j in range(len(scores)) if j != i
            )
            errors.append((rank - smooth) ** 2 / math.log2(1 + rank))
    loss = losses.ADRMSELoss(OneScore(), alpha=2.0)
    assert loss.compute(SCORES, LABELS, SIZES).item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_margin_mse_is_its_formula() -> None:
    scores = torch.tensor([[2.0], [1.0], [0.0], [1.0], [3.0], [-1.0]])  # two rows: positive, two negatives
    labels = [torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0])]
    loss = losses.MarginMSELoss(OneScore())
    # Margins: 1, 2 and -2, 2; wanted: 1, 1 and 0, 2.
    assert loss.compute(scores, labels, torch.tensor([3, 3])).item() == pytest.approx((0 + 1 + 4 + 0) / 4)


def test_multiple_negatives_is_its_formula() -> None:
    scores = torch.tensor([[0.0], [1.0], [2.0], [1.0], [1.0], [1.0]])
    loss = losses.MultipleNegativesRankingLoss(OneScore(), scale=2.0, activation_fn=None)
    expected = (-0.0 + math.log(1 + math.exp(2) + math.exp(4)) + math.log(3)) / 2
    assert loss.compute(scores, None, torch.tensor([3, 3])).item() == pytest.approx(expected, rel=1e-5)


def test_right_orders_cost_nothing() -> None:
    scores = torch.tensor([[40.0], [0.0], [-40.0]])
    labels, size = [[2.0, 1.0, 0.0]], torch.tensor([3])
    for name in ("LambdaLoss", "RankNetLoss", "ListMLELoss", "ADRMSELoss"):
        assert getattr(losses, name)(OneScore()).compute(scores, labels, size).item() == pytest.approx(
            0, abs=1e-6
        )


def test_a_batch_without_an_order_costs_nothing_and_has_a_gradient() -> None:
    scores = torch.randn(3, 1, requires_grad=True)
    value = losses.LambdaLoss(OneScore()).compute(scores, [[1.0, 1.0], [0.0]], torch.tensor([2, 1]))
    value.backward()
    assert value.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(CASES[case][2]) == 2 and CASES[case][3] is LABELS]
)
def test_the_order_of_rows_and_of_tied_lists_does_not_matter(case: str) -> None:
    name, options, _, labels = CASES[case]
    loss = getattr(losses, name)(OneScore(), **options_of(losses, options))
    value = loss.compute(SCORES, labels, SIZES)
    order = [3, 0, 4, 2, 1]
    parts = SCORES.split(list(LENGTHS))
    mixed = loss.compute(torch.cat([parts[i] for i in order]), [labels[i] for i in order], SIZES[order])
    torch.testing.assert_close(mixed, value)


def test_long_lists_stay_finite() -> None:
    scores = torch.randn(300, 1, requires_grad=True)
    labels = [torch.arange(300.0)]
    value = losses.PListMLELoss(OneScore()).compute(scores, labels, torch.tensor([300]))
    value.backward()
    assert torch.isfinite(value)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_half_precision_gives_finite_float32(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, dropout=False)
    model = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    for name, options, columns, labels in CASES.values():
        value = getattr(losses, name)(model, **options_of(losses, options))(columns, as_labels(labels))
        assert value.dtype == torch.float32
        assert torch.isfinite(value)


def test_a_scheme_of_ones_own_weighs_pairs() -> None:
    class Twice(torch.nn.Module):
        """Written for the reference: no base class of this package."""

        def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
            return gain.new_full((1, gain.shape[1], gain.shape[1]), 2.0)

    plain = losses.RankNetLoss(OneScore()).compute(SCORES, LABELS, SIZES)
    twice = losses.LambdaLoss(OneScore(), Twice()).compute(SCORES, LABELS, SIZES)
    torch.testing.assert_close(twice, 2 * plain)


@pytest.mark.parametrize(
    ("name", "columns", "labels", "message"),
    [
        (
            "BinaryCrossEntropyLoss",
            TEXTS[:3],
            [1.0] * 6,
            "takes first text, second text; .*but got 3 columns",
        ),
        ("BinaryCrossEntropyLoss", TEXTS[:2], [1.0] * 5, "so 6 labels for this batch; but got 5"),
        ("BinaryCrossEntropyLoss", TEXTS[:2], None, "so 6 labels for this batch; but got none"),
        ("MSELoss", [TEXTS[0], TEXTS[1][:4]], [1.0] * 6, r"a value for each row, but have \[6, 4\]"),
        ("MarginMSELoss", TEXTS[:2], [1.0] * 6, "takes query, positive, negative, .*but got 2 columns"),
        ("MarginMSELoss", TEXTS, [1.0] * 6, r"takes 2 margins or 3 scores a row.* of shape \(6,\)"),
        ("MarginMSELoss", TEXTS, [[1.0], [1.0, 2.0]] * 3, "of different lengths"),
        ("MarginMSELoss", TEXTS, None, "the labels are none"),
        ("MultipleNegativesRankingLoss", TEXTS[:1], None, "takes anchor, positive, .*but got 1 columns"),
        ("LambdaLoss", [QUERIES], LABELS, "takes query, list of documents; .*but got 1 columns"),
        (
            "LambdaLoss",
            [QUERIES, DOCUMENTS],
            [1.0] * 5,
            "a list of labels for each row.*but got one for each row",
        ),
        ("LambdaLoss", [QUERIES, DOCUMENTS], None, "a list of labels for each row.*but got none"),
        (
            "ListNetLoss",
            [QUERIES, DOCUMENTS],
            [*LABELS[:4], [1.0]],
            "a label for each document, but row 4 has 2 documents and 1 labels",
        ),
        ("ListNetLoss", [QUERIES, [*DOCUMENTS[:4], []]], LABELS, "Row 4 of this batch has an empty list"),
        ("ListNetLoss", [QUERIES, TEXTS[0][:5]], LABELS, "list of documents for each query, but row 0 has '"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    name: str, columns: Any, labels: Any, message: str, folder: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(losses, name)(load(folder))(columns, as_labels(labels))


def test_labels_of_classes_are_checked(classes_folder: str) -> None:
    loss = losses.CrossEntropyLoss(load(classes_folder))
    with pytest.raises(ValueError, match=r"go from 0 to 2, as the model has 3 .*but one is 3"):
        loss(TEXTS[:2], torch.tensor([0, 1, 2, 3, 0, 0]))
    with pytest.raises(ValueError, match=r"whole numbers as classes.*torch.float32"):
        loss(TEXTS[:2], torch.rand(6))
    with pytest.raises(ValueError, match="so 6 labels"):
        loss(TEXTS[:2], torch.tensor([0, 1]))


def test_one_score_a_pair_is_asked_for(classes_folder: str) -> None:
    model = load(classes_folder)
    for name in losses.__all__:
        if name.endswith("Loss") and name not in ("Loss", "CrossEntropyLoss"):
            with pytest.raises(ValueError, match="1 score a pair, but this one gives 3"):
                getattr(losses, name)(model)


def test_settings_that_are_no_numbers_are_refused(folder: str) -> None:
    model = load(folder)
    for kind, names in {
        losses.LambdaLoss: ("k", "sigma", "eps", "mini_batch_size"),
        losses.RankNetLoss: ("k", "sigma"),
        losses.ADRMSELoss: ("alpha",),
        losses.MultipleNegativesRankingLoss: ("num_negatives", "scale"),
    }.items():
        for name in names:
            with pytest.raises(ValueError, match=f"`{name}` must be a (whole )?number.*, but is '5'"):
                kind(model, **{name: "5"})
    with pytest.raises(ValueError, match="`mu` must be a number, but is '5'"):
        losses.NDCGLoss2PPScheme("5")  # type: ignore[arg-type]
    assert losses.LambdaLoss(model, k=None, mini_batch_size=0).own_score == losses.LambdaLoss(model).own_score


def test_settings_out_of_range_are_refused(folder: str) -> None:
    model = load(folder)
    with pytest.raises(ValueError, match="`reduction_log` must be 'natural' or 'binary', but is 'ten'"):
        losses.LambdaLoss(model, reduction_log="ten")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`mini_batch_size` must be a whole number of at least 1"):
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=0)
    with pytest.raises(
        TypeError, match=r"`pos_weight` must be a tensor, but is 3\.0. Pass `torch.tensor\(3\.0\)`"
    ):
        losses.BinaryCrossEntropyLoss(model, pos_weight=3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`recompute_tokens` must be a whole number of at least 1, but is 0"):
        Embed(output="scores", recompute_tokens=0)
    with pytest.raises(ValueError, match="chooses the pairs that are scored"):
        losses.MultipleNegativesRankingLoss(model)(dict(model.preprocess([("a", "b")])))


def test_a_batch_of_one_row_has_no_negatives(folder: str) -> None:
    loss = losses.MultipleNegativesRankingLoss(load(folder))
    assert loss([["the cat"], ["a dog"]]).item() == 0
    assert loss([["the cat"], ["a dog"], ["the sun"]]).item() > 0
