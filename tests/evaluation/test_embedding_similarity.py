"""EmbeddingSimilarityEvaluator: the reference's correlations, under its names, in its file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from evaluation_common import WordCounts, assert_same_constructor, assert_same_evaluation
from small import sentences

from likewise.evaluation import EmbeddingSimilarityEvaluator
from likewise.input_example import InputExample

FIRST = sentences(40, seed=1) + sentences(5, seed=3)
SECOND = sentences(40, seed=2) + sentences(5, seed=3)  # the last five pairs are equal texts
SCORES = [random.Random(i).randint(0, 5) / 5 for i in range(45)]
ALL = ["cosine", "dot", "euclidean", "manhattan"]
SETTINGS = [
    {},
    {"name": "sts"},
    {"main_similarity": "dot"},
    {"similarity_fn_names": ALL, "name": "sts"},
    {"similarity_fn_names": ["manhattan", "cosine"], "main_similarity": "cosine"},
    {"truncate_dim": 7, "batch_size": 3},
    *({"precision": precision} for precision in ("float32", "int8", "uint8", "binary", "ubinary")),
    {"write_csv": False},
]


def test_the_constructor_is_the_references() -> None:
    assert_same_constructor("EmbeddingSimilarityEvaluator")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_correlations_names_and_file_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    assert_same_evaluation(
        "EmbeddingSimilarityEvaluator",
        # Without pairs of equal texts, which are at distance 0 here and at a rounding error there.
        (FIRST[:40], SECOND[:40], SCORES[:40]),
        settings,
        (model, reference_model),
        tmp_path,
        # Rounding to steps turns a last bit of difference into a whole step, once in a while.
        tolerance=2e-3 if settings.get("precision") in ("int8", "uint8") else 2e-6,
    )


@pytest.mark.parametrize("settings", [{}, {"similarity_fn_names": ALL}, {"truncate_dim": 3}], ids=str)
def test_tied_similarities_share_their_rank(
    settings: dict[str, Any], counts: WordCounts, tmp_path: Path
) -> None:
    assert_same_evaluation(
        "EmbeddingSimilarityEvaluator", (FIRST, SECOND, SCORES), settings, (counts, counts), tmp_path
    )


def test_each_distinct_text_is_embedded_once(counts: WordCounts) -> None:
    EmbeddingSimilarityEvaluator(FIRST * 2, SECOND * 2, SCORES * 2)(counts)
    (encoded,) = counts.encoded
    assert sorted(encoded) == sorted(set(FIRST + SECOND))


def test_input_examples_become_pairs() -> None:
    examples = [InputExample(texts=[a, b], label=s) for a, b, s in zip(FIRST, SECOND, SCORES, strict=True)]
    evaluator = EmbeddingSimilarityEvaluator.from_input_examples(examples, name="x")
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.name) == (FIRST, SECOND, "x")


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((["a"], ["b", "c"], [1]), {}, "`sentences1` has 1, `sentences2` has 2"),
        (
            (["a", "b"], ["b", "c"], [1]),
            {},
            "`scores` must have one number for each of the 2 rows, but has 1",
        ),
        ((["a", "b"], ["b", "c"], [1, 1]), {}, "All `scores` are 1.0"),
        ((["a", "b"], ["b", "c"], [1, float("nan")]), {}, "Row 1 of `scores` must be finite, but is nan"),
        (([], [], []), {}, "`sentences1` is empty"),
        ((["a", "b"], ["b", "c"], [1, 0]), {"similarity_fn_names": ["cos"]}, "no similarity function 'cos'"),
        ((["a", "b"], ["b", "c"], [1, 0]), {"main_similarity": "cos"}, "no similarity function 'cos'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingSimilarityEvaluator(*arguments, **settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", None], ["b", "c"], [1, 0]), "Row 1 of `sentences1` must be a text, but is None"),
        (("ab", ["b", "c"], [1, 0]), "`sentences1` must be a list of texts, but is the single text 'ab'"),
        ((["a", "b"], ["b", "c"], [1, "x"]), "Row 1 of `scores` must be a number, but is 'x'"),
        (
            (["a", "b"], ["b", "c"], [1, 0], 16, None, "cosine"),
            r"`similarity_fn_names` must be a list of texts.*Write \['cosine'\]",
        ),
    ],
)
def test_inputs_of_the_wrong_type_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        EmbeddingSimilarityEvaluator(*arguments)
