"""What user code may override: every public method of the reference's public classes.

A subclass that records its calls goes through the same small scenes in both libraries. What the reference calls in a scene is
called here too, or listed in `NOT_CALLED` with the reason. The trainer, its arguments and its collator have tests of their own.
"""

from __future__ import annotations

import functools
import inspect
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from small import sentences, small_model_folder, small_tokenizer

import likewise
from likewise import evaluation, losses, models, sampler
from likewise.card.data import UNCALLED as UNCALLED_OF_CARDS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers
    import sentence_transformers.base.sampler as reference_sampler
    import sentence_transformers.sentence_transformer.evaluation as reference_evaluation
    import sentence_transformers.sentence_transformer.losses as reference_losses
    import sentence_transformers.sentence_transformer.modules as reference_modules
    from sentence_transformers.sentence_transformer.modules.tokenizer import (
        WhitespaceTokenizer as TheirTokenizer,
    )

OURS = SimpleNamespace(
    top=likewise, evaluation=evaluation, losses=losses, modules=models, sampler=sampler,
    WhitespaceTokenizer=models.WhitespaceTokenizer, InputExample=likewise.InputExample,
)  # fmt: skip
THEIRS = SimpleNamespace(
    top=sentence_transformers, evaluation=reference_evaluation, losses=reference_losses, modules=reference_modules,
    sampler=reference_sampler, WhitespaceTokenizer=TheirTokenizer, InputExample=sentence_transformers.InputExample,
)  # fmt: skip

FIRST, SECOND, THIRD = (sentences(8, seed=seed, longest=5) for seed in (1, 2, 3))
LABELS = [i % 2 for i in range(8)]


class Recorder:
    """Makes subclasses that record which of the reference's public methods are called."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def subclass(self, kind: type, methods: list[str]) -> type:
        """A subclass of the class, in which these methods (those that it has) record that they were called."""
        there = [name for name in methods if hasattr(kind, name)]
        own = {name: self._recording(kind, name) for name in there}
        return type(kind.__name__, (kind,), own | {"__module__": __name__})

    def _recording(self, base: type, name: str) -> Any:
        static = inspect.getattr_static(base, name)
        called = self.called
        if isinstance(static, property):

            def read(instance: Any) -> Any:
                called.add(name)
                return static.__get__(instance, base)

            return property(read, static.fset)
        function = static.__func__ if isinstance(static, classmethod | staticmethod) else static

        @functools.wraps(function)
        def record(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return function(*args, **kwargs)

        return type(static)(record) if isinstance(static, classmethod | staticmethod) else record


def public_methods(kind: type) -> list[str]:
    """The methods of the reference's classes that it has, public or called by Python. Of properties, only a description."""
    found: dict[str, None] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("sentence_transformers"):
            for name, value in vars(base).items():
                is_method = inspect.isfunction(value) or isinstance(value, staticmethod | classmethod)
                is_public = not name.startswith("_") or name in ("__call__", "__iter__", "__len__")
                if name == "description" or (is_method and is_public):
                    found[name] = None
    return list(found)


# Scenes. Each takes a library, a recorder's function that makes a subclass of one of its classes, and a folder.


@functools.cache
def raw_folder() -> str:
    """The transformers model of all scenes, written once."""
    return small_model_folder(Path(tempfile.mkdtemp()) / "raw")


def transformer_model(lib: Any, kind: type | None = None, **kwargs: Any) -> Any:
    return (kind or lib.top.SentenceTransformer)(raw_folder(), device="cpu", **kwargs)


def evaluator_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Make an evaluator, call it, write a model card."""
    model = transformer_model(lib)
    corpus = {f"d{i}": text for i, text in enumerate([*SECOND, *FIRST])}
    queries, relevant = {"q": FIRST[0], "r": FIRST[1]}, {"q": {"d0"}, "r": {"d1", "d2"}}
    examples = [
        lib.InputExample(texts=[a, b, c], label=i % 2)
        for i, (a, b, c) in enumerate(zip(FIRST, SECOND, THIRD, strict=True))
    ]
    samples = [
        {"query": a, "positive": [b], "negative": [c]} for a, b, c in zip(FIRST, SECOND, THIRD, strict=True)
    ]
    own = kind(name)
    evaluators: dict[str, Callable[[], list[Any]]] = {
        "BinaryClassificationEvaluator": lambda: [
            own(FIRST, SECOND, LABELS),
            own.from_input_examples(examples),
        ],
        "EmbeddingSimilarityEvaluator": lambda: [
            own(FIRST, SECOND, list(range(8))),
            own.from_input_examples(examples),
        ],
        "InformationRetrievalEvaluator": lambda: [own(queries, corpus, relevant)],
        "LabelAccuracyEvaluator": lambda: [
            own(
                torch.utils.data.DataLoader(examples, batch_size=4),
                softmax_model=classifier,
            )
        ],
        "MSEEvaluator": lambda: [own(FIRST, SECOND, model)],
        "MSEEvaluatorFromDataFrame": lambda: [own([{"en": "a", "de": "the"}], model, [("en", "de")])],
        "ParaphraseMiningEvaluator": lambda: [
            own(corpus, [("d0", "d1"), ("d1", "d2")], add_transitive_closure=True)
        ],
        "RerankingEvaluator": lambda: [own(samples), own(samples, use_batched_encoding=False)],
        "SequentialEvaluator": lambda: [own([lib.evaluation.TranslationEvaluator(FIRST, SECOND)])],
        "TranslationEvaluator": lambda: [own(FIRST, SECOND)],
        "TripletEvaluator": lambda: [own(FIRST, SECOND, THIRD), own.from_input_examples(examples)],
    }
    for evaluator in evaluators[name]():
        evaluator(model, str(folder / "results"))
    model.save_pretrained(str(folder / "saved"))


def classifier(features: Any, labels: None) -> Any:
    return None, torch.tensor([[0.0, 1.0]] * len(features[0]["input_ids"]))


def own_modules(lib: Any, name: str, kind: type) -> list[Any]:
    """Modules of a model in which one of this name is of this kind."""
    m = lib.modules
    words = lib.WhitespaceTokenizer(["a", "the", "cat", "dog", *sentences(1)[0].split()])
    raw = raw_folder()
    made: dict[str, Callable[[], list[Any]]] = {
        "Transformer": lambda: [kind(raw), m.Pooling(32)],
        "Pooling": lambda: [m.Transformer(raw), kind(32)],
        "Dense": lambda: [m.Transformer(raw), m.Pooling(32), kind(32, 8)],
        "Normalize": lambda: [m.Transformer(raw), m.Pooling(32), kind()],
        "LayerNorm": lambda: [m.Transformer(raw), m.Pooling(32), kind(32)],
        "Dropout": lambda: [m.Transformer(raw), m.Pooling(32), kind(0.0)],
        "CNN": lambda: [m.Transformer(raw), kind(32, 16, [1, 3]), m.Pooling(32)],
        "LSTM": lambda: [
            m.WordEmbeddings(words, torch.randn(len(words.get_vocab()) + 1, 8).numpy()),
            kind(8, 4),
            m.Pooling(8),
        ],
        "StaticEmbedding": lambda: [kind(small_tokenizer().backend_tokenizer, embedding_dim=8)],
        "WordEmbeddings": lambda: [
            kind(words, torch.randn(len(words.get_vocab()) + 1, 8).numpy()),
            m.Pooling(8),
        ],
        "BoW": lambda: [kind(["a", "the", "cat"])],
        "WordWeights": lambda: [
            m.WordEmbeddings(words, torch.randn(len(words.get_vocab()) + 1, 8).numpy()),
            kind(words.get_vocab(), {"cat": 2.0}),
            m.Pooling(8),
        ],
        "Router": lambda: [
            kind.for_query_document(
                [m.StaticEmbedding(small_tokenizer().backend_tokenizer, embedding_dim=8)],
                [m.StaticEmbedding(small_tokenizer().backend_tokenizer, embedding_dim=8)],
            )
        ],
    }
    return made[name]()


def module_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Build a model with a module, embed, ask its sizes, save it, and load the module again."""
    own = kind(name)
    model = lib.top.SentenceTransformer(modules=own_modules(lib, name, own), device="cpu")
    model.encode(FIRST)
    model.encode_query(FIRST)
    model.get_embedding_dimension()
    model.save_pretrained(str(folder / "saved"))
    place = next(i for i, module in enumerate(model) if isinstance(module, own))
    entries = json.loads((folder / "saved" / "modules.json").read_text())
    own.load(str(folder / "saved" / entries[place]["path"]))


def sampler_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Train two epochs with batches of a sampler."""
    columns = {"a": FIRST, "b": SECOND}
    is_labelled = name == "GroupByLabelBatchSampler"
    data = Dataset.from_dict(columns | ({"label": LABELS} if is_labelled else {}))
    is_multi = "Multi" in name or "Robin" in name or "Proportional" in name
    model = transformer_model(lib)
    arguments = lib.top.SentenceTransformerTrainingArguments(
        output_dir=str(folder / "out"), num_train_epochs=2, per_device_train_batch_size=4, report_to=[],
        save_strategy="no", disable_tqdm=True, use_cpu=True,
        **{("multi_dataset_batch_sampler" if is_multi else "batch_sampler"): kind(name)},
    )  # fmt: skip
    loss = (lib.losses.ContrastiveLoss if is_labelled else lib.losses.MultipleNegativesRankingLoss)(model)
    lib.top.SentenceTransformerTrainer(
        model, arguments, train_dataset={"one": data, "two": data} if is_multi else data, loss=loss
    ).train()


def model_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Embed, compare, evaluate, train, save."""
    model = transformer_model(lib, kind(name))
    embeddings = model.encode(FIRST)
    model.encode("a cat")
    model.encode_query(FIRST)
    model.encode_document(FIRST)
    model.similarity(embeddings, embeddings)
    corpus = {f"d{i}": text for i, text in enumerate(SECOND)}
    evaluator = lib.evaluation.InformationRetrievalEvaluator({"q": FIRST[0]}, corpus, {"q": {"d0"}})
    model.evaluate(evaluator)
    train(
        lib,
        model,
        lib.losses.MultipleNegativesRankingLoss(model),
        {"a": FIRST, "b": SECOND},
        folder,
        evaluator,
    )
    model.save_pretrained(str(folder / "saved"))


def card_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Train with a card of one's own, and save."""
    model = transformer_model(lib, model_card_data=kind(name)(language="en", license="mit"))
    evaluator = lib.evaluation.TripletEvaluator(FIRST, SECOND, THIRD)
    train(
        lib,
        model,
        lib.losses.MultipleNegativesRankingLoss(model),
        {"a": FIRST, "b": SECOND},
        folder,
        evaluator,
    )
    model.save_pretrained(str(folder / "saved"))


def train(
    lib: Any, model: Any, loss: Any, columns: dict[str, Any], folder: Path, evaluator: Any = None
) -> None:
    """Two steps."""
    arguments = lib.top.SentenceTransformerTrainingArguments(
        output_dir=str(folder / "out"), max_steps=2, per_device_train_batch_size=4, report_to=[], eval_strategy="steps",
        eval_steps=1, save_strategy="no", disable_tqdm=True, use_cpu=True, logging_steps=1,
    )  # fmt: skip
    data = Dataset.from_dict(columns)
    lib.top.SentenceTransformerTrainer(
        model, arguments, train_dataset=data, eval_dataset=data, loss=loss, evaluator=evaluator
    ).train()


def loss_scene(lib: Any, kind: Callable[[str], type], name: str, folder: Path) -> None:
    """Train with a loss, which writes the model card's part about it."""
    model = transformer_model(lib)
    size = {"label": LABELS}
    pairs, triplets = {"a": FIRST, "b": SECOND}, {"a": FIRST, "b": SECOND, "c": THIRD}
    numbers = {"label": [i / 8 for i in range(8)]}
    own = kind(name)
    inner = (
        lib.losses.MultipleNegativesRankingLoss(model)
        if name.endswith(("oshkaLoss", "LayerLoss", "2dLoss"))
        else None
    )
    vectors = {"label": [[0.5] * 32] * 8}
    cases: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
        "AdaptiveLayerLoss": (lambda: own(model, inner), pairs),
        "CosineSimilarityLoss": (lambda: own(model), pairs | numbers),
        "GISTEmbedLoss": (lambda: own(model, model), pairs),
        "CachedGISTEmbedLoss": (lambda: own(model, model), pairs),
        "DistillKLDivLoss": (lambda: own(model), triplets | {"label": [[0.5, 0.25]] * 8}),
        "EmbedDistillLoss": (lambda: own(model), {"a": FIRST} | vectors),
        "MSELoss": (lambda: own(model), {"a": FIRST} | vectors),
        "MarginMSELoss": (lambda: own(model), triplets | numbers),
        "Matryoshka2dLoss": (lambda: own(model, inner, [32, 8]), pairs),
        "MatryoshkaLoss": (lambda: own(model, inner, [32, 8]), pairs),
        "SoftmaxLoss": (lambda: own(model, 32, 2), pairs | size),
        "TripletLoss": (lambda: own(model), triplets),
        "MegaBatchMarginLoss": (lambda: own(model), pairs),
    }
    if name in ("AnglELoss", "CoSENTLoss"):
        cases[name] = (lambda: own(model), pairs | numbers)
    if name in ("ContrastiveLoss", "OnlineContrastiveLoss"):
        cases[name] = (lambda: own(model), pairs | size)
    if name.startswith("Batch"):
        cases[name] = (lambda: own(model), {"a": FIRST} | size)
    if name == "GlobalOrthogonalRegularizationLoss" or name.endswith("RankingLoss"):
        cases[name] = (lambda: own(model), pairs)
    build, columns = cases[name]
    train(lib, model, build(), columns, folder)
    model.save_pretrained(str(folder / "saved"))


# The test

FILES = {
    "load_file_path": "files are found by the room that loads models",
    "load_torch_weights": "weights are read by the room that loads models",
}
OWN_FORM = {
    "load_config": "its settings have had several forms, and are read by one function",
    "save_config": "its settings are written in the form of 3.0, by `save`",
}
MODALITIES = "texts and images are all that there is"
NOT_CALLED: dict[str, dict[str, str]] = {
    "Transformer": FILES
    | OWN_FORM
    | dict.fromkeys(
        ("infer_modalities", "infer_modalities_edge_cases", "infer_modalities_from_processor"), MODALITIES
    ),
    "Pooling": FILES | OWN_FORM,
    "Normalize": FILES | OWN_FORM,
    "Router": FILES | OWN_FORM | {"get_config_dict": "it has no settings but its routes"},
    "SentenceTransformer": {"supports": MODALITIES},
}
MODULES = (
    "Dense",
    "Dropout",
    "CNN",
    "LSTM",
    "LayerNorm",
    "StaticEmbedding",
    "WordEmbeddings",
    "BoW",
    "WordWeights",
)
NOT_CALLED |= {
    **dict.fromkeys(MODULES, FILES),
    "StaticEmbedding": FILES | {"get_config_dict": "it has no settings"},
    "WordEmbeddings": FILES
    | OWN_FORM
    | dict.fromkeys(("load_dir_path", "save_torch_weights"), "it keeps a tokenizer beside its weights"),
    "BoW": FILES | {"get_sentence_features": "`tokenize` counts the words"},
}
EVALUATORS = (
    *("BinaryClassificationEvaluator", "EmbeddingSimilarityEvaluator", "InformationRetrievalEvaluator"),
    *("LabelAccuracyEvaluator", "MSEEvaluator", "MSEEvaluatorFromDataFrame", "ParaphraseMiningEvaluator"),
    *("RerankingEvaluator", "SequentialEvaluator", "TranslationEvaluator", "TripletEvaluator"),
)
SAMPLERS = (
    "GroupByLabelBatchSampler",
    "NoDuplicatesBatchSampler",
    "ProportionalBatchSampler",
    "RoundRobinBatchSampler",
)
LOSSES = (
    *("MultipleNegativesRankingLoss", "CachedGISTEmbedLoss", "MatryoshkaLoss", "SoftmaxLoss"),
    *(
        "AdaptiveLayerLoss",
        "AnglELoss",
        "BatchAllTripletLoss",
        "BatchHardSoftMarginTripletLoss",
        "BatchHardTripletLoss",
    ),
    *(
        "BatchSemiHardTripletLoss",
        "CachedMultipleNegativesRankingLoss",
        "CachedMultipleNegativesSymmetricRankingLoss",
    ),
    *("CoSENTLoss", "ContrastiveLoss", "CosineSimilarityLoss"),
    *(
        "DistillKLDivLoss",
        "EmbedDistillLoss",
        "GISTEmbedLoss",
        "GlobalOrthogonalRegularizationLoss",
        "MSELoss",
    ),
    *("MarginMSELoss", "Matryoshka2dLoss", "MegaBatchMarginLoss", "MultipleNegativesSymmetricRankingLoss"),
    *("OnlineContrastiveLoss", "TripletLoss"),
)
SCENES = [
    *(("evaluation", evaluator_scene, name) for name in EVALUATORS),
    *(
        ("modules", module_scene, name)
        for name in ("Transformer", "Pooling", "Normalize", "Router", *MODULES)
    ),
    *(("sampler", sampler_scene, name) for name in SAMPLERS),
    *(("losses", loss_scene, name) for name in LOSSES[:4]),
    *(pytest.param("losses", loss_scene, name, marks=pytest.mark.slow) for name in LOSSES[4:]),
    ("top", model_scene, "SentenceTransformer"),
    ("top", card_scene, "SentenceTransformerModelCardData"),
]


def is_refused(kind: type, method: str) -> bool:
    """Whether a subclass that overrides a method cannot be made."""
    try:
        type("Own", (kind,), {method: lambda self: None, "__module__": "somewhere"})
    except TypeError as error:
        told = (
            *(
                f"Own overrides `{method}` of {base.__name__}, which is never called here."
                for base in kind.__mro__
            ),
            f"`{method}` of Own would never be called",
        )
        return any(sentence in str(error) for sentence in told)
    return False


@pytest.mark.filterwarnings("ignore")  # the reference's
@pytest.mark.parametrize(("room", "scene", "name"), SCENES)
def test_what_the_reference_calls_is_called_refused_or_listed(
    room: str, scene: Callable[..., None], name: str, tmp_path: Path
) -> None:
    theirs, ours = (getattr(getattr(library, room), name) for library in (THEIRS, OURS))
    seen = []
    for library, kind in ((THEIRS, theirs), (OURS, ours)):
        recorder = Recorder()
        methods = [name for name in public_methods(theirs) if not is_refused(ours, name)]
        own = recorder.subclass(kind, methods if kind is ours else public_methods(theirs))
        scene(library, lambda asked, own=own: own, name, tmp_path / library.top.__name__)
        seen.append(recorder.called)
    expected = {method for method in seen[0] if not is_refused(ours, method)}
    missing = expected - seen[1]
    assert missing <= NOT_CALLED.get(name, {}).keys()
    assert expected


def test_every_public_class_is_walked_or_has_a_reason() -> None:
    """None of the reference's classes is left out without a word."""
    abstract = {"BaseEvaluator", "SentenceEvaluator", "Module", "InputModule", "DefaultBatchSampler"} | {
        "MultiDatasetDefaultBatchSampler",
        "SetEpochMixin",
    }
    no_methods = {"SimilarityFunction", "BatchHardTripletLossDistanceFunction", "SiameseDistanceMetric"} | {
        "TripletDistanceMetric",
        "BatchSamplers",
        "MultiDatasetBatchSamplers",
    }
    elsewhere = {
        "NanoBEIREvaluator": "reads from the Hub; its methods are tested beside it",
        "ContrastiveTensionDataLoader": "a data loader that is read to the end",
        "ContrastiveTensionLoss": "takes that loader's batches; tested beside it",
        "ContrastiveTensionLossInBatchNegatives": "takes one column here, pairs in the reference; tested beside it",
        "DenoisingAutoEncoderLoss": "needs a decoder; tested beside it",
        "CLIPModel": "needs a model of images; tested beside it",
        "WeightedLayerPooling": "needs all layers; tested beside it",
        "Asym": "an older name of Router",
    }
    walked = {entry.values[2] if hasattr(entry, "values") else entry[2] for entry in SCENES}
    for room in ("evaluation", "losses", "modules", "sampler"):
        for name, kind in vars(getattr(THEIRS, room)).items():
            is_dense = isinstance(kind, type) and not any(
                other in kind.__module__ for other in ("sparse", "cross", "multi_vector")
            )
            if is_dense and kind.__module__.startswith("sentence_transformers."):
                assert name in walked | abstract | no_methods | elsewhere.keys()


def test_what_is_not_called_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "differences.md").read_text()
    names = {name for methods in NOT_CALLED.values() for name in methods}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_a_card_that_overrides_what_is_never_called_is_refused() -> None:
    for method in UNCALLED_OF_CARDS:
        assert is_refused(likewise.SentenceTransformerModelCardData, method)
