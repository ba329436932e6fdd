"""Two processes with FSDP2, each with a shard of the weights, train as one with all of them (gloo, on the CPU)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from apart import run_apart
from safetensors.torch import load_file

from likewise.engine.embed import Embed
from likewise.losses import MultipleNegativesRankingLoss
from likewise.training.run.objective import Objective
from likewise.training.run.sharding import settle, shard

SHARED: dict[str, Any] = {
    "max_steps": 4,
    "dataloader_drop_last": True,
    "learning_rate": 1e-3,
    "save_strategy": "no",
}
SHARDED = {"per_device_train_batch_size": 4, "fsdp": True, "fsdp_config": {"version": 2}}


def check_runs_are_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["measured"].keys() == {2, 4}
    assert found["measured"] == pytest.approx(expected["measured"], abs=1e-4)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        assert torch.allclose(found["weights"][name], weight, atol=1e-4), name


@pytest.mark.slow
def test_shards_gathered_layer_by_layer_train_evaluate_and_save_as_one_whole(
    folder: str, tmp_path: Path
) -> None:
    shared = SHARED | {"eval_strategy": "steps", "eval_steps": 2}
    loss = {"gather_across_devices": True}
    two = run_apart(
        tmp_path, "two", folder, "triplets", processes=2, loss=loss, save=True, arguments=shared | SHARDED
    )  # fmt: skip
    one = run_apart(tmp_path, "one", folder, "triplets", save=True, arguments=shared)
    check_runs_are_equal(two, one)
    layers = {f"model.0.auto_model.encoder.layer.{number}" for number in range(2)}
    assert two["shards"].keys() == {"", "model.0.auto_model.embeddings", *layers}
    shared_out = "4 rows on each of 2 processes with a shard of the weights, sampled by batch_sampler"
    assert (one["batch"], two["batch"]) == ("8 rows, sampled by batch_sampler", shared_out)
    check_folders_are_equal(tmp_path / "two" / "final", tmp_path / "one" / "final")


@pytest.mark.slow
def test_accelerate_launch_says_that_weights_are_to_lie_in_shards(folder: str, tmp_path: Path) -> None:
    config = tmp_path / "accelerate.yaml"
    config.write_text(
        "distributed_type: FSDP\nuse_cpu: true\nnum_processes: 2\nfsdp_config: {fsdp_version: 2}\n",
        encoding="utf-8",
    )
    launcher = ("accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0")
    arguments = SHARED | {"per_device_train_batch_size": 4}
    loss = {"gather_across_devices": True}
    two = run_apart(tmp_path, "two", folder, "triplets", launcher=launcher, loss=loss, arguments=arguments)
    one = run_apart(tmp_path, "one", folder, "triplets", arguments=SHARED)
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert "FSDPObjective" in two["shards"].values()


@pytest.mark.slow
def test_shards_of_chunks_resume_to_the_bit(folder: str, tmp_path: Path) -> None:
    shared = SHARED | {"save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    shared |= {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 4}
    sharded = shared | SHARDED | {"micro_batch_tokens": 60}
    two = run_apart(tmp_path, "two", folder, "softmax", processes=2, evaluate=True, arguments=sharded)
    one = run_apart(tmp_path, "one", folder, "softmax", evaluate=True, arguments=shared)
    check_runs_are_equal(two, one)
    assert two["evaluated"] == pytest.approx(one["evaluated"], abs=1e-4)
    assert two["shards"] == {"": "FSDPObjective"}
    states = [torch.load(tmp_path / run / "checkpoint-2" / "optimizer.pt")["state"] for run in ("two", "one")]
    assert states[0].keys() == states[1].keys()
    for own, other in zip(*map(dict.values, states), strict=True):
        assert torch.allclose(own["exp_avg"], other["exp_avg"], atol=1e-5)
    checkpoint = str(tmp_path / "two" / "checkpoint-2")
    again = run_apart(
        tmp_path, "again", folder, "softmax", processes=2, evaluate=True, resume=checkpoint, arguments=sharded
    )
    assert again["losses"][4] == two["losses"][4]
    for name, weight in two["weights"].items():
        assert torch.equal(again["weights"][name], weight), name


def check_folders_are_equal(found: Path, expected: Path) -> None:
    files = {path.relative_to(expected) for path in expected.rglob("*") if path.is_file()}
    assert {path.relative_to(found) for path in found.rglob("*") if path.is_file()} == files
    for file in files:
        if file.suffix == ".safetensors":
            weights = load_file(expected / file)
            saved = load_file(found / file)
            assert saved.keys() == weights.keys()
            assert all(torch.allclose(saved[key], weights[key], atol=1e-4) for key in weights)
        elif file.suffix == ".json":
            assert json.loads((found / file).read_text()) == json.loads((expected / file).read_text()), file


def a_run(plugin: dict[str, Any], **arguments: Any) -> Any:
    """What `settle` asks of a trainer."""
    usual = {"fp16": False, "torch_compile": False, "auto_find_batch_size": False}
    args = (
        usual
        | {"is_sharded": True, "world_size": 2, "fsdp_plugin_args": {"fsdp_version": 2, **plugin}}
        | arguments
    )
    return SimpleNamespace(args=SimpleNamespace(**args), accelerator=SimpleNamespace(prepare_optimizer=print))


@pytest.mark.parametrize(
    ("plugin", "arguments", "message"),
    [
        ({"cpu_offload": True}, {}, "`fsdp_offload_params` is not supported with FSDP. Drop it"),
        (
            {"activation_checkpointing": True},
            {},
            "`fsdp_activation_checkpointing`.*`gradient_checkpointing=True`",
        ),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 10}, {}, "Use TRANSFORMER_BASED_WRAP"),
        ({"ignored_modules": []}, {}, "`fsdp_ignored_modules`"),
        ({}, {"fp16": True}, "`fp16`.*`bf16=True`"),
        ({}, {"torch_compile": True}, "`torch_compile`"),
        ({}, {"auto_find_batch_size": True}, "`auto_find_batch_size`.*`micro_batch_tokens`"),
    ],
)
def test_settings_that_cannot_take_effect_are_refused(
    plugin: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settle(a_run(plugin, **arguments))


def test_checkpoints_in_shards_are_said_to_be_whole(caplog: pytest.LogCaptureFixture) -> None:
    assert settle(a_run({"state_dict_type": "FULL_STATE_DICT"})).fsdp_version == 2
    assert not caplog.records
    settle(a_run({"state_dict_type": "SHARDED_STATE_DICT"}))
    assert "`fsdp_state_dict_type` is without effect" in caplog.text


@pytest.mark.parametrize(("named", "embed"), [("BertLayr", None), ("BertLayer", Embed(recompute_tokens=60))])
def test_layers_that_cannot_be_gathered_one_by_one_are_refused(
    named: str, embed: Embed | None, model: Any
) -> None:
    trained = Objective(model, MultipleNegativesRankingLoss(model), embed)
    plugin = settle(
        a_run({"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "transformer_cls_names_to_wrap": named})
    )
    with pytest.raises(ValueError, match=f"`fsdp_transformer_layer_cls_to_wrap` names {named}.*Drop it"):
        shard(trained, plugin, torch.device("cpu"))
