"""What the recipes that are scripts share: their rows, models with fewer layers, and how they tell a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small import sentences, small_model

from likewise.evaluation.measurement import Measurement
from likewise.recipes import common


def test_rows_are_drawn_at_random_and_the_same_each_time(data: Path) -> None:
    first, second = common.sts_train(data, 10), common.sts_train(data, 10)
    assert first.column_names == ["sentence1", "sentence2", "score"]
    assert first["sentence1"][:] == second["sentence1"][:]
    file = common.read(data, "sts/stsb-multi/en-train.parquet", (), common.STS_COLUMNS)
    assert set(first["sentence1"]) < set(file["sentence1"])
    assert first["sentence1"][:] != file["sentence1"][:10]  # files are often sorted


def test_captions_are_without_sentences_of_the_test_set(data: Path) -> None:
    found = common.captions(data, 1000, ["caption1"])
    assert found.column_names == ["caption1"]
    assert len(found) == 40  # of 60, of which 20 overlap


def test_each_question_searches_for_its_own_sentence(data: Path) -> None:
    search = common.question_search(data, 12)
    assert len(search.queries) == 12
    for relevant in search.relevant_docs.values():
        (answer,) = relevant
        assert answer in search.corpus_ids


@pytest.mark.parametrize("layers", [[0], [1, 0]])
def test_a_copy_with_some_layers_leaves_the_model_as_it_is(layers: list[int], tmp_path: Path) -> None:
    model, texts = small_model(tmp_path), sentences(4)
    before = model.encode(texts)
    smaller = common.with_layers(model, layers)
    assert (common.num_layers(smaller), common.num_layers(model)) == (len(layers), 2)
    own = model[0].auto_model.encoder.layer
    kept = smaller[0].auto_model.encoder.layer
    for place, number in enumerate(layers):
        assert (kept[place].output.dense.weight == own[number].output.dense.weight).all()
    assert not np.allclose(smaller.encode(texts), before, atol=1e-5)
    np.testing.assert_array_equal(model.encode(texts), before)
    smaller.save_pretrained(str(tmp_path / "smaller"))
    again = type(model)(str(tmp_path / "smaller"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), smaller.encode(texts), atol=1e-6)


def test_a_model_is_about_as_fast_as_itself(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    assert 0.2 < common.times_as_fast(model, model, sentences(64), rounds=5) < 5


def test_scores_and_changes_have_intervals() -> None:
    before = Measurement((np.array([0.0, 1.0] * 50),))
    after = Measurement((np.ones(100),))
    assert common.with_interval(after) == "1.0000 (1.0000 to 1.0000)"
    value, low, high = (
        float(word.strip("()")) for word in common.with_interval(before).split() if word != "to"
    )
    assert low < value == 0.5 < high
    assert common.change(before, after).startswith("+0.5000 (+0.4")
    assert common.change(after, before).startswith("-0.5000 (-0.5")


def test_a_table_has_its_columns_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    common.table(("name", "score", "what"), [("one", 0.5, "x"), ("a longer one", 12.25, "")])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "name          score    what",
        "one           0.5000   x",
        "a longer one  12.2500",
    ]
