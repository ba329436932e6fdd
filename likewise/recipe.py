"""Recipe: a training run written down as YAML, checked as a whole before anything is loaded.

model: all-MiniLM-L6-v2              # a folder or a name on the Hub; or a mapping with `name` and settings
train:                               # data sets by name, each with its loss
  stsb:
    source: ${data}/train.parquet    # a file or a data set on the Hub; ${data} is given when the recipe is run
    columns: [sentence1, sentence2, score]
    loss: CoSENTLoss                 # or a mapping with `name` and the loss's arguments
dev:                                 # measured while training, as `eval_strategy` says, and before and after
  stsb-dev:
    evaluator: EmbeddingSimilarityEvaluator
    source: ${data}/dev.parquet
    columns: [sentence1, sentence2, score]
test: ...                            # the same, measured before and after only
training:                            # arguments of SentenceTransformerTrainingArguments
  num_train_epochs: 1
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from likewise.checked_yaml import WORDS, check_kind, check_known, read_yaml, section
from likewise.training.data.sources import Source

if TYPE_CHECKING:
    from likewise.evaluation import SentenceEvaluator
    from likewise.losses.base import Loss
    from likewise.sentence_transformer.model import SentenceTransformer
    from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments

# Evaluators that read a table, and their arguments in the order of its columns.
TABLE_EVALUATORS = {
    "BinaryClassificationEvaluator": ("sentences1", "sentences2", "labels"),
    "EmbeddingSimilarityEvaluator": ("sentences1", "sentences2", "scores"),
    "TranslationEvaluator": ("source_sentences", "target_sentences"),
    "TripletEvaluator": ("anchors", "positives", "negatives"),
}
FOLDER_EVALUATOR = "InformationRetrievalEvaluator"  # reads a folder in BEIR layout

SOURCE_KEYS = {
    "source": (str,),
    "subset": (str,),
    "split": (str,),
    "columns": (list, dict),
    "where": (dict,),
    "max_rows": (int,),
}
MODEL_KEYS = {
    "name": (str,),
    "max_seq_length": (int,),
    "prompts": (dict,),
    "similarity_fn_name": (str,),
    "truncate_dim": (int,),
}


@dataclass(frozen=True)
class ModelRecipe:
    """The model to start from.

    Attributes:
        name: A folder or a name on the Hub.
        max_seq_length: Texts are cut at this many tokens; None for the model's own limit.
        settings: Further arguments of SentenceTransformer.
    """

    name: str
    max_seq_length: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, name: str | None = None) -> SentenceTransformer:
        """Load the model; `name` for another folder of the same model."""
        from likewise.sentence_transformer.model import SentenceTransformer

        model = SentenceTransformer(name or self.name, **self.settings)
        if self.max_seq_length is not None:
            model.max_seq_length = self.max_seq_length
        return model


@dataclass(frozen=True)
class LossRecipe:
    """A loss and its arguments, among them perhaps the loss that it wraps."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, model: SentenceTransformer) -> Loss:
        """The loss for a model."""
        arguments = {
            name: value.build(model) if isinstance(value, LossRecipe) else value
            for name, value in self.arguments.items()
        }
        return loss_classes()[self.name](model, **arguments)


@dataclass(frozen=True)
class TrainRecipe:
    """A data set and its loss."""

    source: Source
    loss: LossRecipe


@dataclass(frozen=True)
class EvaluatorRecipe:
    """An evaluator and the data it measures with.

    Attributes:
        evaluator: The class's name.
        source: The rows; for InformationRetrievalEvaluator a folder in BEIR layout.
        name: Put in front of the metrics.
    """

    evaluator: str
    source: Source
    name: str = ""

    def load(self) -> SentenceEvaluator:
        """Read the data and build the evaluator."""
        from likewise import evaluation

        build = getattr(evaluation, self.evaluator)
        evaluator: SentenceEvaluator
        if self.evaluator == FOLDER_EVALUATOR:
            from likewise.evaluation.beir import read_folder

            task = read_folder(Path(self.source.source), self.source.split)
            evaluator = build(task.queries, task.corpus, task.relevant, name=self.name)
        else:
            rows, arguments = self.source.load(), TABLE_EVALUATORS[self.evaluator]
            if len(rows.column_names) != len(arguments):
                raise ValueError(
                    f"{self.evaluator} takes {len(arguments)} columns ({', '.join(arguments)}), but {self.source.source} "
                    f"has {len(rows.column_names)}: {', '.join(rows.column_names)}. Choose them with `columns`."
                )
            values = [list(rows[column]) for column in rows.column_names]
            evaluator = build(*values, name=self.name)
        return evaluator


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        model: The model to start from.
        train: The training data sets by name, each with its loss.
        dev: Evaluators to choose by, by name.
        test: Evaluators that take no part in training, by name.
        training: Arguments of SentenceTransformerTrainingArguments.
    """

    model: ModelRecipe
    train: Mapping[str, TrainRecipe]
    dev: Mapping[str, EvaluatorRecipe]
    test: Mapping[str, EvaluatorRecipe]
    training: Mapping[str, Any]

    def arguments(self, **defaults: Any) -> SentenceTransformerTrainingArguments:
        """The training arguments; `defaults` for those that the recipe leaves open."""
        from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments

        return SentenceTransformerTrainingArguments(**{**defaults, **self.training})

    def losses(self, model: SentenceTransformer) -> dict[str, Loss]:
        """The loss of each training data set; data sets with the same loss share it, and its weights."""
        built: list[tuple[LossRecipe, Loss]] = []
        for part in self.train.values():
            if part.loss not in [recipe for recipe, _ in built]:
                built.append((part.loss, part.loss.build(model)))
        return {
            name: next(loss for recipe, loss in built if recipe == part.loss)
            for name, part in self.train.items()
        }


def read_recipe(path: Path, data: Path | None = None) -> Recipe:
    """Read a recipe and check it.

    Args:
        path: The YAML file.
        data: Replaces ${data}.

    Raises:
        FileNotFoundError: The recipe, or a file that it names, is not there.
        ValueError: Something in it is unknown, missing or of the wrong kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe {path}. Check the path.")
    return parse_recipe(_with_data(read_yaml(path), data))


def parse_recipe(content: Any) -> Recipe:
    """Check a recipe's content, as YAML gives it; see `read_recipe`."""
    kinds = {"model": (str, dict), "train": (dict,), "dev": (dict,), "test": (dict,), "training": (dict,)}
    content = section(content, "the recipe", kinds, required=("model", "train"))
    train = {name: _train_recipe(part, f"train.{name}") for name, part in content["train"].items()}
    if not train:
        raise ValueError("`train` is empty. Add a data set: a name with `source`, `columns` and `loss`.")
    dev, test = (
        {
            name: _evaluator_recipe(part, f"{split}.{name}", name)
            for name, part in content.get(split, {}).items()
        }
        for split in ("dev", "test")
    )
    training = section(content.get("training", {}), "training", _training_kinds())
    recipe = Recipe(_model_recipe(content["model"]), train, dev, test, training)
    for part in train.values():
        part.source.check()
    for evaluator in (*dev.values(), *test.values()):
        _check_evaluator_source(evaluator)
    return recipe


def loss_classes() -> dict[str, type[Loss]]:
    """All losses by name."""
    from likewise import losses
    from likewise.losses.base import Loss

    found = {name: getattr(losses, name) for name in losses.__all__}
    return {name: loss for name, loss in found.items() if inspect.isclass(loss) and issubclass(loss, Loss)}


def _model_recipe(value: str | dict[str, Any]) -> ModelRecipe:
    if isinstance(value, str):
        return ModelRecipe(value)
    value = dict(section(value, "model", MODEL_KEYS, required=("name",)))
    return ModelRecipe(value.pop("name"), value.pop("max_seq_length", None), value)


def _train_recipe(value: Any, where: str) -> TrainRecipe:
    value = dict(section(value, where, SOURCE_KEYS | {"loss": (str, dict)}, required=("source", "loss")))
    return TrainRecipe(loss=_loss_recipe(value.pop("loss"), f"{where}.loss"), source=_source(value, where))


def _evaluator_recipe(value: Any, where: str, name: str) -> EvaluatorRecipe:
    value = dict(section(value, where, SOURCE_KEYS | {"evaluator": (str,)}, required=("source", "evaluator")))
    evaluator = value.pop("evaluator")
    check_known(evaluator, (*TABLE_EVALUATORS, FOLDER_EVALUATOR), f"{where}.evaluator")
    if evaluator == FOLDER_EVALUATOR:
        value.setdefault("split", "test")
    return EvaluatorRecipe(evaluator, _source(value, where), name)


def _source(value: dict[str, Any], where: str) -> Source:
    columns = value.get("columns")
    for column in columns.values() if isinstance(columns, dict) else columns or ():
        if not isinstance(column, str):
            raise ValueError(
                f"`{where}.columns` must name columns, but has {column!r}. Put it in quotes if it is a name."
            )
    return Source(**value)


def _check_evaluator_source(recipe: EvaluatorRecipe) -> None:
    if recipe.evaluator != FOLDER_EVALUATOR:
        recipe.source.check()
    elif not Path(recipe.source.source).is_dir():
        raise FileNotFoundError(
            f"There is no folder {recipe.source.source}. {FOLDER_EVALUATOR} reads a folder in BEIR layout: corpus.jsonl, "
            "queries.jsonl and qrels/test.tsv."
        )


def _loss_recipe(value: str | dict[str, Any], where: str) -> LossRecipe:
    arguments = {"name": value} if isinstance(value, str) else dict(value)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(
            f"`{where}` needs the loss's name: `loss: CoSENTLoss`, or `loss: {{name: CoSENTLoss, scale: 20}}`."
        )
    check_known(name, loss_classes(), where)
    known = dict(
        list(inspect.signature(loss_classes()[name].__init__).parameters.items())[2:]
    )  # without self, model
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise ValueError(f"`{where}` needs `{key}`: {name} has no default for it.")
    values = {}
    for key, argument in arguments.items():
        check_known(key, known, where)
        if key == "loss":
            values[key] = _loss_recipe(argument, f"{where}.loss")
        else:
            check_kind(argument, _simple_kinds(known[key].annotation), f"{where}.{key}")
            values[key] = _function(key, argument, where)
    return LossRecipe(name, values)


def _simple_kinds(annotation: Any) -> tuple[type, ...]:
    """What YAML may give for an annotation, which is a text here; anything where that is not plain."""
    kinds = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
    found = tuple(kinds.get(part.strip()) for part in str(annotation).split("|"))
    return tuple(kind for kind in found if kind) if all(found) else tuple(WORDS)


def _function(key: str, value: Any, where: str) -> Any:
    """Functions of embeddings are given by name: `similarity_fct: dot_score`, `distance_metric: COSINE`."""
    from likewise import similarity
    from likewise.losses import TripletDistanceMetric

    homes = {"similarity_fct": similarity, "distance_metric": TripletDistanceMetric}
    if key not in homes or not isinstance(value, str):
        return value
    known = [
        name
        for name, item in vars(homes[key]).items()
        if not name.startswith("_") and callable(getattr(homes[key], name))
    ]
    check_known(value, known, f"{where}.{key}")
    return getattr(homes[key], value)


def _training_kinds() -> dict[str, tuple[type, ...]]:
    from likewise.sentence_transformer.training_args import SentenceTransformerTrainingArguments

    hints = get_type_hints(SentenceTransformerTrainingArguments)
    return {
        f.name: tuple(_basic_kinds(hints[f.name]))
        for f in fields(SentenceTransformerTrainingArguments)
        if f.init
    }


def _basic_kinds(hint: Any) -> Iterable[type]:
    """What YAML may give where a type is expected: an enum is given by its value, a text."""
    origin = getattr(hint, "__origin__", hint)
    if origin in WORDS:
        return {origin}
    parts = get_args(hint)
    return {kind for part in parts for kind in _basic_kinds(part)} if parts else {str}


def _with_data(value: Any, data: Path | None) -> Any:
    """The same content with ${data} replaced in every text."""
    if isinstance(value, dict):
        return {key: _with_data(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_data(item, data) for item in value]
    if not isinstance(value, str) or "${data}" not in value:
        return value
    if data is None:
        raise ValueError(f"The recipe reads {value}. Say where that is with `--data DIR`.")
    return value.replace("${data}", str(data))
