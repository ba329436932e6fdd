"""Collators and loaders of one's own, metadata columns, and what is set after the trainer was made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from likewise.data_collator import SentenceTransformerDataCollator
from small import sentences
from torch.utils.data import DataLoader, SequentialSampler
from training_common import scored_pairs, triplets

from likewise import SentenceTransformer, SentenceTransformerTrainer, losses
from likewise.training.data.metadata import looks_like_metadata, metadata_warnings

Arguments = Callable[..., Any]


def pairs(num_rows: int = 32, seed: int = 0) -> Dataset:
    return triplets(num_rows, seed).remove_columns("negative")


def run_of(model: Any, args: Any, kind: Any = SentenceTransformerTrainer, **options: Any) -> list[float]:
    trainer = kind(model, args, **options)
    trainer.train()
    return losses_of(trainer)


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture
def fresh(folder: str) -> Callable[[], SentenceTransformer]:
    return lambda: SentenceTransformer(folder, device="cpu")


# Collators


@pytest.mark.parametrize(
    "extra", [{"known": [[i, i + 1] for i in range(32)]}, {"length": list(range(32))}, {"note": [None] * 32}]
)
def test_a_collator_is_handed_all_columns_also_those_that_are_no_texts(
    fresh: Callable[[], Any], arguments: Arguments, extra: dict[str, list[Any]]
) -> None:
    seen: list[Any] = []

    class Mine(SentenceTransformerDataCollator):
        def __call__(self, rows: Any) -> Any:
            seen.extend(row[next(iter(extra))] for row in rows)
            return super().__call__([{"anchor": row["anchor"], "positive": row["positive"]} for row in rows])

    loss = losses.MultipleNegativesRankingLoss
    plain, model = fresh(), fresh()
    expected = run_of(plain, arguments(), train_dataset=pairs(), loss=loss(plain))
    data = Dataset.from_dict({**pairs().to_dict(), **extra})
    found = run_of(
        model, arguments(), train_dataset=data, loss=loss(model), data_collator=Mine(model.preprocess)
    )
    assert found == pytest.approx(expected, rel=1e-5)
    assert len(seen) == 32
    assert all(value in next(iter(extra.values())) for value in seen)


class Masked(torch.nn.Module):
    """A loss as one writes it for the reference: rows with equal positives are no negatives of each other."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Any] = []

    def forward(self, features: Any, labels: Any = None) -> Any:
        self.seen.append(labels)
        first, second = (self.model(column)["sentence_embedding"] for column in features)
        scores = (20 * first @ second.T).masked_fill(~labels, -1e4)
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))


def test_a_label_that_a_collator_makes_reaches_the_loss(model: Any, arguments: Arguments) -> None:
    class Mine(SentenceTransformerDataCollator):
        def __call__(self, rows: Any) -> Any:
            texts = [row["positive"] for row in rows]
            mask = [[a != b or i == j for j, b in enumerate(texts)] for i, a in enumerate(texts)]
            return super().__call__(rows) | {"label": torch.tensor(mask)}

    loss = Masked(model)
    trainer = SentenceTransformerTrainer(
        model,
        arguments(),
        train_dataset=pairs(),
        eval_dataset=pairs(8),
        loss=loss,
        data_collator=Mine(model.preprocess),
    )
    trainer.train()
    trainer.evaluate()
    assert [tuple(label.shape) for label in loss.seen] == [(8, 8)] * 5


def test_a_collator_may_leave_texts_to_a_loss_that_tokenises(
    fresh: Callable[[], Any], arguments: Arguments
) -> None:
    class Mine(SentenceTransformerDataCollator):
        def __call__(self, rows: Any) -> Any:
            return torch.utils.data.default_collate(rows)

    class Handing(SentenceTransformerTrainer):
        def collect_features(self, inputs: Any) -> Any:
            return inputs, inputs["score"]

    class Tokenising(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any, labels: Any) -> Any:
            first, second = (
                self.model(self.model.preprocess(batch[name]))["sentence_embedding"]
                for name in ("sentence1", "sentence2")
            )
            return (torch.cosine_similarity(first, second) - labels.float()).square().mean()

    model, plain = fresh(), fresh()
    collator = Mine(model.preprocess)
    found = run_of(
        model,
        arguments(),
        Handing,
        train_dataset=scored_pairs(),
        loss=Tokenising(model),
        data_collator=collator,
    )
    expected = run_of(
        plain, arguments(), train_dataset=scored_pairs(), loss=losses.CosineSimilarityLoss(plain)
    )
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_trainers_own_collator_tells_labels_prompts_and_routes(model: Any, arguments: Arguments) -> None:
    trainer = SentenceTransformerTrainer(
        model,
        arguments(prompts={"anchor": "find "}),
        train_dataset=pairs(),
        loss=losses.MultipleNegativesRankingLoss,
    )
    collator = trainer.data_collator
    assert list(collator.valid_label_columns) == ["label", "labels", "score", "scores"]
    assert (collator.prompts, collator.router_mapping) == ({"anchor": "find "}, {})
    batch = collator([{"anchor": "the cat", "positive": "a dog", "score": 0.5}])
    assert batch["label"].tolist() == [0.5]
    with pytest.raises(KeyError, match="collect_features"):
        batch["negative_input_ids"]
    with pytest.raises(ValueError, match=r"`max_length=3` has no effect.*`model.max_seq_length`"):
        SentenceTransformerDataCollator(model.preprocess, max_length=3)


def test_a_subclass_of_the_collator_is_asked_about_the_order_once(model: Any, arguments: Arguments) -> None:
    asked: list[Any] = []

    class Mine(SentenceTransformerDataCollator):
        def maybe_warn_about_column_order(self, column_names: Any) -> None:
            asked.append(list(column_names))

    class Trainer(SentenceTransformerTrainer):
        data_collator_class = Mine

    run_of(model, arguments(), Trainer, train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss)
    assert asked == [["anchor", "positive"]]


def test_a_data_loader_of_ones_own_trains_and_evaluates(
    fresh: Callable[[], Any], arguments: Arguments
) -> None:
    class InOrder(SentenceTransformerTrainer):
        def get_train_dataloader(self) -> Any:
            data = self.train_dataset
            return DataLoader(
                data, batch_size=8, sampler=SequentialSampler(data), collate_fn=self.data_collator
            )

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return DataLoader(self.eval_dataset, batch_size=8, collate_fn=self.data_collator)

    class Sampling(SentenceTransformerTrainer):
        def get_batch_sampler(
            self, dataset: Any, batch_size: int, drop_last: bool, *args: Any, **kwargs: Any
        ) -> Any:
            return torch.utils.data.BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    found = []
    for kind in (InOrder, Sampling):
        model = fresh()
        loss = losses.MultipleNegativesRankingLoss(model)
        trainer = kind(model, arguments(), train_dataset=pairs(), eval_dataset=pairs(16, 1), loss=loss)
        trainer.train()
        found.append([*losses_of(trainer), trainer.evaluate()["eval_loss"]])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_batches_say_how_to_read_them(model: Any, arguments: Arguments) -> None:
    trainer = SentenceTransformerTrainer(
        model, arguments(), train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss
    )
    batch = next(iter(trainer.get_train_dataloader()))
    with pytest.raises(KeyError, match=r"no 'anchor_input_ids'.*collect_features\(batch\)"):
        batch["anchor_input_ids"]
    features, labels = trainer.collect_features(batch)
    assert labels is None
    assert [len(column["input_ids"]) for column in features] == [8, 8]


def test_ids_of_rows_are_known_where_batches_are_by_name(
    fresh: Callable[[], Any], arguments: Arguments
) -> None:
    class Mine(SentenceTransformerTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            assert {"anchor_input_ids", "positive_attention_mask"} <= set(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

    data = pairs().add_column("group", [i % 2 for i in range(32)])
    found = []
    for kind, options in ((SentenceTransformerTrainer, {}), (Mine, {})):
        model = fresh()
        loss = losses.MultipleNegativesRankingLoss(model, mask_duplicates=True)
        found.append(
            run_of(model, arguments(id_columns=["group"]), kind, train_dataset=data, loss=loss, **options)
        )
    assert found[0] == pytest.approx(found[1], rel=1e-5)


# What is set later


def test_what_is_set_after_the_trainer_was_made_counts(
    fresh: Callable[[], Any], arguments: Arguments
) -> None:
    model, other = fresh(), fresh()
    loss = losses.CosineSimilarityLoss
    made = SentenceTransformerTrainer(
        model, arguments(), train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss
    )
    made.loss = loss(model)
    made.train_dataset = scored_pairs()
    made.eval_dataset = scored_pairs(16, 1)
    made.args.per_device_train_batch_size = 12
    made.args.per_device_eval_batch_size = 4
    args = arguments(per_device_train_batch_size=12, per_device_eval_batch_size=4)
    right = SentenceTransformerTrainer(
        other, args, train_dataset=scored_pairs(), eval_dataset=scored_pairs(16, 1), loss=loss(other)
    )
    for trainer in (made, right):
        trainer.train()
    assert losses_of(made) == losses_of(right)
    assert made.evaluate()["eval_loss"] == right.evaluate()["eval_loss"]
    assert made.plans["train"][0].loss == "CosineSimilarityLoss"


def test_a_loss_with_weights_that_is_set_later_is_trained(model: Any, arguments: Arguments) -> None:
    classes = pairs().add_column("label", [i % 2 for i in range(32)])
    trainer = SentenceTransformerTrainer(
        model, arguments(), train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss
    )
    trainer.train()
    trainer.train_dataset, trainer.loss = classes, losses.SoftmaxLoss(model, 32, num_labels=2)
    before = trainer.loss.classifier.weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, trainer.loss.classifier.weight)


def test_mistakes_that_are_set_later_are_refused_before_the_first_step(
    model: Any, arguments: Arguments
) -> None:
    def trainer() -> Any:
        return SentenceTransformerTrainer(
            model, arguments(), train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss(model)
        )

    later = trainer()
    later.train_dataset = scored_pairs()
    with pytest.raises(ValueError, match="label that varies"):
        later.train()
    later = trainer()
    later.eval_dataset = {"dev": scored_pairs()}
    with pytest.raises(ValueError, match="evaluation data set 'dev' is a label that varies"):
        later.evaluate()
    later = trainer()
    later.args.prompts = {"ancor": "find "}
    with pytest.raises(ValueError, match="Did you mean 'anchor'"):
        later.train()
    later = trainer()
    later.args.per_device_train_batch_size = 1
    with pytest.raises(ValueError, match="the batch size for the training data is 1"):
        later.train()


def test_an_evaluator_that_is_set_later_tells_the_best_checkpoint(model: Any, arguments: Arguments) -> None:
    def evaluator(name: str) -> Any:
        from likewise.evaluation import SentenceEvaluator

        class Fixed(SentenceEvaluator):
            primary_metric = name
            greater_is_better = True

            def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
                return {name: 1.0}

        return Fixed()

    args = arguments(
        eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, load_best_model_at_end=True
    )
    trainer = SentenceTransformerTrainer(
        model,
        args,
        train_dataset=pairs(),
        loss=losses.MultipleNegativesRankingLoss,
        evaluator=evaluator("first"),
    )
    trainer.evaluator = [evaluator("second")]
    trainer.train()
    assert trainer.state.best_metric == 1.0
    assert "second" in args.metric_for_best_model or "sequential" in args.metric_for_best_model
    assert "eval_first" not in trainer.evaluate()
    trainer.evaluator, trainer.eval_dataset = None, pairs(8, 1)
    trainer.train()
    assert args.metric_for_best_model == "loss"


def test_prompts_set_later_in_collator_or_arguments_count(model: Any, arguments: Arguments) -> None:
    trainer = SentenceTransformerTrainer(
        model, arguments(prompts="see "), train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss
    )
    trainer.args.prompts = "find "
    assert trainer.plans["train"][0].prompts == ("find ", "find ")
    trainer.data_collator.prompts = "name "
    assert trainer.plans["train"][0].prompts == ("name ", "name ")
    assert trainer.args.prompts == "name "


def test_a_loss_of_another_model_is_given_the_trainers(
    fresh: Callable[[], Any], arguments: Arguments
) -> None:
    model, other = fresh(), fresh()
    inner = losses.MultipleNegativesRankingLoss(other)
    trainer = SentenceTransformerTrainer(
        model, arguments(), train_dataset=pairs(), loss=losses.MatryoshkaLoss(other, inner, [32, 16])
    )
    assert trainer.loss.model is model
    assert trainer.loss.loss.model is model
    before = {name: weight.clone() for name, weight in other.state_dict().items()}
    trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in other.state_dict().items())
    assert not all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


# Hard negatives in a batch of one; metadata


def test_a_batch_of_one_with_hard_negatives_trains_and_without_is_refused(
    model: Any, arguments: Arguments
) -> None:
    args = arguments(per_device_train_batch_size=1, per_device_eval_batch_size=1)
    for kind in (losses.MultipleNegativesRankingLoss, losses.CachedMultipleNegativesRankingLoss):
        loss = run_of(model, args, train_dataset=triplets(4), eval_dataset=triplets(2), loss=kind(model))
        assert loss[0] > 0
    message = "other rows of a batch as negatives.*`per_device_train_batch_size` to 2 or more"
    with pytest.raises(ValueError, match=message):
        SentenceTransformerTrainer(
            model, args, train_dataset=pairs(), loss=losses.MultipleNegativesRankingLoss(model)
        )


METADATA = {
    "source": ["wiki" if i % 3 else "mail" for i in range(30)],
    "id": [f"doc_{i}" for i in range(30)],
    "number": [str(i * 17) for i in range(30)],
    "uuid": [f"{i:08x}-0000-4000-8000-{i:012x}" for i in range(30)],
    "date": [f"2024-03-{i + 1:02d}" for i in range(30)],
    "time": [f"2024-03-{i + 1:02d}T12:00:00Z" for i in range(30)],
    "url": [f"https://example.org/page/{i}?q=1" for i in range(30)],
    "lang": ["en" if i % 2 else "pt-BR" for i in range(30)],
    "constant": ["imported from the old system"] * 29 + ["by hand, from paper"],
}


@pytest.mark.parametrize("name", METADATA)
def test_a_metadata_column_is_named_with_the_fix(
    name: str,
    model: Any,
    arguments: Arguments,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = pairs(30).add_column(name, METADATA[name])
    loss = losses.MultipleNegativesRankingLoss(model)
    with caplog.at_level(logging.WARNING):
        trainer = SentenceTransformerTrainer(model, arguments(max_steps=1), train_dataset=data, loss=loss)
    trainer.train()
    for told in (caplog.text, capsys.readouterr().out):
        assert f"Column '{name}' of the training data" in told
        assert f"`dataset.remove_columns('{name}')`" in told
        assert f"`id_columns=['{name}']`" in told
    caplog.clear()
    args = arguments(max_steps=1, id_columns=[name])
    SentenceTransformerTrainer(
        model, args, train_dataset=data, loss=losses.MultipleNegativesRankingLoss(model, mask_duplicates=True)
    )
    assert "embedded as text" not in caplog.text


def test_texts_are_not_taken_for_metadata() -> None:
    assert metadata_warnings(triplets(96), ["anchor", "positive", "negative"], "the data") == []
    classes = ["sport", "politics", "science"] * 10
    assert looks_like_metadata(classes, 1) is None  # a positive may be the name of a class
    assert "3 different values" in str(looks_like_metadata(classes, 2))
    words = sentences(30, longest=1)
    assert looks_like_metadata(words, 0) is None
    assert looks_like_metadata(["In 2024", "https is a protocol", "the 3rd of May"] * 5, 0) is None
    assert looks_like_metadata(["a text", ""] * 20, 2) is None
    assert looks_like_metadata([["a", "b"]] * 20, 2) is None  # pairs of texts


def test_a_metric_that_is_named_where_nothing_is_measured_says_nothing(
    model: Any, arguments: Arguments
) -> None:
    args = arguments(max_steps=1, metric_for_best_model="embedding_loss")
    trainer = SentenceTransformerTrainer(
        model, args, triplets(), loss=losses.MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.state.global_step == 1
    args.load_best_model_at_end = True
    with pytest.raises(ValueError, match="`metric_for_best_model` is 'embedding_loss'"):
        trainer.train()
