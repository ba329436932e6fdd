"""What a subclass of an evaluator overrides is called as in the reference: as often, with the same texts, to the same effect."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sentence_transformers.sentence_transformer.evaluation as reference
from evaluation_common import HalfOnes, WordCounts, assert_close
from small import sentences
from torch import tensor

import likewise
import likewise.evaluation as ours
from likewise.similarity import cos_sim

FIRST, SECOND, THIRD = (sentences(12, seed=seed, longest=4) for seed in (1, 2, 3))
LABELS = [i % 2 for i in range(12)]
QUERIES = {f"q{i}": text for i, text in enumerate(FIRST[:4])}
CORPUS = {f"d{i}": text for i, text in enumerate([*SECOND, *FIRST])}
RELEVANT = {"q0": {"d0", "d12"}, "q1": {"d1"}, "q2": {"d2", "d3", "d20"}, "q3": {"d4"}}
SAMPLES = [{"query": FIRST[i], "positive": SECOND[i : i + 2], "negative": THIRD[i : i + 3]} for i in range(5)]
ARGUMENTS: dict[str, Any] = {
    "BinaryClassificationEvaluator": lambda model: (FIRST, SECOND, LABELS),
    "EmbeddingSimilarityEvaluator": lambda model: (FIRST, SECOND, list(range(12))),
    "InformationRetrievalEvaluator": lambda model: (QUERIES, CORPUS, RELEVANT),
    "MSEEvaluator": lambda model: (FIRST, SECOND, model),
    "MSEEvaluatorFromDataFrame": lambda model: (
        [{"en": a, "de": b} for a, b in zip(FIRST, SECOND, strict=True)],
        model,
        [("en", "de"), ("de", "en")],
    ),
    "ParaphraseMiningEvaluator": lambda model: (CORPUS, [("d0", "d1"), ("d1", "d2")]),
    "RerankingEvaluator": lambda model: (SAMPLES,),
    "TranslationEvaluator": lambda model: (FIRST, SECOND),
    "TripletEvaluator": lambda model: (FIRST, SECOND, THIRD),
}


class Encoder(HalfOnes):
    """With the one method more that one of the reference's evaluators calls."""

    def eval(self) -> None:
        """There is no other mode."""


EMBEDDING = [name for name in ARGUMENTS if name != "ParaphraseMiningEvaluator"]


def run(
    library: Any, name: str, replaced: dict[str, Any], settings: dict[str, Any], model: Any = None
) -> dict[str, float]:
    """What an evaluator with these attributes replaced measures."""
    base = getattr(library, name)
    made = {key: value(base) if callable(value) else value for key, value in replaced.items()}
    model = model or Encoder()
    evaluator = type("Own", (base,), made)(*ARGUMENTS[name](model), **settings)
    return dict(evaluator(model))


def assert_same(name: str, replaced: dict[str, Any], settings: dict[str, Any] | None = None) -> None:
    """Both libraries measure the same with it."""
    mine, theirs = (run(library, name, replaced, settings or {}) for library in (ours, reference))
    assert list(mine) == list(theirs)
    assert_close(list(mine.values()), list(theirs.values()), 1e-6)


@pytest.mark.parametrize("name", EMBEDDING)
@pytest.mark.parametrize("settings", [{}, {"truncate_dim": 5, "name": "x"}], ids=str)
def test_embed_inputs_is_called_with_the_same_texts_and_its_embeddings_are_measured(
    name: str, settings: dict[str, Any]
) -> None:
    calls: dict[str, list[Any]] = {"ours": [], "theirs": []}

    def embed_inputs(base: Any) -> Any:
        seen = calls["ours" if base.__module__.startswith("likewise.") else "theirs"]

        def own(self: Any, model: Any, texts: Any, **kwargs: Any) -> Any:
            # Sorted, for the order of the set that the reference makes of them is by chance.
            seen.append((sorted(texts), {key: value for key, value in kwargs.items() if value is not None}))
            return base.embed_inputs(self, model, [f"{text} sun" for text in texts], **kwargs)

        return own

    assert_same(name, {"embed_inputs": embed_inputs}, settings)
    assert calls["ours"] == calls["theirs"] != []


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_quantised_embeddings_come_from_embed_inputs_too(
    precision: str, model: Any, reference_model: Any
) -> None:
    def embed_inputs(base: Any) -> Any:
        def own(self: Any, model: Any, texts: Any, **kwargs: Any) -> Any:
            found = base.embed_inputs(self, model, texts, **kwargs)
            assert found.dtype == (np.uint8 if precision.startswith("u") else np.int8)
            return found[::-1].copy()

        return own

    name, settings = "EmbeddingSimilarityEvaluator", {"precision": precision}
    mine, theirs = (
        run(library, name, {"embed_inputs": embed_inputs}, settings, one)
        for library, one in ((ours, model), (reference, reference_model))
    )
    assert_close(list(mine.values()), list(theirs.values()), 1e-6)


@pytest.mark.parametrize("name", EMBEDDING)
def test_embed_inputs_returns_what_the_references_returns(
    name: str, model: Any, reference_model: Any
) -> None:
    mine = getattr(ours, name)(*ARGUMENTS[name](model))
    theirs = getattr(reference, name)(*ARGUMENTS[name](reference_model))
    for texts in (FIRST, FIRST[0]):
        a, b = mine.embed_inputs(model, texts), theirs.embed_inputs(reference_model, texts)
        if name == "TranslationEvaluator" and texts is FIRST[0]:
            continue  # the reference gives one tensor there
        assert type(a) is type(b)
        np.testing.assert_allclose(np.stack(list(a)), np.stack(list(b)), atol=1e-5)


def test_a_wrong_number_of_embeddings_is_refused() -> None:
    class Own(ours.TripletEvaluator):
        def embed_inputs(self, model: Any, texts: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            return super().embed_inputs(model, texts[1:], **kwargs)

    with pytest.raises(ValueError, match="Own gave 11 embeddings for 12 texts"):
        Own(FIRST, SECOND, THIRD)(HalfOnes())


@pytest.mark.parametrize("method", ["find_best_acc_and_threshold", "find_best_f1_and_threshold"])
def test_thresholds_of_ones_own_are_taken(method: str) -> None:
    values = (0.25, 0.5) if "acc" in method else (0.25, 0.5, 0.125, 0.75)
    assert_same(
        "BinaryClassificationEvaluator",
        {method: lambda base: staticmethod(lambda scores, labels, high_score_more_similar: values)},
        {"similarity_fn_names": ["cosine", "euclidean"]},
    )


@pytest.mark.parametrize(
    "name", ["BinaryClassificationEvaluator", "RerankingEvaluator", "InformationRetrievalEvaluator"]
)
def test_compute_metrics_decides_what_is_reported(name: str) -> None:
    def compute_metrics(base: Any) -> Any:
        def halved(value: Any) -> Any:
            return {key: halved(one) for key, one in value.items()} if isinstance(value, dict) else value / 2

        return lambda self, *args: halved(base.compute_metrics(self, *args))

    assert_same(name, {"compute_metrics": compute_metrics})


@pytest.mark.parametrize("is_batched", [True, False])
def test_either_way_of_reranking_can_be_replaced(is_batched: bool) -> None:
    method = "compute_metrics_batched" if is_batched else "compute_metrics_individual"
    own = {method: lambda base: lambda self, model: {"map": 0.5, "mrr": 0.25, "ndcg": 0.125}}
    assert_same("RerankingEvaluator", own, {"use_batched_encoding": is_batched})


@pytest.mark.parametrize(
    "name", ["BinaryClassificationEvaluator", "RerankingEvaluator", "InformationRetrievalEvaluator"]
)
def test_the_older_name_of_compute_metrics_is_called_as_older_releases_did(name: str) -> None:
    numbers: dict[str, Any] = {
        "BinaryClassificationEvaluator": {"cosine": dict.fromkeys(("ap", "f1"), 0.5)},
        "RerankingEvaluator": {"map": 0.5, "mrr": 0.5, "ndcg": 0.5},
        "InformationRetrievalEvaluator": {"cosine": {"ndcg@k": {10: 0.5}}},
    }
    base = getattr(ours, name)
    evaluator = type("Own", (base,), {"compute_metrices": lambda self, model: numbers[name]})(
        *ARGUMENTS[name](HalfOnes())
    )
    assert set(evaluator(HalfOnes()).values()) == {0.5}
    plain = base(*ARGUMENTS[name](HalfOnes()))
    assert plain.compute_metrices(HalfOnes()).keys() == numbers[name].keys()


def test_compute_all_metrics_gets_the_folder_and_decides(tmp_path: Path) -> None:
    folders = []

    class Own(ours.InformationRetrievalEvaluator):
        def compute_all_metrics(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            folders.append(kwargs.pop("output_path"))
            found = super().compute_all_metrics(model, *args, **kwargs)
            found["cosine"]["ndcg@k"][10] = 0.125
            return found

    found = Own(QUERIES, CORPUS, RELEVANT)(HalfOnes(), str(tmp_path), corpus_model=HalfOnes())
    assert folders == [str(tmp_path)]
    plain = ours.InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(HalfOnes())
    assert found == plain | {"cosine_ndcg@10": 0.125}


def test_gains_and_score_functions_of_ones_own_rank() -> None:
    name = "InformationRetrievalEvaluator"
    assert_same(
        name,
        {
            "compute_dcg_at_k": lambda base: staticmethod(
                lambda gains, k: sum(x / (i + 1) for i, x in enumerate(gains[:k]))
            )
        },
    )
    negative = {"mine": lambda a, b: -cos_sim(a, b)}
    assert_same(name, {"_model_score_functions": lambda base: lambda self, model: negative})
    reported = []
    run(
        ours,
        name,
        {"output_scores": lambda base: lambda self, scores: reported.append(scores)},
        {"name": "x"},
    )
    assert [list(scores) for scores in reported] == [
        [f"{kind}@k" for kind in ("accuracy", "precision", "recall", "ndcg", "mrr", "map")]
    ]


def test_a_similarity_of_the_models_own_ranks() -> None:
    class Reversed(HalfOnes):
        def similarity(self, a: Any, b: Any) -> Any:
            return -cos_sim(a, b)

    mine, theirs = (
        library.InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(Reversed())
        for library in (ours, reference)
    )
    assert mine == pytest.approx(theirs, abs=1e-9)
    assert mine != ours.InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(HalfOnes())


def test_similarity_functions_of_ones_own_compare_triplets() -> None:
    def functions(base: Any) -> Any:
        def own(self: Any) -> Any:
            return base._get_similarity_functions(self) | {
                "first": lambda a, p, n: (tensor(a[:, 0]), tensor(p[:, 0]))
            }

        return own

    replaced = {"_get_similarity_functions": functions}
    settings = {"similarity_fn_names": ["cosine", "first"], "margin": {"first": 0.5}}
    mine, theirs = (run(library, "TripletEvaluator", replaced, settings) for library in (ours, reference))
    assert mine == pytest.approx(theirs)
    with pytest.raises(ValueError, match="There is no similarity function 'first'"):
        ours.TripletEvaluator(FIRST, SECOND, THIRD, similarity_fn_names=["first"])


def with_defaults(graph: dict[str, dict[str, bool]]) -> Any:
    """A graph as the reference expects it: what is not in it is no duplicate."""
    found: Any = defaultdict(lambda: defaultdict(bool))
    for key, others in graph.items():
        found[key].update(others)
    return found


def test_a_transitive_closure_of_ones_own_tells_the_duplicates() -> None:
    name = "ParaphraseMiningEvaluator"
    graph = {"d0": {"d5": True}, "d5": {"d0": True}, "d7": {"d9": True}, "d9": {"d7": True}}

    own = {"add_transitive_closure": lambda base: staticmethod(lambda found: with_defaults(graph))}
    assert_same(name, own, {"add_transitive_closure": True})
    closed = ours.ParaphraseMiningEvaluator.add_transitive_closure({"a": {"b": True}, "b": {"c": True}})
    assert closed == {key: {other: True for other in "abc" if other != key} for key in "abc"}


class Collections(ours.NanoBEIREvaluator):
    """Two collections of one's own under names of NanoBEIR."""

    def _load_dataset(self, dataset_name: str, **settings: Any) -> Any:
        return ours.InformationRetrievalEvaluator(
            QUERIES, CORPUS, RELEVANT, name=f"own_{dataset_name}", **settings
        )


def test_collections_of_ones_own_take_the_place_of_nanobeirs() -> None:
    found = Collections(["msmarco", "nq"], batch_size=7)(HalfOnes())
    alone = ours.InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(HalfOnes())
    for name in ("own_msmarco", "own_nq", "NanoBEIR_mean"):
        assert {key: found[f"{name}_{key}"] for key in alone} == pytest.approx(alone)


def test_rows_names_checks_and_the_class_of_nanobeirs_evaluators_may_be_ones_own() -> None:
    rows = {
        "corpus": [{"_id": key, "text": text} for key, text in CORPUS.items()],
        "queries": [{"_id": key, "text": text} for key, text in QUERIES.items()],
        "qrels": [{"query-id": query, "corpus-id": one} for query, some in RELEVANT.items() for one in some],
    }

    def build(library: Any) -> Any:
        class Retrieval(library.InformationRetrievalEvaluator):
            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                return {key: value / 2 for key, value in super().__call__(*args, **kwargs).items()}

        class Own(library.NanoBEIREvaluator):
            information_retrieval_class = Retrieval

            def _load_dataset_subset_split(self, subset: str, split: str, required_columns: Any) -> Any:
                assert split == "NanoNQ"
                return rows[subset]

            def _get_human_readable_name(self, dataset_name: str) -> str:
                return f"My{dataset_name}"

            def _validate_dataset_names(self) -> None:
                assert self.dataset_names == ["nq"]

            def _validate_prompts(self) -> None:
                self.query_prompts = {"nq": "the "}

        evaluator = Own(["nq"])
        return evaluator(HalfOnes()), evaluator.primary_metric

    mine, theirs = build(ours), build(reference)
    assert mine[0] == pytest.approx(theirs[0], abs=1e-9)
    assert mine[1] == theirs[1] == "NanoBEIR_mean_cosine_ndcg@10"
    assert "Mynq_cosine_ndcg@10" in mine[0]


def test_what_comes_after_measuring_may_be_replaced() -> None:
    stored = []

    def build(library: Any) -> Any:
        class Own(library.TripletEvaluator):
            def prefix_name_to_metrics(self, metrics: Any, name: str) -> Any:
                self.primary_metric = f"{name}/{self.primary_metric}"
                return {f"{name}/{key}": value for key, value in metrics.items()}

            def store_metrics_in_model_card_data(self, *arguments: Any) -> None:
                stored.append(arguments[1:])

        evaluator = Own(FIRST, SECOND, THIRD, name="x")
        return evaluator(HalfOnes(), None, 2, 7), evaluator.primary_metric

    (mine, primary), (theirs, their_primary) = build(ours), build(reference)
    assert mine == pytest.approx(theirs)
    assert primary == their_primary == "x/cosine_accuracy"
    assert [arguments[1:] for arguments in stored] == [(2, 7), (2, 7)]


def test_the_models_own_collation_makes_the_batches_of_label_accuracy(model: Any) -> None:
    examples = [SimpleNamespace(texts=["a cat", "a dog"], label=label) for label in (0, 1, 1)]
    calls = []

    class Own(likewise.SentenceTransformer):
        def smart_batching_collate(self, batch: Any) -> Any:
            calls.append(len(batch))
            return super().smart_batching_collate(batch)

    own = Own(modules=list(model))
    own.train()
    evaluator = ours.LabelAccuracyEvaluator(
        _Loader(examples), softmax_model=lambda features, labels: (None, tensor([[0.0, 1.0]] * 3))
    )
    assert evaluator(own) == {"accuracy": pytest.approx(2 / 3)}
    assert calls == [3]
    assert own.training


class _Loader:
    def __init__(self, examples: Any) -> None:
        self.examples, self.collate_fn = examples, list

    def __iter__(self) -> Any:
        yield self.collate_fn(self.examples)


def test_no_text_is_shared_between_ways_of_embedding_that_differ(model_folder: str) -> None:
    class Shouting(likewise.SentenceTransformer):
        def encode_query(self, texts: Any, **kwargs: Any) -> Any:
            return self.encode([f"the {text}" for text in texts], **kwargs)

    class Mean(ours.SentenceEvaluator):
        primary = "mean"

        def __init__(self, name: str, **options: Any) -> None:
            self.name, self.options = name, options
            self.truncate_dim = self.options.pop("truncate_dim", None)

        def measure(self, model: Any) -> Any:
            from likewise.evaluation.measurement import Measurement

            found = self.embed(model, FIRST, **self.options)
            return {"mean": Measurement((found.norm(dim=1).numpy() + found[:, 0].numpy(),))}

    own = Shouting(model_folder, device="cpu", prompts={"query": "", "document": "", "red": "a red "})
    several = [
        Mean("plain"),
        Mean("scaled", normalize_embeddings=True),
        Mean("cut", truncate_dim=8),
        Mean("cut_and_scaled", truncate_dim=8, normalize_embeddings=True),
        Mean("query", task="query"),
        Mean("document", task="document"),
        Mean("named", prompt_name="red"),
        Mean("given", prompt="a blue "),
        Mean("half", precision="float16"),
    ]
    apart: dict[str, float] = {}
    for one in several:
        apart |= one(own)
    for order in (several, several[::-1]):
        together = ours.SequentialEvaluator(order)(own)
        del together["sequential_score"]
        assert together == pytest.approx(apart, abs=1e-5)
    assert len({round(value, 4) for value in apart.values()}) == 7  # document as plain, half nearly so


def test_somebody_elses_encoder_is_measured_in_a_sequence_too() -> None:
    class Other:
        similarity_fn_name = "cosine"
        model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)
        encode = encode_query = encode_document = WordCounts.encode
        row = WordCounts.row

        def __init__(self) -> None:
            self.encoded: list[Any] = []

    evaluator = ours.SequentialEvaluator([ours.TripletEvaluator(FIRST, SECOND, THIRD)])
    assert evaluator(Other()) == evaluator(WordCounts())


@pytest.mark.parametrize("name", EMBEDDING)
def test_an_embedding_with_nan_is_refused_by_its_text(name: str) -> None:
    class Spoilt(HalfOnes):
        def row(self, text: str) -> Any:
            return [float("nan")] * 8 if text == SECOND[3] else super().row(text)

    with pytest.raises(ValueError, match=f"The model embeds . of .* texts with NaN.*row .*, '{SECOND[3]}'"):
        run(ours, name, {}, {}, Spoilt())


def test_given_embeddings_of_a_corpus_with_nan_are_refused_by_the_document() -> None:
    corpus = {f"d{i}": text for i, text in enumerate(SECOND)}
    evaluator = ours.InformationRetrievalEvaluator({"q": FIRST[0]}, corpus, {"q": {"d0"}})
    given = tensor([[1.0] * 8] * len(corpus))
    given[3, 2] = float("inf")
    with pytest.raises(ValueError, match=f"`corpus_embeddings` .*row 3, '{SECOND[3]}'"):
        evaluator(WordCounts(), corpus_embeddings=given)
