"""SequentialEvaluator: all metrics in one dict, the reference's score, and each text embedded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentence_transformers.sentence_transformer.evaluation as reference
from evaluation_common import HalfOnes, WordCounts, assert_close, assert_same_csv_files
from small import sentences

import likewise
import likewise.evaluation as ours
from likewise.evaluation import (
    EmbeddingSimilarityEvaluator,
    SentenceEvaluator,
    SequentialEvaluator,
    TripletEvaluator,
)
from likewise.evaluation.embedding import sharing_embeddings
from likewise.evaluation.measurement import Measurement

FIRST, SECOND, THIRD = (sentences(30, seed=seed) for seed in (1, 2, 3))
SCORES = [float(i % 7) for i in range(30)]


def evaluators(library: Any) -> list[Any]:
    return [
        library.EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name="sts"),
        library.TripletEvaluator(FIRST, SECOND, THIRD, name="nli"),
        lambda model, output_path, epoch, steps: 0.25,
        library.TranslationEvaluator(SECOND, THIRD),
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"main_score_function": sum}, {"main_score_function": max}], ids=str
)
def test_metrics_score_and_files_are_the_references(
    settings: dict[str, Any], model: Any, reference_model: Any, tmp_path: Path
) -> None:
    mine = SequentialEvaluator(evaluators(ours), **settings)
    theirs = reference.SequentialEvaluator(evaluators(reference), **settings)
    for when in ((-1, -1), (1, 50)):
        found = mine(model, str(tmp_path / "ours"), *when)
        expected = theirs(reference_model, str(tmp_path / "theirs"), *when)
        assert list(found) == list(expected)
        assert_close(list(found.values()), list(expected.values()), 1e-6)
    assert mine.primary_metric == theirs.primary_metric == "sequential_score"
    assert_same_csv_files(tmp_path / "ours", tmp_path / "theirs")


def test_without_evaluators_the_score_is_zero(counts: WordCounts) -> None:
    assert SequentialEvaluator([])(counts) == {"sequential_score": 0.0}


def test_texts_that_evaluators_share_are_embedded_once(counts: WordCounts) -> None:
    pairs, triplets = (
        EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES),
        TripletEvaluator(FIRST, SECOND, THIRD),
    )
    SequentialEvaluator([pairs, triplets])(counts)
    assert [sorted(texts) for texts in counts.encoded] == [
        sorted({*FIRST, *SECOND}),
        sorted(set(THIRD) - {*FIRST, *SECOND}),
    ]


def test_prompts_for_queries_keep_their_embeddings_apart(model_folder: str) -> None:
    prompted = likewise.SentenceTransformer(
        model_folder, device="cpu", prompts={"query": "a red ", "document": ""}
    )
    apart = [make(prompted) for make in evaluators(ours)[1:2]]
    together = SequentialEvaluator(evaluators(ours)[:2])(prompted)
    assert together.items() >= apart[0].items()
    assert prompted.way_of_embedding("query") == ("a red ", None)
    assert prompted.way_of_embedding("document") == prompted.way_of_embedding() == ("", None)
    assert prompted.way_of_embedding("query", prompt="x") == ("x", None)


def test_several_matryoshka_dimensions_embed_once_and_measure_as_if_apart(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = type(model).encode
    monkeypatch.setattr(
        type(model), "encode", lambda self, texts, **kw: encoded.append(texts) or encode(self, texts, **kw)
    )

    def at(size: int) -> EmbeddingSimilarityEvaluator:
        return EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name=str(size), truncate_dim=size)

    sizes = (32, 16, 8, 4)
    together = SequentialEvaluator([at(size) for size in sizes])(model)
    assert len(encoded) == 1
    for size in sizes:
        assert together[f"{size}_spearman_cosine"] == pytest.approx(
            at(size)(model)[f"{size}_spearman_cosine"], abs=1e-9
        )
    assert len({together[f"{size}_spearman_cosine"] for size in sizes}) == 4


def test_what_is_asked_for_or_is_otherwise_is_embedded_otherwise(model_folder: str) -> None:
    model: Any = likewise.SentenceTransformer(model_folder, device="cpu")

    class Norms(SentenceEvaluator):
        primary = "norm"

        def __init__(self, name: str, change: Any = lambda: None, **options: Any) -> None:
            self.name, self.change, self.options = name, change, options

        def measure(self, model: Any) -> dict[str, Measurement]:
            self.change()
            return {"norm": Measurement((self.embed(model, FIRST, **self.options).norm(dim=1).numpy(),))}

    made = [
        Norms("plain"),
        Norms("scaled", normalize_embeddings=True),
        Norms("short", lambda: setattr(model, "max_seq_length", 3)),
        Norms("prompted", prompt="a red "),
        Norms("default", lambda: setattr(model, "default_prompt_name", "query")),
        Norms("reworded", lambda: model.prompts.__setitem__("query", "never ")),
        Norms("halved", lambda: next(model.parameters()).detach().mul_(0.5)),
        Norms("cls", lambda: setattr(model[1], "modes", ("cls",))),
    ]
    model.prompts["query"] = "the cold "
    together = SequentialEvaluator(made)(model)
    assert together["scaled_norm"] == pytest.approx(1)
    values = [together[f"{evaluator.name}_norm"] for evaluator in made]
    assert len(set(values)) == len(values)
    assert made[-1](model)["cls_norm"] == values[-1]


def test_evaluations_share_embeddings_only_while_asked_to(counts: WordCounts) -> None:
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)
    with sharing_embeddings(counts):
        evaluator(counts)
        evaluator(counts)
        with sharing_embeddings(counts):
            evaluator(counts)
        assert len(counts.encoded) == 1
        other = HalfOnes()
        evaluator(other)
        assert len(other.encoded) == 1
    evaluator(counts)
    assert len(counts.encoded) == 2


def test_only_so_much_is_kept_for_others(counts: WordCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.evaluation import embedding

    monkeypatch.setattr(embedding, "SHARED_BYTES", 8 * 4 * 10)
    with sharing_embeddings(counts):
        first = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(counts)
        assert EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(counts) == first
    assert len(counts.encoded) == 2


def test_what_is_no_evaluator_is_refused() -> None:
    with pytest.raises(TypeError, match="`evaluators` must be evaluators, but one of them is 3"):
        SequentialEvaluator([3])  # type: ignore[list-item]
    with pytest.raises(
        TypeError, match="`evaluators` must be a list of evaluators, but is a SequentialEvaluator"
    ):
        SequentialEvaluator(SequentialEvaluator([]))  # type: ignore[arg-type]
