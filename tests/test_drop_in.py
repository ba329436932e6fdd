"""A script written for the reference, of whichever release: its imports, and the way it calls things."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import warm
from datasets import Dataset
from sentence_transformers.sentence_transformer import evaluation as reference_evaluation
from small import sentences, small_model_folder
from transformers import HfArgumentParser

import likewise
from likewise import SentenceTransformerTrainingArguments, evaluation
from likewise.training import BaseTrainingArguments

TEXTS = sentences(10)
# What the reference's files of 6.x hold for itself: bases of its classes, decorators, parts of other kinds of models.
INTERNAL = {
    "deprecated_import", "deprecated_model_card_templates", "decorators", "fit_mixin", "gradcache",
    "merged_forward", "merging", "modality", "modality_types", "model_card", "peft_mixin", "base", "dataset",
}  # fmt: skip
NOT_HERE = (
    "BaseDataCollator",
    "SetEpochMixin",
    "TransformerDecorator",
    "ForwardDecorator",
    "CachedLossDecorator",
    "disabled_tqdm",
    "BaseTrainer",
    "BaseTrainingArguments",
    "ModalityParams",
    "ProcessingKwargs",
    "QueryExpansionConfig",
)
PATHS = sorted(
    name.removeprefix("sentence_transformers.")
    for _, name, _ in pkgutil.walk_packages(sentence_transformers.__path__, "sentence_transformers.")
    if name.split(".")[1] in ("base", "sentence_transformer", "util")
    and not INTERNAL & set(name.split(".")[2:] or ["base"])
    and not name.endswith("base.evaluation.evaluator")
)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_of_the_newest_release_has_its_classes_and_functions(path: str) -> None:
    theirs = import_module(f"sentence_transformers.{path}")
    ours = import_module(f"likewise.{path}")
    for name, value in vars(theirs).items():
        is_own = getattr(value, "__module__", None) == theirs.__name__
        if is_own and not name.startswith("_") and name not in NOT_HERE and inspect.isclass(value):
            assert inspect.isclass(getattr(ours, name)), name


@pytest.mark.parametrize(
    ("path", "name", "home"),
    [
        ("SentenceTransformer", "SentenceTransformer", "likewise"),
        ("LoggingHandler", "LoggingHandler", "likewise"),
        (
            "losses.CachedMultipleNegativesRankingLoss",
            "CachedMultipleNegativesRankingLoss",
            "likewise.losses",
        ),
        ("losses.CoSENTLoss", "CoSENTLoss", "likewise.losses"),
        ("models.Pooling", "Pooling", "likewise.models"),
        ("models.tokenizer", "WhitespaceTokenizer", "likewise.models"),
        ("models.tokenizer.WordTokenizer", "TransformersTokenizerWrapper", "likewise.models"),
        ("readers.InputExample", "InputExample", "likewise"),
        ("datasets.SentenceLabelDataset", "SentenceLabelDataset", "likewise.datasets"),
        ("evaluation.SimilarityFunction", "SimilarityFunction", "likewise"),
        ("sampler", "NoDuplicatesBatchSampler", "likewise.training.samplers.no_duplicates"),
        ("data_collator", "SentenceTransformerDataCollator", "likewise.training.data.data_collator"),
        ("util.retrieval", "semantic_search", "likewise.util"),
        ("base.modules", "InputModule", "likewise.models"),
        ("base.model_card", "BaseModelCardData", "likewise.model_card"),
        ("base.model_card", "generate_model_card", "likewise.card"),
        ("base.model", "SentenceTransformer", "likewise"),
        ("base.trainer", "BaseTrainer", "likewise.training"),
        ("cross_encoder.training_args", "BatchSamplers", "likewise.training_args"),
        ("base.sampler", "SubsetRandomSampler", "torch.utils.data"),
        ("sentence_transformer.training_args", "BatchSamplers", "likewise.training_args"),
    ],
)
def test_files_of_older_and_newer_releases_lead_to_where_a_name_is(path: str, name: str, home: str) -> None:
    assert getattr(import_module(f"likewise.{path}"), name) is getattr(import_module(home), name)


@pytest.mark.parametrize(
    "path",
    [
        "losses.NoSuchLoss",
        "losses.CoSENTLos",
        "losses.COSENTLOSS",
        "models.cosent",
        "models.D",
        "nothing",
        "base.nothing",
        "losses.adcache",
    ],
)
def test_a_path_that_nobody_has_is_not_found(path: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=path):
        import_module(f"likewise.{path}")


def test_the_base_of_all_models_is_found_under_its_name() -> None:
    base = import_module("likewise.base.model").BaseModel
    assert issubclass(likewise.SentenceTransformer, base)
    assert issubclass(likewise.CrossEncoder, base)


@pytest.mark.parametrize("path", ["losses.CachedMultipleNegativesRankingLoss", "base.losses.gradcache"])
def test_random_numbers_are_drawn_again_in_losses_of_ones_own(path: str) -> None:
    again = import_module(f"likewise.{path}").RandContext(torch.ones(1), torch.ones(2))
    expected, follows = torch.rand(9), torch.get_rng_state()
    for _ in range(2):
        with again:
            assert torch.equal(torch.rand(9), expected)
        assert torch.equal(torch.get_rng_state(), follows)
    assert not hasattr(import_module("likewise.losses"), "RandContext")


def test_a_name_that_a_file_does_not_have_is_not_found_in_it() -> None:
    with pytest.raises(
        ImportError, match=r"cannot import name 'Nothing' from 'likewise\.SentenceTransformer'"
    ):
        exec("from likewise.SentenceTransformer import Nothing")
    assert "SentenceTransformer" in dir(import_module("likewise.SentenceTransformer"))


def test_a_class_stays_one_when_the_file_of_its_name_is_imported() -> None:
    done = warm.run(
        "import likewise, likewise.SentenceTransformer, likewise.losses.CoSENTLoss, likewise.models.Dense\n"
        "from likewise.SentenceTransformer import SentenceTransformer\n"
        "assert likewise.SentenceTransformer is SentenceTransformer\n"
        "assert likewise.losses.CoSENTLoss.__module__ == 'likewise.losses.cosent'\n"
        "assert likewise.models.Dense.__module__ == 'likewise.modules.dense'\n"
    )
    assert done.returncode == 0, done.stderr


def test_installed_under_the_references_name_it_serves_programs_that_import_that() -> None:
    done = warm.run(
        "import likewise.compat\n"
        "likewise.compat.install()\n"
        "likewise.compat.install()\n"
        "import sentence_transformers, sentence_transformers.losses.CoSENTLoss\n"
        "from sentence_transformers import SentenceTransformer, InputExample, losses, models, util\n"
        "from sentence_transformers.evaluation import TripletEvaluator\n"
        "from sentence_transformers.sentence_transformer.modules import Pooling\n"
        "assert SentenceTransformer is likewise.SentenceTransformer is sentence_transformers.SentenceTransformer\n"
        "assert sentence_transformers.__version__ == '6.2.0'\n"
        "assert sentence_transformers.losses is losses is likewise.losses\n"
        "assert losses.__spec__.name == 'likewise.losses'\n"
        "from sentence_transformers.losses.cosent import CoSENTLoss\n"
        "assert losses.CoSENTLoss is sentence_transformers.losses.CoSENTLoss is likewise.losses.CoSENTLoss\n"
        "assert Pooling is models.Pooling\n"
        "assert not [name for name in __import__('sys').modules if name == 'sentence_transformers.base.model']\n"
        "from sentence_transformers import Nothing\n"
    )
    assert "cannot import name 'Nothing' from 'sentence_transformers'" in done.stderr
    late = warm.run("import sentence_transformers, likewise.compat; likewise.compat.install()")
    assert "sentence_transformers was imported already" in late.stderr


def test_a_misspelt_class_is_no_module() -> None:
    for name in ("CoSENTLos", "Multiple", "MultipleNegativesRankingloss", "c"):
        with pytest.raises(ImportError, match=f"cannot import name '{name}' from 'likewise.losses'"):
            exec(f"from likewise.losses import {name}")


def test_a_star_gives_the_names_of_the_place() -> None:
    names: dict[str, Any] = {}
    exec("from likewise.data_collator import *", names)
    exec("from likewise.losses.CoSENTLoss import *", names)
    assert {"SentenceTransformerDataCollator", "CoSENTLoss", "TripletLoss"} <= set(names)
    assert "mine_hard_negatives" not in names


def test_threads_may_import_a_class_and_its_old_file_at_once() -> None:
    done = warm.run(
        "import threading, likewise\n"
        "from importlib import import_module\n"
        "start = threading.Barrier(3)\n"
        "paths = ['likewise.losses.CoSENTLoss', 'likewise.losses', 'likewise.sentence_transformer.losses.cosent']\n"
        "found = []\n"
        "def load(path):\n"
        "    start.wait()\n"
        "    found.append(import_module(path).CoSENTLoss)\n"
        "threads = [threading.Thread(target=load, args=(path,), daemon=True) for path in paths]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join(120) for thread in threads]\n"
        "assert len(found) == 3 and len(set(found)) == 1, found\n"
    )
    assert done.returncode == 0, done.stderr


# Parts of its own making, for the classes above and below it; `similarity` is a property in both.
ITS_OWN = {
    "check_peft_compatible_model", "forward", "get_sentence_features", "has_peft_compatible_model",
    "is_singular_input", "on_model_ready", "similarity", "similarity_pairwise",
}  # fmt: skip


def own_methods(kind: Any) -> list[str]:
    """The public methods that the reference's class has from its own package."""
    return [
        name
        for name, value in inspect.getmembers(kind, callable)
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("sentence_transformers.")
        and not inspect.isclass(value)
        and name not in ITS_OWN
    ]


def positional(function: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, value in inspect.signature(function).parameters.items() if value.kind in kinds]


@pytest.mark.parametrize("name", own_methods(sentence_transformers.SentenceTransformer))
def test_the_models_methods_take_the_references_arguments_in_its_order(name: str) -> None:
    ours, theirs = (
        getattr(library.SentenceTransformer, name) for library in (likewise, sentence_transformers)
    )
    parameters = inspect.signature(ours).parameters
    takes_any = any(value.kind is inspect.Parameter.VAR_POSITIONAL for value in parameters.values())
    expected, found = positional(theirs), positional(ours)
    if expected[:1] == ["self"]:  # whatever that is called
        expected, found = expected[1:], found[1:]
    if not takes_any:
        assert found[: len(expected)] == expected
    takes_named = any(value.kind is inspect.Parameter.VAR_KEYWORD for value in parameters.values())
    assert takes_named or set(expected) <= set(found)


def test_every_training_argument_says_on_the_command_line_what_it_is() -> None:
    parser = HfArgumentParser((SentenceTransformerTrainingArguments,))
    told = {action.dest: action.help for action in parser._actions}
    own = set(vars(BaseTrainingArguments)["__annotations__"]) - {"_VALID_DICT_FIELDS"}
    assert own
    assert not {name for name in own if not told[name]}
    assert told["save_prompts"].startswith(
        "Whether the training prompts become the model's own and are saved with"
    )


def test_training_arguments_come_from_a_command_line(tmp_path: Any) -> None:
    parser = HfArgumentParser((SentenceTransformerTrainingArguments,))
    line = [
        "--output_dir", str(tmp_path), "--batch_sampler", "no_duplicates", "--multi_dataset_batch_sampler", "proportional",
        "--prompts", '{"question": "query: "}', "--router_mapping", '{"question": "query"}', "--learning_rate_mapping",
        '{"dense": 0.001}', "--multi_dataset_weights", '{"a": 2, "b": 1}', "--multi_dataset_exhausted", "restart",
        "--id_columns", "image", "page", "--micro_batch_tokens", "512", "--warmup_ratio", "0.1", "--save_prompts",
    ]  # fmt: skip
    (args,) = parser.parse_args_into_dataclasses(args=line)
    assert args.batch_sampler == "no_duplicates"
    assert args.multi_dataset_batch_sampler == "proportional"
    assert args.prompts == {"question": "query: "}
    assert args.router_mapping == {"question": "query"}
    assert args.learning_rate_mapping == {"dense": 0.001}
    assert args.multi_dataset_weights == {"a": 2, "b": 1}
    assert args.multi_dataset_exhausted == "restart"
    assert args.id_columns == ["image", "page"]
    assert (args.micro_batch_tokens, args.warmup_steps, args.save_prompts) == (512, 0.1, True)
    (args,) = parser.parse_args_into_dataclasses(args=["--output_dir", str(tmp_path), "--prompts", "query: "])
    assert args.prompts == "query: "
    with pytest.raises(ValueError, match="`router_mapping` must be a dict"):
        parser.parse_args_into_dataclasses(args=["--output_dir", str(tmp_path), "--router_mapping", "query"])


def test_older_spellings_of_a_call_give_the_same_embeddings(tmp_path: Any) -> None:
    folder = small_model_folder(tmp_path / "bert")
    model = likewise.SentenceTransformer(folder, device="cpu", prompts={"query": "find "})
    plain, asked = model.encode(TEXTS), model.encode(TEXTS, prompt_name="query")
    assert not np.array_equal(plain, asked)
    np.testing.assert_array_equal(model.encode_query(sentences=TEXTS), asked)
    np.testing.assert_array_equal(model.encode_query(TEXTS, None, None, 4, False), asked)
    np.testing.assert_array_equal(model.encode_document(TEXTS, None, "find "), asked)
    np.testing.assert_array_equal(model.encode(TEXTS, precision=None), plain)
    assert model.encode_document(sentences=TEXTS, precision="binary").dtype == np.int8
    model.save_pretrained(str(tmp_path / "model"))
    again = likewise.SentenceTransformer.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.encode(TEXTS), plain)
    assert again.get_backend() == again.backend == "torch"
    for name, value in again.preprocess(inputs=TEXTS).items():
        assert value.equal(again.tokenize(texts=TEXTS)[name])


def test_features_and_outputs_have_the_references_names(tmp_path: Any) -> None:
    folder = small_model_folder(tmp_path / "bert")
    ours, theirs = (
        library.SentenceTransformer(folder, device="cpu") for library in (likewise, sentence_transformers)
    )
    for model in (ours, theirs):
        model.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    expected = {name for name, value in theirs.tokenize(TEXTS).items() if hasattr(value, "shape")}
    assert set(ours.tokenize(TEXTS)) == expected
    pairs = [("a cat", "a dog"), ("the sun", "rain")]
    assert ours.tokenize(pairs)["token_type_ids"].equal(theirs.tokenize(pairs)["token_type_ids"])
    (found,), (known,) = (model.encode(["a cat"], output_value=None) for model in (ours, theirs))
    assert {"input_ids", "attention_mask", "token_type_ids", "token_embeddings", "sentence_embedding"} <= set(
        found
    )
    assert found["token_type_ids"].equal(known["token_type_ids"])


@pytest.mark.parametrize("is_similarity", [True, False])
def test_best_thresholds_are_the_references(is_similarity: bool) -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=50), draw.integers(0, 2, 50)
    names = ("find_best_acc_and_threshold", "find_best_f1_and_threshold")
    for name in names:
        ours, theirs = (
            getattr(library.BinaryClassificationEvaluator, name)(scores, labels, is_similarity)
            for library in (evaluation, reference_evaluation)
        )
        assert ours == pytest.approx(theirs)
        assert len(ours) == len(theirs)


def test_vectors_kept_as_lists_are_compared_with_fresh_ones() -> None:
    fresh = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    stored = fresh.tolist()
    for name in (
        "cos_sim",
        "dot_score",
        "manhattan_sim",
        "euclidean_sim",
        "pairwise_cos_sim",
        "pairwise_dot_score",
    ):
        ours, theirs = getattr(likewise.util, name), getattr(sentence_transformers.util, name)
        for first, second in ((stored, fresh), (fresh, stored), (stored, stored)):
            assert ours(first, second).dtype == torch.float32
            torch.testing.assert_close(ours(first, second), theirs(first, second), rtol=1e-5, atol=1e-5)


def test_features_move_like_a_tokenizers(tmp_path: Any) -> None:
    model = likewise.SentenceTransformer(small_model_folder(tmp_path / "bert"), device="cpu")
    model._target_device = "cpu"  # as scripts of before 3.0 moved a model
    assert model.device.type == "cpu"
    features = model.tokenize(TEXTS).to(model._target_device)
    assert features.input_ids is features["input_ids"]
    found = model(features)["sentence_embedding"].detach().numpy()
    np.testing.assert_allclose(found, model.encode(TEXTS), rtol=1e-5, atol=1e-6)


def test_weights_that_a_newer_release_saved_are_loaded(tmp_path: Any) -> None:
    folder = small_model_folder(tmp_path / "bert")
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu")
    for parameter in theirs.parameters():
        parameter.data.mul_(1.5)
    ours = likewise.SentenceTransformer(folder, device="cpu")
    assert any(name.startswith("0.model.") for name in theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ours.load_state_dict({**ours.state_dict(), "0.other.weight": torch.zeros(1)})


def test_a_compute_loss_of_ones_own_trains_and_evaluates(tmp_path: Any) -> None:
    data = Dataset.from_dict({"first": TEXTS[:5], "second": TEXTS[5:]})
    logged = []
    for library in (likewise, sentence_transformers):

        class Mine(library.SentenceTransformerTrainer):  # type: ignore[name-defined, misc]
            def compute_loss(
                self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
            ) -> Any:
                features, labels = self.collect_features(inputs)
                assert labels is None
                first, second = (model(column)["sentence_embedding"] for column in features)
                loss = (1 - torch.cosine_similarity(first, second)).mean()
                return (loss, {"output": first}) if return_outputs else loss

        model = library.SentenceTransformer(small_model_folder(tmp_path / "bert"), device="cpu")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Mine(
            model=model,
            args=library.SentenceTransformerTrainingArguments(
                str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=5, per_device_eval_batch_size=2,
                report_to="none", save_strategy="no", use_cpu=True, logging_steps=1,
            ),
            train_dataset=data,
            eval_dataset=data,
            loss=import_module(f"{library.__name__}.sentence_transformer.losses").MultipleNegativesRankingLoss(model),
        )  # fmt: skip
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        logged.append([*losses, trainer.evaluate()["eval_loss"]])
    assert len(logged[0]) == 3
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)
