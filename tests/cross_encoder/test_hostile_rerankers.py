"""A reranker's folder that wants to run code, or to read elsewhere: nothing of it runs, and one sentence tells why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cross_common import reranker_folder
from hostile import Payload, change
from safetensors.torch import load_file

from likewise import CrossEncoder
from likewise.cross_encoder.modules import Transformer

SETTINGS = "sentence_bert_config.json"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that is there when code of the folder has run."""
    return tmp_path / "ran"


@pytest.fixture(params=["transformers", "modules"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A reranker in each of the two forms: a transformers folder, and one with modules.json."""
    plain = reranker_folder(tmp_path / "plain")
    if request.param == "transformers":
        return Path(plain)
    CrossEncoder(plain, device="cpu").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A reranker with modules.json and settings of its Transformer."""
    CrossEncoder(reranker_folder(tmp_path / "plain"), device="cpu").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def pickle_weights(folder: Path, mark: Path) -> None:
    """Weights that are a pickle with a payload, in place of the folder's."""
    torch.save(
        {**load_file(folder / "model.safetensors"), "payload": Payload(mark)}, folder / "pytorch_model.bin"
    )
    (folder / "model.safetensors").unlink()


def test_a_pickle_does_not_run(folder: Path, mark: Path) -> None:
    pickle_weights(folder, mark)
    change(folder / "config.json", without=("dtype", "torch_dtype"))
    with pytest.raises(Exception, match=r"(?i)weights.only|pickle"):
        CrossEncoder(folder, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model_args", "model_kwargs"])
def test_a_pickle_does_not_run_because_the_folder_asks_for_it(saved: Path, mark: Path, name: str) -> None:
    pickle_weights(saved, mark)
    change(saved / "config.json", without=("dtype", "torch_dtype"))
    change(saved / SETTINGS, **{name: {"weights_only": False, "dtype": "auto"}})
    with pytest.raises(ValueError, match=r"asks .*`weights_only=False`.*may not decide"):
        CrossEncoder(saved, device="cpu")
    with pytest.raises(Exception, match=r"(?i)weights.only|pickle"):
        CrossEncoder(saved, device="cpu", trust_remote_code=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("model_args", "attn_implementation", "somebody/attention"),
        ("model_kwargs", "allow_all_kernels", True),
        ("tokenizer_args", "tokenizer_file", "/etc/passwd"),
        ("processor_kwargs", "cache_dir", "/tmp"),
        ("config_args", "auto_map", {"AutoModel": "own.Model"}),
    ],
)
def test_an_argument_that_a_folder_may_not_decide_is_named(
    saved: Path, name: str, argument: str, value: Any
) -> None:
    change(saved / SETTINGS, **{name: {argument: value}})
    with pytest.raises(ValueError, match=rf"sentence_bert_config\.json asks .*`{argument}=.*may not decide"):
        CrossEncoder(saved, device="cpu")


def test_harmless_arguments_of_a_folder_count(saved: Path) -> None:
    change(saved / SETTINGS, model_args={"dtype": "float16"}, tokenizer_args={"padding_side": "left"})
    model = CrossEncoder(saved, device="cpu")
    assert model.dtype == torch.float16
    assert model.tokenizer.padding_side == "left"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_configuration_that_names_attention_from_elsewhere_is_refused(folder: Path, key: str) -> None:
    change(folder / "config.json", **{key: "somebody/attention:flash"})
    with pytest.raises(ValueError, match="asks for the attention 'somebody/attention:flash'"):
        CrossEncoder(folder, device="cpu")


@pytest.mark.parametrize("path", ["../other.safetensors", "/tmp/other.safetensors", "..\\other.safetensors"])
def test_weights_outside_of_the_folder_are_refused(folder: Path, path: str) -> None:
    change(folder / "config.json", transformers_weights=path)
    with pytest.raises(ValueError, match=r"names the weights .* outside of its folder"):
        CrossEncoder(folder, device="cpu")
    change(folder / "config.json", without=("transformers_weights",))
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    change(folder / "model.safetensors.index.json", metadata={}, weight_map=dict.fromkeys(names, path))
    with pytest.raises(ValueError, match=r"index\.json names the weights .* outside of its folder"):
        CrossEncoder(folder, device="cpu")


def test_code_in_the_folder_is_refused_without_a_question(folder: Path, mark: Path) -> None:
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    change(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    )
    for load in (lambda: CrossEncoder(folder, device="cpu"), lambda: Transformer(str(folder))):
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            load()
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["evil_activation.Own", "torch.distributed.run.main", "torch.nn.functional.relu", "torch.hub.load"],
)
def test_an_activation_that_is_no_module_of_torch_is_not_made(
    folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "evil_activation.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(folder)
    change(folder / "config.json", sentence_transformers={"activation_fn": name})
    if (folder / "modules.json").exists():
        change(folder / "config_sentence_transformers.json", activation_fn=name)
    if name.startswith("torch.nn."):
        with pytest.raises(ValueError, match=r"'torch\.nn\.functional\.relu'.* cannot be made"):
            CrossEncoder(folder, device="cpu")
    else:
        assert isinstance(CrossEncoder(folder, device="cpu").activation_fn, torch.nn.Sigmoid)
        assert f"The activation '{name}'" in caplog.text
    assert not mark.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"megatron_config": {"hidden_size": 1}, "megatron_core": "evil_module"},
        {"peft_type": "XLORA", "adapters": {"0": "../elsewhere"}},
    ],
)
def test_an_adapter_that_names_code_or_other_adapters_is_refused(
    folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any]
) -> None:
    (folder / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(folder)
    change(folder / "adapter_config.json", base_model_name_or_path=str(folder.parent / "plain"), **settings)
    with pytest.raises(ValueError, match="peft would load code or adapters"):
        CrossEncoder(folder, device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"[1, 2]", bytes(range(256))])
def test_damaged_weights_are_named_by_their_file(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read .* It may be cut short"):
        CrossEncoder(folder, device="cpu")
