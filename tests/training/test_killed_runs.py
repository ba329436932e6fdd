"""Killed with SIGKILL at any step and resumed, a run ends bit-identical to one that never stopped."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from apart import run_apart

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "a loss with weights": ("softmax", {}),
    "several data sets, one a stream": ("several", {"multi_dataset_batch_sampler": "round_robin"}),
    "a stream": ("stream", {"batch_sampler": "no_duplicates", "shuffle_buffer_size": 16}),
    "a stream of unknown length": ("endless stream", {"shuffle_buffer_size": 16}),
    "random transforms": ("noise", {}),
    "LoRA, micro-batches, accumulation": (
        "lora",
        {"micro_batch_tokens": 60, "gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine"},
    ),
    "mixed to weights": (
        "two",
        {"multi_dataset_weights": {"a": 1, "b": 2}, "multi_dataset_exhausted": "restart", "bf16": True},
    ),
}


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[key], expected[key]) for key in expected)
    return bool(found == expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_as_one_that_never_stopped(name: str, dropout_folder: str, tmp_path: Path) -> None:
    kind, arguments = RUNS[name]
    if kind == "lora":
        pytest.importorskip("peft")
    step = random.Random(name).randint(3, 8)
    run_apart(
        tmp_path, "run", dropout_folder, kind, expect=-signal.SIGKILL, kill_at=step, arguments=arguments
    )
    found = run_apart(tmp_path, "run", dropout_folder, kind, resume=True, arguments=arguments)
    expected = run_apart(tmp_path, "whole", dropout_folder, kind, arguments=arguments)
    for part in ("weights", "optimizer", "schedule", "rng"):
        assert equal(found[part], expected[part]), part
    assert {step: found["losses"][step] for step in expected["losses"]} == expected["losses"]


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_checkpoint_before_it(dropout_folder: str, tmp_path: Path) -> None:
    run_apart(tmp_path, "run", dropout_folder, "softmax", expect=-signal.SIGKILL, kill_at="saving")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint-2", "saving"}
    found = run_apart(tmp_path, "run", dropout_folder, "softmax", resume=True)
    expected = run_apart(tmp_path, "whole", dropout_folder, "softmax")
    assert equal(found["weights"], expected["weights"])
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()} == {
        f"checkpoint-{step}" for step in (2, 4, 6, 8, 9)
    }
