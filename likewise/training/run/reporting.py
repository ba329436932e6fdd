"""RunReport: what a run's report tells, gathered before it, while it runs, and after it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from likewise.card.data_sets import by_name
from likewise.card.examples import NO_MODEL_ID
from likewise.engine.modes import eval_mode
from likewise.processes import get_rank
from likewise.report import page
from likewise.report.facts import facts_of, memory
from likewise.training.data.data_set_plan import TrainingPlan
from likewise.training.data.reader import seeded
from likewise.training.data.sample import Sample, sample_of
from likewise.training.run.comparison import compared

logger = logging.getLogger(__name__)


@contextmanager
def reported(trainer: Any, plan: TrainingPlan) -> Iterator[None]:
    """A run within, of which the first process writes a report if the arguments say so."""
    trainer.report = report = RunReport(trainer, plan) if trainer.args.report and get_rank() == 0 else None
    try:
        yield
        if report is not None:
            report.finish()
    finally:
        if report is not None:
            report.close()


class RunReport(logging.Handler):
    """Gathers what a report tells, and writes it. It sees the package's warnings while the run goes on.

    What is shown before and after is a sample of a few hundred rows, so that it costs seconds.
    """

    def __init__(self, trainer: Any, plan: TrainingPlan) -> None:
        page.check_installed()
        super().__init__(logging.WARNING)
        self.trainer = trainer
        self.told: dict[str, Any] = {"plan": [line for line in plan.lines if line[0] != "warning"]}
        self.told["warnings"] = [text for title, text in plan.lines if title == "warning"]
        self._sample: Sample | None = None
        self._before: Any = None
        try:
            with seeded(()):  # what makes rows anew may draw random numbers, which training should not miss
                self._sample = self._sampled()
            if self._sample is not None:
                self._before = self._answers(self._sample)
        except Exception as error:
            logger.warning("The report will compare nothing before and after (%r).", error)
        logging.getLogger("likewise").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, once."""
        if (text := record.getMessage()) not in self.told["warnings"]:
            self.told["warnings"].append(text)

    def close(self) -> None:
        """See no more warnings."""
        logging.getLogger("likewise").removeHandler(self)
        super().close()

    def finish(self) -> None:
        """The run is over: take what came of it, and write the report. What fails is a warning, for the model is trained."""
        try:
            state = self.trainer.state
            self.told |= {"history": state.log_history, "facts": facts_of(state.log_history) + memory()}
            card = self.trainer.model.model_card_data
            self.told |= {"best_step": card.best_model_step, "start": card.base_model or card.start_folder}
            self._compare()
            self.write()
        except Exception as error:
            logger.warning("The report could not be written (%r); the model is trained all the same.", error)

    def _compare(self) -> None:
        if self._sample is None or self._before is None:
            return
        try:
            sample = compared(self._sample, self._before, self._answers(self._sample))
        except Exception as error:  # a model that diverged, say
            logger.warning("The report compares nothing before and after (%r).", error)
            return
        self.told["sample"] = sample | {"is_trained_on": not by_name(self.trainer.eval_dataset)}

    def write(self, measured: Sequence[Mapping[str, Any]] = (), folder: str | None = None) -> Path:
        """Write `report.html` to the output folder, and return its path.

        `measured` is what evaluators measured before and after, as `compared_metric` gives it, each with a `name`; `folder` is where the
        model is saved, for the code that loads it.
        """
        output_dir = Path(str(self.trainer.args.output_dir))
        self.told |= describe(self.trainer.model, folder or "MODEL_FOLDER") | {"measured": list(measured)}
        output_dir.mkdir(parents=True, exist_ok=True)
        path = output_dir / page.FILE
        path.write_text(page.page(self.told), encoding="utf-8")
        return path

    def _sampled(self) -> Sample | None:
        """A sample of the first evaluation data set that has pairs of texts, or else of the training data."""
        plans = self.trainer.plans
        for split, data in (("eval", self.trainer.eval_dataset), ("train", self.trainer.train_dataset)):
            title = "the evaluation data" if split == "eval" else "the training data"
            samples = [
                sample_of(by_name(data)[plan.name], plan, f"{title} {plan.name}".strip(), not self.trainer.family.keeps_tokens)
                for plan in plans[split]
                if not plan.is_collated
            ]  # fmt: skip
            found = [sample for sample in samples if sample is not None]
            if found:
                return next((sample for sample in found if len(sample.pairs)), found[0])
        return None

    def _answers(self, sample: Sample) -> Any:
        with eval_mode(self.trainer.model), torch.no_grad():
            return self.trainer.family.answers(self.trainer.model, sample)


def describe(model: Any, folder: str) -> dict[str, Any]:
    """What a report tells of a model: its title, and the code that loads it from a folder."""
    card = model.model_card_data
    return {"title": f"Report: {card.title()}", "usage": card.usage(model).replace(NO_MODEL_ID, folder)}
