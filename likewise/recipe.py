"""Recipe: a training run written down as YAML, checked as a whole before anything is loaded.

family: sentence-transformer         # or cross-, sparse- or multi-vector-encoder; left out, what the model's folder holds
model: all-MiniLM-L6-v2              # a folder or a name on the Hub; or a mapping with `name` and settings
train:                               # data sets by name, each with its loss
  stsb:
    source: ${data}/train.parquet    # a file or a data set on the Hub; ${data} is given when the recipe is run
    columns: [sentence1, sentence2, score]
    hub: {source: sentence-transformers/stsb, split: train}     # read where ${data} is not given
    loss: CoSENTLoss                 # or a mapping with `name` and the loss's arguments
dev:                                 # measured while training, as `eval_strategy` says, and before and after
  stsb-dev:
    evaluator: EmbeddingSimilarityEvaluator
    source: ${data}/dev.parquet
    columns: [sentence1, sentence2, score]
test: ...                            # the same, measured before and after only
training:                            # training arguments
  num_train_epochs: 1
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from likewise.checked_yaml import WORDS, check_kind, check_known, read_yaml, section
from likewise.evaluation.beir import is_beir_folder, read_folder
from likewise.families import (
    CROSS_ENCODER,
    FAMILIES,
    SENTENCE_TRANSFORMER,
    ModelFamily,
    classes_in,
    family_in,
    family_on_hub,
)
from likewise.training.data.sources import Source

if TYPE_CHECKING:
    from torch import nn

    from likewise.evaluation import SentenceEvaluator

SOURCE_KEYS = {
    "source": (str,),
    "subset": (str,),
    "split": (str,),
    "columns": (list, dict),
    "where": (dict,),
    "max_rows": (int,),
    "classes": (dict,),
}


@dataclass(frozen=True)
class ModelRecipe:
    """The model to start from."""

    name: str  # a folder or a name on the Hub
    max_seq_length: int | None = None  # texts are cut at this many tokens; None for the model's own limit
    # Further arguments of the family's class of models.
    settings: Mapping[str, Any] = field(default_factory=dict)
    family: ModelFamily = SENTENCE_TRANSFORMER  # what it is loaded as

    def load(self, name: str | None = None) -> Any:
        """Load the model; `name` for another folder of the same model."""
        model = self.family.model_class(name or self.name, **self.settings)
        if self.max_seq_length is not None:
            model.max_seq_length = self.max_seq_length
        return model


@dataclass(frozen=True)
class LossRecipe:
    """A loss and its arguments, among them perhaps the loss that it wraps, or a class to make an argument of."""

    kind: Any  # its class
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, model: Any) -> nn.Module:
        """The loss for a model."""
        arguments = {name: self._argument(name, value, model) for name, value in self.arguments.items()}
        loss: nn.Module = self.kind(model, **arguments)
        return loss

    def _argument(self, name: str, value: Any, model: Any) -> Any:
        if isinstance(value, LossRecipe):
            return value.build(model)
        if name == "pos_weight":
            import torch

            return None if value is None else torch.tensor(float(value))
        return value() if isinstance(value, type) else value


@dataclass(frozen=True)
class TrainRecipe:
    """A data set and its loss."""

    source: Source
    loss: LossRecipe


@dataclass(frozen=True)
class EvaluatorRecipe:
    """An evaluator and the data it measures with."""

    evaluator: str  # the class's name
    source: Source  # the rows; or, for the family's evaluator of folders, a folder in BEIR layout
    name: str = ""  # put in front of the metrics
    family: ModelFamily = SENTENCE_TRANSFORMER  # of the models that it measures

    def load(self) -> SentenceEvaluator:
        """Read the data and build the evaluator."""
        build = self.family.evaluator_class(self.evaluator)
        evaluator: SentenceEvaluator
        if self.reads_folder:
            evaluator = build(*self._of_folder(Path(self.source.source)), name=self.name)
        else:
            rows, form = self.source.load(), self.family.table_evaluators[self.evaluator]
            if len(rows.column_names) != len(form.columns):
                others = f", or {', '.join(form.or_columns)}" if form.or_columns else ""
                raise ValueError(
                    f"{self.evaluator} takes {len(form.columns)} columns ({', '.join(form.columns)}{others}), but "
                    f"{self.source.source} has {len(rows.column_names)}: {', '.join(rows.column_names)}. Choose them with "
                    "`columns`."
                )
            columns = [list(rows[column]) for column in rows.column_names]
            evaluator = build(*form.arguments(*columns), name=self.name)
        return evaluator

    def check(self) -> None:
        """Refuse a file or folder that is not there."""
        if not self.reads_folder:
            self.source.check()
        elif not Path(self.source.source).is_dir():
            raise FileNotFoundError(
                f"There is no folder {self.source.source}. {self.evaluator} reads a folder in BEIR layout: "
                f"{self.family.folder_form}."
            )

    @property
    def reads_folder(self) -> bool:
        """Whether the source is a folder in BEIR layout."""
        if self.evaluator not in self.family.table_evaluators:
            return True
        return self.evaluator == self.family.folder_evaluator and is_beir_folder(Path(self.source.source))

    def _of_folder(self, folder: Path) -> tuple[Any, ...]:
        if self.family is CROSS_ENCODER:
            nano = self.family.evaluator_class("CrossEncoderNanoBEIREvaluator")
            return (nano(dataset_id=str(folder)).evaluators[0].samples,)
        task = read_folder(folder, self.source.split)
        return task.queries, task.corpus, task.relevant


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    model: ModelRecipe  # the model to start from
    train: Mapping[str, TrainRecipe]  # the training data sets by name, each with its loss
    dev: Mapping[str, EvaluatorRecipe]  # evaluators to choose by, by name
    test: Mapping[str, EvaluatorRecipe]  # evaluators that take no part in training, by name
    training: Mapping[str, Any]  # the training arguments
    family: ModelFamily = SENTENCE_TRANSFORMER  # what is trained

    def arguments(self, **defaults: Any) -> Any:
        """The training arguments; `defaults` for those that the recipe leaves open."""
        return self.family.arguments_class(**{**defaults, **self.training})

    def losses(self, model: Any) -> dict[str, nn.Module]:
        """The loss of each training data set; data sets with the same loss share it, and its weights."""
        built: list[tuple[LossRecipe, nn.Module]] = []
        for part in self.train.values():
            if part.loss not in [recipe for recipe, _ in built]:
                built.append((part.loss, part.loss.build(model)))
        return {
            name: next(loss for recipe, loss in built if recipe == part.loss)
            for name, part in self.train.items()
        }


def read_recipe(path: Path, data: Path | None = None) -> Recipe:
    """Read a recipe and check it; refused is what is not there, unknown, missing or of the wrong kind.

    `data` replaces ${data}; None for what `hub` names instead.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe {path}. Check the path.")
    return parse_recipe(_with_data(read_yaml(path), data))


def parse_recipe(content: Any) -> Recipe:
    """Check a recipe's content, as YAML gives it; see `read_recipe`."""
    kinds: dict[str, tuple[type, ...]] = {"family": (str,), "model": (str, dict)}
    kinds |= dict.fromkeys(("train", "dev", "test", "training"), (dict,))
    content = section(content, "the recipe", kinds, required=("model", "train"))
    family = _family(content)
    train = {name: _train_recipe(part, f"train.{name}", family) for name, part in content["train"].items()}
    if not train:
        raise ValueError("`train` is empty. Add a data set: a name with `source`, `columns` and `loss`.")
    dev, test = (_evaluator_recipes(content.get(split, {}), split, family) for split in ("dev", "test"))
    training = section(content.get("training", {}), "training", _training_kinds(family))
    recipe = Recipe(_model_recipe(content["model"], family), train, dev, test, training, family)
    for part in train.values():
        part.source.check()
    for evaluator in (*dev.values(), *test.values()):
        evaluator.check()
    return recipe


def _family(content: Mapping[str, Any]) -> ModelFamily:
    """The family that a recipe names, or that of its model: what a folder holds, or what a name on the Hub begins with."""
    if "family" in content:
        check_known(content["family"], FAMILIES, "family")
        return FAMILIES[content["family"]]
    model = content["model"]
    name = str(model if isinstance(model, str) else model.get("name", ""))
    if Path(name).expanduser().is_dir():
        return family_in(Path(name).expanduser())
    return family_on_hub(name)


def _model_recipe(value: str | dict[str, Any], family: ModelFamily) -> ModelRecipe:
    if isinstance(value, str):
        return ModelRecipe(value, family=family)
    value = dict(section(value, "model", family.settings, required=("name",)))
    return ModelRecipe(value.pop("name"), value.pop("max_seq_length", None), value, family)


def _train_recipe(value: Any, where: str, family: ModelFamily) -> TrainRecipe:
    value = dict(section(value, where, SOURCE_KEYS | {"loss": (str, dict)}, required=("source", "loss")))
    loss = _loss_recipe(value.pop("loss"), f"{where}.loss", family)
    return TrainRecipe(loss=loss, source=_source(value, where))


def _evaluator_recipes(
    parts: Mapping[str, Any], split: str, family: ModelFamily
) -> dict[str, EvaluatorRecipe]:
    kinds, found = SOURCE_KEYS | {"evaluator": (str,)}, {}
    for name, part in parts.items():
        where = f"{split}.{name}"
        value = dict(section(part, where, kinds, required=("source", "evaluator")))
        evaluator = value.pop("evaluator")
        check_known(evaluator, family.evaluators, f"{where}.evaluator")
        if evaluator == family.folder_evaluator:
            value.setdefault("split", "test")
        found[name] = EvaluatorRecipe(evaluator, _source(value, where), name, family)
    return found


def _source(value: dict[str, Any], where: str) -> Source:
    columns = value.get("columns")
    for column in columns.values() if isinstance(columns, dict) else columns or ():
        if not isinstance(column, str):
            raise ValueError(
                f"`{where}.columns` must name columns, but has {column!r}. Put it in quotes if it is a name."
            )
    return Source(**value)


def _loss_recipe(value: str | dict[str, Any], where: str, family: ModelFamily) -> LossRecipe:
    arguments = {"name": value} if isinstance(value, str) else dict(value)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(
            f"`{where}` needs the loss's name: `loss: CoSENTLoss`, or `loss: {{name: CoSENTLoss, scale: 20}}`."
        )
    classes = family.loss_classes()
    check_known(name, classes, where)
    _, _, *parameters = inspect.signature(classes[name].__init__).parameters.items()  # without self, model
    known = dict(parameters)
    for key, parameter in known.items():
        is_needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if is_needed and key not in arguments:
            raise ValueError(f"`{where}` needs `{key}`: {name} has no default for it.")
    values = {}
    for key, argument in arguments.items():
        check_known(key, known, where)
        if key == "loss":
            values[key] = _loss_recipe(argument, f"{where}.loss", family)
        else:
            is_weight = key == "pos_weight"
            kinds = (int, float, type(None)) if is_weight else _simple_kinds(known[key].annotation)
            check_kind(argument, kinds, f"{where}.{key}")
            values[key] = _by_name(key, argument, where)
    return LossRecipe(classes[name], values)


def _simple_kinds(annotation: Any) -> tuple[type, ...]:
    """What YAML may give for an annotation, which is a text here; anything where that is not plain."""
    kinds = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
    found = tuple(kinds.get(part.strip()) for part in str(annotation).split("|"))
    return tuple(kind for kind in found if kind) if all(found) else tuple(WORDS)


def _by_name(key: str, value: Any, where: str) -> Any:
    """What YAML gives by name: functions of embeddings (`similarity_fct: dot_score`, `distance_metric: COSINE`), and parts of
    losses over pairs (`activation_fn: Sigmoid`, `weighting_scheme: NDCGLoss2PPScheme`)."""
    if not isinstance(value, str):
        return value
    known = _named_parts(key)
    if known:
        check_known(value, known, f"{where}.{key}")
    return known.get(value, value)


def _named_parts(key: str) -> dict[str, Any]:
    """What an argument's names stand for; empty where it takes none."""
    if key == "activation_fn":
        from torch.nn import Module
        from torch.nn.modules import activation

        return classes_in(activation, Module)
    if key in ("weighting_scheme", "lambda_weight"):
        from likewise.cross_encoder import losses as of_pairs

        base = of_pairs.BaseWeightingScheme if key == "weighting_scheme" else of_pairs.PListMLELambdaWeight
        return classes_in(of_pairs, base)
    from likewise import similarity
    from likewise.losses import TripletDistanceMetric as Metric
    from likewise.multi_vector_encoder import scoring

    homes = {"similarity_fct": (similarity, scoring), "distance_metric": (Metric,)}.get(key, ())
    named = {name: getattr(one, name) for one in homes for name in getattr(one, "__all__", vars(one))}  # type: ignore[attr-defined]
    return {name: part for name, part in named.items() if callable(part) and not name.startswith("_")}


def _training_kinds(family: ModelFamily) -> dict[str, tuple[type, ...]]:
    hints = get_type_hints(family.arguments_class)
    return {f.name: tuple(_basic_kinds(hints[f.name])) for f in fields(family.arguments_class) if f.init}


def _basic_kinds(hint: Any) -> Iterable[type]:
    """What YAML may give where a type is expected: an enum is given by its value, a text."""
    origin = getattr(hint, "__origin__", hint)
    if origin in WORDS:
        return {origin}
    parts = get_args(hint)
    return {kind for part in parts for kind in _basic_kinds(part)} if parts else {str}


def _with_data(value: Any, data: Path | None) -> Any:
    """The same content with ${data} replaced in every text, and a part's `hub` in place of its source where there is none."""
    if isinstance(value, dict):
        if "hub" in value:
            check_kind(value["hub"], (dict,), "hub")
            other, value = value["hub"], {key: item for key, item in value.items() if key != "hub"}
            if data is None:
                value = {key: item for key, item in value.items() if key not in SOURCE_KEYS} | other
        return {key: _with_data(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_data(item, data) for item in value]
    if not isinstance(value, str) or "${data}" not in value:
        return value
    if data is None:
        raise ValueError(f"The recipe reads {value}. Say where that is with `--data DIR`.")
    return value.replace("${data}", str(data))
