"""`predict(out=...)` and `rank(out=...)` go on where they stopped; pairs may be given by ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import pairs_of_texts, reranker_folder

from likewise import CrossEncoder
from likewise.cross_encoder.given_pairs import PairsById

PAIRS = pairs_of_texts(23)
QUERIES = {"q1": "the cat sees the bird", "q2": "a dog", "unused": "snow"}
DOCUMENTS = ["the sun", "a dog sleeps in the house", "the old river"]
IDS = [("q1", 2), ("q2", 0), ("q1", 1), ("q1", 2), ("q2", 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder: str) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu")


def counting(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[int]:
    """How many pairs each batch has from now on; beyond `most` of them the run is stopped."""
    counted: list[int] = []
    forward = CrossEncoder.forward

    def counts(self: CrossEncoder, features: Any, **kwargs: Any) -> Any:
        number = len(features["input_ids"])
        if most is not None and sum(counted) + number > most:
            raise KeyboardInterrupt
        counted.append(number)
        return forward(self, features, **kwargs)

    monkeypatch.setattr(CrossEncoder, "forward", counts)
    return counted


def test_scores_go_to_a_file_and_a_stopped_run_goes_on(
    model: CrossEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.predict(PAIRS)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 5)
    path = tmp_path / "deep" / "scores.npy"
    with monkeypatch.context() as within:
        counting(within, most=12)
        with pytest.raises(KeyboardInterrupt):
            model.predict(PAIRS, out=path)
    counted = counting(monkeypatch)
    found = model.predict((pair for pair in PAIRS), out=path)
    assert sum(counted) == len(PAIRS) - 10  # two windows were done
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    counted.clear()
    again = model.predict([list(pair) for pair in PAIRS], out=path, convert_to_tensor=True)
    assert isinstance(again, torch.Tensor)
    np.testing.assert_array_equal(again, found)
    again.zero_()
    np.testing.assert_array_equal(np.load(path), found)
    assert not counted


def test_several_labels_are_rows_of_the_file(tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "model", num_labels=3), device="cpu")
    found = model.predict(PAIRS, apply_softmax=True, out=tmp_path / "scores.npy")
    np.testing.assert_allclose(found, model.predict(PAIRS, apply_softmax=True), rtol=1e-5)
    with pytest.raises(ValueError, match=r"other apply_softmax\. Delete it"):
        model.predict(PAIRS, out=tmp_path / "scores.npy")


def test_ranking_may_keep_its_scores(
    model: CrossEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [second for _, second in PAIRS]
    expected = model.rank("the cat", documents, out=tmp_path / "scores.npy")
    counted = counting(monkeypatch)
    assert model.rank("the cat", iter(documents), out=tmp_path / "scores.npy") == expected
    assert not counted
    np.testing.assert_allclose([one["score"] for one in model.rank("the cat", documents)], [one["score"] for one in expected], rtol=1e-5)  # fmt: skip


CHANGES: dict[str, tuple[str, Callable[[CrossEncoder], object]]] = {
    "a weight": ("weights", lambda model: next(model.parameters()).data[0].add_(1)),
    "the limit of tokens": ("tokenizer", lambda model: setattr(model, "max_seq_length", 9)),
    "what is cut": ("tokenizer", lambda model: setattr(model, "truncation", "only_second")),
    "lower case": ("tokenizer", lambda model: setattr(model[0].tokenization, "do_lower_case", True)),
    "the activation": ("modules, activation_fn", lambda model: setattr(model, "activation_fn", torch.nn.Tanh())),
    "its settings": (
        "activation_fn",
        lambda model: setattr(model, "activation_fn", torch.nn.Softplus(beta=2)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_a_changed_model_would_fill_otherwise_is_not_continued(
    name: str, model: CrossEncoder, tmp_path: Path
) -> None:
    differs, change = CHANGES[name]
    if name == "its settings":
        model.activation_fn = torch.nn.Softplus(beta=1)
    model.predict(PAIRS, out=tmp_path / "scores.npy")
    change(model)
    with pytest.raises(ValueError, match=f"with this model and these settings: other .*{differs}. Delete it"):
        model.predict(PAIRS, out=tmp_path / "scores.npy")


def test_a_file_of_other_pairs_or_settings_is_not_continued(model: CrossEncoder, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    model.predict(PAIRS, out=path)
    for pairs, options, differs in (
        (PAIRS[1:], {}, "texts"),
        ([(b, a) for a, b in PAIRS], {}, "texts"),
        (PAIRS, {"prompt": "a "}, "prompt"),
        (PAIRS, {"activation_fn": torch.nn.Identity()}, "activation_fn"),
    ):
        with pytest.raises(ValueError, match=f"settings: other {differs}. Delete it"):
            model.predict(pairs, out=path, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"is the function .*lambda.*, which goes by no name"):
        model.predict(PAIRS, out=path, activation_fn=lambda scores: scores)


def test_no_pairs_make_an_empty_file(model: CrossEncoder, tmp_path: Path) -> None:
    assert model.predict([], out=tmp_path / "none.npy").shape == (0,)
    assert model.predict([], out=tmp_path / "none.npy").shape == (0,)


def test_pairs_of_ids_are_scored_as_their_texts(
    model: CrossEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [(QUERIES[query], DOCUMENTS[document]) for query, document in IDS]
    expected = model.predict(texts)
    by_id: dict[str, Any] = {"queries": QUERIES, "documents": DOCUMENTS}
    np.testing.assert_array_equal(model.predict(IDS, **by_id), expected)
    np.testing.assert_array_equal(model.predict((pair for pair in IDS), **by_id), expected)
    numbered = np.array([(0, 2), (1, 0)])
    listed = model.predict(numbered, queries=[*QUERIES.values()], documents=DOCUMENTS)
    np.testing.assert_allclose(listed, expected[:2], rtol=1e-5)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 2)
    np.testing.assert_allclose(model.predict(IDS, **by_id, out=tmp_path / "scores.npy"), expected, rtol=1e-5)
    model.predict(texts, out=tmp_path / "scores.npy")  # the same pairs, by their texts
    assert model.predict([], **by_id).shape == (0,)


def test_texts_are_put_together_when_they_are_looked_at() -> None:
    pairs = PairsById(IDS, QUERIES, DOCUMENTS)
    assert len(pairs) == 5
    assert pairs[0] == (QUERIES["q1"], DOCUMENTS[2])
    assert pairs[0][0] is QUERIES["q1"]
    assert list(pairs[1:3]) == [pairs[1], pairs[2]]


@pytest.mark.parametrize(
    ("ids", "options", "error", "message"),
    [
        ([("q9", 0)], {}, ValueError, r"Pair 0 is \('q9', 0\), but `queries` has no 'q9'"),
        ([("q1", 0), ("q1", 3)], {}, ValueError, r"Pair 1 is \('q1', 3\), but `documents` has no 3"),
        ([("q1", -1)], {}, ValueError, "`documents` has no -1"),
        ([("q1", 0, 1)], {}, TypeError, "Pair 0 is .* expected a query id and a document id"),
        (["q1"], {}, TypeError, "Pair 0 is 'q1'"),
        ("q1", {}, TypeError, "needs pairs of a query id and a document id, but got str"),
        (IDS, {"documents": None}, TypeError, "Pass both `queries` and `documents`"),
        (IDS, {"queries": "the cat"}, TypeError, "`queries` must be texts by id"),
        (IDS, {"queries": {"q1": None, "q2": "a dog"}}, TypeError, "Pair 0 holds None"),
    ],
)
def test_ids_that_say_nothing_are_refused_in_a_sentence(
    model: CrossEncoder, ids: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.predict(ids, **{"queries": QUERIES, "documents": DOCUMENTS} | options)


def test_a_pair_that_is_none_is_refused_before_the_first_is_scored(
    model: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = counting(monkeypatch)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 5)
    with pytest.raises(ValueError, match="Pair 23 has 1 texts"):
        model.predict([*PAIRS, ("a",)])
    assert not counted
