"""Two processes train exactly as one with the joined batch (gloo, on the CPU, under torchrun)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from apart import run_apart
from small import small_model_folder

from likewise import CrossEncoder, MultiVectorEncoder

RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gathered negatives": ("triplets", {"gather_across_devices": True}, {}),
    "gathered, no duplicates": (
        "triplets",
        {"gather_across_devices": True},
        {"batch_sampler": "no_duplicates"},
    ),
    "two data sets": ("two", {"gather_across_devices": True}, {"multi_dataset_batch_sampler": "round_robin"}),
    "a stream": ("stream", {"gather_across_devices": True}, {"shuffle_buffer_size": 20}),
    "named parts": ("parts", {}, {}),
    "a loss with weights": ("softmax", {}, {}),
    "a CrossEncoder on pairs": ("pairs", {}, {}),
    "a CrossEncoder on lists": ("lists", {}, {}),
    "a SparseEncoder": ("splade", {"gather_across_devices": True}, {}),
    "a MultiVectorEncoder": ("tokens", {"gather_across_devices": True}, {}),
    "recomputed chunks": ("triplets", {"gather_across_devices": True}, {"micro_batch_tokens": 60}),
}

# Started as a user would; the others by forking, which is faster.
LAUNCHERS = {"gathered negatives": ("torch.distributed.run", "--standalone", "--nproc_per_node=2")}


def with_head(model_class: Any, folder: str, tmp_path: Path) -> str:
    """A CrossEncoder or MultiVectorEncoder around the encoder in a folder."""
    torch.manual_seed(0)  # of the new head
    model_class(folder, device="cpu").save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one_with_the_joined_batch(name: str, folder: str, tmp_path: Path) -> None:
    kind, loss, arguments = RUNS[name]
    if kind == "splade":
        plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        folder = small_model_folder(tmp_path / "model", head="ForMaskedLM", **plain)
    elif name.startswith("a CrossEncoder") or kind == "tokens":
        folder = with_head(CrossEncoder if kind != "tokens" else MultiVectorEncoder, folder, tmp_path)
    shared = {
        "max_steps": 5, "save_strategy": "no", "dataloader_drop_last": True, "learning_rate": 1e-3,
        "per_device_eval_batch_size": 4,
    } | arguments  # fmt: skip
    evaluate = name == "a loss with weights"
    two = run_apart(
        tmp_path, "two", folder, kind, processes=2, launcher=LAUNCHERS.get(name), loss=loss, evaluate=evaluate,
        arguments=shared | {"per_device_train_batch_size": 4},
    )  # fmt: skip
    one = run_apart(tmp_path, "one", folder, kind, evaluate=evaluate, arguments=shared)
    assert two["losses"].keys() == one["losses"].keys() == {1, 2, 3, 4, 5}
    for step, loss_of_one in one["losses"].items():
        assert two["losses"][step] == pytest.approx(loss_of_one, abs=1e-5)
    for parameter, weight in one["weights"].items():
        assert torch.allclose(two["weights"][parameter], weight, atol=1e-4), parameter
    for part in ("cosine", "length") if name == "named parts" else ():
        assert two["health"][part] == pytest.approx(one["health"][part], abs=1e-5) != 0
    if evaluate:
        assert two["evaluated"] == pytest.approx(one["evaluated"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["evaluator", "evaluator of pairs"])
def test_evaluators_share_their_texts_over_the_processes(kind: str, folder: str, tmp_path: Path) -> None:
    folder = with_head(CrossEncoder, folder, tmp_path) if "pairs" in kind else folder
    settings = {"max_steps": 1, "save_strategy": "no", "dataloader_drop_last": True}
    two = run_apart(tmp_path, "two", folder, kind, processes=2, arguments=settings)
    one = run_apart(tmp_path, "one", folder, kind, arguments=settings)
    assert two["evaluator"] == pytest.approx(one["evaluator"], abs=1e-6)
    assert sum(two["encoded"]) == one["encoded"][0]
    assert max(two["encoded"]) < one["encoded"][0]
