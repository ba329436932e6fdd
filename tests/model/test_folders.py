"""Folders are exchanged with the reference in both directions, and every older form of them is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.sentence_transformer import modules as reference_models
from small import sentences
from torch import nn

from likewise import SentenceTransformer
from likewise.models import Dense, Dropout, LayerNorm, Normalize, Pooling, Transformer

TEXTS = sentences(12, seed=1)


def edit(path: Path, **changes: Any) -> None:
    """Change settings in a JSON file; None removes one."""
    settings = json.loads(path.read_text()) if path.exists() else {}
    settings |= changes
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def test_a_saved_model_comes_back_with_all_its_settings(plain_folder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(
        str(plain_folder),
        device="cpu",
        prompts={"query": "find: ", "task": "solve: "},
        default_prompt_name="task",
        similarity_fn_name="dot",
        truncate_dim=20,
    )
    model.max_seq_length = 17
    model.save_pretrained(tmp_path / "model")
    again = SentenceTransformer(tmp_path / "model", device="cpu")
    assert again.prompts == {"query": "find: ", "document": "", "task": "solve: "}
    assert (again.default_prompt_name, again.similarity_fn_name) == ("task", "dot")
    assert (again.truncate_dim, again.max_seq_length) == (20, 17)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


MODULES = {
    "pooling": lambda m: [m.Pooling(32, "cls")],
    "two modes": lambda m: [m.Pooling(32, ["mean", "max"])],
    "no prompt": lambda m: [m.Pooling(32, "mean", include_prompt=False)],
    "normalize": lambda m: [m.Pooling(32), m.Normalize()],
    "dense": lambda m: [m.Pooling(32), m.Dense(32, 8, activation_function=nn.ReLU())],
    "identity dense": lambda m: [
        m.Pooling(32),
        m.Dense(32, 8, bias=False, activation_function=nn.Identity()),
    ],
    "layer norm": lambda m: [m.Pooling(32), m.LayerNorm(32)],
    "dropout": lambda m: [m.Pooling(32), m.Dropout(0.3)],
}


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_written_here_loads_in_the_reference(
    name: str, safe: bool, plain_folder: Path, tmp_path: Path
) -> None:
    import likewise.models as ours

    modules = [Transformer(str(plain_folder)), *MODULES[name](ours)]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find: "})
    model.save(tmp_path / "model", safe_serialization=safe)
    assert bool(list((tmp_path / "model").rglob("*.safetensors"))) == safe
    reference = Reference(str(tmp_path / "model"), device="cpu")
    assert reference.prompts == model.prompts
    np.testing.assert_allclose(model.encode(TEXTS), reference.encode(TEXTS), atol=2e-6)
    again = SentenceTransformer(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("name", MODULES)
def test_what_the_reference_writes_loads_here(name: str, plain_folder: Path, tmp_path: Path) -> None:
    modules = [reference_models.Transformer(str(plain_folder)), *MODULES[name](reference_models)]
    reference = Reference(modules=modules, device="cpu", prompts={"query": "find: "})
    reference.save_pretrained(str(tmp_path / "model"))
    model = SentenceTransformer(tmp_path / "model", device="cpu")
    assert model.prompts == reference.prompts
    assert model.get_sentence_embedding_dimension() == reference.get_embedding_dimension()
    np.testing.assert_allclose(
        model.encode(TEXTS, prompt_name="query"), reference.encode(TEXTS, prompt_name="query"), atol=2e-6
    )


def test_a_plain_transformers_model_gets_mean_pooling(plain_folder: Path) -> None:
    model = SentenceTransformer(plain_folder, device="cpu")
    assert [type(module) for module in model] == [Transformer, Pooling]
    reference = Reference(str(plain_folder), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), reference.encode(TEXTS), atol=2e-6)


# Every older form of a folder


@pytest.mark.parametrize(
    "name",
    [
        "sentence_bert_config.json",
        "sentence_roberta_config.json",
        "sentence_distilbert_config.json",
        "sentence_camembert_config.json",
        "sentence_albert_config.json",
        "sentence_xlm-roberta_config.json",
        "sentence_xlnet_config.json",
    ],
)
def test_all_seven_names_of_the_settings_file_are_read(name: str, saved_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(saved_folder, tmp_path)
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    model = SentenceTransformer(folder, device="cpu")
    assert model.max_seq_length == 9
    assert model[0].do_lower_case


def test_the_layout_of_the_first_releases_with_a_folder_for_the_transformer_is_read(
    saved_folder: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved_folder, tmp_path)
    sub = folder / "0_Transformer"
    sub.mkdir()
    for file in list(folder.iterdir()):
        if file.is_file() and file.name not in (
            "modules.json",
            "config_sentence_transformers.json",
            "README.md",
        ):
            shutil.move(file, sub / file.name)
    listing = json.loads((folder / "modules.json").read_text())
    listing[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "config_sentence_transformers.json").unlink()
    model = SentenceTransformer(folder, device="cpu")
    expected = SentenceTransformer(saved_folder, device="cpu").encode(TEXTS)
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    assert model.prompts == {"query": "", "document": ""}


@pytest.mark.parametrize(
    "package", ["sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"]
)
def test_the_class_paths_of_all_releases_are_known(package: str, saved_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(saved_folder, tmp_path)
    listing = json.loads((folder / "modules.json").read_text())
    for entry in listing:
        entry["type"] = f"{package}.{entry['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(listing))
    model = SentenceTransformer(folder, device="cpu")
    assert [type(module) for module in model] == [Transformer, Pooling, Dense]


def test_the_newest_settings_of_a_transformer_are_read(saved_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(saved_folder, tmp_path)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps(
            {
                "transformer_task": "feature-extraction",
                "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
                "module_output_name": "token_embeddings",
                "processor_kwargs": {"model_max_length": 11},
            }
        )
    )
    assert SentenceTransformer(folder, device="cpu").max_seq_length == 11


def test_the_newer_settings_of_pooling_are_read(saved_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(saved_folder, tmp_path)
    config = {"embedding_dimension": 32, "pooling_mode": "max", "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    pooling = SentenceTransformer(folder, device="cpu")[1]
    assert isinstance(pooling, Pooling)
    assert pooling.pooling_mode == "max"
    assert not pooling.include_prompt


def test_unset_prompts_and_similarity_of_newer_settings_are_the_usual_ones(
    saved_folder: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved_folder, tmp_path)
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": null}, "default_prompt_name": null, "similarity_fn_name": null}'
    )
    model = SentenceTransformer(folder, device="cpu")
    assert model.prompts == {"query": "", "document": ""}
    assert model.similarity_fn_name == "cosine"


def test_a_normalize_without_a_folder_is_read(plain_folder: Path, tmp_path: Path) -> None:
    modules = [Transformer(str(plain_folder)), Pooling(32), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "2_Normalize")
    model = SentenceTransformer(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(np.linalg.norm(model.encode(TEXTS), axis=1), 1, rtol=1e-6)


def test_modules_by_name_keep_their_names(plain_folder: Path, tmp_path: Path) -> None:
    from collections import OrderedDict

    modules: OrderedDict[str, nn.Module] = OrderedDict(
        words=Transformer(str(plain_folder)), pool=Pooling(32), norm=LayerNorm(32), drop=Dropout(0.1)
    )
    SentenceTransformer(modules=modules, device="cpu").save(tmp_path / "model")
    again = SentenceTransformer(tmp_path / "model", device="cpu")
    assert [name for name, _ in again.named_children()] == list(modules)


def test_half_precision_is_taken_by_every_module(saved_folder: Path) -> None:
    model = SentenceTransformer(saved_folder, device="cpu", model_kwargs={"torch_dtype": torch.bfloat16})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    expected = SentenceTransformer(saved_folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=0.05)


def test_a_bare_name_and_an_organisations_name_are_found_in_the_cache(
    saved_folder: Path, tmp_path: Path
) -> None:
    for name in ("sentence-transformers/small", "someone/other"):
        cached = tmp_path / f"models--{name.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("abc123")
        shutil.copytree(saved_folder, cached / "snapshots" / "abc123")
    expected = SentenceTransformer(saved_folder, device="cpu").encode(TEXTS)
    for name in ("small", "sentence-transformers/small", "someone/other"):
        model = SentenceTransformer(name, device="cpu", cache_folder=str(tmp_path), local_files_only=True)
        np.testing.assert_array_equal(model.encode(TEXTS), expected)
