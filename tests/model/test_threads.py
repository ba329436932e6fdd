"""Many threads use one model, its tokenizer and its modes at once; each gets what it would get alone."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model

from likewise import SentenceTransformer
from likewise.model.kept import written_whole

THREADS = 8
TEXTS = sentences(48, seed=3, longest=40)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What each of eight threads returns that start together."""
    barrier = threading.Barrier(THREADS)

    def started(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(started, range(THREADS)))


@pytest.fixture(autouse=True)
def _switch_often() -> Any:
    """Python's threads take turns a thousand times as often, so that what can go wrong does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def test_the_first_calls_of_a_fresh_model_agree(tmp_path: Path) -> None:
    expected = small_model(tmp_path).encode(TEXTS[:16])
    for _ in range(8):
        model = SentenceTransformer(str(tmp_path / "bert-0"), device="cpu")
        for found in at_once(lambda number, model=model: model.encode(TEXTS[:16])):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_calls_of_all_kinds_agree_with_those_of_one_thread(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    short = small_model(tmp_path, seed=1)
    short.max_seq_length = 6
    short.tokenizer = model.tokenizer  # one tokenizer, two limits
    options: list[dict[str, Any]] = [
        {"batch_size": 1},
        {"batch_size": 4, "prompt": "the old man sees "},
        {"batch_size": 32, "normalize_embeddings": True},
        {"batch_size": 32, "convert_to_tensor": True, "truncate_dim": 8},
    ]
    jobs = [
        (one, TEXTS[start : start + size], each)
        for one in (model, short)
        for start, size, each in zip((0, 7, 20, 31), (1, 17, 28, 3), options, strict=True)
    ]
    expected = [np.asarray(one.encode(texts, **each)) for one, texts, each in jobs]

    def work(number: int) -> float:
        worst = 0.0
        for turn in range(12):
            which = (number + 3 * turn) % len(jobs)
            one, texts, each = jobs[which]
            if number == 0:  # a server that also counts tokens, or pads them, by the same tokenizer
                model.tokenizer(TEXTS[:5], padding=bool(turn % 2), truncation=True, max_length=4 + turn)
            if turn % 4 == 1:
                with pytest.raises(TypeError, match="Text 1 is None"):
                    one.encode(["a cat", None])
            worst = max(worst, float(np.abs(np.asarray(one.encode(texts, **each)) - expected[which]).max()))
        return worst

    for _ in range(3):
        model.train()  # as training leaves it
        short.train()
        assert max(at_once(work)) < 1e-5


def test_an_encode_does_not_touch_the_settings_of_the_models_tokenizer(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    backend = model.tokenizer.backend_tokenizer
    backend.enable_padding(length=20)
    backend.enable_truncation(3)
    settings = backend.padding, backend.truncation
    expected = model.encode(TEXTS)
    assert (backend.padding, backend.truncation) == settings
    backend.no_padding()
    np.testing.assert_array_equal(model.encode(TEXTS), expected)


def test_a_tokenizer_that_is_changed_in_place_is_changed_for_encode(tmp_path: Path) -> None:
    from tokenizers import normalizers, processors

    model = small_model(tmp_path)
    model.encode("a cat")

    def lengths(text: str) -> list[int]:
        found: list[int] = model.token_sequences([text]).lengths.tolist()
        return found

    assert lengths("newword")[0] > 3
    model.tokenizer.add_tokens(["newword"])
    assert lengths("newword") == [3]
    model.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("a", "")
    assert lengths("cat a") == [4]
    model.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[("[SEP]", 3)]
    )
    assert lengths("newword") == [2]
    for text in ("a newword", "the dog [MASK] newword, today"):
        own = model.token_sequences([text]).input_ids.tolist()
        assert own == model.tokenizer(text)["input_ids"]


def test_a_tokenizer_with_gaps_in_its_added_ids_gives_its_own_ids(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    backend = model.tokenizer.backend_tokenizer
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    state = json.loads(backend.to_str())
    state["added_tokens"].append({"id": 500, "content": "far", **flags})
    model.tokenizer._tokenizer = type(backend).from_str(json.dumps(state))
    assert (
        model.token_sequences(["a far cat"]).input_ids.tolist() == model.tokenizer("a far cat")["input_ids"]
    )


def test_an_error_in_the_forward_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path)
    expected = model.encode(TEXTS)
    layer = model[0].auto_model.encoder.layer[1]

    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no power")

    monkeypatch.setattr(layer, "forward", fails)
    with pytest.raises(RuntimeError, match="no power"):
        model.encode(TEXTS)
    monkeypatch.undo()
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    assert not torch.is_inference_mode_enabled()


def test_threads_that_write_one_file_do_not_take_each_others_half(tmp_path: Path) -> None:
    path = tmp_path / "result"

    def write(text: str, before: Callable[[], None]) -> None:
        with written_whole(path) as aside:
            aside.write_text(text)
            before()

    def other() -> None:
        thread = threading.Thread(target=write, args=("second", lambda: None))
        thread.start()
        thread.join()
        assert path.read_text() == "second"

    write("first", other)
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
