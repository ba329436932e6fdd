"""Scores become probabilities that hold on labelled pairs; folders keep that, and the reference reads them as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import pairs_of_texts, reranker_folder
from scipy.optimize import minimize

from likewise import CrossEncoder
from likewise.cross_encoder.calibration import Calibration, found_on, log_loss, platt, threshold_for

PAIRS = pairs_of_texts(200)
RAW: dict[str, Any] = {"activation_fn": torch.nn.Identity()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder: str) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu")


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("model"), num_labels=3)


def drawn(logits: Any, seed: int = 0) -> np.ndarray:
    """Labels that are 1 as often as these logits say."""
    return (np.random.default_rng(seed).random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(int)


def test_platt_scaling_finds_slope_and_intercept_again() -> None:
    scores = np.random.default_rng(0).normal(2, 3, 20_000)
    slope, intercept = platt(scores, drawn(0.7 * scores - 1.5))
    assert slope == pytest.approx(0.7, rel=0.05)
    assert intercept == pytest.approx(-1.5, rel=0.05)


def test_platt_scaling_minimises_its_objective() -> None:
    scores = np.random.default_rng(1).normal(size=60) * 5 + 3
    labels = drawn(scores - 3)
    right, wrong = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (right + 1) / (right + 2), 1 / (wrong + 2))

    def objective(x: np.ndarray) -> float:
        logits = x[0] * scores + x[1]
        return float((np.logaddexp(0, -logits) * target + np.logaddexp(0, logits) * (1 - target)).sum())

    expected = minimize(objective, [1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(platt(scores, labels), expected, rtol=1e-3)


def test_scores_that_part_the_labels_perfectly_have_a_finite_slope() -> None:
    slope, intercept = platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    assert 0 < slope < 10
    assert intercept == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_probabilities_are_closer_to_the_labels_and_opt_in(model: CrossEncoder, method: str) -> None:
    raw = model.predict(PAIRS, **RAW)
    usual = model.predict(PAIRS)
    labels = drawn(0.5 * raw)
    found = model.calibrate(PAIRS, labels, method=method)
    assert found is model.calibration
    assert found.method == method
    assert found.num_pairs == 200
    assert (found.intercept != 0) == (method == "platt")
    assert found.log_loss < found.log_loss_before
    assert found.log_loss_before == pytest.approx(
        -np.log(np.where(labels == 1, usual, 1 - usual)).mean(), rel=1e-4
    )
    np.testing.assert_array_equal(model.predict(PAIRS), usual)
    expected = 1 / (1 + np.exp(-(found.slope * raw.astype(float) + found.intercept)))
    np.testing.assert_allclose(model.predict(PAIRS, calibrated=True), expected, rtol=1e-5)
    assert model.predict(PAIRS[0], calibrated=True) == pytest.approx(expected[0], rel=1e-5)


def test_ranking_keeps_its_order(model: CrossEncoder) -> None:
    model.calibrate(PAIRS, drawn(model.predict(PAIRS, **RAW)))
    documents = [second for _, second in PAIRS[:20]]
    found = model.rank("the cat", documents, calibrated=True)
    assert [one["corpus_id"] for one in found] == [
        one["corpus_id"] for one in model.rank("the cat", documents)
    ]
    pairs = [("the cat", documents[one["corpus_id"]]) for one in found]
    np.testing.assert_allclose(
        [one["score"] for one in found], model.predict(pairs, calibrated=True), rtol=1e-5
    )


def test_several_labels_have_a_temperature(classifier_folder: str, tmp_path: Path) -> None:
    model = CrossEncoder(classifier_folder, device="cpu")
    logits = model.predict(PAIRS).astype(float)
    chances = np.exp(0.25 * logits) / np.exp(0.25 * logits).sum(axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    labels = [int(rng.choice(3, p=row)) for row in chances]
    found = model.calibrate(PAIRS, labels)
    assert found.method == "temperature"
    assert found.slope == pytest.approx(0.25, rel=0.4)
    slopes = found.slope * np.array([0.9, 1.0, 1.1])
    losses = [log_loss(slope * logits, np.array(labels)) for slope in slopes]
    assert losses[1] == min(losses)
    probabilities = model.predict(PAIRS, calibrated=True)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    expected = torch.from_numpy(found.slope * logits).softmax(dim=1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        CrossEncoder(tmp_path / "saved", device="cpu").predict(PAIRS, calibrated=True), probabilities
    )


def test_a_threshold_has_the_precision_that_was_asked_for(model: CrossEncoder) -> None:
    labels = drawn(model.predict(PAIRS, **RAW))
    found = model.calibrate(PAIRS, labels, precision=0.9)
    probabilities = model.predict(PAIRS, calibrated=True)
    above = probabilities >= np.float32(found.threshold) * (1 - 1e-6)
    assert labels[above].mean() >= 0.9
    assert found.recall == pytest.approx(labels[above].sum() / labels.sum())
    lower = [t for t in np.unique(probabilities) if t < found.threshold - 1e-6]
    assert all(labels[probabilities >= t].mean() < 0.9 for t in lower)


def test_a_threshold_worked_by_hand() -> None:
    probabilities, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 1, 0])
    assert threshold_for(1.0, probabilities, labels) == (0.9, pytest.approx(1 / 3))
    assert threshold_for(0.75, probabilities, labels) == (0.6, 1.0)
    with pytest.raises(ValueError, match=r"precision of 0\.99 on these pairs; the highest is 0\.750"):
        threshold_for(0.99, probabilities, np.array([0, 1, 1, 1, 0]))


def test_a_folder_keeps_the_calibration_and_the_reference_scores_as_before(
    model: CrossEncoder, tmp_path: Path
) -> None:
    import sentence_transformers

    found = model.calibrate(PAIRS, drawn(model.predict(PAIRS, **RAW)), precision=0.6)
    model.save(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    assert again.calibration == found
    np.testing.assert_array_equal(
        again.predict(PAIRS, calibrated=True), model.predict(PAIRS, calibrated=True)
    )
    reference: Any = sentence_transformers.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(reference.predict(PAIRS, **RAW), model.predict(PAIRS, **RAW), atol=1e-5)
    np.testing.assert_allclose(reference.predict(PAIRS), model.predict(PAIRS), rtol=1e-5)
    again.calibration = None
    again.save(tmp_path / "plain")
    assert "calibration" not in json.loads(
        (tmp_path / "plain" / "config_sentence_transformers.json").read_text()
    )


def test_a_model_that_has_changed_since_says_so_when_it_is_saved(
    model: CrossEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.calibrate(PAIRS, drawn(model.predict(PAIRS, **RAW)))
    model.save(tmp_path / "same")
    assert "since it was calibrated" not in caplog.text
    next(model.parameters()).data[0].add_(1)
    model.save(tmp_path / "changed")
    assert "The model has changed since it was calibrated" in caplog.text


def test_probabilities_go_to_files_of_their_own(model: CrossEncoder, tmp_path: Path) -> None:
    raw = model.predict(PAIRS, **RAW, out=tmp_path / "raw.npy")
    model.calibrate(PAIRS, drawn(raw))
    np.testing.assert_array_equal(model.predict(PAIRS, **RAW, out=tmp_path / "raw.npy"), raw)
    model.predict(PAIRS, calibrated=True, out=tmp_path / "scores.npy")
    model.calibrate(PAIRS, drawn(raw, seed=1))
    with pytest.raises(ValueError, match="other activation_fn"):
        model.predict(PAIRS, calibrated=True, out=tmp_path / "scores.npy")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1, 0, 1], {}, r"`labels` must be one for each pair \(4\), but has the shape \(3,\)"),
        ([1, 0, 2, 0], {}, "Labels must be 0 or 1, but that of pair 2 is 2"),
        ([1, 0, 0.5, 0], {}, r"that of pair 2 is 0\.5"),
        ([1, 1, 1, 1], {}, "at least two different labels are needed, but 4 were given, of 1"),
        (
            [1, 0, 1, 0],
            {"method": "isotonic"},
            "`method` must be 'platt' or 'temperature', but is 'isotonic'",
        ),
        ([1, 0, 1, 0], {"precision": 1.5}, r"`precision` must be above 0 and at most 1, but is 1\.5"),
    ],
)
def test_labels_and_arguments_that_do_not_fit_are_refused(
    model: CrossEncoder, labels: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.calibrate(PAIRS[:4], labels, **options)
    assert model.calibration is None


def test_what_cannot_be_calibrated_is_refused(model: CrossEncoder, classifier_folder: str) -> None:
    with pytest.raises(ValueError, match=r"call `model\.calibrate\(pairs, labels\)` first"):
        model.predict(PAIRS, calibrated=True)
    raw = model.predict(PAIRS, **RAW)
    with pytest.raises(ValueError, match="no higher scores than those with 0"):
        model.calibrate(PAIRS, (raw < np.median(raw)).astype(int))
    with pytest.raises(ValueError, match="`pairs` must be a list of pairs, but is one"):
        model.calibrate(PAIRS[0], [1])
    with pytest.raises(TypeError, match=r"calibrate\(\) takes no argument activation_fn"):
        model.calibrate(PAIRS, drawn(raw), **RAW)
    with pytest.raises(ValueError, match="two different labels are needed, but 0 were given"):
        model.calibrate([], [])
    model.calibrate(PAIRS, drawn(raw))
    for options in (RAW, {"apply_softmax": True}):
        with pytest.raises(ValueError, match=f"drop `{next(iter(options))}`"):
            model.predict(PAIRS, calibrated=True, **options)
    classifier = CrossEncoder(classifier_folder, device="cpu")
    for options in ({"method": "platt"}, {"precision": 0.9}):
        with pytest.raises(ValueError, match="is for one score a pair, but this model gives 3"):
            classifier.calibrate(PAIRS, [0, 1] * 100, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The score of pair 1 is nan"):
        found_on(np.array([1.0, np.nan]), [0, 1], None, None)


@pytest.mark.parametrize(
    "damaged",
    [
        3,
        {"method": "isotonic"},
        {"slope": "steep"},
        {"slope": -1.0},
        {"intercept": None},
        {"more": 1},
        {"threshold": "high"},
        {"weights": 1},
    ],
)
def test_a_damaged_calibration_is_refused_by_its_file(folder: str, tmp_path: Path, damaged: Any) -> None:
    whole = Calibration("platt", 1.0, 0.0, 4, 0.5, 0.4).settings()
    model = CrossEncoder(folder, device="cpu")
    model.save(tmp_path / "saved")
    path = tmp_path / "saved" / "config_sentence_transformers.json"
    settings = json.loads(path.read_text())
    settings["calibration"] = damaged if damaged == 3 else whole | damaged
    path.write_text(json.dumps(settings))
    with pytest.raises(
        ValueError, match=r"`calibration` in config_sentence_transformers\.json should be what"
    ):
        CrossEncoder(tmp_path / "saved", device="cpu")
