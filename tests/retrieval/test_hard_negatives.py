"""`mine_hard_negatives` gives the reference's rows for every option and format; seeded, resumable, bounded."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from given_embeddings import GivenEmbeddings, parameters
from sentence_transformers import util
from small import sentences

from likewise.retrieval import hard_negatives, mine_hard_negatives

FORMATS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
# 60 queries around 8 centres; 20 of them have two positives, and one pair is there twice.
ANCHORS = [f"{i % 60 % 8} q{i % 60}" for i in range(80)] + ["0 q0"]
POSITIVES = [f"{a.split()[0]} d{i}" for i, a in enumerate(ANCHORS[:80])] + ["0 d0"]
PAIRS = Dataset.from_dict({"question": ANCHORS, "answer": POSITIVES})
CORPUS = [f"{i % 8} c{i}" for i in range(150)] + POSITIVES[:5] + ["0 c0"]


class CrossEncoder:
    """Scores a pair by its texts alone."""

    def __init__(self) -> None:
        self.pairs: list[list[tuple[str, str]]] = []

    def predict(self, pairs: Any, batch_size: int = 32, **_: Any) -> torch.Tensor:
        self.pairs.append(list(pairs))
        return torch.tensor([zlib.crc32((a + b).encode()) / 2**32 for a, b in pairs])


OPTIONS: list[dict[str, Any]] = [
    {},
    {"corpus": CORPUS},
    {"anchor_column_name": "answer", "positive_column_name": "question"},
    {"range_min": 5},
    {"range_max": 20, "num_negatives": 10},
    {"range_max": 2_000_000, "num_negatives": 40, "range_min": 3},
    {"max_score": 0.6},
    {"min_score": 0.4},
    {"absolute_margin": 0.1},
    {"margin": 0.1},
    {"relative_margin": 0.05},
    {"absolute_margin": 0.2, "relative_margin": 0.05, "range_max": 15, "corpus": CORPUS},
    {"max_score": 0.5, "min_score": 0.3, "range_min": 2},
    {"include_positives": True},
    {"include_positives": True, "range_max": 8, "num_negatives": 8, "corpus": CORPUS},
    {"query_prompt": "x ", "corpus_prompt": "y "},
    {"query_prompt_name": "query", "corpus_prompt_name": "document"},
    {"as_triplets": False},
    {"sampling_strategy": "top", "num_negatives": 90, "range_max": 400, "output_format": "triplet"},
    {"cross_encoder": CrossEncoder(), "max_score": 0.7, "corpus": CORPUS},
    {"cross_encoder": CrossEncoder(), "min_score": 0.7},
    {"cross_encoder": CrossEncoder(), "absolute_margin": 0.1, "min_score": 0.3, "range_max": 20},
    {"cross_encoder": CrossEncoder()},
]


def mined(options: dict[str, Any], similarity: str = "cosine", library: Any = mine_hard_negatives) -> Any:
    return library(PAIRS, GivenEmbeddings(similarity), verbose=False, **options)


def assert_same_rows(found: Dataset, expected: Dataset) -> None:
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        if name in ("score", "scores"):
            for ours, theirs in zip(found[name], expected[name], strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
        else:
            assert list(found[name]) == list(expected[name])


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
def test_rows_are_the_references_with_every_option(options: dict[str, Any]) -> None:
    asked = {"output_scores": True} | options
    found = mined(asked)
    assert_same_rows(found, mined(asked, library=util.mine_hard_negatives))
    assert len(found) > 0


@pytest.mark.parametrize("output_scores", [False, True])
@pytest.mark.parametrize("output_format", FORMATS)
def test_rows_are_the_references_in_every_format(output_format: str, output_scores: bool) -> None:
    # Some queries have all their negatives, some have a few, some have none.
    for margin in (0.1, 0.3):
        asked = {"output_format": output_format, "output_scores": output_scores, "absolute_margin": margin}
        assert_same_rows(mined(asked), mined(asked, library=util.mine_hard_negatives))


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
def test_documents_are_compared_by_the_models_similarity(similarity: str) -> None:
    options = {"output_scores": True, "relative_margin": 0.01}
    assert_same_rows(mined(options, similarity), mined(options, similarity, util.mine_hard_negatives))


def test_a_random_sample_is_of_the_best_the_same_for_a_seed_and_even() -> None:
    options = {"sampling_strategy": "random", "range_min": 3, "range_max": 12, "output_scores": True}
    pool = mined({"range_min": 3, "range_max": 12, "num_negatives": 9})
    best: dict[str, set[str]] = {}
    for query, negative in zip(pool["question"], pool["negative"], strict=True):
        best.setdefault(query, set()).add(negative)
    found = mined(options)
    for query, negative in zip(found["question"], found["negative"], strict=True):
        assert negative in best[query]
    assert_same_rows(found, mined(options))
    assert mined(options | {"seed": 1})["negative"] != found["negative"]
    lists = mined(options | {"output_format": "n-tuple"})
    scores = np.array(list(lists["scores"]))[:, 1:]
    assert (np.diff(scores, axis=1) <= 0).all()
    drawn = [mined(options | {"seed": seed})["negative"] for seed in range(20)]
    assert {text for some in drawn for text in some} == set().union(*best.values())


def test_a_sample_of_few_takes_those_that_there_are() -> None:
    options = {"sampling_strategy": "random", "absolute_margin": 0.3, "output_scores": True}
    found = mined(options)
    assert 0 < len(found) < 240
    assert all(np.isfinite(scores).all() for scores in found["scores"])


def test_positives_are_never_negatives_and_ids_say_which_documents_they_are() -> None:
    documents = list(dict.fromkeys([*CORPUS, *POSITIVES]))
    found = mined({"corpus": CORPUS, "output_ids": True, "num_negatives": 20})
    positives: dict[str, set[str]] = {}
    for query, positive in zip(ANCHORS, POSITIVES, strict=True):
        positives.setdefault(query, set()).add(positive)
    for query, positive, negative, ids in zip(*(found[name] for name in found.column_names), strict=True):
        assert negative not in positives[query]
        assert [documents[i] for i in ids] == [positive, negative]


def test_a_corpus_may_be_a_column_or_anything_to_iterate_over() -> None:
    expected = mined({"corpus": CORPUS}).to_dict()
    for corpus in (Dataset.from_dict({"text": CORPUS})["text"], dict.fromkeys(CORPUS), iter(CORPUS)):
        assert mined({"corpus": corpus}).to_dict() == expected


def test_a_cross_encoder_sees_each_pair_once_in_one_stream_longest_first() -> None:
    encoder = CrossEncoder()
    mined({"cross_encoder": encoder, "max_score": 0.9, "range_max": 10})
    (pairs,) = encoder.pairs
    assert len(pairs) == len(set(pairs))
    assert 60 * 10 + 80 <= len(pairs) <= 60 * 13 + 80
    lengths = [len(a) + len(b) for a, b in pairs]
    assert lengths == sorted(lengths, reverse=True)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_negatives, "BLOCK_ROWS", 16)
    expected = mined({"relative_margin": 0.05, "output_scores": True})
    options = {"relative_margin": 0.05, "output_scores": True, "cache_folder": str(tmp_path)}

    class Dying(GivenEmbeddings):
        def encode_document(self, texts: Any, **settings: Any) -> Any:
            if len(self.calls) == 6:
                raise KeyboardInterrupt
            return super().encode_document(texts, **settings)

    model = weighted(Dying)
    with pytest.raises(KeyboardInterrupt):
        mine_hard_negatives(PAIRS, model, verbose=False, **options)
    assert len(list(tmp_path.glob("*.npy"))) == 6
    model = weighted(GivenEmbeddings)
    assert_same_rows(mine_hard_negatives(PAIRS, model, verbose=False, **options), expected)
    assert (
        len(model.calls) == 4 + 5 - 6
    )  # blocks of 60 queries and of 80 documents, less those that were done
    again = weighted(GivenEmbeddings)
    assert_same_rows(mine_hard_negatives(PAIRS, again, verbose=False, **options), expected)
    assert again.calls == []
    assert not list(tmp_path.glob(".*"))


def test_a_model_that_was_trained_further_does_not_find_its_old_embeddings(tmp_path: Path) -> None:
    options = {"verbose": False, "cache_folder": str(tmp_path)}
    mine_hard_negatives(PAIRS, weighted(GivenEmbeddings), **options)
    trained = weighted(GivenEmbeddings, 2.0)
    mine_hard_negatives(PAIRS, trained, **options)
    assert [kind for kind, *_ in trained.calls] == ["query", "document"]
    prompted = weighted(GivenEmbeddings)
    mine_hard_negatives(PAIRS, prompted, query_prompt="z ", **options)
    assert [kind for kind, *_ in prompted.calls] == ["query"]


def test_what_changes_a_models_answers_is_not_answered_from_the_folder(model: Any, tmp_path: Path) -> None:
    texts = sentences(60, seed=1)
    pairs = Dataset.from_dict({"a": texts[:30], "b": texts[30:]})
    options = {"verbose": False, "output_scores": True, "num_negatives": 2}
    kept = {"cache_folder": str(tmp_path)}
    mine_hard_negatives(pairs, model, **options, **kept)
    for change in (
        lambda: setattr(model, "truncate_dim", 8),
        lambda: setattr(model, "max_seq_length", 4),
        lambda: model.prompts.__setitem__("query", "the red house sees "),
        lambda: model.prompts.__setitem__("document", "a cold "),
        lambda: setattr(model[1], "modes", ("cls",)),
        lambda: setattr(model, "similarity_fn_name", "euclidean"),
        lambda: next(model.parameters()).data.mul_(1.5),
    ):
        before = set(tmp_path.iterdir())
        change()
        found = mine_hard_negatives(pairs, model, **options, **kept)
        assert_same_rows(found, mine_hard_negatives(pairs, model, **options))
        assert set(tmp_path.iterdir()) > before


def test_the_folder_is_for_encoders_that_say_who_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"GivenEmbeddings has no method `fingerprint`. Give it one that"):
        mined({"cache_folder": str(tmp_path)})


class LastIsBest:
    """What the reference calls and no more: documents score by their number, as a tensor or an array."""

    device = torch.device("cpu")

    def __init__(self, as_array: bool) -> None:
        self.model_card_data = SimpleNamespace(base_model=None)
        self.as_array = as_array

    def encode_query(self, texts: list[str], **_: Any) -> Any:
        rows = torch.tensor([[float(text.split()[1][1:])] for text in texts])
        return rows.numpy() if self.as_array else rows

    encode_document = encode_query

    def similarity(self, a: Any, b: Any) -> Any:
        return torch.as_tensor(b)[:, 0].repeat(len(a), 1)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return torch.as_tensor(b)[:, 0]

    def fingerprint(self) -> str:
        return "last"


@pytest.mark.parametrize("as_array", [False, True])
def test_an_encoders_own_similarity_decides(as_array: bool, tmp_path: Path) -> None:
    options = {"num_negatives": 2, "output_scores": True, "verbose": False}
    found = mine_hard_negatives(PAIRS, LastIsBest(as_array), cache_folder=str(tmp_path), **options)
    assert {text.split()[1] for text in found["negative"]} <= {"d79", "d78", "d77", "d76"}
    assert_same_rows(found, util.mine_hard_negatives(PAIRS, LastIsBest(as_array), **options))
    # What decides its scores is not known, so only the embeddings are kept.
    assert sorted({path.name.split("_")[0] for path in tmp_path.iterdir()}) == ["corpus", "query"]


def test_a_models_overridden_similarity_decides(model_folder: str) -> None:
    from sentence_transformers import SentenceTransformer as Theirs

    from likewise import SentenceTransformer

    def farthest(library: Any) -> Any:
        class Farthest(library):  # type: ignore[misc]
            def similarity(self, a: Any, b: Any) -> Any:
                return torch.cdist(torch.as_tensor(a), torch.as_tensor(b))

            def similarity_pairwise(self, a: Any, b: Any) -> Any:
                return (torch.as_tensor(a) - torch.as_tensor(b)).norm(dim=-1)

        return Farthest(model_folder, device="cpu")

    texts = sentences(40, seed=3)
    pairs = Dataset.from_dict({"a": texts[:20], "b": texts[20:]})
    options = {"verbose": False, "output_scores": True, "relative_margin": -0.5}
    found = mine_hard_negatives(pairs, farthest(SentenceTransformer), **options)
    assert_same_rows(found, util.mine_hard_negatives(pairs, farthest(Theirs), **options))


def test_an_embedding_that_is_not_finite_is_refused_by_its_text() -> None:
    class Broken(GivenEmbeddings):
        def encode_document(self, texts: Any, **settings: Any) -> Any:
            rows = super().encode_document(texts, **settings)
            rows[texts.index("5 d5"), 0] = np.nan
            return rows

    with pytest.raises(ValueError, match="The embedding of the text '5 d5' holds NaN or infinity"):
        mine_hard_negatives(PAIRS, Broken(), verbose=False)


def weighted(kind: type[GivenEmbeddings], value: float = 1.0) -> Any:
    """A model with weights, as far as the cache is concerned."""
    model: Any = kind()
    model.fingerprint = lambda: str(value)
    return model


def test_what_was_found_is_told_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    mine_hard_negatives(PAIRS, GivenEmbeddings(), absolute_margin=0.3, verbose=True)
    printed, bars = capsys.readouterr()
    assert re.search(r"Searching: 100%.* pairs", bars)
    assert printed.split()[:4] == ["Metric", "Positive", "Negative", "Difference"]
    assert "absolute_margin = 0.3 dropped" in printed
    assert "of 60 queries have fewer than 3 negatives" in printed
    mined({})
    assert capsys.readouterr() == ("", "")


def test_a_model_mines_as_in_the_reference(model: Any, reference_model: Any) -> None:
    texts = sentences(60, seed=1)
    pairs = Dataset.from_dict({"a": texts[:30], "b": texts[30:]})
    options = {"verbose": False, "output_scores": True, "batch_size": 7, "query_prompt_name": "query"}
    found = mine_hard_negatives(pairs, model, **options)
    assert_same_rows(found, util.mine_hard_negatives(pairs, reference_model, **options))


@pytest.fixture(params=["late interaction", "sparse"])
def other_family(request: pytest.FixtureRequest, model_folder: str, tmp_path: Path) -> Any:
    """A small model whose embeddings are token by token, or COO."""
    from likewise import MultiVectorEncoder, SparseEncoder

    torch.manual_seed(0)
    family = MultiVectorEncoder if request.param == "late interaction" else SparseEncoder
    return family(model_folder, device="cpu")


def test_models_of_tokens_and_of_words_mine_what_comparing_all_texts_finds(
    other_family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_negatives, "BLOCK_ROWS", 16)  # three blocks of documents, two of queries
    texts = sentences(70, seed=1)
    queries, positives, corpus = texts[:20], texts[20:40], texts[40:]
    pairs = Dataset.from_dict({"a": [*queries, queries[0]], "b": [*positives, positives[1]]})
    own: dict[str, set[str]] = {}
    for query, positive in zip(pairs["a"], pairs["b"], strict=True):
        own.setdefault(query, set()).add(positive)
    options = {"corpus": corpus, "output_scores": True, "output_format": "n-tuple", "query_prompt": "the "}
    found = mine_hard_negatives(pairs, other_family, num_negatives=4, verbose=False, **options)
    assert len(found) == 21
    documents = [*corpus, *positives]
    scores = other_family.similarity(
        other_family.encode_query(queries, prompt="the "), other_family.encode_document(documents)
    )
    for row in found:
        by_document = dict(zip(documents, scores[queries.index(row["a"])].tolist(), strict=True))
        wrong = sorted(set(documents) - own[row["a"]], key=lambda text: -by_document[text])
        assert [row[f"negative_{rank}"] for rank in range(1, 5)] == wrong[:4]
        expected = [by_document[text] for text in (row["b"], *wrong[:4])]
        np.testing.assert_allclose(row["scores"], expected, rtol=1e-5)


def test_models_of_tokens_and_of_words_keep_nothing_in_a_folder(other_family: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Encoder gives no such rows\. Drop it"):
        mine_hard_negatives(PAIRS, other_family, cache_folder=str(tmp_path), verbose=False)
    other_family.encode_document = lambda texts, **_: [torch.full((2, 3), torch.nan)] * len(texts)
    with pytest.raises(ValueError, match="The embedding of the text '0 d0' holds NaN or infinity"):
        mine_hard_negatives(PAIRS, other_family, verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": "2"}, "`num_negatives` must be a whole number of at least 1, but is '2'"),
        ({"num_negatives": 0}, "`num_negatives` must be a whole number of at least 1, but is 0"),
        ({"range_min": 5, "range_max": 5}, "smaller than `range_max`, but they are 5 and 5"),
        ({"range_min": -1}, "`range_min` must be a whole number of at least 0, but is -1"),
        ({"range_min": 1.5}, r"`range_min` must be a whole number of at least 0, but is 1\.5"),
        ({"range_max": float("inf")}, "`range_max` must be a whole number of at least 0, but is inf"),
        ({"absolute_margin": ".1"}, r"`absolute_margin` must be a number, but is '\.1'"),
        ({"relative_margin": math.nan}, "`relative_margin` must be a number, but is nan"),
        ({"max_score": "1"}, "`max_score` must be a number, but is '1'"),
        ({"range_max": 2}, "from rank 0 to 2 there are only 2 candidates. Raise `range_max`"),
        ({"sampling_strategy": "best"}, "must be 'top' or 'random', but is 'best'"),
        ({"output_format": "pairs"}, "must be 'triplet', 'n-tuple', .* but is 'pairs'"),
        ({"anchor_column_name": "query"}, "no column 'query'. Choose from question, answer"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mined(options)


def test_empty_data_and_cells_that_are_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="`dataset` is empty"):
        mine_hard_negatives(PAIRS.select([]), GivenEmbeddings())
    with pytest.raises(ValueError, match="needs two columns of texts, but has only"):
        mine_hard_negatives(PAIRS.select_columns("answer"), GivenEmbeddings())
    with pytest.raises(TypeError, match="`corpus` must be a list of texts, but is the text 'abc'"):
        mine_hard_negatives(PAIRS, GivenEmbeddings(), corpus="abc")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Row 1 of column 'b' must be a text, but is None"):
        mine_hard_negatives(Dataset.from_dict({"a": ["x", "y"], "b": ["z", None]}), GivenEmbeddings())


def test_data_and_models_in_each_others_places_are_refused_in_words() -> None:
    embeds, scores = GivenEmbeddings(), SimpleNamespace(predict=None)
    with pytest.raises(TypeError, match=r"`model` must be a model that embeds texts .*, but is a Dataset"):
        mine_hard_negatives(embeds, PAIRS)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`dataset` must be a `datasets.Dataset`, .*, but is a list"):
        mine_hard_negatives([("a cat", "cats")], embeds)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`model` must be a model that embeds .*, but is a SimpleNamespace"):
        mine_hard_negatives(PAIRS, scores)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`model` must be .*, but is 'all-MiniLM-L6-v2'"):
        mine_hard_negatives(PAIRS, "all-MiniLM-L6-v2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`cross_encoder` must be a model that scores .*, but is a GivenEmb"):
        mine_hard_negatives(PAIRS, embeds, cross_encoder=embeds)


def test_options_without_effect_say_so(caplog: pytest.LogCaptureFixture) -> None:
    mined({"use_faiss": True, "cross_encoder": CrossEncoder(), "include_positives": True})
    assert "`use_faiss` has no effect" in caplog.text
    assert "`cross_encoder` has no effect without `max_score`" in caplog.text
    assert "With `include_positives` the format is 'n-tuple'" in caplog.text


def test_arguments_have_the_references_names_order_and_defaults() -> None:
    own, other = parameters(mine_hard_negatives), parameters(util.mine_hard_negatives)
    assert [name for name in own if name not in ("output_ids", "seed", "ray_workers")] == list(other)
    assert {name for name in other if own[name] != other[name]} == set()
