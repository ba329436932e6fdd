"""A folder that wants to run code: whatever it says and wherever it says it, nothing of it runs, and one sentence tells why."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hostile import Payload, change
from peft import LoraConfig
from safetensors.torch import load_file
from small import sentences

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.models import Transformer
from likewise.modules.saved_arguments import ALLOWED


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that is there when code of the folder has run."""
    return tmp_path / "ran"


@pytest.fixture
def folder(saved_folder: Path, tmp_path: Path) -> Path:
    """A saved model to write into."""
    return Path(shutil.copytree(saved_folder, tmp_path / "model"))


@pytest.fixture
def pickled(folder: Path, mark: Path) -> Path:
    """The same with weights that are a pickle with a payload."""
    state = SentenceTransformer(folder, device="cpu")[0].auto_model.state_dict()
    torch.save({**state, "payload": Payload(mark)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("name", ["model_args", "model_kwargs"])
@pytest.mark.parametrize("more", [{}, {"dtype": "auto"}, {"use_safetensors": False}])
def test_a_pickle_does_not_run_because_the_folder_asks_for_it(
    pickled: Path, mark: Path, name: str, more: Mapping[str, Any]
) -> None:
    change(pickled / "config.json", without=("dtype", "torch_dtype"))
    change(pickled / "sentence_bert_config.json", **{name: {"weights_only": False, **more}})
    with pytest.raises(
        ValueError, match=r"sentence_bert_config\.json asks .*`weights_only=False`.*may not decide"
    ):
        SentenceTransformer(pickled, device="cpu")
    assert not mark.exists()


def test_a_pickle_does_not_run_in_a_trusted_folder_either(pickled: Path, mark: Path) -> None:
    change(pickled / "config.json", without=("dtype", "torch_dtype"))
    change(pickled / "sentence_bert_config.json", model_args={"weights_only": False})
    with pytest.raises(Exception, match=r"(?i)weights.only|pickle"):
        SentenceTransformer(pickled, device="cpu", trust_remote_code=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("model_args", "attn_implementation", "somebody/attention"),
        ("model_args", "allow_all_kernels", True),
        ("model_args", "use_kernels", True),
        ("model_args", "gguf_file", "model.gguf"),
        ("model_args", "subfolder", "../elsewhere"),
        ("model_args", "adapter_kwargs", {"path": "/tmp"}),
        ("model_args", "quantization_config", {"quant_method": "any"}),
        ("model_args", "dtype", {"": "float32"}),
        ("tokenizer_args", "tokenizer_file", "/etc/passwd"),
        ("tokenizer_args", "cache_dir", "/tmp"),
        ("processor_kwargs", "vocab_file", "../vocab.txt"),
        ("config_args", "auto_map", {"AutoModel": "own.Model"}),
        ("config_args", "attn_implementation", "somebody/attention"),
        ("config_kwargs", "_configuration_file", "../config.json"),
    ],
)
def test_an_argument_that_a_folder_may_not_decide_is_named(
    folder: Path, name: str, argument: str, value: Any
) -> None:
    change(folder / "sentence_bert_config.json", **{name: {argument: value}})
    with pytest.raises(ValueError, match=rf"sentence_bert_config\.json asks .*`{argument}=.*may not decide"):
        SentenceTransformer(folder, device="cpu")


def test_harmless_arguments_of_a_folder_count(folder: Path) -> None:
    change(
        folder / "sentence_bert_config.json",
        model_args={"torch_dtype": "float16", "trust_remote_code": True, "attn_implementation": "eager"},
        tokenizer_args={"padding_side": "left"},
        config_args={"output_hidden_states": True},
    )
    model = SentenceTransformer(folder, device="cpu")
    assert model.dtype == torch.float16
    assert model.tokenizer.padding_side == "left"
    assert model[0].config.output_hidden_states


def test_the_lists_of_harmless_arguments_hold_no_path_and_no_switch_for_code() -> None:
    everything = set().union(*ALLOWED.values())
    parts = (
        "file",
        "folder",
        "path",
        "trust",
        "kernel",
        "revision",
        "map",
        "weights_only",
        "cache_dir",
        "adapter",
    )
    assert not [name for name in everything for part in parts if part in name]


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_configuration_that_names_attention_from_elsewhere_is_refused(folder: Path, key: str) -> None:
    change(folder / "config.json", **{key: "somebody/attention:flash"})
    with pytest.raises(ValueError, match="asks for the attention 'somebody/attention:flash'"):
        SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize("path", ["../other.safetensors", "/tmp/other.safetensors", "..\\other.safetensors"])
def test_a_configuration_that_names_weights_elsewhere_is_refused(folder: Path, path: str) -> None:
    change(folder / "config.json", transformers_weights=path)
    with pytest.raises(ValueError, match=r"names the weights .* outside of its folder"):
        SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize("path", ["../other.safetensors", "/tmp/other.safetensors", "..\\other.safetensors"])
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_a_list_of_weights_that_leads_out_of_the_folder_is_refused(
    folder: Path, index: str, path: str
) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    change(folder / index, metadata={}, weight_map=dict.fromkeys(weights, path))
    with pytest.raises(ValueError, match=rf"{index} names the weights .* outside of its folder"):
        SentenceTransformer(folder, device="cpu")


def test_weights_in_several_files_of_the_folder_are_read(folder: Path) -> None:
    expected = SentenceTransformer(folder, device="cpu").encode(["a cat"])
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    change(
        folder / "model.safetensors.index.json",
        metadata={},
        weight_map=dict.fromkeys(weights, "model-00001-of-00001.safetensors"),
    )
    np.testing.assert_array_equal(SentenceTransformer(folder, device="cpu").encode(["a cat"]), expected)


def test_a_damaged_list_of_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    change(folder / "model.safetensors.index.json", metadata={}, weight_map=["model.safetensors"])
    with pytest.raises(ValueError, match=r"index\.json should name the file of each weight"):
        SentenceTransformer(folder, device="cpu")


def test_a_configuration_with_code_is_refused_without_a_question(folder: Path, mark: Path) -> None:
    code = f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig\nclass Own(BertConfig): model_type = 'own'\n"
    (folder / "own.py").write_text(code)
    change(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    )
    for load in (lambda: SentenceTransformer(folder, device="cpu"), lambda: Transformer(str(folder))):
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            load()
    assert not mark.exists()


def test_a_tokenizer_with_code_is_refused_or_left_aside(folder: Path, mark: Path) -> None:
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Own",
        auto_map={"AutoTokenizer": ["own.Own", "own.Own"]},
    )
    SentenceTransformer(
        folder, device="cpu"
    )  # a class of that name is not known: the usual one takes its place
    assert not mark.exists()


def test_an_activation_that_is_a_module_of_the_folder_is_not_imported(
    folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "evil_activation.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(folder)
    change(folder / "2_Dense" / "config.json", activation_function="evil_activation.Own")
    with pytest.raises(ValueError, match="not part of torch"):
        SentenceTransformer(folder, device="cpu")
    assert not mark.exists()


# Adapters


@pytest.fixture
def adapter(plain_folder: Path, tmp_path: Path) -> Path:
    """A saved adapter."""
    model = SentenceTransformer(plain_folder, device="cpu")
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    model.save_pretrained(tmp_path / "adapter", create_model_card=False)
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    "settings",
    [
        {"megatron_config": {"hidden_size": 1}, "megatron_core": "evil_module"},
        {"peft_type": "XLORA", "adapters": {"0": "../elsewhere"}},
    ],
)
def test_an_adapter_that_names_code_or_other_adapters_is_refused(
    adapter: Path,
    plain_folder: Path,
    mark: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Mapping[str, Any],
) -> None:
    (adapter / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(adapter)
    change(adapter / "adapter_config.json", **settings)
    plain = SentenceTransformer(plain_folder, device="cpu")
    for load in (
        lambda: SentenceTransformer(adapter, device="cpu"),
        lambda: Transformer(str(adapter)),
        lambda: plain.load_adapter(adapter),
    ):
        with pytest.raises(ValueError, match="peft would load code or adapters"):
            load()
    assert not mark.exists()


def test_an_adapter_inside_the_base_of_an_adapter_is_looked_at_too(
    adapter: Path, plain_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(plain_folder, tmp_path / "base")
    shutil.copy(adapter / "adapter_config.json", base)
    change(base / "adapter_config.json", megatron_config={"hidden_size": 1}, megatron_core="evil_module")
    change(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    with pytest.raises(ValueError, match="peft would load code or adapters"):
        SentenceTransformer(adapter, device="cpu")


def test_pickled_adapter_weights_do_not_run(adapter: Path, mark: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"payload": Payload(mark)}, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match="cannot be put on"):
        SentenceTransformer(adapter, device="cpu")
    assert not mark.exists()


# Checkpoints


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"]
)
def test_nothing_pickled_in_a_checkpoint_runs_on_resume(
    plain_folder: Path, tmp_path: Path, mark: Path, name: str
) -> None:
    texts = sentences(16)
    rows = Dataset.from_dict({"a": texts[:8], "b": texts[8:]})

    def trainer(steps: int) -> SentenceTransformerTrainer:
        model = SentenceTransformer(plain_folder, device="cpu")
        arguments = SentenceTransformerTrainingArguments(
            str(tmp_path / "run"), per_device_train_batch_size=4, max_steps=steps, save_steps=1, report_to="none",
            use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        loss = losses.MultipleNegativesRankingLoss(model)
        return SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=loss)

    trainer(1).train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    torch.save({"payload": Payload(mark)}, checkpoint / name)
    if name == "pytorch_model.bin":
        (checkpoint / "model.safetensors").unlink()
    if name == "training_args.bin":
        trainer(2).train(resume_from_checkpoint=str(checkpoint))  # nobody reads it
    else:
        with pytest.raises(Exception, match=r"(?i)weights.only|pickle"):
            trainer(2).train(resume_from_checkpoint=str(checkpoint))
    assert not mark.exists()
