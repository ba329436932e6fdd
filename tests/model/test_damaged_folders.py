"""A damaged or hostile folder gets one clear error: never a hang, never its code run, never a wrong model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from likewise import SentenceTransformer


@pytest.fixture
def folder(saved_folder: Path, tmp_path: Path) -> Path:
    """A saved model to damage."""
    return Path(shutil.copytree(saved_folder, tmp_path / "model"))


def listing(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    change(modules)
    (folder / "modules.json").write_text(json.dumps(modules))


def test_a_folder_that_is_no_model_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileNotFoundError, match=r"holds no model.*modules\.json.*found notes\.txt"):
        SentenceTransformer(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        SentenceTransformer(tmp_path / "nowhere")


def test_arguments_that_transformers_does_not_take_are_not_blamed_on_the_folder(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"argument 'foo'. Check what you passed in `model_kwargs`; else"):
        SentenceTransformer(folder, model_kwargs={"foo": 1}, trust_remote_code=True)
    with pytest.raises(TypeError, match="are dicts of arguments, but one is 'bfloat16'"):
        SentenceTransformer(folder, model_kwargs="bfloat16")  # type: ignore[arg-type]


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match="is a file"):
        SentenceTransformer(folder / "model.safetensors")


def test_what_is_no_name_and_what_is_no_evaluator_are_refused_in_words(folder: Path) -> None:
    model = SentenceTransformer(folder, trust_remote_code=True)
    for other, kind in ((model, "SentenceTransformer"), (list(model), "list"), (3, "int")):
        with pytest.raises(
            TypeError, match=f"by a name or a path, but got a {kind}\\. Modules go to `modules`"
        ):
            SentenceTransformer(other)  # type: ignore[arg-type]
    for given, shown in (([print], "a list"), ("dev", "'dev'")):
        with pytest.raises(TypeError, match=f"must be an evaluator; .* SequentialEvaluator, but is {shown}"):
            model.evaluate(given)


def test_an_unknown_name_offline_says_how_to_go_on() -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder 'nobody/nothing'.*spelling"):
        SentenceTransformer("nobody/nothing")


@pytest.mark.parametrize("path", ["../other", "/etc", "1_Pooling/../.."])
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    listing(folder, lambda modules: modules[1].update(path=path))
    with pytest.raises(ValueError, match=r"outside of the model's folder"):
        SentenceTransformer(folder)


def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "1_Pooling", tmp_path / "elsewhere")
    (folder / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"outside of the model's folder"):
        SentenceTransformer(folder)


def test_a_class_from_elsewhere_is_not_imported_untrusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Pooling: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    listing(folder, lambda modules: modules[1].update(type="evil_module.Pooling"))
    with pytest.raises(ValueError, match=r"evil_module\.Pooling.*trust_remote_code=True"):
        SentenceTransformer(folder)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_folder_runs_only_when_trusted(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from likewise.models import Pooling\n\nclass Mine(Pooling):\n    '''A pooling.'''\n"
    )
    listing(folder, lambda modules: modules[1].update(type="own.Mine"))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(folder)
    model = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    assert type(model[1]).__name__ == "Mine"


def test_pickled_code_in_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "ran"), "w")

    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save({"linear.weight": Evil()}, folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        SentenceTransformer(folder)
    assert not (tmp_path / "ran").exists()


def test_an_activation_from_elsewhere_is_refused(folder: Path) -> None:
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    for name in ("os.getcwd", "torch.hub.load", "torch.nn.Nothing", "torch.nn.functional.relu"):
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config | {"activation_function": name}))
        with pytest.raises(ValueError, match=f"activation '{name}'"):
            SentenceTransformer(folder)


def test_a_class_of_the_library_that_does_not_exist_is_named(folder: Path) -> None:
    listing(folder, lambda modules: modules[1].update(type="sentence_transformers.models.Polling"))
    with pytest.raises(ValueError, match=r"sentence_transformers\.models\.Polling"):
        SentenceTransformer(folder)


# Each file cut, emptied, mistyped or gone

FILES = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
)
MAY_BE_MISSING = {  # a default that every reader knows stands in
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) * 2 // 3],
    "empty": lambda content: b"",
    "a list": lambda content: b"[1, 2]",
    "random": lambda content: bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_gives_one_error_that_names_its_place(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises((ValueError, OSError)) as caught:
        SentenceTransformer(folder, device="cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_named_by_their_file(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read .* It may be cut short"):
        SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize("name", [name for name in FILES if name not in MAY_BE_MISSING])
def test_a_missing_file_gives_one_error_that_names_its_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    if name == "modules.json":
        pytest.skip("what is left is a plain transformers model")
    with pytest.raises((ValueError, OSError)) as caught:
        SentenceTransformer(folder, device="cpu")
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("sentence_bert_config.json", "max_seq_length", "abc"),
        ("sentence_bert_config.json", "max_seq_length", -1),
        ("1_Pooling/config.json", "word_embedding_dimension", "abc"),
        ("1_Pooling/config.json", "pooling_mode_mean_tokens", "yes"),
        ("1_Pooling/config.json", "colour", "red"),
        ("2_Dense/config.json", "in_features", 31),
        ("2_Dense/config.json", "out_features", "abc"),
        ("config.json", "hidden_size", 64),
        ("config.json", "model_type", "nothing"),
        ("config_sentence_transformers.json", "prompts", "query: "),
        ("config_sentence_transformers.json", "prompts", {"query": 3}),
        ("config_sentence_transformers.json", "default_prompt_name", "nothing"),
        ("config_sentence_transformers.json", "similarity_fn_name", "hamming"),
        ("config_sentence_transformers.json", "truncate_dim", "abc"),
    ],
)
def test_a_mistyped_setting_is_refused(folder: Path, name: str, setting: str, value: Any) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | {setting: value}))
    with pytest.raises((ValueError, OSError)):
        SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.b", r"modules\.json names a module 'a\.b'.*no dot"), ("0", r"modules\.json names two modules '0'")],
)
def test_names_by_which_no_model_can_hold_its_modules_are_refused(folder: Path, name: str, said: str) -> None:
    listing(folder, lambda modules: modules[1].update(name=name))
    with pytest.raises(ValueError, match=said):
        SentenceTransformer(folder)
