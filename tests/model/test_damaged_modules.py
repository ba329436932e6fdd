"""Every file of every kind of model cut, emptied, mistyped or replaced: one clear error, or the very same model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import WORDS, sentences, small_tokenizer

from likewise import SentenceTransformer, models

TEXTS = sentences(5)
D = 6


def word_model(*behind: Any) -> list[Any]:
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), D)).astype(np.float32)
    return [models.WordEmbeddings(models.WhitespaceTokenizer(WORDS, ()), vectors), *behind, models.Pooling(D)]


def static() -> Any:
    return models.StaticEmbedding(small_tokenizer(), torch.randn(len(small_tokenizer()), D))


STACKS: dict[str, Callable[[], list[Any]]] = {
    "static": lambda: [static(), models.LayerNorm(D), models.Normalize()],
    "words": lambda: word_model(
        models.WordWeights(WORDS, {"cat": 2.0}), models.LSTM(D, 3), models.CNN(D, 2, [1, 3, 5])
    ),
    "bag": lambda: [models.BoW(WORDS, {"cat": 2.0}), models.Dense(len(WORDS), D), models.Dropout(0.1)],
    "router": lambda: [models.Router.for_query_document([static()], [static(), models.Dense(D, D)])],
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) * 2 // 3],
    "emptied": lambda content: b"",
    "mistyped": lambda content: b"[1, 2]",
    "replaced": lambda content: bytes(range(256)),
    "a number": lambda content: b"3",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    folders = {}
    for name, make in STACKS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        SentenceTransformer(modules=make(), device="cpu").save(folders[name], create_model_card=False)
    return folders


@pytest.mark.parametrize("stack", STACKS)
def test_each_damaged_file_gives_one_error_that_names_its_place(
    saved: dict[str, Path], stack: str, tmp_path: Path
) -> None:
    files = [path.relative_to(saved[stack]) for path in saved[stack].rglob("*") if path.is_file()]
    assert len(files) >= 4
    for number, (name, damage) in enumerate(
        (name, damage) for name in files for damage in [*DAMAGES, "gone"]
    ):
        folder = Path(shutil.copytree(saved[stack], tmp_path / str(number)))
        if damage == "gone":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(DAMAGES[damage]((folder / name).read_bytes()))
        if damage == "gone" and name.name == "config_sentence_transformers.json":  # may be missing
            expected = SentenceTransformer(saved[stack], device="cpu").encode(TEXTS)
            found = SentenceTransformer(folder, device="cpu").encode(TEXTS)
            np.testing.assert_array_equal(found, expected)
            continue
        with pytest.raises((ValueError, OSError), match=re.escape(str(folder))):
            SentenceTransformer(folder, device="cpu")


@pytest.mark.parametrize(
    ("stack", "file", "setting", "value"),
    [
        ("words", "lstm_config.json", "hidden_dim", "abc"),
        ("words", "lstm_config.json", "hidden_dim", 4),
        ("words", "lstm_config.json", "colour", "red"),
        ("words", "cnn_config.json", "kernel_sizes", [2]),
        ("words", "cnn_config.json", "out_channels", 5),
        ("words", "whitespacetokenizer_config.json", "vocab", [*WORDS, "more", "words"]),
        ("words", "whitespacetokenizer_config.json", "vocab", 3),
        ("words", "wordembedding_config.json", "tokenizer_class", "os.getcwd"),
        ("words", "wordembedding_config.json", "max_seq_length", "abc"),
        ("bag", "0_BoW/config.json", "vocab", 3),
        ("bag", "0_BoW/config.json", "word_weights", [1]),
        ("bag", "2_Dropout/config.json", "dropout", "abc"),
        ("static", "1_LayerNorm/config.json", "dimension", 7),
        ("router", "router_config.json", "structure", {"query": ["nothing"]}),
        ("router", "router_config.json", "types", {"query_0_StaticEmbedding": "os.getcwd"}),
        ("router", "router_config.json", "types", {"../outside": "sentence_transformers.models.Dense"}),
        ("router", "router_config.json", "parameters", {"default_route": "nothing"}),
        ("router", "router_config.json", "parameters", {"route_mappings": {"__import__('os')": "query"}}),
    ],
    ids=str,
)
def test_a_mistyped_setting_is_refused(
    saved: dict[str, Path], stack: str, file: str, setting: str, value: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved[stack], tmp_path / "model"))
    (path,) = folder.rglob(Path(file).name) if "/" not in file else [folder / file]
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises((ValueError, OSError)) as caught:
        SentenceTransformer(folder, device="cpu")
    assert str(folder) in str(caught.value)
