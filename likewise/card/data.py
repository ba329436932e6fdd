"""BaseModelCardData: what is known of a model beside its weights."""

from __future__ import annotations

import functools
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import ref

from likewise.card import training_log
from likewise.card.data_sets import by_name, with_inner
from likewise.card.environment import emissions
from likewise.card.markdown import listed
from likewise.card.results import Result, eval_results, result_of
from likewise.overriding import refuse_uncalled

if TYPE_CHECKING:
    from likewise.model.model import Model

logger = logging.getLogger(__name__)
Method = TypeVar("Method", bound=Callable[..., Any])

SENTENCE_BERT = """@inproceedings{reimers-2019-sentence-bert,
    title = "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    author = "Reimers, Nils and Gurevych, Iryna",
    booktitle = "Proceedings of the 2019 Conference on Empirical Methods in Natural Language Processing",
    month = "11",
    year = "2019",
    publisher = "Association for Computational Linguistics",
    url = "https://arxiv.org/abs/1908.10084",
}"""
TRAINED = "generated_from_trainer"
SEARCH_EVALUATORS = ("InformationRetrievalEvaluator", "NanoBEIREvaluator")
SEARCH_COLUMNS = {"query", "question"}
UNCALLED = (  # the card is written by functions from what is known; these are methods in the reference
    *("compute_dataset_metrics", "extract_dataset_metadata", "infer_datasets", "validate_datasets"),
    *("format_eval_metrics", "format_training_logs", "get_training_duration_data", "get_codecarbon_data"),
    *("generate_usage_snippet", "run_usage_snippet", "save_usage_example_assets", "set_label_examples"),
    *("get_default_model_name", "get_model_specific_metadata"),
    *("try_to_set_base_model", "try_to_set_ir_model_from_evaluators"),
)
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
CACHED = re.compile(r"models--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<revision>[0-9a-f]{40})$")


def harmless(method: Method) -> Method:
    """A method that warns where it would fail: what the card tells must never stop a run."""

    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            logger.warning("The model card will lack something: %s failed (%r).", method.__name__, error)
            return None

    return guarded  # type: ignore[return-value]


SIMILARITIES = {
    "cosine": "Cosine Similarity",
    "dot": "Dot Product",
    "euclidean": "Euclidean Distance",
    "manhattan": "Manhattan Distance",
}
"""What cards call the similarities of embeddings of whole texts."""


@dataclass
class BaseModelCardData(ABC):
    """What is known of a model beside its weights. The Hub is never asked for anything.

    A family's own class says what its models are called and are for, and writes the code that uses one.

    Attributes:
        language: Language codes, e.g. "en" or ["en", "de"].
        license: Identifier of the licence, e.g. "apache-2.0".
        model_name: A title for the card.
        model_id: The name on the Hub, `owner/name`, for the card's code.
        train_datasets: What it was trained on: dicts with a `name`, and perhaps an `id` on the Hub.
        eval_datasets: What its loss was evaluated on, in the same form.
        task_name: What the model is for.
        tags: Tags on the Hub.
        local_files_only: Kept for compatibility: the Hub is not asked either way.
        generate_widget_examples: Whether examples are drawn from the data, and embedded to show their similarities; not an
            argument of a CrossEncoder's.
    """

    language: str | Sequence[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[dict[str, Any]] = field(default_factory=list)
    eval_datasets: list[dict[str, Any]] = field(default_factory=list)
    task_name: str | None = None
    tags: list[str] = field(default_factory=list)
    local_files_only: bool = False
    generate_widget_examples: bool = field(default=False, init=False)

    # Found out by the library.
    base_model: str | None = field(default=None, init=False)
    base_model_revision: str | None = field(default=None, init=False)
    start_folder: str | None = field(default=None, init=False)  # that it was loaded from, for the report
    ir_model: bool | None = field(default=None, init=False)
    results: list[Result] = field(default_factory=list, init=False, repr=False)
    citations: dict[str, str] = field(
        default_factory=lambda: {"Sentence Transformers": SENTENCE_BERT}, init=False, repr=False
    )
    non_default_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    all_hyperparameters: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    training_logs: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    best_model_step: int | None = field(default=None, init=False)
    widget: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    code_carbon_callback: Any = field(default=None, init=False, repr=False)
    training_started: float | None = field(default=None, init=False, repr=False)
    training_seconds: float | None = field(default=None, init=False, repr=False)
    evaluation_seconds: float = field(default=0.0, init=False, repr=False)

    kind: ClassVar[str]
    """The class of the family's models."""
    first_sentence_of_usage: ClassVar[str] = "Then load the model and run it:"
    """What stands above the example."""
    resources: ClassVar[Mapping[str, str]] = {}
    """Pages of the reference's blog worth reading, by title."""

    @abstractmethod
    def pipeline_tag(self, model: Any) -> str:
        """The Hub's name for what the model is for."""

    @abstractmethod
    def purpose(self, model: Any) -> str:
        """What the model does with its inputs, as a sentence."""

    @abstractmethod
    def facts(self, model: Any) -> Mapping[str, str]:
        """What the card lists of the model's outputs, by title; "Model Type" among them."""

    @abstractmethod
    def usage(self, model: Any) -> str:
        """A runnable example, as Python code; its first lines load the model."""

    def __post_init__(self) -> None:
        self.set_language(self.language or [])
        for part in (*self.train_datasets, *self.eval_datasets):
            if "name" not in part and "id" in part:
                part["name"] = part["id"]
        if self.model_id and self.model_id.count("/") != 1:
            logger.warning(
                "`model_id` must have the form 'owner/name', but is %r. It is left out of the card.",
                self.model_id,
            )
            self.model_id = None
        self._model: Any = lambda: None

    def __getstate__(self) -> dict[str, Any]:
        """Without the model, which is only known by a weak reference, and without what watches a run."""
        left_out = ("_model", "code_carbon_callback")
        return {key: value for key, value in vars(self).items() if key not in left_out}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _model=lambda: None, code_carbon_callback=None)

    # What the user or the library tells

    def register_model(self, model: Model) -> None:
        """Say which model this is about."""
        self._model = ref(model)
        names = ("query", "document", "passage", "corpus")
        if self.ir_model is None and (
            any(type(module).__name__ in ("Router", "Asym") for module in model.children())
            or any(model.prompts.get(name) for name in names)
        ):
            self.ir_model = True
        # Static vectors know which model they were distilled from.
        origin = getattr(next(iter(model.children()), None), "base_model", None)
        if self.base_model is None and isinstance(origin, str):
            self.set_base_model(origin)

    @property
    def model(self) -> Model | None:
        """The model this is about."""
        found: Model | None = self._model()
        return found

    @property
    def is_trained(self) -> bool:
        """Whether the model was trained since it was made or loaded."""
        return TRAINED in self.tags

    @harmless
    def set_base_model(self, model_id: str, revision: str | None = None) -> bool:
        """Say what the model was before it was trained, if that is a model on the Hub.

        Args:
            model_id: Its name on the Hub, or the folder it was downloaded to, which tells name and commit.
            revision: The tag or commit; the folder's where it is none, or the branch main.

        Returns:
            Whether it was taken. The name of any other folder means nothing to others.
        """
        if (cached := CACHED.search(str(model_id))) is not None:
            self.base_model = cached["name"].replace("--", "/")
            self.base_model_revision = cached["revision"] if revision in (None, "main") else revision
        elif Path(model_id).exists() or not HUB_NAME.fullmatch(str(model_id)):
            self.start_folder = str(model_id)
            return False
        else:
            self.base_model, self.base_model_revision = str(model_id), revision
        return True

    def set_model_id(self, model_id: str) -> None:
        """Say what the model is called on the Hub."""
        self.model_id = model_id

    def set_language(self, language: str | Sequence[str]) -> None:
        """Say which languages the model is for."""
        self.language = [language] if isinstance(language, str) else list(language)

    def set_license(self, license: str) -> None:
        """Say under which licence the model is."""
        self.license = license

    def add_tags(self, tags: str | Sequence[str]) -> None:
        """Add tags, each once."""
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.tags:
                self.tags.append(tag)

    # What a run tells

    @harmless
    def set_losses(self, losses: Sequence[Any]) -> None:
        """Keep the names of the losses and of those that they wrap, and their papers; losses of one paper share an entry."""
        losses = with_inner(losses)
        self.add_tags([f"loss:{type(loss).__name__}" for loss in losses])
        papers = {SENTENCE_BERT: ["Sentence Transformers"]}
        for loss in losses:
            paper, name = str(getattr(loss, "citation", "") or "").strip(), type(loss).__name__
            if paper and name not in papers.setdefault(paper, []):
                papers[paper].append(name)
        self.citations = {listed(names): paper for paper, names in papers.items()}

    @harmless
    def set_widget_examples(self, dataset: Any) -> None:
        """Draw examples from a data set, or from several by name; the same ones each time."""
        from likewise.card.examples import widget_examples

        self.widget = widget_examples(by_name(dataset))

    @harmless
    def set_evaluation_metrics(
        self, evaluator: Any, metrics: Mapping[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Keep what an evaluator measured, and its primary metric in the training log.

        Args:
            evaluator: The evaluator.
            metrics: Its metrics, under their full names.
            epoch: The epoch of the run, or -1.
            step: The step of the run, or -1 outside of one.
        """
        if step == training_log.OUTSIDE and self.training_started is None:
            epoch, step = 0.0, 0  # before the run
        result = result_of(evaluator, metrics)
        for place, known in enumerate(self.results):
            if (known.evaluator, known.kind, known.name) == (result.evaluator, result.kind, result.name):
                result.by_step = known.by_step
                self.results[place] = result
                break
        else:
            self.results.append(result)
        result.by_step[step] = result.metrics
        if type(evaluator).__name__ in SEARCH_EVALUATORS and self.ir_model is None:
            self.ir_model = True
        primary = getattr(evaluator, "primary_metric", None)
        names = [primary] if isinstance(primary, str) else primary or []
        values = {name: metrics[name] for name in names if name in metrics}
        training_log.add(self.training_logs, epoch, step, values)

    @harmless
    def set_best_model_step(self, step: int) -> None:
        """Say which step's weights the model has now; what was measured at that step is what counts."""
        self.best_model_step = step
        for result in self.results:
            result.metrics = result.by_step.get(step, result.metrics)

    def start_run(self, logs: list[dict[str, Any]]) -> None:
        """A run begins, with the rows of its log so far; what was measured before it stays."""
        is_first = not self.training_started
        before = [row for row in self.training_logs if row[training_log.STEP] == 0 and is_first]
        self.training_logs = [*before, *logs] if not logs or logs[0][training_log.STEP] else logs
        self.best_model_step, self.evaluation_seconds = None, 0.0
        self.training_started, self.training_seconds = time.monotonic(), None

    def end_run(self) -> None:
        """The run is over: its time is taken."""
        if self.training_started is not None:
            self.training_seconds = time.monotonic() - self.training_started

    @property
    def run_seconds(self) -> float | None:
        """How long the run took, or has taken so far; None where there was none."""
        if self.training_started is None or self.training_seconds is not None:
            return self.training_seconds
        return time.monotonic() - self.training_started

    # What it becomes

    def title(self) -> str:
        """The card's title."""
        kind = type(self.model).__name__ if self.model is not None else self.kind
        return self.model_name or (f"{kind} based on {self.base_model}" if self.base_model else kind)

    def to_dict(self) -> dict[str, Any]:
        """The card's metadata, by the Hub's rules: its filters, widget and tables of results are made of it."""
        from huggingface_hub import ModelCardData

        results = eval_results(self.results)
        measured = list(dict.fromkeys(key for result in self.results for key in result.metrics))
        card: Any = ModelCardData(  # which leaves out what is None
            language=list(self.language or ()) or None,
            license=self.license,
            library_name="sentence-transformers",
            pipeline_tag=self.pipeline_tag(self.model),
            tags=list(self.tags),
            base_model=self.base_model,
            datasets=list(dict.fromkeys(part["id"] for part in self.train_datasets if part.get("id")))
            or None,
            metrics=measured or None,
            model_name=self.title() if results else None,
            eval_results=results or None,
            widget=self.widget or None,
            co2_eq_emissions=emissions(self.code_carbon_callback),
        )
        found: dict[str, Any] = card.to_dict()
        return found

    def to_yaml(self, line_break: str | None = None) -> str:
        """The card's metadata, as `to_dict` gives it, as YAML."""
        from huggingface_hub import CardData

        return str(CardData(**self.to_dict()).to_yaml(line_break))

    def __init_subclass__(cls) -> None:
        """Refuse methods that are never called."""
        super().__init_subclass__()
        instead = "Override `to_dict` for the metadata, or write README.md after saving."
        refuse_uncalled(cls, {"BaseModelCardData": UNCALLED}, instead)
