"""Progress of a training run, as a bar in a terminal and as a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import progress
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from likewise.cli import console

EVERY_S = 5.0  # seconds between lines, where there is no terminal


class TrainingProgress(TrainerCallback):  # type: ignore[misc]
    """Shows steps, the loss, tokens per second and the time left; and the metrics of each evaluation.

    Args:
        limit_s: The training ends after so many seconds, wherever it is; None for its own end.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self.limit_s = limit_s
        self._said = 0.0
        self.num_tokens = 0
        self.seconds = 0.0
        self._loss = ""
        columns = [
            progress.TextColumn("training "),
            progress.BarColumn(24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("of which left"),
            progress.TimeRemainingColumn(),
        ]
        self._bar = progress.Progress(*columns, console=console.out)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar."""
        self._start = time.perf_counter()
        self._task = self._bar.add_task("", total=state.max_steps, numbers="")
        if console.out.is_terminal:
            self._bar.start()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self._loss = f"loss {float(logs['loss']):.3f}  "

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self.seconds = time.perf_counter() - self._start
        numbers = f"{self._loss}{self.num_tokens / self.seconds:,.0f} tokens/s"
        self._bar.update(self._task, completed=state.global_step, numbers=numbers)
        if self.limit_s is not None and self.seconds > self.limit_s and state.global_step < state.max_steps:
            control.should_training_stop = True
            console.say(f"The training ends at step {state.global_step:,}, after {self.seconds:.0f} s.")
        is_last = state.global_step == state.max_steps
        if not console.out.is_terminal and (is_last or self.seconds - self._said >= EVERY_S):
            self._said = self.seconds
            left_s = self.seconds / state.global_step * (state.max_steps - state.global_step)
            left = "" if is_last else f"  {left_s:.0f} s left"
            console.say(f"training  step {state.global_step:>5,} of {state.max_steps:,}  {numbers}{left}")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Print what was measured."""
        names = [name for name in metrics or () if not name.endswith(("_runtime", "_per_second", "epoch"))]
        shown = "  ".join(f"{name.removeprefix('eval_')} {(metrics or {})[name]:.4f}" for name in names)
        console.say(f"step {state.global_step:,}: {shown}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the bar."""
        self._stop()

    @contextmanager
    def watching(self, trainer: Any, model: nn.Module) -> Iterator[None]:
        """Take the place of transformers' own reports, and count the tokens that the model sees in training."""
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self)
        hook = model.register_forward_pre_hook(self._count)
        try:
            yield
        finally:
            hook.remove()
            self._stop()

    def _stop(self) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def _count(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        if model.training:
            features = inputs[0]
            tokens = features.get("tokens")
            self.num_tokens += int(features["attention_mask"].sum()) if tokens is None else tokens.num_tokens
