"""The families of models by name: their classes, losses and evaluators, and which of them a folder holds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

SETTINGS_FILE, MODULES_FILE, CONFIG_FILE = "config_sentence_transformers.json", "modules.json", "config.json"


@dataclass(frozen=True)
class TableEvaluator:
    """How an evaluator is made of the columns of a table."""

    columns: tuple[str, ...]  # what the columns are, in order
    arguments: Callable[..., tuple[Any, ...]]  # the columns -> the evaluator's arguments
    or_columns: tuple[str, ...] = ()  # another form of the columns that it takes too


@dataclass(frozen=True)
class ModelFamily:
    """A family of models, as recipes and commands see it. Nothing is imported before it is asked for."""

    name: str  # what recipes call it
    model_name: str  # the name of its class of models
    # What a recipe may say of the model, with the types of the values.
    settings: Mapping[str, tuple[type, ...]]
    table_evaluators: Mapping[str, TableEvaluator]  # evaluators that read a table, by name
    folder_evaluator: str  # the one that reads a folder in BEIR layout
    folder_form: str  # what that folder holds, in words
    # The package of its losses and evaluators: those of embeddings of whole texts serve other families too, and lie below.
    measures: str

    def _in_room(self, module: str) -> Any:
        """A module of the family's own room."""
        return import_module(f"likewise.{self.name.replace('-', '_')}.{module}")

    @property
    def model_class(self) -> Any:
        """The class of its models."""
        return getattr(self._in_room("model"), self.model_name)

    @property
    def trainer_class(self) -> Any:
        """The class of its trainer."""
        return getattr(self._in_room("trainer"), f"{self.model_name}Trainer")

    @property
    def arguments_class(self) -> Any:
        """The class of its training arguments."""
        return getattr(self._in_room("training_args"), f"{self.model_name}TrainingArguments")

    def loss_classes(self) -> dict[str, Any]:
        """Its losses by name."""
        base = import_module(f"{self.measures}.losses.base").Loss
        return classes_in(import_module(f"{self.measures}.losses"), base)

    def evaluator_class(self, name: str) -> Any:
        """An evaluator by name."""
        return getattr(import_module(f"{self.measures}.evaluation"), name)

    @property
    def evaluators(self) -> tuple[str, ...]:
        """The names of the evaluators that a recipe may name."""
        return tuple(dict.fromkeys((*self.table_evaluators, self.folder_evaluator)))


def classes_in(package: Any, base: type) -> dict[str, Any]:
    """The public classes of a package that derive from a base, and are not abstract, by name."""
    found = {name: getattr(package, name) for name in package.__all__}
    classes = {name: kind for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, base)}
    return {name: kind for name, kind in classes.items() if not inspect.isabstract(kind)}


def as_they_are(*columns: list[Any]) -> tuple[Any, ...]:
    """Each column an argument."""
    return columns


def pairs_and_labels(first: list[Any], second: list[Any], labels: list[Any]) -> tuple[Any, ...]:
    """The pairs of texts, and their labels."""
    return list(zip(first, second, strict=True)), labels


def ranked_samples(queries: list[Any], documents: list[Any], third: list[Any]) -> tuple[Any, ...]:
    """One sample for each query, from rows of a query, a document and 0 or 1, or of a query, positives and negatives."""
    samples: dict[str, dict[str, Any]] = {}
    for row, (query, document, last) in enumerate(zip(queries, documents, third, strict=True)):
        sample = samples.setdefault(query, {"query": query, "positive": [], "negative": []})
        if isinstance(last, str | list):
            sample["positive"] += _listed(document)
            sample["negative"] += _listed(last)
        elif last in (0, 1):
            sample["positive" if last else "negative"].append(document)
        else:
            raise ValueError(
                f"A ranking is measured with labels of 0 or 1, but row {row} has {last!r}. Correct it, or make the labels 0 and 1."
            )
    return (list(samples.values()),)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


OF_TEXTS = {"name": (str,), "max_seq_length": (int,), "prompts": (dict,), "similarity_fn_name": (str,)}
"""Settings of a model that embeds texts, in whatever form."""
SENTENCE_TRANSFORMER = ModelFamily(
    name="sentence-transformer",
    model_name="SentenceTransformer",
    measures="likewise",
    settings=OF_TEXTS | {"truncate_dim": (int,)},
    table_evaluators={
        "BinaryClassificationEvaluator": TableEvaluator(("sentences1", "sentences2", "labels"), as_they_are),
        "EmbeddingSimilarityEvaluator": TableEvaluator(("sentences1", "sentences2", "scores"), as_they_are),
        "TranslationEvaluator": TableEvaluator(("source_sentences", "target_sentences"), as_they_are),
        "TripletEvaluator": TableEvaluator(("anchors", "positives", "negatives"), as_they_are),
    },
    folder_evaluator="InformationRetrievalEvaluator",
    folder_form="corpus.jsonl, queries.jsonl and qrels/test.tsv",
)
CROSS_ENCODER = ModelFamily(
    name="cross-encoder",
    model_name="CrossEncoder",
    measures="likewise.cross_encoder",
    settings={
        "name": (str,),
        "num_labels": (int,),
        "max_length": (int,),
        "prompts": (dict,),
        "default_prompt_name": (str,),
        "truncation": (str,),
    },
    table_evaluators={
        "CrossEncoderClassificationEvaluator": TableEvaluator(
            ("first texts", "second texts", "labels"), pairs_and_labels
        ),
        "CrossEncoderCorrelationEvaluator": TableEvaluator(
            ("first texts", "second texts", "scores"), pairs_and_labels
        ),
        "CrossEncoderRerankingEvaluator": TableEvaluator(
            ("queries", "documents", "labels"), ranked_samples, ("queries", "positives", "negatives")
        ),
    },
    folder_evaluator="CrossEncoderRerankingEvaluator",
    folder_form="corpus.jsonl, queries.jsonl, qrels/test.tsv and a first stage's ranking, bm25.jsonl",
)
SPARSE_ENCODER = replace(
    SENTENCE_TRANSFORMER,
    name="sparse-encoder",
    model_name="SparseEncoder",
    measures="likewise.sparse_encoder",
    settings=OF_TEXTS | {"max_active_dims": (int,)},
    table_evaluators={f"Sparse{name}": form for name, form in SENTENCE_TRANSFORMER.table_evaluators.items()},
    folder_evaluator="SparseInformationRetrievalEvaluator",
)
MULTI_VECTOR_ENCODER = replace(
    SENTENCE_TRANSFORMER,
    name="multi-vector-encoder",
    model_name="MultiVectorEncoder",
    measures="likewise.multi_vector_encoder",
    settings=OF_TEXTS,
    table_evaluators={
        "MultiVectorDistillationEvaluator": TableEvaluator(("queries", "documents", "scores"), as_they_are),
        "MultiVectorRerankingEvaluator": CROSS_ENCODER.table_evaluators["CrossEncoderRerankingEvaluator"],
        "MultiVectorTripletEvaluator": SENTENCE_TRANSFORMER.table_evaluators["TripletEvaluator"],
    },
    folder_evaluator="MultiVectorInformationRetrievalEvaluator",
)
FAMILIES: Mapping[str, ModelFamily] = {
    family.name: family
    for family in (SENTENCE_TRANSFORMER, CROSS_ENCODER, SPARSE_ENCODER, MULTI_VECTOR_ENCODER)
}


def family_in(folder: Path) -> ModelFamily:
    """The family of the model that a folder holds; a plain transformers model without a head counts as a SentenceTransformer."""
    if (folder / MODULES_FILE).is_file():
        kind = _settings(folder / SETTINGS_FILE).get("model_type")
        return next((one for one in FAMILIES.values() if one.model_name == kind), SENTENCE_TRANSFORMER)
    architectures: Sequence[Any] = _settings(folder / CONFIG_FILE).get("architectures") or ("",)
    is_pairs = str(architectures[0]).endswith("ForSequenceClassification")
    return CROSS_ENCODER if is_pairs else SENTENCE_TRANSFORMER


def family_on_hub(name: str) -> ModelFamily:
    """The family of a model on the Hub, by what its name begins with: `cross-encoder/`, `sparse-encoder/` ..."""
    return next((one for one in FAMILIES.values() if name.startswith(f"{one.name}/")), SENTENCE_TRANSFORMER)


def _settings(path: Path) -> dict[str, Any]:
    """What a file of settings says; nothing where it is not there or damaged, which whoever loads the model will say."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
