"""`encode` gives the embeddings that the reference gives, in the forms that it gives them."""

from __future__ import annotations

import logging
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer as Reference
from small import WORDS, sentences, small_model

from likewise import SentenceTransformer
from likewise.similarity import pairwise_cos_sim

TEXTS = ["It is raining.", "Wet weather today, and tomorrow too.", "", "A cat sleeps.", "Ünïcödé — 东京 🙂"]


def words(n: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n))


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    made: SentenceTransformer = small_model(tmp_path)
    return made


def test_embeddings_equal_the_reference_on_texts_of_1_to_600_words(
    minilm: SentenceTransformer, reference: Any
) -> None:
    texts = [words(n, seed=n) for n in (1, 2, 3, 5, 8, 13, 21, 34, 60, 100, 199, 200, 300, 600)] + TEXTS
    ours, theirs = minilm.encode(texts), reference.encode(texts)
    assert ours.dtype == theirs.dtype == np.float32
    assert pairwise_cos_sim(ours, theirs).min() >= 0.99999
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 2},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"normalize_embeddings": True},
        {"truncate_dim": 7},
        {"truncate_dim": 7, "normalize_embeddings": True},
        {"prompt": "query: "},
        {"output_value": "token_embeddings"},
        {"output_value": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", [TEXTS, TEXTS[0], [TEXTS[1]]], ids=["many", "one", "list of one"])
def test_every_form_of_the_output_equals_the_reference(
    tmp_path: Path, options: dict[str, Any], inputs: Any
) -> None:
    model = small_model(tmp_path)
    reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    ours, theirs = model.encode(inputs, **options), reference.encode(inputs, **options)
    assert type(ours) is type(theirs)
    if isinstance(ours, dict | list):
        for mine, other in zip(*(x if isinstance(x, list) else [x] for x in (ours, theirs)), strict=True):
            if isinstance(mine, dict):
                mine, other = mine["sentence_embedding"], other["sentence_embedding"]
            torch.testing.assert_close(mine, other, atol=2e-6, rtol=0)
    else:
        assert ours.shape == theirs.shape
        torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs), atol=2e-6, rtol=0)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_quantised_embeddings_equal_the_reference(
    minilm: SentenceTransformer, reference: Any, precision: Any
) -> None:
    texts = sentences(120)
    ours = minilm.encode(texts, precision=precision)
    theirs = reference.encode(texts, precision=precision)
    assert ours.dtype == theirs.dtype
    # A value at the edge of two buckets may fall into the other.
    assert (ours != theirs).mean() < 0.001


def test_pairs_of_texts_are_embedded_as_the_reference_does(
    minilm: SentenceTransformer, reference: Any, tmp_path: Path
) -> None:
    pairs = [("a cat", "sees the dog"), ("the sun", "a house on the road")]
    np.testing.assert_allclose(minilm.encode(pairs), reference.encode(pairs), atol=2e-6)
    model = small_model(tmp_path)  # its tokenizer gives no token types
    small_reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    np.testing.assert_allclose(model.encode(pairs), small_reference.encode(pairs), atol=2e-6)


def test_no_texts_give_no_embeddings(model: SentenceTransformer) -> None:
    assert model.encode([]).shape == (0,)
    assert model.encode([], convert_to_tensor=True).shape == (0,)
    assert model.encode([], convert_to_numpy=False) == []


@pytest.mark.parametrize(
    ("precision", "dtype", "size"),
    [
        ("float16", "float16", 32),
        ("int8", "int8", 32),
        ("uint8", "uint8", 32),
        ("binary", "int8", 4),
        ("ubinary", "uint8", 4),
    ],
)
def test_no_texts_in_a_precision_have_its_type_and_size(
    model: SentenceTransformer, precision: Any, dtype: str, size: int
) -> None:
    found = model.encode([], precision=precision)
    assert (found.dtype, found.shape) == (np.dtype(dtype), (0, size))
    assert model.encode([], precision=precision, truncate_dim=16).shape == (0, size // 2)
    as_tensor = model.encode([], precision=precision, convert_to_tensor=True)
    assert (as_tensor.dtype, as_tensor.shape) == (getattr(torch, dtype), (0, size))


def test_a_task_is_not_named_twice(model: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match=r"`encode_query` embeds for the task 'query': drop `task`"):
        model.encode_query(TEXTS, task="document")


def test_arrays_and_iterators_of_texts_are_taken(model: SentenceTransformer) -> None:
    expected = model.encode(TEXTS)
    np.testing.assert_array_equal(model.encode(np.array(TEXTS)), expected)
    others: tuple[Any, ...] = (
        iter(TEXTS), (text for text in TEXTS), tuple(TEXTS), pd.Series(TEXTS, index=[5, 4, 3, 2, 1]), pa.array(TEXTS),
        dict.fromkeys(TEXTS).keys(), Dataset.from_dict({"text": TEXTS})["text"], [{"text": text} for text in TEXTS],
    )  # fmt: skip
    for texts in others:
        np.testing.assert_array_equal(model.encode(texts), expected)


def test_a_column_of_a_data_set_stays_where_it_is(
    model: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.model.encoding.WINDOW", 7)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 7)
    texts = sentences(30)
    column = Dataset.from_dict({"text": texts})["text"]
    asked: list[int] = []
    read = type(column).__getitem__

    def counting(self: Any, rows: Any) -> Any:
        found = read(self, rows)
        asked.append(len(found) if isinstance(rows, slice) else 1)
        return found

    monkeypatch.setattr(type(column), "__getitem__", counting)
    np.testing.assert_allclose(model.encode(column, out=tmp_path / "v.npy"), model.encode(texts), atol=1e-6)
    mapped = model.encode(column, out=tmp_path / "v.npy", convert_to_tensor=True)
    assert isinstance(mapped, torch.Tensor)
    np.testing.assert_allclose(mapped, model.encode(texts), atol=1e-6)
    assert set(asked) <= {7, 2}  # windows, and never all of it


def test_the_batch_of_a_text_changes_its_embedding_by_less_than_a_millionth(
    minilm: SentenceTransformer,
) -> None:
    texts = [words(n, seed=n) for n in range(1, 90)]
    together = minilm.encode(texts)
    alone = np.stack([minilm.encode(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_many_windows_keep_every_text_in_its_place(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = sentences(50)
    expected = model.encode(texts)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 7)
    np.testing.assert_allclose(model.encode(texts, batch_size=1), expected, atol=1e-6)


def test_texts_of_one_window_start_no_thread(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    monkeypatch.setattr("likewise.model.inference.WINDOW", 7)
    model.encode("a cat")
    model.encode(["a cat"] * 7)
    assert not started
    model.encode(["a cat"] * 8)
    assert len(started) == 1


def test_prompts_are_put_in_front(model: SentenceTransformer) -> None:
    model.prompts = {"query": "the child finds ", "document": "", "passage": "a bird "}
    expected = model.encode("the child finds a ship")
    np.testing.assert_allclose(model.encode("a ship", prompt_name="query"), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode("a ship", prompt="the child finds "), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode_query("a ship"), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode_document("a ship"), model.encode("a ship"), atol=1e-6)
    model.default_prompt_name = "query"
    np.testing.assert_allclose(model.encode("a ship"), expected, atol=1e-6)
    del model.prompts["document"]
    np.testing.assert_allclose(
        model.encode_document("a ship"), model.encode("a ship", prompt="a bird "), atol=1e-6
    )


def test_an_unknown_prompt_name_is_refused_with_the_known_ones(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match=r"no prompt named 'qery'.*query, document"):
        model.encode("a cat", prompt_name="qery")


def test_a_prompt_left_out_of_pooling_gives_the_references_embedding(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    for either in (model, reference):
        either.set_pooling_include_prompt(False)
    options: Any = {"prompt": "the old man sees "}
    texts = ["a red house", "the dark river runs near the road", "dog"]
    np.testing.assert_allclose(model.encode(texts, **options), reference.encode(texts, **options), atol=2e-6)


def test_truncation_can_be_set_for_a_while(model: SentenceTransformer) -> None:
    with model.truncate_sentence_embeddings(5):
        assert model.encode("a cat").shape == (5,)
        assert model.get_sentence_embedding_dimension() == 5
    assert model.encode("a cat").shape == (32,)


def test_a_truncation_that_cuts_nothing_is_told_once(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert model.encode("a cat", truncate_dim=1000).shape == (32,)
    (record,) = caplog.records
    assert record.getMessage() == "`truncate_dim` is 1000, but embeddings have 32 entries: they stay whole."


def test_texts_beyond_the_models_positions_are_refused_in_words(model: SentenceTransformer) -> None:
    model.max_seq_length = 300
    message = (
        "has 300 tokens, but BertModel has positions for 70. Set the model's maximum length to 70 or less"
    )
    with pytest.raises(ValueError, match=message):
        model.encode([words(400), "a cat"])
    with pytest.raises(ValueError, match=message):
        model(model.tokenize([words(400)]))


def test_cut_texts_are_reported_once(model: SentenceTransformer, caplog: pytest.LogCaptureFixture) -> None:
    model.max_seq_length = 8
    with caplog.at_level(logging.WARNING):
        model.encode(["a cat", words(30), words(40)])
        model.encode([words(30)])
    (record,) = caplog.records
    assert "2 of the first 3 texts are longer than 8 tokens" in record.getMessage()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": None}, TypeError, "got None"),
        ({"inputs": 3}, TypeError, "got int"),
        ({"inputs": ["a", None]}, TypeError, "Text 1 is None"),
        ({"inputs": ["a", ["b", 3]]}, TypeError, "Text 1 is"),
        ({"inputs": np.zeros(3)}, TypeError, "array of float64"),
        ({"inputs": np.array("a cat")}, TypeError, "array of <U5 without an axis"),
        ({"inputs": {"a cat", "a dog"}}, TypeError, "set.*has no order"),
        ({"inputs": {"a": "cat", "b": "dog"}}, TypeError, "dict.*as a list"),
        ({"inputs": b"a cat"}, TypeError, "got bytes: b'a cat'"),
        ({"inputs": pd.DataFrame({"text": ["a"]})}, TypeError, "(?s)DataFrame.*one column of it"),
        ({"inputs": Dataset.from_dict({"text": ["a"]})}, TypeError, "(?s)Dataset.*one column of it"),
        ({"inputs": ["a", b"b"]}, TypeError, "Text 1 is b'b'"),
        (
            {"inputs": "a", "output_value": "token_embeddings", "precision": "int8"},
            ValueError,
            "quantize_embeddings",
        ),
        ({"inputs": "a", "output_value": None, "precision": "float16"}, ValueError, "'float16'.*is None"),
        ({"inputs": "a", "batch_size": 0}, ValueError, "`batch_size` must be a whole number of at least 1"),
        (
            {"inputs": "a", "precision": "int4"},
            ValueError,
            "`precision` must be 'float32', .* or 'ubinary', but is 'int4'",
        ),
        (
            {"inputs": "a", "output_value": "vectors"},
            ValueError,
            "`output_value` must be 'sentence_embedding', 'token_embeddings' or None, but is 'vectors'",
        ),
        ({"inputs": "a", "truncate_dim": 0}, ValueError, "`truncate_dim` must be"),
        ({"inputs": "a", "colour": "red"}, ValueError, "got colour, which no module"),
    ],
)
def test_wrong_arguments_are_named(
    model: SentenceTransformer, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.encode(**arguments)


def test_encode_leaves_the_model_in_eval_mode_as_the_reference_does(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    for either in (model, reference):
        either.train()
        either.encode("a cat")
        assert not any(module.training for module in either.modules())


def test_a_text_far_down_a_list_is_named_by_its_row(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.model.inference.WINDOW", 4)
    with pytest.raises(TypeError, match="Text 9 is 3"):
        model.encode(["a cat"] * 9 + [3])  # type: ignore[list-item]


def test_a_single_text_in_place_of_a_list_is_refused_by_tokenize(model: SentenceTransformer) -> None:
    with pytest.raises(TypeError, match="got the text 'a cat'"):
        model.tokenize("a cat")


@pytest.mark.parametrize("precision", ["binary", "ubinary", "int8", "uint8"])
@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_quantised_embeddings_are_not_compared_as_numbers(
    model: SentenceTransformer, name: str, precision: Any
) -> None:
    model.similarity_fn_name = name
    found = model.encode(sentences(120), precision=precision)
    for compare in (model.similarity, model.similarity_pairwise):
        for embeddings in (found, torch.from_numpy(found), list(found)):
            with pytest.raises(TypeError, match=f"{found.dtype}.*Hamming.*unpack"):
                compare(embeddings, embeddings)


def test_the_way_that_is_named_compares_bits(model: SentenceTransformer) -> None:
    full = model.encode(sentences(20))
    signs = np.where(full > 0, 1.0, -1.0)
    for precision in ("binary", "ubinary"):
        x: Any = model.encode(sentences(20), precision=precision)  # type: ignore[call-overload]
        bits = np.unpackbits(x.view(np.uint8) ^ 128 if x.dtype == np.int8 else x, axis=-1)
        np.testing.assert_array_equal(bits, full > 0)
        expected = signs @ signs.T
        np.testing.assert_allclose(model.similarity(2.0 * bits - 1, 2.0 * bits - 1) * 32, expected, atol=1e-5)


def test_similarity_follows_the_function_that_is_set(model: SentenceTransformer, tmp_path: Path) -> None:
    reference = Reference(str(tmp_path / "bert-0"), device="cpu")
    embeddings = model.encode(TEXTS)
    for name in ("cosine", "dot", "euclidean", "manhattan"):
        model.similarity_fn_name = reference.similarity_fn_name = name
        torch.testing.assert_close(
            model.similarity(embeddings, embeddings[:2]), reference.similarity(embeddings, embeddings[:2])
        )
        torch.testing.assert_close(
            model.similarity_pairwise(embeddings, embeddings[::-1].copy()),
            reference.similarity_pairwise(embeddings, embeddings[::-1].copy()),
        )
    with pytest.raises(ValueError, match="hamming"):
        model.similarity_fn_name = "hamming"


def test_forward_takes_what_the_transformers_model_takes(model: SentenceTransformer, tmp_path: Path) -> None:
    reference = Reference(str(tmp_path / "bert-0"), device="cpu").eval()
    model.eval()
    features = dict(model.tokenize(["a cat sees the house", "the dog"]))
    ids, mask = features["input_ids"], features["attention_mask"]
    words = model.transformers_model.get_input_embeddings()(ids).detach().requires_grad_()
    places = torch.arange(ids.shape[1]).flip(0).expand_as(ids)
    for given in (
        {"input_ids": ids},
        {"input_ids": ids[:1]},
        {"inputs_embeds": words, "attention_mask": mask},
        {"inputs_embeds": words},
        {"input_ids": ids, "attention_mask": mask, "position_ids": places},
    ):
        found, expected = (either(dict(given))["sentence_embedding"] for either in (model, reference))
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    found = model({"inputs_embeds": words, "attention_mask": mask})["sentence_embedding"]
    np.testing.assert_allclose(
        found.detach().numpy(), model.encode(["a cat sees the house", "the dog"]), atol=1e-6
    )
    found[:, 0].sum().backward()
    assert words.grad is not None
    assert (words.grad.abs().sum(-1) > 0).equal(mask.bool())
    with pytest.raises(ValueError, match="'labels', but neither `input_ids` nor `inputs_embeds`"):
        model({"labels": mask})


def test_the_padded_features_of_tokenize_run_through_forward(model: SentenceTransformer) -> None:
    features = model.tokenize(TEXTS)
    assert features["input_ids"].shape == features["attention_mask"].shape
    with torch.no_grad():
        found = model.eval()(features)["sentence_embedding"]
    np.testing.assert_allclose(found.numpy(), model.encode(TEXTS), atol=1e-6)
