"""What a MultiVectorEncoder embeds: forms of the result, the roof's pools and hooks, refusals in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from multi_common import DOCUMENTS, QUERIES, check_equal, small_encoder, twins
from sentence_transformers.multi_vector_encoder import modules as theirs
from small import small_model_folder
from torch import Tensor

from likewise import MultiVectorEncoder
from likewise.models import Dense, Module, Router, Transformer
from likewise.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

EXPANSION = {"strategy": "fixed", "length": 12}


@pytest.fixture
def model(tmp_path: Path) -> MultiVectorEncoder:
    return small_encoder(tmp_path, query_expansion=EXPANSION)


def same(some: Any, others: Any) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), atol=1e-6, rtol=0)


def test_a_text_gives_its_tokens_and_a_list_a_list(model: MultiVectorEncoder) -> None:
    found = model.encode_document(["a cat", "the dog sleeps"])
    assert [tuple(one.shape) for one in found] == [(4, 128), (5, 128)]
    same(model.encode_document("a cat")[None], found[0][None])
    arrays = model.encode_document(["a cat", "the dog sleeps"], convert_to_numpy=True)
    assert all(isinstance(one, np.ndarray) for one in arrays)
    same(arrays, found)
    assert model.encode([]) == []
    assert all(len(one) == 12 for one in model.encode_query(QUERIES))
    assert len(model.encode("a cat")) == 4  # without a task, nothing is added


def test_results_own_their_memory(model: MultiVectorEncoder) -> None:
    for one in model.encode_document(DOCUMENTS):
        assert one.untyped_storage().nbytes() == one.numel() * 4


def test_features_are_padded_and_their_mask_says_what_is_scored(model: MultiVectorEncoder) -> None:
    model[2].skiplist_words = ["cat"]
    model[2].on_model_ready(model)
    (features,) = model.encode(["the cat sleeps"], output_value=None, task="document")
    assert features["attention_mask"].tolist() == [True, True, False, True, True]
    same(
        features["token_embeddings"][features["attention_mask"]][None],
        [model.encode_document("the cat sleeps")],
    )
    pooled = model.encode(["the cat sleeps"], output_value=None, token_pooling=HierarchicalTokenPooling(2))
    assert len(pooled[0]["token_embeddings"]) == len(pooled[0]["attention_mask"]) == 2


def test_processes_embed_alike(model: MultiVectorEncoder) -> None:
    expected = model.encode_query(QUERIES)
    with model.start_multi_process_pool(["cpu"]) as pool:
        same(model.encode_query(QUERIES, pool=pool, chunk_size=4), expected)
        pooling = HierarchicalTokenPooling(2)
        found = model.encode_document(DOCUMENTS, pool=pool, token_pooling=pooling, convert_to_numpy=True)
        same(found, model.encode_document(DOCUMENTS, token_pooling=pooling))
    model.stop_multi_process_pool(pool)


@pytest.mark.parametrize("attend", [True, False])
def test_a_watched_model_and_one_that_pads_give_the_same(tmp_path: Path, attend: bool) -> None:
    expansion = {**EXPANSION, "attend": attend}
    model = small_encoder(tmp_path, query_expansion=expansion)
    expected = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    seen: list[Any] = []
    handle = model[0].auto_model.register_forward_hook(lambda *call: seen.append(call))
    same(model.encode_query(QUERIES), expected[0])
    same(model.encode_document(DOCUMENTS), expected[1])
    handle.remove()
    assert seen
    model[0].unpad_inputs = False
    same(model.encode_query(QUERIES), expected[0])
    features = model(
        model.preprocess(QUERIES, task="query"), task="query"
    )  # as a script for the reference does
    found = zip(features["token_embeddings"], features["attention_mask"], strict=True)
    same([tokens[mask.bool()] for tokens, mask in found], expected[0])


@pytest.mark.parametrize("architecture", ["mpnet", "roberta", "modernbert", "distilbert"])
def test_added_tokens_see_and_are_not_seen_in_every_architecture(tmp_path: Path, architecture: str) -> None:
    config = (
        {} if architecture != "distilbert" else {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 48}
    )
    transformer = Transformer(small_model_folder(tmp_path, architecture, **config), query_expansion=EXPANSION)
    projection = Dense(32, 16, False, torch.nn.Identity(), module_input_name="token_embeddings")
    model = MultiVectorEncoder(modules=[transformer, projection, MultiVectorMask()], device="cpu")
    packed = model.encode_query(QUERIES)
    transformer.unpad_inputs = False
    same(model.encode_query(QUERIES), packed)


def test_gradients_through_added_tokens_are_those_of_the_padded_way(tmp_path: Path) -> None:
    model = small_encoder(tmp_path, dropout=False, query_expansion=EXPANSION)
    gradients = []
    for unpad in (None, False):
        model[0].unpad_inputs = unpad
        model.zero_grad()
        features = model({"tokens": model.token_sequences(QUERIES, task="query").pack(), "task": "query"})
        (features["token_embeddings"] * torch.arange(128.0)).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_both_sides_may_have_models_of_their_own(tmp_path: Path) -> None:
    model = small_encoder(tmp_path / "one", query_expansion=EXPANSION)
    other = small_encoder(tmp_path / "two")
    router = Router.for_query_document(list(model), list(other))
    routed = MultiVectorEncoder(modules=[router], device="cpu")
    same(routed.encode_query(QUERIES), model.encode_query(QUERIES))
    same(routed.encode_document(DOCUMENTS), other.encode_document(DOCUMENTS))
    routed.save_pretrained(tmp_path / "saved", create_model_card=False)
    again = MultiVectorEncoder(tmp_path / "saved", device="cpu")
    same(again.encode_query(QUERIES), model.encode_query(QUERIES))


class Halves(Module):
    """A module as somebody writes one: on padded tensors."""

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        assert features["token_embeddings"].ndim == 3
        features["token_embeddings"] = features["token_embeddings"] / 2
        return features


def test_a_module_of_ones_own_is_handed_padded_features(tmp_path: Path) -> None:
    model = small_encoder(tmp_path, query_expansion=EXPANSION)
    halved = MultiVectorEncoder(modules=[*model, Halves()], device="cpu")
    same([2 * one for one in halved.encode_query(QUERIES)], model.encode_query(QUERIES))
    same([2 * one for one in halved.encode_document(DOCUMENTS)], model.encode_document(DOCUMENTS))


def test_pooling_in_the_model_and_in_a_call_are_as_in_the_reference(tmp_path: Path) -> None:
    own, reference = twins(tmp_path, query_expansion=EXPANSION)
    for factor in (1, 1.5, 2, 100):
        ours = own.encode_document(DOCUMENTS, token_pooling=HierarchicalTokenPooling(factor))
        pooling = theirs.HierarchicalTokenPooling(factor)
        same(ours, reference.encode_document(DOCUMENTS, token_pooling=pooling))
    own.append(HierarchicalTokenPooling(2))
    reference.append(theirs.HierarchicalTokenPooling(2))
    check_equal(own, reference)


def test_a_pooling_may_be_a_function(model: MultiVectorEncoder) -> None:
    found = model.encode_document(DOCUMENTS, token_pooling=lambda tokens: tokens[:1])
    assert all(len(one) == 1 for one in found)


def test_similarity_is_by_the_models_function(model: MultiVectorEncoder) -> None:
    queries, documents = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    best = (queries[1] @ documents[2].T).amax(1)
    torch.testing.assert_close(model.similarity(queries, documents)[1, 2], best.sum())
    pairwise = model.similarity_pairwise(queries, documents[: len(queries)])
    torch.testing.assert_close(pairwise, model.similarity(queries, documents).diagonal())
    model.similarity_fn_name = "meanmaxsim"
    torch.testing.assert_close(model.similarity(queries, documents)[1, 2], best.mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convert_to_tensor": True}, "takes no `convert_to_tensor`: it returns a list of tensors"),
        ({"truncate_dim": 4}, "takes no `truncate_dim`"),
        ({"precision": "int8"}, "takes no `precision`"),
        ({"colour": 1}, r"encode\(\) got colour, which no module of this model takes"),
        ({"output_value": "sentence_embedding"}, "has no embedding of a whole text"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, but is 0"),
        ({"prompt_name": "nothing"}, "There is no prompt named 'nothing'"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    model: MultiVectorEncoder, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(["a cat"], **arguments)


def test_other_bad_input_is_refused_in_words(model: MultiVectorEncoder, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Text 1 is 3"):
        model.encode(["a cat", 3])
    with pytest.raises(ValueError, match="one of maxsim, meanmaxsim, but is 'cosine'"):
        model.similarity_fn_name = "cosine"
    with pytest.raises(ValueError, match=r"XTR ranks tokens within a batch: pass `XTRScores\(\)`"):
        model.similarity_fn_name = "xtr"
    with pytest.raises(ValueError, match="Pass `model_name_or_path`, or `modules`"):
        MultiVectorEncoder()
    with pytest.raises(ValueError, match="`backend` must be 'torch', 'onnx' or 'openvino'"):
        MultiVectorEncoder(str(tmp_path), backend="jax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be a BaseTokenPooling"):
        model.encode(["a"], output_value=None, token_pooling=lambda tokens: tokens)


def test_a_model_that_cannot_score_what_it_adds_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small_encoder(tmp_path, query_expansion=EXPANSION)
    MultiVectorEncoder(modules=[model[0], model[1]], device="cpu")
    assert "the model has no MultiVectorMask" in caplog.text


def test_cut_texts_are_reported_by_the_limit_of_their_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_encoder(tmp_path, document_length=7).encode_document(DOCUMENTS)
    assert "texts are longer than 7 tokens" in caplog.text
