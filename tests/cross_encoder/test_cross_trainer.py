"""Training of CrossEncoders: the same losses as the reference's trainer, step by step; plans, resuming, adapters, older ways."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers as reference
import sentence_transformers.cross_encoder as reference_cross
import torch
from cross_common import pairs_of_texts, reranker_folder
from datasets import Dataset
from sentence_transformers.cross_encoder import losses as reference_losses
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback

import likewise
from likewise import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, InputExample
from likewise.cross_encoder import losses
from likewise.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from likewise.cross_encoder.pairs import PairTokenization


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("reranker"), dropout=False)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("dropping"))


@pytest.fixture
def model(folder: str) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu")


def pairs(num_rows: int = 48, seed: int = 0) -> Dataset:
    texts, rng = pairs_of_texts(num_rows, seed), random.Random(seed)
    first, second = zip(*texts, strict=True)
    return Dataset.from_dict({"query": first, "document": second, "label": [rng.random() for _ in texts]})


def lists(num_rows: int = 32, seed: int = 0) -> Dataset:
    texts, rng = pairs_of_texts(num_rows, seed), random.Random(seed)
    documents = [[d for _, d in rng.sample(texts, rng.randint(1, 5))] for _ in texts]
    labels = [[rng.randint(0, 3) for _ in row] for row in documents]
    return Dataset.from_dict({"query": [q for q, _ in texts], "documents": documents, "labels": labels})


def triplets(num_rows: int = 32, seed: int = 0) -> Dataset:
    texts = pairs_of_texts(2 * num_rows, seed)
    first, second = zip(*texts, strict=True)
    return Dataset.from_dict(
        {"anchor": first[:num_rows], "positive": second[:num_rows], "negative": second[num_rows:]}
    )


def settings(output_dir: Path, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    } | changes


def run(
    folder: str, output_dir: Path, data: Any, loss: Any = None, resume: Any = None, **changes: Any
) -> CrossEncoderTrainer:
    given = {
        name: changes.pop(name) for name in ("callbacks", "evaluator", "eval_dataset") if name in changes
    }
    torch.manual_seed(0)
    trainer = CrossEncoderTrainer(
        model=CrossEncoder(folder, device="cpu"),
        args=CrossEncoderTrainingArguments(**settings(output_dir, **changes)),
        train_dataset=data,
        loss=loss,
        **given,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def curve(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


RUNS: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "pairs, binary cross-entropy": (lambda L, m: L.BinaryCrossEntropyLoss(m), pairs, {}),
    "the default loss": (lambda L, m: None, pairs, {}),
    "pairs with a prompt": (lambda L, m: L.MSELoss(m), pairs, {"prompts": "the child sees "}),
    "ragged lists": (lambda L, m: L.LambdaLoss(m), lists, {}),
    "ragged lists, ListNet, accumulated": (
        lambda L, m: L.ListNetLoss(m), lists, {"gradient_accumulation_steps": 2}
    ),
    "all negatives": (
        lambda L, m: L.MultipleNegativesRankingLoss(m, num_negatives=None), triplets, {"num_train_epochs": 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_the_loss_curve_equals_the_references(name: str, folder: str, tmp_path: Path) -> None:
    make, data, changes = RUNS[name]
    curves = []
    for library, kind, own in (
        (likewise, likewise.cross_encoder, losses),
        (reference, reference_cross, reference_losses),
    ):
        model = library.CrossEncoder(folder, device="cpu")
        args = kind.CrossEncoderTrainingArguments(**settings(tmp_path, **changes))
        trainer = kind.CrossEncoderTrainer(
            model=model, args=args, train_dataset=data(), eval_dataset=data(12, 1), loss=make(own, model)
        )
        trainer.train()
        # The reference shuffles what it evaluates on, so that a loss over a whole batch is of other batches there.
        alone = name.startswith("pairs") or "ListNet" in name
        curves.append([*curve(trainer), *([trainer.evaluate()["eval_loss"]] if alone else [])])
    assert len(curves[0]) >= 6
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-4)


@pytest.mark.parametrize(
    ("data", "loss"),
    [(pairs, "BinaryCrossEntropyLoss"), (lists, "LambdaLoss"), (triplets, "MultipleNegativesRankingLoss")],
)
def test_recomputed_chunks_give_the_same_losses(data: Any, loss: str, folder: str, tmp_path: Path) -> None:
    plain = run(folder, tmp_path, data(), getattr(losses, loss))
    chunks = run(folder, tmp_path, data(), getattr(losses, loss), micro_batch_tokens=40)
    np.testing.assert_allclose(curve(chunks), curve(plain), rtol=1e-4)


def test_texts_are_tokenised_once_for_all_epochs(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    encoded = PairTokenization._encoded

    def counts(self: PairTokenization, texts: list[str]) -> Any:
        read.extend(texts)
        return encoded(self, texts)

    monkeypatch.setattr(PairTokenization, "_encoded", counts)
    for name, data in (("LambdaLoss", lists()), ("MultipleNegativesRankingLoss", triplets())):
        read.clear()
        run(folder, tmp_path, data, getattr(losses, name), max_steps=-1, num_train_epochs=3)
        assert len(read) > 30
        assert len(read) == len(set(read))


@pytest.mark.parametrize("kind", ["drawn negatives", "lists", "a stream", "several data sets"])
def test_a_resumed_run_ends_as_one_that_never_stopped(kind: str, dropping: str, tmp_path: Path) -> None:
    data: Any = {
        "drawn negatives": lambda: triplets(),
        "lists": lambda: lists(),
        "a stream": lambda: pairs().to_iterable_dataset(num_shards=2),
        "several data sets": lambda: {"a": triplets(), "b": pairs()},
    }[kind]
    ranking = losses.MultipleNegativesRankingLoss
    loss: Any = {
        "drawn negatives": ranking,
        "lists": losses.ListMLELoss,
        "a stream": losses.MSELoss,
        "several data sets": {"a": ranking, "b": losses.BinaryCrossEntropyLoss},
    }[kind]
    whole = run(dropping, tmp_path / "a", data(), loss)
    run(dropping, tmp_path / "b", data(), loss, save_strategy="steps", save_steps=3)
    again = run(dropping, tmp_path / "b", data(), loss, resume=str(tmp_path / "b" / "checkpoint-3"))
    assert curve(again)[3:] == curve(whole)[3:]
    for name, value in weights(whole).items():
        assert torch.equal(weights(again)[name], value), name


def test_draws_of_negatives_depend_on_the_seed(folder: str, tmp_path: Path) -> None:
    loss = losses.MultipleNegativesRankingLoss
    first, same = (curve(run(folder, tmp_path, triplets(), loss, data_seed=1)) for _ in range(2))
    assert first == same
    assert first != curve(run(folder, tmp_path, triplets(), loss, data_seed=2))


class Scored(nn.Module):
    """Written for the reference since 5.4: features in, scores among the features."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[list[str]], labels: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.model.preprocess(list(zip(*inputs, strict=True)))
        scores = self.model({k: v.to(self.model.device) for k, v in features.items()})["scores"].view(-1)
        return {
            "half": 0.5 * nn.functional.mse_loss(scores, labels),
            "rest": 0.5 * nn.functional.mse_loss(scores, labels),
        }


class Called(nn.Module):
    """Written for its releases 4.0 to 5.3: the model is called as transformers' own."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[list[str]], labels: torch.Tensor) -> torch.Tensor:
        rows = list(zip(*inputs, strict=True))
        tokens = self.model.tokenizer(rows, padding=True, truncation=True, return_tensors="pt")
        return nn.functional.mse_loss(self.model(**tokens.to(self.model.device))[0].view(-1), labels)


@pytest.mark.parametrize("loss", [Scored, Called])
def test_losses_written_for_the_reference_work(loss: Any, folder: str, tmp_path: Path) -> None:
    trainer = run(folder, tmp_path, pairs(), loss)
    np.testing.assert_allclose(
        curve(trainer), curve(run(folder, tmp_path, pairs(), losses.MSELoss)), rtol=1e-4
    )


class WithPrompt(Scored):
    seen: Sequence[Any] = ()

    def forward(self, inputs: Any, labels: Any, prompt: str | None = None, task: str | None = None) -> Any:
        self.seen = [inputs[0][0], prompt, task]
        return super().forward(inputs, labels)


def test_a_loss_of_ones_own_is_handed_the_prompt(folder: str, tmp_path: Path) -> None:
    data = {"a": pairs(8), "b": pairs(8)}
    trainer = run(folder, tmp_path, data, WithPrompt, prompts={"a": "now: ", "b": "now: "})
    assert trainer.loss.seen[1:] == ["now: ", None]


@pytest.mark.parametrize("prompts", [None, "now: "])
def test_columns_may_be_called_prompt_and_task(prompts: str | None, folder: str, tmp_path: Path) -> None:
    usual = pairs(8)
    names = dict(zip(usual.column_names, ("prompt", "task"), strict=False))
    renamed = usual.rename_columns({name: new for name, new in names.items() if name != "label"})
    changes = {} if prompts is None else {"prompts": prompts}
    trainer = run(folder, tmp_path, renamed, WithPrompt, max_steps=1, **changes)
    assert trainer.loss.seen[0] in renamed["prompt"]
    assert trainer.loss.seen[1:] == [prompts, None]
    assert curve(trainer) == curve(run(folder, tmp_path, usual, WithPrompt, max_steps=1, **changes))
    collator = likewise.cross_encoder.CrossEncoderDataCollator(prompts=prompts)
    batch = collator([renamed[0], renamed[1]])
    assert batch["prompt"] == renamed[:2]["prompt"]
    assert batch.get("_prompt") == prompts


def test_an_error_within_a_loss_is_not_hidden(folder: str, tmp_path: Path) -> None:
    class Broken(Scored):
        def forward(self, inputs: Any, labels: Any) -> Any:
            raise TypeError("this one")

    with pytest.raises(TypeError, match=r"^this one$"):
        run(folder, tmp_path, pairs(), Broken)


def test_methods_of_a_subclass_are_handed_the_columns_by_name(model: CrossEncoder, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Own(CrossEncoderTrainer):
        def collect_features(self, inputs: Any) -> Any:
            seen.append(dict(inputs))
            return super().collect_features(inputs)

    args = CrossEncoderTrainingArguments(**settings(tmp_path, max_steps=1))
    Own(model=model, args=args, train_dataset=lists(8), loss=losses.LambdaLoss(model)).train()
    assert list(seen[0]) == ["query", "documents", "label"]
    assert [len(row) for row in seen[0]["documents"]] == [len(row) for row in seen[0]["label"]]


def test_the_best_model_is_loaded_and_a_callback_stops_early(folder: str, tmp_path: Path) -> None:
    texts = pairs_of_texts(12, seed=5)
    evaluator = CrossEncoderCorrelationEvaluator(texts, [i / 12 for i in range(12)], name="dev")
    trainer = run(
        folder, tmp_path, pairs(), None, evaluator=evaluator, eval_dataset=pairs(12, 3), max_steps=12, learning_rate=0.05,
        eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1, load_best_model_at_end=True,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )  # fmt: skip
    found = {e["step"]: e["eval_dev_spearman"] for e in trainer.state.log_history if "eval_dev_spearman" in e}
    assert trainer.state.global_step < 12
    assert trainer.args.metric_for_best_model == "eval_dev_spearman"
    assert trainer.state.best_metric == pytest.approx(max(found.values()))
    assert evaluator(trainer.model)["dev_spearman"] == pytest.approx(max(found.values()), abs=1e-6)
    assert all("eval_loss" in e for e in trainer.state.log_history if "eval_dev_spearman" in e)


def test_an_adapter_is_trained_and_restored_with_its_head(folder: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = {"r": 2, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}

    def trained(output_dir: Path, resume: Any = None, **changes: Any) -> CrossEncoderTrainer:
        torch.manual_seed(1)
        model = CrossEncoder(folder, device="cpu")
        model.add_adapter(peft.LoraConfig(**config))
        args = CrossEncoderTrainingArguments(**settings(output_dir, learning_rate=0.02, **changes))
        trainer = CrossEncoderTrainer(model=model, args=args, train_dataset=pairs())
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = trained(tmp_path / "a", save_strategy="steps", save_steps=3)
    texts = pairs_of_texts(6)
    expected = whole.model.predict(texts)
    assert np.abs(expected - CrossEncoder(folder, device="cpu").predict(texts)).max() > 1e-3
    whole.model.save(str(tmp_path / "saved"))
    np.testing.assert_allclose(
        CrossEncoder(tmp_path / "saved", device="cpu").predict(texts), expected, atol=1e-6
    )
    again = trained(tmp_path / "a", resume=str(tmp_path / "a" / "checkpoint-3"))
    np.testing.assert_array_equal(again.model.predict(texts), expected)
    whole.model.merge_adapters()
    np.testing.assert_allclose(whole.model.predict(texts), expected, atol=1e-6)
    whole.model.save(str(tmp_path / "merged"))
    np.testing.assert_allclose(
        CrossEncoder(tmp_path / "merged", device="cpu").predict(texts), expected, atol=1e-6
    )


def test_the_plan_tells_roles_and_prompts(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, tmp_path, {"one": lists(8), "two": triplets(8)}, {"one": losses.LambdaLoss, "two": losses.MultipleNegativesRankingLoss}, max_steps=1, prompts={"two": "find: "})  # fmt: skip
    said = capsys.readouterr().out
    assert "8 rows: query, list of documents=documents, label=labels -> LambdaLoss" in said
    assert "8 rows: anchor (prompt 'find: '), positive, negative -> MultipleNegativesRankingLoss" in said


BAD: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], str]] = {
    "three texts": (lambda: triplets(8).add_column("label", [1.0] * 8), losses.MSELoss, {}, "first text, second text"),
    "no label": (lambda: pairs(8).remove_columns("label"), losses.BinaryCrossEntropyLoss, {}, "has no label column"),
    "out of range": (
        lambda: pairs(8).map(lambda row: {"label": 3.0}), losses.BinaryCrossEntropyLoss, {}, "holds 3 in row 0.*from 0 to 1",
    ),
    "lists for pairs": (lambda: lists(8), losses.MSELoss, {}, "'documents'.*holds lists.*LambdaLoss"),
    "texts for lists": (lambda: pairs(8), losses.LambdaLoss, {}, "'document'.*list of documents for each query"),
    "an empty list": (
        lambda: Dataset.from_dict({"q": ["a", "b"], "d": [["x"], []], "label": [[1], []]}), losses.ListNetLoss, {},
        "empty list of documents in row 1",
    ),
    "labels missing": (
        lambda: Dataset.from_dict({"q": ["a", "b"], "d": [["x"], ["y", "z"]], "label": [[1], [0]]}), losses.RankNetLoss, {},
        "Row 1 of .* has 2 documents in 'd', but 1 labels",
    ),
    "one label a list": (
        lambda: Dataset.from_dict({"q": ["a"], "d": [["x", "y"]], "label": [1]}), losses.LambdaLoss, {},
        "takes a list with one number for each document",
    ),
    "not a number": (
        lambda: Dataset.from_dict({"q": ["a"], "d": [["x", "y"]], "label": [[1.0, float("nan")]]}), losses.LambdaLoss, {},
        "holds nan in row 0",
    ),
    "margins": (
        lambda: triplets(8).add_column("label", [[1.0, 2.0, 3.0]] * 8), losses.MarginMSELoss, {}, "holds 3 numbers in a list",
    ),
    "prompts by column": (lambda: pairs(8), None, {"prompts": {"query": "a"}}, "in front of a pair's first text"),
    "a batch of one": (
        lambda: triplets(8).remove_columns("negative"), losses.MultipleNegativesRankingLoss,
        {"per_device_train_batch_size": 1}, "batch size .* is 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_right_is_refused_before_the_first_step(
    name: str, folder: str, tmp_path: Path
) -> None:
    data, loss, changes, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run(folder, tmp_path, data(), loss, **changes)


def test_classes_beyond_the_models_labels_are_refused(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path / "m", num_labels=3)
    data = pairs(6).remove_columns("label").add_column("label", [0, 1, 2, 0, 1, 3])
    with pytest.raises(ValueError, match=r"holds 3 in row 5.*from 0 to 2"):
        run(folder, tmp_path, data)
    shares = pairs(6).remove_columns("label").add_column("label", [[0.2, 0.3, 0.5]] * 6)
    assert len(curve(run(folder, tmp_path, shares, max_steps=2))) == 2
    with pytest.raises(ValueError, match=r"2 numbers in row 0.*3 labels"):
        run(folder, tmp_path, pairs(6).remove_columns("label").add_column("label", [[0.5, 0.5]] * 6))


@pytest.mark.parametrize("labels", [0, 1])
def test_fit_trains_and_saves_as_older_scripts_expect(labels: int, folder: str, tmp_path: Path) -> None:
    model = CrossEncoder(folder, device="cpu")
    texts = pairs_of_texts(16)
    examples = [InputExample(texts=list(pair), label=labels * (i % 2)) for i, pair in enumerate(texts)]
    dev = [InputExample(texts=list(pair), label=i / 6) for i, pair in enumerate(texts[:6])]
    evaluator = CrossEncoderCorrelationEvaluator.from_input_examples(dev, name="dev")
    calls: list[Any] = []
    before = model.predict(texts)
    model.fit(
        train_dataloader=DataLoader(examples, batch_size=4, shuffle=True), evaluator=evaluator, epochs=2, evaluation_steps=2,
        warmup_steps=1, output_path=str(tmp_path / "out"), optimizer_params={"lr": 1e-3}, show_progress_bar=False,
        callback=lambda score, epoch, steps: calls.append((score, epoch, steps)),
    )  # fmt: skip
    assert [call[1:] for call in calls] == [(0, 2), (0, -1), (1, 2), (1, -1)]
    assert np.abs(model.predict(texts) - before).max() > 1e-4
    best = CrossEncoder(tmp_path / "out", device="cpu")
    assert evaluator(best)["dev_spearman"] == pytest.approx(max(call[0] for call in calls))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "`fit` takes a DataLoader of InputExamples .* but got a list with"),
        ([InputExample(texts=["a", "b"], label=1)], "but got a list with"),
        (None, "but got a NoneType"),
        (
            DataLoader([("a", "b")]),
            r"`loader.dataset\[0\]` must be an InputExample, with texts and a label, but is a",
        ),
    ],
)
def test_fit_says_what_is_no_data_loader_of_examples(model: CrossEncoder, loader: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        model.fit(loader)


def test_fit_takes_a_loss_of_torchs_and_saves_without_an_evaluator(folder: str, tmp_path: Path) -> None:
    model = CrossEncoder(folder, device="cpu")
    examples = [InputExample(texts=list(pair), label=0.5) for pair in pairs_of_texts(8)]
    loader = DataLoader(examples, batch_size=4)
    model.old_fit(
        loader,
        None,
        1,
        nn.MSELoss(),
        nn.Sigmoid(),
        warmup_steps=0,
        output_path=str(tmp_path),
        show_progress_bar=False,
    )
    texts = pairs_of_texts(3)
    np.testing.assert_array_equal(CrossEncoder(tmp_path, device="cpu").predict(texts), model.predict(texts))
    features, labels = model.smart_batching_collate([InputExample(texts=[" a cat ", "a dog"], label=1)])
    expected = model.preprocess([("a cat", "a dog")])
    assert features["input_ids"].tolist() == expected["input_ids"].tolist()
    assert labels.tolist() == [1.0]


def test_the_card_tells_of_the_run(folder: str, tmp_path: Path) -> None:
    texts = pairs_of_texts(12, seed=5)
    evaluator = CrossEncoderCorrelationEvaluator(texts, [i / 12 for i in range(12)], name="dev")
    trainer = run(
        folder, tmp_path, lists(), losses.LambdaLoss, evaluator=evaluator, eval_strategy="steps", eval_steps=3
    )
    trainer.model.save(str(tmp_path / "saved"), model_name="me/mine")
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    for part in (
        "pipeline_tag: text-ranking", "- cross-encoder", "- reranker", "- generated_from_trainer", "- loss:LambdaLoss",
        "- dataset_size:32", 'CrossEncoder("me/mine")', "model.predict(pairs)", "model.rank(", "- **Model Type:** Cross Encoder",
        "- **Number of Output Labels:** 1 label", "**spearman**", "<code>documents</code>",
    ):  # fmt: skip
        assert part in card, part
    assert "could not be written" not in card
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    again.save(str(tmp_path / "again"))
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == card
