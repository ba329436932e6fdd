"""Calls of several threads that meet a busy processor are one batch; each gets its own rows, and its own error."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model

from likewise.engine import TokenSequences
from likewise.model import shared_batches
from likewise.model.shared_batches import SharedBatches

CPU = torch.device("cpu")


class Model:
    """Gives each sequence its first token and its length; the first batch lasts until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.starts, self.goes_on = Event(), Event()

    def __call__(self, sequences: TokenSequences) -> dict[str, Any]:
        first = sequences.input_ids[sequences.offsets[:-1]].tolist()
        self.batches.append(first)
        if len(self.batches) == 1:
            self.starts.set()
            assert self.goes_on.wait(30)
        if 13 in first:
            raise ValueError(f"13 among {len(first)}")
        rows = torch.tensor([first, sequences.lengths.tolist()]).T
        return {
            "sentence_embedding": rows,
            "by token": torch.zeros(len(sequences.input_ids) + 100),
            "number": torch.tensor(1),
        }


def of(*first: int, length: int = 3) -> TokenSequences:
    """Sequences of one length, by their first tokens."""
    return TokenSequences.from_lists([[each] * length for each in first])


Submit = Callable[..., "Future[Any]"]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> SharedBatches:
    """Where one batch is computed at once."""
    monkeypatch.setattr(shared_batches, "_places", lambda device: 1)
    return SharedBatches()


@pytest.fixture
def submit(model: Model, batches: SharedBatches) -> Iterator[Submit]:
    """Calls by threads of their own, one behind the other."""
    with ThreadPoolExecutor(8) as pool:

        def submit(sequences: TokenSequences, way: Any = (), room: int = 100) -> Future[Any]:
            waiting, is_first = len(batches._waiting), not model.starts.is_set()
            future = pool.submit(batches.features, sequences, (way,), room, model, CPU)
            if is_first:
                assert model.starts.wait(30)
            else:
                while len(batches._waiting) == waiting and not model.goes_on.is_set():
                    time.sleep(1e-3)
            return future

        yield submit
        model.goes_on.set()
    assert (batches._running, batches._waiting) == (0, [])


def rows(future: Future[Any]) -> list[list[int]]:
    found: list[list[int]] = future.result(30)["sentence_embedding"].tolist()
    return found


def test_those_that_wait_are_one_batch(model: Model, submit: Submit) -> None:
    futures = [submit(of(1)), submit(of(2, 3)), submit(of(4, length=5)), submit(of(5))]
    model.goes_on.set()
    assert list(map(rows, futures)) == [[[1, 3]], [[2, 3], [3, 3]], [[4, 5]], [[5, 3]]]
    assert model.batches == [[1], [2, 3, 4, 5]]
    assert "by token" in futures[0].result()
    assert "by token" not in futures[1].result()


def test_only_calls_of_one_way_that_fit_share_a_batch(model: Model, submit: Submit) -> None:
    futures = [
        submit(of(1)), submit(of(2), room=6), submit(of(3), "query"), submit(of(4), room=6), submit(of(5), room=6),
        submit(of(6), "query"),
    ]  # fmt: skip
    model.goes_on.set()
    assert list(map(rows, futures)) == [[[number, 3]] for number in range(1, 7)]
    assert model.batches == [[1], [2, 4], [3, 6], [5]]


def test_an_error_is_that_of_its_own_call(model: Model, submit: Submit) -> None:
    futures = [submit(of(1)), submit(of(2)), submit(of(13)), submit(of(4))]
    model.goes_on.set()
    assert list(map(rows, (futures[1], futures[3]))) == [[[2, 3]], [[4, 3]]]
    with pytest.raises(ValueError, match="13 among 1"):
        futures[2].result(30)
    assert model.batches[1] == [2, 13, 4]


def test_a_thread_that_is_interrupted_while_it_waits_holds_nobody_up(
    model: Model, batches: SharedBatches, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(of(1))

    class Interrupted(Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    made = shared_batches._Call
    monkeypatch.setattr(shared_batches, "_Call", lambda *args: made(*args, woken=Interrupted()))
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(batches.features, of(2), ((),), 100, model, CPU)
        assert isinstance(stopped.exception(30), KeyboardInterrupt)
    monkeypatch.setattr(shared_batches, "_Call", made)
    last = submit(of(3))
    model.goes_on.set()
    assert (rows(first), rows(last)) == ([[1, 3]], [[3, 3]])
    assert model.batches == [[1], [3]]


def test_who_embeds_while_it_computes_does_not_wait_for_itself(model: Model, batches: SharedBatches) -> None:
    model.goes_on.set()

    def compute(sequences: TokenSequences) -> dict[str, Any]:
        return batches.features(of(2), (), 100, model, CPU) | {"outer": len(sequences)}

    found = batches.features(of(1), (), 100, compute, CPU)
    assert (found["sentence_embedding"].tolist(), found["outer"]) == ([[2, 3]], 1)


def test_two_models_that_embed_by_each_other_do_not_wait_for_one_another(batches: SharedBatches) -> None:
    others, both = SharedBatches(), threading.Barrier(2)

    def embeds_by(inner: SharedBatches) -> Any:
        def compute(sequences: TokenSequences) -> dict[str, Any]:
            both.wait(30)
            return inner.features(sequences, (), 100, lambda own: {"rows": torch.zeros(len(own))}, CPU)

        return compute

    with ThreadPoolExecutor(2) as pool:
        pairs = (batches, others), (others, batches)
        futures = [pool.submit(a.features, of(1), (), 100, embeds_by(b), CPU) for a, b in pairs]
        assert [len(future.result(30)["rows"]) for future in futures] == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_process_nothing_is_under_way(batches: SharedBatches) -> None:
    batches._running = 1
    batches._waiting.append(shared_batches._Call(of(1), ()))
    with batches._lock:
        pid = os.fork()
        if not pid:
            computed = batches.features(of(2), (), 100, lambda own: {"rows": len(own)}, CPU)
            os._exit(0 if computed == {"rows": 1} else 1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(pid, signal.SIGKILL)
    assert ended == (pid, 0)


def test_a_copy_starts_anew() -> None:
    batches = SharedBatches()
    batches._running = 1
    for copied in (copy.deepcopy(batches), pickle.loads(pickle.dumps(batches))):
        assert (copied._running, copied._waiting) == (0, [])


def test_there_are_as_many_places_as_torchs_threads_fit_into_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_batches.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    found = []
    for threads in (1, 3, 8, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(shared_batches._places(CPU))
    assert found == [8, 2, 1, 1]
    assert shared_batches._places(torch.device("cuda")) == 1


def test_models_share_batches_whatever_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_batches, "_places", lambda device: 1)
    model, texts = small_model(tmp_path), sentences(40)
    options: list[dict[str, Any]] = [
        {}, {"prompt": "the old man "}, {"normalize_embeddings": True}, {"truncate_dim": 7}, {"precision": "float16"},
    ]  # fmt: skip
    expected = [[model.encode(text, **each) for text in texts] for each in options]
    sizes: list[int] = []
    pack = TokenSequences.pack
    monkeypatch.setattr(TokenSequences, "pack", lambda self: sizes.append(len(self)) or pack(self))
    with ThreadPoolExecutor(8) as pool:
        jobs = [(i, each) for i in range(len(texts)) for each in range(len(options))]
        found = list(pool.map(lambda job: model.encode(texts[job[0]], **options[job[1]]), jobs))
    for (i, each), embedding in zip(jobs, found, strict=True):
        assert embedding.dtype == expected[each][i].dtype
        np.testing.assert_allclose(embedding, expected[each][i], atol=1e-3 if each == 4 else 1e-5)
    assert sum(sizes) == len(jobs)
    assert max(sizes) > 1
