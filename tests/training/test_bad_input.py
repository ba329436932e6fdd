"""Bad input gets one sentence before the first step, which names the culprit and the fix."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from datasets import Dataset
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses

pytestmark = pytest.mark.usefixtures("model")

PAIR = {"anchor": ["a cat", "a dog"], "positive": ["the cat", "the dog"]}


def pairs(**columns: Any) -> Dataset:
    return Dataset.from_dict(PAIR | columns)


BAD_DATA: dict[str, tuple[Any, type, str]] = {
    "too few columns": (
        Dataset.from_dict({"anchor": ["a"]}),
        losses.MultipleNegativesRankingLoss,
        r"MultipleNegativesRankingLoss takes .*the training data has 1 text columns: 'anchor'.*select_columns",
    ),
    "too many columns": (
        triplets().add_column("other", ["x"] * 96),
        losses.TripletLoss,
        r"TripletLoss takes .*4 text columns.*'other'.*select_columns",
    ),
    "no label": (pairs(), losses.CoSENTLoss, r"CoSENTLoss takes .*no label column.*rename_column"),
    "a label that is text": (
        pairs(label=["yes", "no"]),
        losses.CoSENTLoss,
        r"Label column 'label' of the training data holds string, not numbers \(row 0: 'yes'\).*class_encode_column",
    ),
    "a missing label": (
        pairs(score=[0.5, None]),
        losses.CoSENTLoss,
        r"Column 'score' of the training data has no label \(None\) in row 1.*filter",
    ),
    "an infinite label": (
        pairs(score=[0.5, float("inf")]),
        losses.CoSENTLoss,
        r"'score'.*holds inf in row 1.*finite",
    ),
    "a label out of range": (
        pairs(score=[0.5, 5.0]),
        losses.CosineSimilarityLoss,
        r"'score'.*holds 5 in row 1.*CosineSimilarityLoss.*from -1 to 1.*scale the labels",
    ),
    "a list for a label": (
        pairs(label=[[0.5], [0.1]]),
        losses.CoSENTLoss,
        r"Label column 'label'.*list.*Put one number in each row",
    ),
    "a fraction for a class": (
        Dataset.from_dict({"text": ["a", "b", "c", "d"], "label": [0.0, 1.5, 0.0, 1.0]}),
        losses.BatchAllTripletLoss,
        r"'label'.*holds 1\.5 in row 1.*whole numbers",
    ),
    "a cell without text": (
        pairs(positive=["the cat", None]),
        losses.MultipleNegativesRankingLoss,
        r"Column 'positive' of the training data has no text \(None\) in row 1.*filter",
    ),
    "numbers in place of texts": (
        pairs(positive=[1, 2]),
        losses.MultipleNegativesRankingLoss,
        r"Column 'positive' of the training data holds int64, not text \(row 0: 1\).*rename_column",
    ),
    "lists of three texts": (
        pairs(positive=[["a", "b"], ["a", "b", "c"]]),
        losses.MultipleNegativesRankingLoss,
        r"'positive'.*a list of 3 in row 1.*column of its own",
    ),
    "lists of numbers": (
        pairs(positive=[[1, 2], [3, 4]]),
        losses.MultipleNegativesRankingLoss,
        r"'positive'.*expected texts, or pairs of texts.*remove_columns",
    ),
    "no rows": (
        pairs().select([]),
        losses.MultipleNegativesRankingLoss,
        r"[Tt]he training data is empty",
    ),
    "an empty set among others": (
        {"first": pairs(), "second": pairs().select([])},
        losses.MultipleNegativesRankingLoss,
        r"[Tt]he training data set 'second' is empty",
    ),
    "a reserved column name": (
        pairs(dataset_name=["a", "b"]),
        losses.TripletLoss,
        r"Column 'dataset_name' of the training data has a reserved name.*rename_column",
    ),
    "nothing but a label": (
        Dataset.from_dict({"label": [0, 1]}),
        losses.CoSENTLoss,
        r"no text column.*'label'",
    ),
    "a list of rows": (
        [{"anchor": "a", "positive": "b"}],
        losses.MultipleNegativesRankingLoss,
        r"list.*Dataset\.from_list",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_does_not_fit_is_refused_when_the_trainer_is_made(
    name: str, model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    data, loss, message = BAD_DATA[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        SentenceTransformerTrainer(model, arguments(), data, loss=loss(model))
    assert "\n" not in str(caught.value)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "a prompt for no column": ({"prompts": {"ancor": "q: "}}, r"prompt for 'ancor'.*Did you mean 'anchor'"),
    "a prompt for no data set": (
        {"prompts": {"nli": {"anchor": "q: "}}},
        r"`prompts` has a prompt for 'nli'",
    ),
    "no micro batch": ({"micro_batch_tokens": 0}, r"`micro_batch_tokens` must be at least 1"),
    "a router mapping without a router": (
        {"router_mapping": {"anchor": "query"}},
        r"`router_mapping=.*no effect",
    ),
    "a sharded model": ({"fsdp": "full_shard"}, r"`fsdp` is not supported.*`torchrun`.*DDP"),
    "DeepSpeed": (
        {"deepspeed": {"zero_optimization": {"stage": 2}}},
        r"`deepspeed` is not supported.*`torchrun`.*DDP",
    ),
    "label smoothing": ({"label_smoothing_factor": 0.1}, r"`label_smoothing_factor=0\.1` has no effect"),
    "a batch sampler that does not exist": ({"batch_sampler": "no_dupes"}, r"no_dupes"),
    "a metric that nobody measures": (
        {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_los",
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "eval_steps": 2,
            "save_steps": 2,
        },
        r"`metric_for_best_model` is 'eval_los'.*Did you mean 'eval_loss'",
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_that_cannot_take_effect_are_refused(
    name: str, model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    changes, message = BAD_ARGUMENTS[name]
    with pytest.raises(ValueError, match=message):
        SentenceTransformerTrainer(
            model,
            arguments(**changes),
            triplets(),
            triplets(8),
            losses.MultipleNegativesRankingLoss(model),
        )


def test_a_learning_rate_for_no_parameter_is_refused_before_the_first_step(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=r"`learning_rate_mapping` has 'router', which matches no parameter"):
        SentenceTransformerTrainer(
            model,
            arguments(learning_rate_mapping={"router": 1e-3}),
            triplets(),
            loss=losses.MultipleNegativesRankingLoss(model),
        ).train()


def test_losses_and_data_sets_must_have_the_same_names(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    loss = {"nli": losses.MultipleNegativesRankingLoss(model)}
    with pytest.raises(
        ValueError, match=r"`loss` has no loss for the training data set 'sts', only for 'nli'"
    ):
        SentenceTransformerTrainer(model, arguments(), {"nli": triplets(), "sts": scored_pairs()}, loss=loss)
    with pytest.raises(
        ValueError, match=r"`loss` is a dict \('nli'\), but the training data is one data set"
    ):
        SentenceTransformerTrainer(model, arguments(), triplets(), loss=loss)


def test_what_is_missing_altogether_is_named(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="Pass a `model`"):
        SentenceTransformerTrainer(None, arguments(), triplets())
    with pytest.raises(ValueError, match="Training needs a `train_dataset`"):
        SentenceTransformerTrainer(model, arguments(), loss=losses.TripletLoss(model)).train()
    with pytest.raises(ValueError, match=r"`compute_metrics` has nothing to work on.*evaluator"):
        SentenceTransformerTrainer(model, arguments(), triplets(), compute_metrics=print)


def test_columns_in_an_unusual_order_and_ids_get_a_warning(
    model: SentenceTransformer, arguments: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = triplets().select_columns(["positive", "anchor", "negative"])
    with caplog.at_level(logging.WARNING):
        SentenceTransformerTrainer(model, arguments(), data, loss=losses.MultipleNegativesRankingLoss(model))
    assert (
        "Column 'positive' of the training data is text number 1, where one expects number 2" in caplog.text
    )
    caplog.clear()
    data = pairs(doc_id=["x1", "x2"])
    with caplog.at_level(logging.WARNING):
        SentenceTransformerTrainer(model, arguments(), data, loss=losses.MultipleNegativesRankingLoss(model))
    assert "'doc_id' of the training data looks like ids" in caplog.text


def test_every_row_is_looked_at_in_a_large_data_set(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    texts: list[Any] = ["a cat"] * 5000
    texts[4321] = None
    data = Dataset.from_dict({"anchor": ["a"] * 5000, "positive": texts})
    with pytest.raises(ValueError, match=r"'positive'.*in row 4321"):
        SentenceTransformerTrainer(model, arguments(), data, loss=losses.MultipleNegativesRankingLoss(model))


def test_the_evaluation_data_is_checked_too(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=r"the evaluation data has no label column"):
        SentenceTransformerTrainer(
            model, arguments(), scored_pairs(), pairs(), losses.CosineSimilarityLoss(model)
        )


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_sharding_that_accelerate_launch_asks_for_is_refused(
    name: str, arguments: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    with pytest.raises(ValueError, match=f"`{name}` is not supported"):
        arguments()
