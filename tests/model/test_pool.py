"""Processes encode as one does, in order; one that dies or fails is reported with the texts it had."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model

from likewise import SentenceTransformer, losses
from likewise.model.pool import WorkerPool, _Worker
from likewise.models import Module, Pooling

TEXTS = [*sentences(23), ""]


class Deadly(Module):
    """Ends its process for a text with the word 'never', and fails for one with 'often'."""

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        ids = features["input_ids"].flatten().tolist()
        if 64 in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if 65 in ids:
            raise ArithmeticError("so often")
        return features


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path_factory.mktemp("model"))
    return made


@pytest.fixture(scope="module")
def pool(model: SentenceTransformer) -> Any:
    with WorkerPool(model, ["cpu", "cpu"]) as started:
        yield started


def test_processes_encode_as_one_does(model: SentenceTransformer, pool: WorkerPool) -> None:
    model.prompts["query"] = "a red "
    for options in (
        {},
        {"chunk_size": 5},
        {"prompt_name": "query", "normalize_embeddings": True, "truncate_dim": 7},
        {"precision": "float16"},
        {"precision": "ubinary"},
        {"convert_to_tensor": True},
        {"processing_kwargs": {"text": {"max_length": 4}}},
    ):
        found, expected = model.encode(TEXTS, pool=pool, **options), model.encode(TEXTS, **options)  # type: ignore[arg-type]
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(
            np.asarray(found),
            np.asarray(expected),
            atol=1e-3 if options == {"precision": "float16"} else 1e-6,
        )
    older = model.encode_multi_process(TEXTS, pool, chunk_size=7)
    np.testing.assert_allclose(older, model.encode(TEXTS), atol=1e-6)
    assert model.encode([], pool=pool).shape == (0,)
    assert model.encode(TEXTS[0], pool=pool).shape == (32,)
    for chunk_size in (0, -1, 2.5):
        with pytest.raises(
            ValueError, match=f"`chunk_size` must be a whole number of at least 1, but is {chunk_size}"
        ):
            model.encode(TEXTS, pool=pool, chunk_size=chunk_size)  # type: ignore[arg-type]


def test_ranges_of_quantised_embeddings_are_those_of_all_shards(
    model: SentenceTransformer, pool: WorkerPool
) -> None:
    texts = sentences(120)
    found = model.encode(texts, pool=pool, precision="int8", chunk_size=11)
    assert (found != model.encode(texts, precision="int8")).mean() < 0.01


def test_token_embeddings_come_from_processes_too(model: SentenceTransformer, pool: WorkerPool) -> None:
    found = model.encode(TEXTS, pool=pool, output_value="token_embeddings", chunk_size=5)
    expected = model.encode(TEXTS, output_value="token_embeddings")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_processes_read_texts_as_processing_kwargs_say(model: SentenceTransformer, pool: WorkerPool) -> None:
    given: Any = {"processing_kwargs": {"text": {"max_length": 4}}}
    found = model.encode(TEXTS, pool=pool, **given)
    np.testing.assert_allclose(found, model.encode(TEXTS, **given), atol=1e-6)
    assert not np.allclose(found, model.encode(TEXTS), atol=1e-3)


def test_progress_is_told_shard_by_shard(model: SentenceTransformer, pool: WorkerPool) -> None:
    told: list[int] = []
    pool.map(TEXTS, {"convert_to_tensor": True}, 5, told.append)
    assert sum(told) == len(TEXTS)
    assert len(told) == 5


@pytest.mark.slow
def test_a_list_of_devices_starts_and_stops_processes(model: SentenceTransformer) -> None:
    found = model.encode(TEXTS, device=["cpu"])
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-6)


def deadly(model: SentenceTransformer) -> SentenceTransformer:
    return SentenceTransformer(modules=[model[0], Pooling(32), Deadly()], device="cpu")


@pytest.mark.slow
def test_a_process_that_fails_or_dies_is_reported_with_the_texts_it_had(model: SentenceTransformer) -> None:
    texts = ["a cat", "a dog", "the old ship", "rain", "a red house", "sun", "a child runs", "snow"]
    doomed = deadly(model)
    pool = doomed.start_multi_process_pool(["cpu", "cpu"])
    failing = [*texts[:5], "often", *texts[6:]]
    with pytest.raises(
        RuntimeError, match=r"(?s)texts 4 to 5 failed in the process on cpu:.*ArithmeticError: so often"
    ):
        doomed.encode(failing, pool=pool, chunk_size=2)
    found = doomed.encode(texts, pool=pool, chunk_size=2)  # the pool goes on, and owes nobody anything
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-6)
    deadly_texts = [*texts[:5], "never", *texts[6:]]
    with pytest.raises(
        RuntimeError, match=r"process on cpu \(pid \d+\) died with exit code -9 while it had the texts 4 to 5"
    ):
        doomed.encode(deadly_texts, pool=pool, chunk_size=2)
    with pytest.raises(RuntimeError, match="pool has been stopped"):
        doomed.encode(texts, pool=pool)
    SentenceTransformer.stop_multi_process_pool(pool)


def test_a_bad_text_is_refused_before_anything_is_sent(
    model: SentenceTransformer, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = _Worker.send
    with monkeypatch.context() as patch:
        patch.setattr(_Worker, "send", lambda self, *rest: (sent.append(rest[1]), send(self, *rest))[1])
        with pytest.raises(TypeError, match="Text 22 is None"):
            model.encode([*TEXTS[:22], None, "a cat"], pool=pool, chunk_size=3)  # type: ignore[list-item]
    assert not sent
    np.testing.assert_allclose(model.encode(TEXTS, pool=pool), model.encode(TEXTS), atol=1e-6)


def test_what_cannot_be_sent_leaves_no_process_with_half_a_call(model: SentenceTransformer) -> None:
    with WorkerPool(model, ["cpu"]) as started:
        with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
            started.map(TEXTS, {"prompt": lambda: None}, 3, lambda done: None)
        assert started.closed


def test_threads_that_share_a_pool_get_their_own_embeddings(
    model: SentenceTransformer, pool: WorkerPool
) -> None:
    texts = sentences(48, seed=5)
    expected = model.encode(texts)

    def work(number: int) -> float:
        own = slice(number * 8, number * 8 + 8)
        found = [model.encode(texts[own], pool=pool, chunk_size=3) for _ in range(3)]
        return max(float(np.abs(each - expected[own]).max()) for each in found)

    with ThreadPoolExecutor(6) as threads:
        assert max(threads.map(work, range(6))) < 1e-6


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so_and_leaves_no_process(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    model.save(str(tmp_path / "model"), create_model_card=False)
    script = tmp_path / "script.py"
    script.write_text(
        "from likewise import SentenceTransformer\n"
        f"model = SentenceTransformer({str(tmp_path / 'model')!r}, device='cpu')\n"
        "pool = model.start_multi_process_pool(['cpu', 'cpu'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "must guard its work with `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


def test_the_words_that_end_a_process_are_the_ones_meant(model: SentenceTransformer) -> None:
    ids = [model.tokenizer.convert_tokens_to_ids(word) for word in ("never", "often")]
    assert ids == [64, 65]


# Output to a file


def test_embeddings_go_to_a_file_and_a_stopped_run_goes_on(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.model.inference.WINDOW", 5)
    path = tmp_path / "deep" / "vectors.npy"
    written = 0
    forward = SentenceTransformer.forward

    def stops(self: Any, features: Any, **kwargs: Any) -> Any:
        nonlocal written
        written += len(features["input_ids"])
        if written > 12:
            raise KeyboardInterrupt
        return forward(self, features, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "forward", stops)
    with pytest.raises(KeyboardInterrupt):
        model.encode(TEXTS, out=path)
    counted: list[int] = []
    monkeypatch.setattr(
        SentenceTransformer,
        "forward",
        lambda self, features, **kwargs: (
            counted.append(len(features["input_ids"])),
            forward(self, features),
        )[1],
    )
    found = model.encode(TEXTS, out=path)
    assert sum(counted) == len(TEXTS) - 10  # two windows were done
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-6)
    np.testing.assert_array_equal(np.load(path), found)
    counted.clear()
    np.testing.assert_array_equal(model.encode(TEXTS, out=path), found)
    assert not counted


def test_a_file_of_other_texts_settings_or_models_is_not_continued(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.npy"
    model.encode(TEXTS, out=path, precision="float16")
    assert np.load(path).dtype == np.float16
    half: dict[str, Any] = {"precision": "float16"}
    for texts, options, differs in (
        (TEXTS[1:], half, "texts"),
        (TEXTS, {}, "precision"),
        (TEXTS, half | {"prompt": "a "}, "prompt"),
        (
            TEXTS,
            half | {"normalize_embeddings": True, "truncate_dim": 8},
            "truncate_dim, normalize_embeddings",
        ),
    ):
        with pytest.raises(ValueError, match=f"settings: other {differs}. Delete it"):
            model.encode(texts, out=path, **options)
    model.encode(TEXTS, out=path, **half)
    model.prompts["unused"] = "z "  # what was not asked for makes no difference
    model.encode(TEXTS, out=path, **half)
    del model.prompts["unused"]


CHANGES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "another model": ("weights", lambda model: model[0].load_state_dict(other_weights())),
    "a weight, past torch's counter": ("weights", lambda model: next(model.parameters()).data[0].add_(1)),
    "the limit of tokens": ("tokenizer", lambda model: setattr(model, "max_seq_length", 5)),
    "the tokenizer": ("tokenizer", lambda model: model.tokenizer.add_tokens(["xyzzy"])),
    "pooling": ("modules", lambda model: setattr(model[1], "modes", ("cls",))),
    "a hook": ("modules", lambda model: model[0].register_forward_hook(lambda *call: None)),
    "the model's setting": ("truncate_dim", lambda model: setattr(model, "truncate_dim", 8)),
}


def other_weights() -> Any:
    with TemporaryDirectory() as folder:
        return small_model(folder, seed=1)[0].state_dict()


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_a_changed_model_would_fill_otherwise_is_not_continued(name: str, tmp_path: Path) -> None:
    model, (differs, change) = small_model(tmp_path), CHANGES[name]
    model.encode(TEXTS, out=tmp_path / "vectors.npy")
    change(model)
    with pytest.raises(ValueError, match=f"with this model and these settings: other {differs}"):
        model.encode(TEXTS, out=tmp_path / "vectors.npy")


def test_a_file_that_is_of_another_making_is_left_alone(model: SentenceTransformer, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not made of these texts"):
        model.encode(TEXTS, out=tmp_path / "mine.npy")


def test_what_cannot_go_to_a_file_is_refused(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes its ranges from all embeddings"):
        model.encode(TEXTS, out=tmp_path / "x.npy", precision="int8")
    with pytest.raises(ValueError, match="`out` is for sentence embeddings only"):
        model.encode(TEXTS, out=tmp_path / "x.npy", output_value="token_embeddings")
    assert model.encode([], out=tmp_path / "none.npy").shape == (0, 0)


# Out of memory


def test_a_batch_that_does_not_fit_is_halved_and_said(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = model.encode(TEXTS)
    forward, sizes = SentenceTransformer.forward, []

    def small_device(self: Any, features: Any, **kwargs: Any) -> Any:
        sizes.append(len(features["input_ids"]))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, features, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "forward", small_device)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert max(sizes) == len(TEXTS)
    assert "Memory ran out on a batch of 24 texts (CUDA out of memory)" in caplog.text


def test_other_errors_and_a_single_text_too_large_are_not_hidden(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> Any:
        def forward(self: Any, features: Any, **kwargs: Any) -> Any:
            raise error

        return forward

    monkeypatch.setattr(SentenceTransformer, "forward", fails(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        model.encode(TEXTS)
    monkeypatch.setattr(SentenceTransformer, "forward", fails(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        model.encode(TEXTS)


@pytest.mark.slow
def test_code_that_came_with_a_folder_runs_in_processes_too(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "own", create_model_card=False)
    (tmp_path / "own" / "mine.py").write_text(
        "from sentence_transformers.models import Module\n\n\nclass Twice(Module):\n"
        "    def forward(self, features, **kwargs):\n"
        "        return {**features, 'sentence_embedding': 2 * features['sentence_embedding']}\n\n"
        "    def save(self, *args, **kwargs):\n        pass\n\n"
        "    @classmethod\n    def load(cls, *args, **kwargs):\n        return cls()\n"
    )
    listing = json.loads((tmp_path / "own" / "modules.json").read_text())
    listing.append({"idx": len(listing), "name": "own", "path": "", "type": "mine.Twice"})
    (tmp_path / "own" / "modules.json").write_text(json.dumps(listing))
    own = SentenceTransformer(tmp_path / "own", device="cpu", trust_remote_code=True)
    with WorkerPool(own, ["cpu"]) as pool:
        np.testing.assert_allclose(own.encode(TEXTS, pool=pool), 2 * model.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("devices", "error", "message"),
    [
        ("cpu", ValueError, "are a list with one for each process, but are 'cpu'"),
        ([], ValueError, r"but are \[\]"),
        (["cpu", "gpu"], RuntimeError, "gpu"),
    ],
)
def test_devices_that_are_none_are_refused_before_a_process_is_started(
    model: SentenceTransformer, devices: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.start_multi_process_pool(devices)


def test_what_is_no_pool_is_not_stopped() -> None:
    for pool in ({}, None, "cpu"):
        with pytest.raises(
            TypeError, match=r"`pool` must be what `start_multi_process_pool\(\)` returns, but"
        ):
            SentenceTransformer.stop_multi_process_pool(pool)


def test_a_model_whose_hidden_states_were_captured_goes_to_processes(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    expected = model.encode(TEXTS[:4])
    texts = [model.tokenize(TEXTS[:4]), model.tokenize(TEXTS[3::-1])]
    loss = losses.AdaptiveLayerLoss(model, losses.MultipleNegativesRankingLoss(model))
    first = loss(texts).detach()
    with model.start_multi_process_pool(["cpu"]) as pool:
        np.testing.assert_allclose(model.encode(TEXTS[:4], pool=pool), expected, atol=1e-6)
    assert any(module._forward_hooks for module in model.modules())
    random.seed(0)
    again = loss(texts).detach()
    random.seed(0)
    assert torch.isfinite(first)
    assert torch.equal(loss(texts).detach(), again)
