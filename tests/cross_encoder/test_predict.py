"""What `predict` and `rank` take and give."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cross_common import pairs_of_texts, reranker_folder

from likewise import CrossEncoder
from likewise.cross_encoder.scoring import score_pairs
from likewise.engine.embed import Embed
from likewise.model import inference

PAIRS = pairs_of_texts(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: str) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    return CrossEncoder(reranker_folder(tmp_path_factory.mktemp("model"), num_labels=3), device="cpu")


@pytest.fixture(scope="module")
def reference(folder: str) -> Any:
    import sentence_transformers

    return sentence_transformers.CrossEncoder(folder, device="cpu")


def test_results_come_as_arrays_tensors_or_lists(model: CrossEncoder, classifier: CrossEncoder) -> None:
    array = model.predict(PAIRS)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    tensor = model.predict(PAIRS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.shape == (30,)
    listed = model.predict(PAIRS, convert_to_numpy=False)
    assert isinstance(listed, list)
    assert all(isinstance(score, torch.Tensor) and score.ndim == 0 for score in listed)
    np.testing.assert_array_equal(torch.stack(listed).numpy(), array)
    assert classifier.predict(PAIRS).shape == (30, 3)


def test_one_pair_gives_one_score(model: CrossEncoder, classifier: CrossEncoder, reference: Any) -> None:
    pair = ("the cat", "a dog sleeps")
    for given in (pair, list(pair), np.array(pair)):
        score = model.predict(given)
        assert isinstance(score, np.float32)
        np.testing.assert_allclose(score, reference.predict(pair), rtol=1e-5)
    assert classifier.predict(pair).shape == (3,)
    np.testing.assert_allclose(model.predict("the cat"), reference.predict("the cat"), rtol=1e-5)


def test_nothing_gives_nothing(model: CrossEncoder) -> None:
    array = model.predict([])
    assert array.shape == (0,)
    assert model.predict([], convert_to_tensor=True).shape == (0,)
    assert model.predict([], convert_to_numpy=False) == []
    assert model.rank("the cat", []) == []


def test_arrays_generators_and_columns_are_taken(model: CrossEncoder) -> None:
    import datasets

    expected = model.predict(PAIRS)

    def stream() -> Iterator[tuple[str, str]]:
        yield from PAIRS

    table = datasets.Dataset.from_dict({"pair": [list(pair) for pair in PAIRS]})
    firsts, seconds = zip(*PAIRS, strict=True)
    for given in (
        np.array(PAIRS),
        stream(),
        zip(firsts, seconds, strict=True),
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        table["pair"],
    ):
        np.testing.assert_allclose(model.predict(given), expected, rtol=1e-6)


def test_the_activation_of_a_call_is_for_that_call(model: CrossEncoder) -> None:
    usual = model.predict(PAIRS)
    raw = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(1 / (1 + np.exp(-raw.astype(np.float64))), usual, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(PAIRS), usual)


def test_softmax_is_over_a_pairs_labels(classifier: CrossEncoder, model: CrossEncoder) -> None:
    logits = torch.from_numpy(classifier.predict(PAIRS))
    np.testing.assert_allclose(
        classifier.predict(PAIRS, apply_softmax=True), logits.softmax(dim=1), rtol=1e-5
    )
    np.testing.assert_array_equal(model.predict(PAIRS, apply_softmax=True), model.predict(PAIRS))


def test_older_spellings_are_understood(model: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    expected = model.predict(PAIRS, activation_fn=torch.nn.Identity())
    found = model.predict(sentences=PAIRS, activation_fct=torch.nn.Identity(), num_workers=2)
    np.testing.assert_array_equal(found, expected)
    assert "`num_workers` has no effect" in caplog.text
    np.testing.assert_allclose(model.predict(PAIRS, 4), model.predict(PAIRS), rtol=1e-5)


def test_prompts_go_in_front_of_the_first_text(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    model = CrossEncoder(folder, device="cpu", prompts={"find": "the old "})
    prompted = [("the old " + first, second) for first, second in PAIRS]
    expected = model.predict(prompted)
    np.testing.assert_allclose(model.predict(PAIRS, prompt="the old "), expected, rtol=1e-6)
    np.testing.assert_allclose(model.predict(PAIRS, prompt_name="find"), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"no prompt named 'seek'\. This model has: find"):
        model.predict(PAIRS, prompt_name="seek")
    np.testing.assert_allclose(
        model.predict(PAIRS, prompt_name="find", prompt=""), model.predict(PAIRS), rtol=1e-6
    )
    assert "`prompt_name` is ignored" in caplog.text
    model.default_prompt_name = "find"
    np.testing.assert_allclose(model.predict(PAIRS), expected, rtol=1e-6)


def test_the_same_scores_in_windows_and_small_batches(
    model: CrossEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = model.predict(PAIRS)
    monkeypatch.setattr(inference, "WINDOW", 7)
    np.testing.assert_allclose(model.predict(PAIRS, batch_size=1), expected, rtol=1e-5)


def test_batches_are_halved_where_memory_runs_out(
    folder: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = CrossEncoder(folder, device="cpu")
    expected = model.predict(PAIRS)
    forward = CrossEncoder.forward

    def scarce(self: CrossEncoder, features: Any, **kwargs: Any) -> Any:
        if len(features["input_ids"]) > 4:
            raise torch.OutOfMemoryError("out of memory. Tried")
        return forward(self, features, **kwargs)

    monkeypatch.setattr(CrossEncoder, "forward", scarce)
    np.testing.assert_allclose(model.predict(PAIRS), expected, rtol=1e-5)
    assert "batches of half the size" in caplog.text


def test_cut_pairs_are_counted_and_reported_once(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    model = CrossEncoder(folder, max_length=12, device="cpu")
    caplog.set_level(logging.WARNING)
    pairs = [("the cat", "a dog " * 9), ("the cat", "a dog"), ("the cat " * 9, "a dog")]
    model.predict(pairs)
    model.predict(pairs)
    said = [record.getMessage() for record in caplog.records if "were cut there" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("2 of the first 3 pairs are longer than 12 tokens")


def test_the_query_stays_whole_if_asked_for(folder: str, tmp_path: Path) -> None:
    query, document = "the cat sees the bird near a river", "a dog sleeps in the house " * 4
    model = CrossEncoder(folder, max_length=16, truncation="only_second", device="cpu")
    shorter = " ".join(document.split()[: 16 - 3 - len(query.split())])
    np.testing.assert_allclose(model.predict((query, document)), model.predict((query, shorter)), rtol=1e-6)
    model.save(tmp_path / "saved")
    assert CrossEncoder(tmp_path / "saved", device="cpu").truncation == "only_second"
    model.truncation = "longest_first"
    assert model.predict((query, document)) != model.predict((query, shorter))


def test_the_model_is_left_in_eval_mode_and_the_random_state_as_it_was(folder: str) -> None:
    model = CrossEncoder(folder, device="cpu").train()
    before = torch.get_rng_state()
    first = model.predict(PAIRS)
    assert not model.training
    assert not model.model.training
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(model.predict(PAIRS), first)


def test_the_first_calls_may_come_from_several_threads(folder: str, model: CrossEncoder) -> None:
    fresh = CrossEncoder(folder, device="cpu")
    expected = model.predict(PAIRS)
    with ThreadPoolExecutor(6) as threads:
        for found in threads.map(lambda _: fresh.predict(PAIRS), range(12)):
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_ranking_equals_the_references(model: CrossEncoder, reference: Any) -> None:
    documents = [second for _, second in PAIRS]
    for options in ({}, {"top_k": 3}, {"top_k": 0}, {"top_k": -1}, {"return_documents": True}):
        found = model.rank("the cat", documents, **options)  # type: ignore[arg-type]
        expected = reference.rank("the cat", documents, **options)
        assert [result["corpus_id"] for result in found] == [result["corpus_id"] for result in expected]
        assert [set(result) for result in found] == [set(result) for result in expected]
        assert all(type(result["score"]) is float for result in found)
        np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in expected], rtol=1e-5)
        assert [result.get("text") for result in found] == [result.get("text") for result in expected]


def test_equal_scores_keep_their_order(model: CrossEncoder) -> None:
    documents = ["a dog", "the sun", "a dog", "a dog", "the sun"]
    places = [result["corpus_id"] for result in model.rank("the cat", iter(documents))]
    assert [place for place in places if documents[place] == "a dog"] == [0, 2, 3]
    assert [place for place in places if documents[place] == "the sun"] == [1, 4]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.predict([("a", "b", "c")]), ValueError, "Pair 0 has 3 texts"),
        (lambda m: m.predict(None), TypeError, "got None"),
        (lambda m: m.predict({"query": "a"}), TypeError, "got dict"),
        (lambda m: m.predict(pd.DataFrame({"a": ["b"], "c": ["d"]})), TypeError, "got a DataFrame. Pass its"),
        (lambda m: m.predict(np.zeros((2, 2))), TypeError, "array of float64"),
        (
            lambda m: m.predict(PAIRS, batch_size=0),
            ValueError,
            "`batch_size` must be a whole number of at least 1",
        ),
        (lambda m: m.predict(PAIRS, batchsize=3), TypeError, "no argument `batchsize`"),
        (
            lambda m: m.predict(PAIRS, activation_fn=torch.nn.Tanh),
            TypeError,
            r"the class Tanh. Make one of it: `Tanh\(\)`",
        ),
        (
            lambda m: setattr(m, "activation_fn", "tanh"),
            TypeError,
            "must be a function of scores, but is 'tanh'",
        ),
        (lambda m: CrossEncoder(modules=list(m), activation_fn="tanh"), TypeError, "but is 'tanh'"),
        (lambda m: m.rank("a", "b"), TypeError, "`documents` must be a list of texts"),
        (lambda m: m.rank("a", {"id": "b"}), TypeError, "`documents` must be a list of texts, but is a dict"),
        (lambda m: m.rank("a", pd.DataFrame({"b": ["c"]})), TypeError, "list of texts, but is a DataFrame"),
        (lambda m: m.rank(["a"], ["b"]), TypeError, "`query` must be a text"),
        (lambda m: m.rank("a", ["b", None]), TypeError, "Pair 1 holds None"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    model: CrossEncoder, call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(model)


def test_ranking_needs_one_score_a_pair(classifier: CrossEncoder) -> None:
    with pytest.raises(ValueError, match=r"gives 3 \(`num_labels`\)"):
        classifier.rank("a", ["b"])


def test_ranking_says_what_it_ignores(model: CrossEncoder, caplog: pytest.LogCaptureFixture) -> None:
    assert model.rank("a", ["b"], apply_softmax=True) == model.rank("a", ["b"])
    assert "`rank` ignores `apply_softmax`" in caplog.text


def test_mining_takes_a_cross_encoder(model: CrossEncoder, tmp_path: Path) -> None:
    import datasets
    from small import sentences, small_model

    from likewise import mine_hard_negatives

    dense = small_model(tmp_path)
    questions, answers = sentences(20, 1), sentences(20, 2)
    table = datasets.Dataset.from_dict({"query": questions, "answer": answers})
    options: dict[str, Any] = {"num_negatives": 2, "range_max": 8, "verbose": False, "max_score": 2.0}
    mined = mine_hard_negatives(
        table, dense, cross_encoder=model, output_format="n-tuple", output_scores=True, **options
    )
    assert len(mined) > 0
    for row in mined:
        own = model.predict([(row["query"], row["answer"]), (row["query"], row["negative_1"])])
        np.testing.assert_allclose(own, row["scores"][:2], rtol=1e-4)


def test_progress_is_of_pairs_by_this_models_logger(
    model: CrossEncoder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "likewise"),
        caplog.at_level(logging.INFO, "likewise.cross_encoder"),
    ):
        model.predict(PAIRS[:3])
    shown = capsys.readouterr().err
    assert "Scoring" in shown
    assert "pairs/s" in shown
    with pytest.raises(ValueError, match=r"^predict\(\) got colour"):
        model._check_known({"colour": 1})


def test_features_of_more_than_tokens_are_left_to_the_model(model: CrossEncoder) -> None:
    features = model.preprocess([("the cat", "a dog"), ("a", "b")])
    seen: list[object] = []

    class Whole:
        takes_tokens = True

        def __call__(self, given: dict[str, Any]) -> dict[str, Any]:
            seen.extend(given)
            return model(given)

    positions = torch.arange(features["input_ids"].shape[1]).expand_as(features["input_ids"])
    score_pairs(Whole(), {**features, "position_ids": positions}, Embed(output="scores"))
    assert "position_ids" in seen
