"""What a user may replace is called from the same events as in the reference: methods of trainer, collator and arguments, and
callbacks. A subclass that records its calls runs under both libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
from datasets import Dataset, DatasetDict
from sentence_transformers.base.trainer import BaseTrainer
from training_common import settings, triplets
from transformers import TrainerCallback

import likewise
from likewise import SentenceTransformerTrainer
from likewise.training.run.trainer import PAST_METHODS

LIBRARIES = (likewise, sentence_transformers)

# Methods that the reference's runs call and ours do not, with the reason; docs/differences.md has the same list.
NOT_CALLED = {
    "_build_dataloader": "a loader for training deals other rows than one for evaluation; a subclass that has it is refused"
}


def pairs(seed: int = 0, num_rows: int = 16) -> Dataset:
    return triplets(num_rows, seed).remove_columns("negative")


def recording(kind: type, calls: list[str]) -> type:
    """A subclass each of whose public methods, and of the reference's private hooks, notes that it was called."""
    reference = sentence_transformers.SentenceTransformerTrainer
    hooks = [name for name in {**vars(BaseTrainer), **vars(reference)} if not name.startswith("__")]
    public = [name for name in dir(reference) if not name.startswith("_")]
    methods: dict[str, Any] = {}
    for name in sorted({*hooks, *public}):
        original = inspect.getattr_static(kind, name, None)
        if original is None or isinstance(original, property | type):
            continue
        if isinstance(original, staticmethod):
            methods[name] = staticmethod(_noting(name, original.__func__, calls))
        elif inspect.isfunction(original):
            methods[name] = _noting(name, original, calls)
    return type(f"Recording{kind.__name__}", (kind,), methods)


def _noting(name: str, function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return function(*args, **kwargs)

    return noted


class Fixed:
    """An evaluator that measures nothing."""

    primary_metric = "accuracy"
    greater_is_better = True
    name = "fixed"

    def __call__(
        self, model: Any, output_path: Any = None, epoch: Any = -1, steps: Any = -1
    ) -> dict[str, float]:
        return {"accuracy": 0.5}


def evaluator_of(library: Any) -> Any:
    base = import_module(f"{library.__name__}.sentence_transformer.evaluation").SentenceEvaluator
    return type(
        "FixedEvaluator",
        (Fixed, base),
        {"__init__": lambda self: None, "store_metrics_in_model_card_data": lambda *a, **k: None},
    )()


def arguments_of(library: Any, folder: Path, **changes: Any) -> Any:
    return library.SentenceTransformerTrainingArguments(**settings(folder, **changes))


def loss_of(library: Any, name: str = "MultipleNegativesRankingLoss") -> Any:
    return getattr(import_module(f"{library.__name__}.sentence_transformer.losses"), name)


def run_of_everything(library: Any, kind: type, model_folder: str, folder: Path, **options: Any) -> Any:
    """Two data sets and losses, evaluations, an evaluator, the best checkpoint, a prediction."""
    model = library.SentenceTransformer(model_folder, device="cpu")
    data = {"one": pairs(1), "two": pairs(2)}
    loss = loss_of(library)
    args = arguments_of(
        library, folder, max_steps=2, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
        load_best_model_at_end=True, metric_for_best_model="eval_accuracy", greater_is_better=True,
    )  # fmt: skip
    trainer = kind(
        model=model, args=args, train_dataset=dict(data), eval_dataset=dict(data),
        loss={"one": loss(model), "two": loss(model)}, evaluator=evaluator_of(library), **options,
    )  # fmt: skip
    trainer.train()
    trainer.evaluate(DatasetDict({"one": pairs(3), "two": pairs(4)}))
    return trainer


def other_runs(library: Any, kind: type, model_folder: str, folder: Path) -> None:
    def model() -> Any:
        return library.SentenceTransformer(model_folder, device="cpu")

    args = arguments_of(library, folder, max_steps=1)
    scored = triplets(8).remove_columns("negative").add_column("score", [0.5] * 8)
    trainer = kind(model=model(), args=args, train_dataset=scored)  # no loss, no evaluation
    trainer.train()
    one = model()
    trainer = kind(
        model=one, args=args, train_dataset=pairs(), eval_dataset=pairs(), loss=loss_of(library)(model())
    )  # the loss has another model
    trainer.train()
    trainer.predict(pairs(5))
    trainer = kind(args=args, model_init=model, train_dataset=pairs(), loss=loss_of(library))
    trainer.train()
    trainer.create_model_card()
    evaluator_only = kind(model=one, args=args, evaluator=evaluator_of(library))
    evaluator_only.evaluate()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, folder: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for library in LIBRARIES:
        noted: list[str] = []
        kind = recording(library.SentenceTransformerTrainer, noted)
        run_of_everything(library, kind, folder, tmp_path_factory.mktemp("run"))
        other_runs(library, kind, folder, tmp_path_factory.mktemp("others"))
        found[library.__name__] = noted
    return found


def test_every_method_of_the_references_trainer_is_called_from_the_same_events_or_listed(
    calls: dict[str, list[str]],
) -> None:
    here, there = (set(calls[library.__name__]) for library in LIBRARIES)
    assert there - here == set(NOT_CALLED)
    assert len(there) > 40
    page = Path("docs/differences.md").read_text()
    assert all(f"`{name}`" in page for name in NOT_CALLED)


HOOKS = sorted(
    name
    for name in vars(BaseTrainer)
    if inspect.isfunction(inspect.getattr_static(BaseTrainer, name)) and name[:2] != "__"
)


@pytest.mark.parametrize("name", HOOKS)
def test_a_method_that_is_replaced_alone_is_called(
    name: str, calls: dict[str, list[str]], folder: str, tmp_path: Path
) -> None:
    """The trainer's fast ways leave some methods out; not where a subclass has its own."""
    if name not in calls["sentence_transformers"] or name in NOT_CALLED:
        pytest.skip("the reference does not call it in these runs, or it is listed")
    noted: list[str] = []
    original = getattr(SentenceTransformerTrainer, name)
    mine = type("Mine", (SentenceTransformerTrainer,), {name: _noting(name, original, noted)})
    run_of_everything(likewise, mine, folder, tmp_path / "run")
    if not noted:
        other_runs(likewise, mine, folder, tmp_path / "others")
    assert noted


def test_every_method_of_the_references_trainer_is_there() -> None:
    reference = sentence_transformers.SentenceTransformerTrainer
    names = [name for name, value in inspect.getmembers(reference, callable) if not name.startswith("_")]
    names = [name for name in names if not inspect.isclass(getattr(reference, name))]
    assert not [name for name in names if not hasattr(SentenceTransformerTrainer, name)]


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformer.training_args.SentenceTransformerTrainingArguments",
        "sentence_transformer.data_collator.SentenceTransformerDataCollator",
    ],
)
def test_arguments_and_collator_have_the_references_methods(kind: str) -> None:
    module, _, name = kind.rpartition(".")
    ours, theirs = (getattr(import_module(f"{library.__name__}.{module}"), name) for library in LIBRARIES)
    assert not [each for each in dir(theirs) if not each.startswith("_") and not hasattr(ours, each)]


def test_a_method_that_nothing_calls_is_refused_when_the_subclass_is_made() -> None:
    for name, instead in PAST_METHODS.items():
        with pytest.raises(TypeError, match=f"`Mine.{name}` would never be called. Override `{instead}`"):
            type("Mine", (SentenceTransformerTrainer,), {name: lambda self: None})


class Events(TrainerCallback):
    """Notes the events that come, and what some of them are told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def noted(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            told = sorted(kwargs.get("metrics") or kwargs.get("logs") or {})
            told = [key for key in told if key.endswith(("loss", "eval_accuracy"))]
            self.events.append(" ".join([name, *told]))

        return noted


@pytest.mark.parametrize("several", [False, True])
def test_callbacks_see_the_same_events(folder: str, tmp_path: Path, several: bool) -> None:
    found = []
    for library in LIBRARIES:
        callback, model = Events(), library.SentenceTransformer(folder, device="cpu")
        options = {
            "max_steps": 4, "gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 2,
            "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True,
            "metric_for_best_model": "eval_accuracy",
        }  # fmt: skip
        # The reference does not know what an evaluator measures; ours would otherwise look before the first step.
        data: Any = DatasetDict({"a": pairs(1), "b": pairs(2)}) if several else pairs(1)
        trainer = library.SentenceTransformerTrainer(
            model=model, args=arguments_of(library, tmp_path / library.__name__, **options), train_dataset=data,
            eval_dataset=data, loss=loss_of(library)(model), evaluator=evaluator_of(library), callbacks=[callback],
        )  # fmt: skip
        trainer.train()
        trainer.evaluate(pairs(3))
        trainer.predict(pairs(4))
        found.append(callback.events)
    assert found[0] == found[1]
    assert {"on_prediction_step", "on_save", "on_train_end"} <= set(found[0])
