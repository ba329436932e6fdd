"""Bad input gets one sentence before the first step, which names the culprit and the fix."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from small import sentences
from training_common import scored_pairs, triplets
from transformers import PrinterCallback, TrainerCallback

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.evaluation import SentenceEvaluator

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
    "a list of prompts": ({"prompts": ["q: "]}, r"`prompts` has \['q: '\] \(list\), but a prompt is a text"),
    "a prompt that is no text": ({"prompts": {"anchor": 3}}, r"`prompts` has 3 \(int\) for 'anchor'"),
    "a learning rate out of YAML": (
        {"learning_rate": "1e-3"},
        r"`learning_rate` must be a number, but is '1e-3' \(str\)\. In YAML write 1\.0e-3",
    ),
    "a learning rate by name that is none": (
        {"learning_rate_mapping": {"embeddings": None}},
        r"`learning_rate_mapping\['embeddings'\]` must be a number, but is None",
    ),
    "a bracket that does not close": (
        {"learning_rate_mapping": {"(embeddings": 1e-3}},
        r"`learning_rate_mapping` has '\(embeddings', which is no regular expression",
    ),
    "no limit to tokens in memory": (
        {"max_kept_tokens": None},
        r"`max_kept_tokens` must be a whole number of at least 0, but is None\. Drop it to take the default",
    ),
    "no accumulated step": (
        {"gradient_accumulation_steps": 0},
        r"`gradient_accumulation_steps` must be a whole number of at least 1, but is 0\. Drop it",
    ),
    "steps as a text": (
        {"max_steps": "5"},
        r"`max_steps` must be a whole number of at least -1, but is '5'\. Drop it for whole epochs",
    ),
    "no buffer of a stream": (
        {"shuffle_buffer_size": None},
        r"`shuffle_buffer_size` must be a whole number of at least 1, but is None\. Drop it to take the default",
    ),
    "no micro batch": (
        {"micro_batch_tokens": 0},
        r"`micro_batch_tokens` must be a whole number of at least 1",
    ),
    "no row in a batch": (
        {"per_device_train_batch_size": 0},
        r"`per_device_train_batch_size` must be a whole number of at least 1",
    ),
    "a router mapping without a router": (
        {"router_mapping": {"anchor": "query"}},
        r"`router_mapping=.*no effect",
    ),
    "FSDP's first version": ({"fsdp": True, "fsdp_config": {"version": 1}}, r"FSDP.*`fsdp_version: 2`"),
    "DeepSpeed": (
        {"deepspeed": {"zero_optimization": {"stage": 2}}},
        r"`deepspeed` is not supported.*`torchrun`.*DDP",
    ),
    "epochs that are text": (
        {"num_train_epochs": "1"},
        r"`num_train_epochs` must be a number, but is '1' \(str\)",
    ),
    "label smoothing": ({"label_smoothing_factor": 0.1}, r"`label_smoothing_factor=0\.1` has no effect here"),
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
    with pytest.raises((TypeError, ValueError), match=message):
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


@pytest.mark.parametrize(("name", "message"), [("fsdp", "second version"), ("deepspeed", "is not supported")])
def test_sharding_that_accelerate_launch_asks_for_is_refused(
    name: str, message: str, arguments: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    with pytest.raises(ValueError, match=message):
        arguments()


def with_labels(label: list[Any], number: int = 2) -> Dataset:
    texts = sentences(3 * len(label))
    columns = {name: texts[i::3] for i, name in enumerate(("anchor", "positive", "negative")[:number])}
    return Dataset.from_dict(columns | {"label": label})


BAD_LABELS: dict[str, tuple[Any, Dataset, str]] = {
    "texts": (
        losses.CosineSimilarityLoss,
        with_labels(["0.5", "1"]),
        r"holds string, not numbers \(row 0: '0.5'\)",
    ),
    "none": (losses.CosineSimilarityLoss, with_labels([0.5, None]), r"no label \(None\) in row 1"),
    "NaN": (losses.CosineSimilarityLoss, with_labels([0.5, float("nan")]), "holds nan in row 1"),
    "lists of unequal length": (
        losses.MarginMSELoss,
        with_labels([[1.0, 2.0], [1.0]], 3),
        r"lists of unequal length, 2 and 1 \(rows 0 and 1\)",
    ),
    "lists of another length": (
        losses.MarginMSELoss,
        with_labels([[1.0, 2.0, 3.0]] * 2, 3),
        "holds 3 numbers in a list, but MarginMSELoss takes.*: 1 or 2 for 3 text columns",
    ),
    "one number for several documents": (
        losses.DistillKLDivLoss,
        with_labels([1.0, 2.0], 3),
        "holds one number, but DistillKLDivLoss takes.*: 2 for 3 text columns",
    ),
    "vectors of unequal length": (losses.MSELoss, with_labels([[1.0] * 32, [1.0] * 31], 1), "32 and 31"),
    "numbers in place of vectors": (
        losses.MSELoss,
        with_labels([1.0, 2.0], 1),
        "holds single numbers, but MSELoss takes",
    ),
    "halves of classes": (
        losses.BatchAllTripletLoss,
        with_labels([0.5, 1.0], 1),
        "holds 0.5 in row 0.*whole numbers",
    ),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_do_not_fit_are_refused_when_the_trainer_is_made(
    name: str, model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    loss, data, message = BAD_LABELS[name]
    for options in (
        {"train_dataset": data},
        {"eval_dataset": data},
        {"train_dataset": data.to_iterable_dataset()},
    ):
        with pytest.raises(ValueError, match=message):
            SentenceTransformerTrainer(model, arguments(), loss=loss, **options)


@pytest.mark.parametrize("label", [[0.0, 1.0, 2.0, 1.0], [True, False, True, False]])
def test_whole_floats_and_truths_are_classes(
    label: list[Any], folder: str, arguments: Callable[..., Any]
) -> None:
    found = []
    for values in (label, [int(value) for value in label]):
        model = SentenceTransformer(folder, device="cpu")
        torch.manual_seed(0)
        loss = losses.SoftmaxLoss(model, 32, num_labels=3)
        trainer = SentenceTransformerTrainer(model, arguments(), train_dataset=with_labels(values), loss=loss)
        trainer.train()
        found.append(trainer.state.log_history[0]["loss"])
    assert found[0] == found[1]


def test_a_run_with_nothing_to_train_is_refused(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    model.requires_grad_(False)
    loss = losses.MultipleNegativesRankingLoss(model)
    with pytest.raises(ValueError, match=r"nothing to train.*`model\[0\].requires_grad_\(True\)`"):
        SentenceTransformerTrainer(model, arguments(), train_dataset=triplets(8), loss=loss)
    SentenceTransformerTrainer(model, arguments(), eval_dataset=triplets(8), loss=loss).evaluate()
    head = losses.SoftmaxLoss(model, 32, num_labels=2)
    SentenceTransformerTrainer(model, arguments(), train_dataset=with_labels([0, 1]), loss=head).train()


def test_empty_data_is_named(model: SentenceTransformer, arguments: Callable[..., Any]) -> None:
    def trainer(**options: Any) -> Any:
        loss = losses.MultipleNegativesRankingLoss(model)
        return SentenceTransformerTrainer(model, arguments(), loss=loss, **options)

    data, nothing = triplets(8), triplets(8).select([])
    for options, message in (
        ({"train_dataset": nothing}, "The training data is empty. Check"),
        ({"train_dataset": {"NLI": data, "FAQ": nothing}}, "The training data set 'FAQ' is empty"),
        ({"train_dataset": data, "eval_dataset": {"Dev": nothing}}, "The evaluation data set 'Dev' is empty"),
        ({"train_dataset": IterableDataset.from_generator(lambda: iter([]))}, "The training data is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(**options)
    for train_dataset, message in ((None, "but it is None"), ({}, "but it is an empty dict")):
        with pytest.raises(ValueError, match=f"Training needs a `train_dataset`, {message}"):
            trainer(train_dataset=train_dataset).train()
    with pytest.raises(ValueError, match="`eval_dataset` is an empty dict"):
        trainer(train_dataset=data, eval_dataset={}).evaluate()
    with pytest.raises(ValueError, match="Evaluation needs an `eval_dataset` or an `evaluator`"):
        trainer(train_dataset=data).evaluate()
    with pytest.raises(ValueError, match="no evaluation data set 'test', only 'dev'"):
        trainer(eval_dataset={"dev": data}).evaluate("test")


def test_predict_measures_other_data(model: SentenceTransformer, arguments: Callable[..., Any]) -> None:
    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model, arguments(), eval_dataset=triplets(16), loss=loss)
    found = trainer.predict(triplets(16))
    assert found.metrics["test_loss"] == trainer.evaluate()["eval_loss"]
    assert found.predictions is None
    both = trainer.predict({"first": triplets(16), "second": triplets(16)})
    assert both.metrics["test_loss"] == pytest.approx(found.metrics["test_loss"])
    with pytest.raises(TypeError, match="The evaluation data is a NoneType"):
        trainer.predict(None)
    with pytest.raises(ValueError, match="the evaluation data has 1 text columns"):
        trainer.predict(triplets(4).select_columns(["anchor"]))


def test_what_is_no_model_and_no_evaluator_is_refused(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match="`model` is 'bert', but should be a SentenceTransformer"):
        SentenceTransformerTrainer("bert", arguments(), triplets(8))  # type: ignore[arg-type]
    for evaluator in ("sts", ["sts"]):
        with pytest.raises(TypeError, match="`evaluator` is 'sts', but should be an evaluator"):
            SentenceTransformerTrainer(model, arguments(), evaluator=evaluator)  # type: ignore[arg-type]


@pytest.mark.parametrize("callbacks", ["tensorboard", ["tensorboard"], [3], [print]])
def test_what_is_no_callback_is_refused(
    model: SentenceTransformer, arguments: Callable[..., Any], callbacks: Any
) -> None:
    with pytest.raises(TypeError, match=r"`callbacks` takes .*TrainerCallback, but got .*report_to"):
        SentenceTransformerTrainer(model, arguments(), triplets(8), callbacks=callbacks)
    trainer = SentenceTransformerTrainer(model, arguments(), triplets(8), loss=losses.TripletLoss(model))
    with pytest.raises(TypeError, match="but got 'tensorboard'"):
        trainer.add_callback("tensorboard")
    trainer.add_callback(PrinterCallback)
    trainer.add_callback(PrinterCallback())


def test_data_sets_of_a_dict_go_to_the_losses_of_their_names(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    given = {
        "a": losses.MultipleNegativesRankingLoss(model),
        "b": losses.MultipleNegativesRankingLoss(model, scale=1.0),
    }
    data = {"a": triplets(16), "b": triplets(16)}
    trainer = SentenceTransformerTrainer(
        model, arguments(), train_dataset=data, eval_dataset=data, loss=given
    )
    known, other = trainer.evaluate(), trainer.evaluate({"a": triplets(16), "b": triplets(16)})
    for name in ("eval_a_loss", "eval_b_loss"):
        assert known[name] == other[name]
    assert known["eval_a_loss"] != known["eval_b_loss"]
    with pytest.raises(ValueError, match=r"`loss` is a dict .*but the evaluation data is one data set"):
        trainer.evaluate(triplets(16, seed=1))


def test_a_metric_that_is_nan_is_never_the_best(
    model: SentenceTransformer, arguments: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    values = iter([float("nan"), 0.2, float("nan"), 0.1])

    class Failing(SentenceEvaluator):
        primary_metric = "score"
        greater_is_better = True

        def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            return {"score": next(values)}

    args = arguments(
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
    )
    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model, args, triplets(), loss=loss, evaluator=Failing())
    bests: list[Any] = []

    class Watching(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bests.append(state.best_metric)

    trainer.add_callback(Watching())
    trainer.train()
    assert bests == [None, 0.2, 0.2, 0.2]
    assert trainer.state.best_global_step == 2
    assert "'eval_score' that tells the best checkpoint is NaN at step 1" in caplog.text


def test_an_evaluation_that_fails_leaves_the_mode_as_it_was(
    model: SentenceTransformer, arguments: Callable[..., Any]
) -> None:
    class Failing(SentenceEvaluator):
        def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            assert not model.training
            raise RuntimeError("no such file")

    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model, arguments(), triplets(8), triplets(8), loss=loss, evaluator=Failing()
    )
    for training in (True, False):
        model.train(training)
        with pytest.raises(RuntimeError, match="no such file"):
            trainer.evaluate()
        assert model.training is training
