"""SentenceTransformerModelCardData: what the model card says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "dense")


@dataclass
class SentenceTransformerModelCardData:
    """What is known about a model beside its weights.

    Attributes:
        language: Language codes, e.g. "en".
        license: Identifier of the licence, e.g. "apache-2.0".
        model_name: A title for the card.
        model_id: The name on the Hub, used in the card's example.
        train_datasets: What it was trained on: dicts with a `name`, and perhaps an `id` on the Hub.
        eval_datasets: What its loss was evaluated on, in the same form.
        task_name: What the model is for.
        tags: Tags on the Hub.
        local_files_only: Whether the Hub must not be asked for anything; this card never asks it.
        generate_widget_examples: Kept for compatibility; the card's example needs no data.
    """

    language: str | Sequence[str] | None = None
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[dict[str, Any]] = field(default_factory=list)
    eval_datasets: list[dict[str, Any]] = field(default_factory=list)
    task_name: str = "semantic textual similarity, semantic search, paraphrase mining, classification, clustering, and more"
    tags: list[str] = field(default_factory=lambda: list(TAGS))
    local_files_only: bool = False
    generate_widget_examples: bool = True

    def __post_init__(self) -> None:
        self.base_model: str | None = None
        self.base_model_revision: str | None = None
        self.evaluations: dict[str, tuple[Any, dict[str, float]]] = {}
        self.losses: list[Any] = []
        self.hyperparameters: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self._model: Any = lambda: None

    def set_base_model(self, model_id: str, revision: str | None = None) -> None:
        """Say what the model was before it was trained."""
        self.base_model, self.base_model_revision = model_id, revision

    def register_model(self, model: SentenceTransformer) -> None:
        """Say which model this is about."""
        self._model = ref(model)

    @property
    def model(self) -> SentenceTransformer | None:
        """The model this is about."""
        found: SentenceTransformer | None = self._model()
        return found

    def add_tags(self, tags: str | Sequence[str]) -> None:
        """Add tags, each once."""
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.tags:
                self.tags.append(tag)

    def set_evaluation_metrics(
        self, evaluator: Any, metrics: Mapping[str, float], epoch: float = -1, step: int = -1
    ) -> None:
        """Keep what an evaluator measured last; the card shows it."""
        name = str(getattr(evaluator, "name", "") or type(evaluator).__name__)
        self.evaluations[name] = (evaluator, dict(metrics))

    def set_training(self, losses: Sequence[Any], hyperparameters: Mapping[str, Any], num_rows: int) -> None:
        """Keep how the model was trained.

        Args:
            losses: The losses.
            hyperparameters: The training arguments that are not the default.
            num_rows: Rows of all training data.
        """
        self.losses, self.hyperparameters = list(losses), dict(hyperparameters)
        self.add_tags(["generated_from_trainer", f"dataset_size:{num_rows}"])
        self.add_tags([f"loss:{type(loss).__name__}" for loss in losses])

    def add_log(self, step: int, epoch: float, logs: Mapping[str, Any]) -> None:
        """Keep what was logged at a step: the loss, and whatever was measured."""
        kept = {
            k: v for k, v in logs.items() if k == "loss" or (k.startswith("eval_") and "_per_second" not in k)
        }
        kept = {k: v for k, v in kept.items() if isinstance(v, int | float) and not k.endswith("_runtime")}
        if kept:
            self.log.append({"epoch": epoch, "step": step} | kept)
