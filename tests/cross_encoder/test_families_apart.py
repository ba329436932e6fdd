"""Models, losses, evaluators and trainers of two families: one sentence each where they are mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import torch
from cross_common import reranker_folder
from datasets import Dataset
from sentence_transformers import CrossEncoder as Reference
from small import small_model

import likewise
from likewise import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.cross_encoder import losses as cross_losses
from likewise.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from likewise.evaluation import EmbeddingSimilarityEvaluator, SequentialEvaluator
from likewise.model.inference import TOKENS_PER_TEXT

DATA = Dataset.from_dict({"first": ["a", "b"], "second": ["c", "d"], "label": [0.0, 1.0]})
DENSE_EVALUATOR = EmbeddingSimilarityEvaluator(["a", "b"], ["c", "d"], [0.0, 1.0])
CROSS_EVALUATOR = CrossEncoderCorrelationEvaluator([("a", "c"), ("b", "d")], [0.0, 1.0])


@pytest.fixture(scope="module")
def cross(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    return CrossEncoder(reranker_folder(tmp_path_factory.mktemp("cross")), device="cpu")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    model: SentenceTransformer = small_model(tmp_path_factory.mktemp("dense"))
    return model


def trainer(name: str, model: Any, tmp_path: Path, **given: Any) -> Any:
    kinds: dict[str, Any] = {
        "cross": (CrossEncoderTrainer, CrossEncoderTrainingArguments),
        "dense": (SentenceTransformerTrainer, SentenceTransformerTrainingArguments),
    }
    kind, arguments = kinds[name]
    args = arguments(str(tmp_path), report_to="none", use_cpu=True)
    return kind(model, args, DATA, **given)


def test_a_model_of_the_other_family_is_refused(
    dense: SentenceTransformer, cross: CrossEncoder, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=r"model SentenceTransformer is .* Use SentenceTransformerTrainer"):
        trainer("cross", dense, tmp_path)
    with pytest.raises(TypeError, match=r"model CrossEncoder is .* Use CrossEncoderTrainer"):
        trainer("dense", cross, tmp_path)
    with pytest.raises(TypeError, match="Use CrossEncoderTrainer"):
        trainer("dense", None, tmp_path, model_init=lambda: cross)


def test_a_loss_of_the_other_family_is_refused(
    dense: SentenceTransformer, cross: CrossEncoder, tmp_path: Path
) -> None:
    with pytest.raises(
        TypeError, match=r"but the model is a CrossEncoder. Use one of `likewise\.cross_encoder\.losses`"
    ):
        losses.CoSENTLoss(cross)
    with pytest.raises(
        TypeError, match=r"but the model is a SentenceTransformer. Use one of `likewise\.losses`"
    ):
        cross_losses.BinaryCrossEntropyLoss(dense)
    with pytest.raises(
        TypeError, match="loss CoSENTLoss is for a SentenceTransformer, but CrossEncoderTrainer"
    ):
        trainer("cross", cross, tmp_path, loss=losses.CoSENTLoss(dense))
    with pytest.raises(TypeError, match="CoSENTLoss is for a SentenceTransformer"):
        trainer("cross", cross, tmp_path, loss={"": lambda model: losses.CoSENTLoss(model)})
    with pytest.raises(TypeError, match="loss MSELoss is for a CrossEncoder, but SentenceTransformerTrainer"):
        trainer("dense", dense, tmp_path, loss=cross_losses.MSELoss)


def test_an_evaluator_of_the_other_family_is_refused(
    dense: SentenceTransformer, cross: CrossEncoder, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match=r"Use one of `likewise\.cross_encoder\.evaluation`"):
        cross.evaluate(DENSE_EVALUATOR)
    with pytest.raises(TypeError, match="is for a CrossEncoder, but the model is a SentenceTransformer"):
        SequentialEvaluator([CROSS_EVALUATOR])(dense)
    with pytest.raises(
        TypeError, match="evaluator EmbeddingSimilarityEvaluator is for a SentenceTransformer"
    ):
        trainer("cross", cross, tmp_path, evaluator=DENSE_EVALUATOR)
    with pytest.raises(TypeError, match="evaluator CrossEncoderCorrelationEvaluator is for a CrossEncoder"):
        trainer("dense", dense, tmp_path, evaluator=[CROSS_EVALUATOR])


def test_a_model_that_calls_itself_otherwise_is_measured_and_trained(
    dense: SentenceTransformer, tmp_path: Path
) -> None:
    class Mine(SentenceTransformer):
        model_type = "Mine"

    mine = Mine(modules=list(dense), device="cpu")
    assert DENSE_EVALUATOR(mine) == DENSE_EVALUATOR(dense)
    assert trainer("dense", mine, tmp_path, evaluator=DENSE_EVALUATOR).model is mine
    mine.save_pretrained(str(tmp_path / "mine"), create_model_card=False)
    settings = (tmp_path / "mine" / "config_sentence_transformers.json").read_text(encoding="utf-8")
    assert '"model_type": "Mine"' in settings


@pytest.mark.parametrize(
    "name", ["SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder"]
)
def test_a_family_says_of_itself_what_the_references_does(name: str) -> None:
    ours, theirs = (getattr(library, name) for library in (likewise, sentence_transformers))
    assert ours.model_type == theirs.model_type == name
    assert ours.default_huggingface_organization == theirs.default_huggingface_organization
    assert ours.model_card_data_class.__name__ == theirs.model_card_data_class.__name__

    class Mine(ours):  # type: ignore[misc, valid-type]
        default_huggingface_organization = "mine"

    for kind, places in (
        (Mine, ["mine/none", "none"]),
        (ours, [f"{ours.default_huggingface_organization}/none", "none"]),
    ):
        with pytest.raises(FileNotFoundError) as found:
            kind("none")
        looked_for = [place for place in (*places, "None/none") if f"{place}: " in str(found.value)]
        assert looked_for == [place for place in places if place != "None/none"]


def test_the_activation_that_nothing_was_said_of_is_the_references(
    cross: CrossEncoder, tmp_path: Path
) -> None:
    for labels in (1, 3):
        folder = reranker_folder(tmp_path / str(labels), num_labels=labels)
        found = [kind(folder, device="cpu").get_default_activation_fn() for kind in (CrossEncoder, Reference)]
        assert type(found[0]) is type(found[1])


def test_modules_that_were_added_are_put_beside_the_first(dense: SentenceTransformer) -> None:
    dense.append(torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(NotImplementedError, match="meta"):  # torch's: it has no values to move
        dense.clear_placement_cache()
    del dense[-1]


def test_each_trainer_says_what_it_is_for() -> None:
    for kind, words in (
        (SentenceTransformerTrainer, ("Trains a SentenceTransformer", "CoSENTLoss")),
        (CrossEncoderTrainer, ("Trains a CrossEncoder", "BinaryCrossEntropyLoss", "CrossEntropyLoss")),
    ):
        text = kind.__doc__ or ""
        assert all(word in text for word in (*words, "    Args:\n        model: The model to train.")), text


def test_what_a_batch_holds_is_documented_as_it_is() -> None:
    for method, unit in ((SentenceTransformer.encode, "texts"), (CrossEncoder.predict, "pairs")):
        assert f"{unit} of {TOKENS_PER_TEXT['cpu']} tokens on the CPU" in (method.__doc__ or "")


def test_what_a_cross_encoder_lacks_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "differences.md").read_text(encoding="utf-8")
    told = page.partition("## Not here")[2]
    missing = {name for name in dir(Reference) if not name.startswith("_")} - set(dir(CrossEncoder))
    assert [name for name in missing if f"`{name}`" not in told] == []
    formats = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert formats.count("| a CrossEncoder ") == 4
