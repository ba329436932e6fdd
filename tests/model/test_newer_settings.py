"""Settings that folders have since 5.4: how texts are tokenised, what of the model's output is taken, padded or packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.base.modules import Transformer as ReferenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as ReferencePooling
from small import sentences, small_model_folder

from likewise import SentenceTransformer
from likewise.models import Pooling, StaticEmbedding, Transformer

TEXTS = [*sentences(6), "", " ".join(["cat"] * 40), "a"]
PAIRS = [(text, other) for text, other in zip(TEXTS, reversed(TEXTS), strict=True)]
OF_TEXTS = {"method": "forward"}


def saved_by_the_reference(plain: Path, folder: Path, sentence: bool = False, **settings: Any) -> Any:
    transformer = ReferenceTransformer(str(plain), **settings)
    modules = [transformer] if sentence else [transformer, ReferencePooling(32, "mean")]
    model = Reference(modules=modules, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return Reference(str(folder), device="cpu")


def assert_equal(ours: SentenceTransformer, theirs: Any, folder: Path, **options: Any) -> None:
    """Both give the same numbers, also after a round by way of this library, and for pairs."""
    for texts in (TEXTS, PAIRS):
        np.testing.assert_allclose(ours.encode(texts, **options), theirs.encode(texts, **options), atol=2e-6)
    ours.save_pretrained(folder / "again", create_model_card=False)
    for library in (SentenceTransformer, Reference):
        again = library(str(folder / "again"), device="cpu")
        np.testing.assert_allclose(again.encode(TEXTS, **options), theirs.encode(TEXTS, **options), atol=2e-6)


PROCESSING: list[dict[str, Any]] = [
    {"add_special_tokens": False},
    {"max_length": 7},
    {"max_length": 7, "add_special_tokens": False},
    {"truncation": False},
    {"max_length": 60, "padding": "max_length"},
    {"max_length": 55, "truncation": "only_first"},
    {"max_length": 16, "truncation": True, "pad_to_multiple_of": 8},
]


@pytest.mark.parametrize("of_texts", PROCESSING)
def test_saved_processing_kwargs_count_as_in_the_reference(
    plain_folder: Path, tmp_path: Path, of_texts: dict[str, Any]
) -> None:
    theirs = saved_by_the_reference(plain_folder, tmp_path / "six", processing_kwargs={"text": of_texts})
    ours = SentenceTransformer(tmp_path / "six", device="cpu")
    assert ours[0].processing_kwargs == {"text": of_texts}
    if not of_texts.get("add_special_tokens", True):  # the reference has no tokens for "" then, and gives NaN
        theirs_texts = [text for text in TEXTS if text]
        np.testing.assert_allclose(ours.encode(theirs_texts), theirs.encode(theirs_texts), atol=2e-6)
        return
    assert_equal(ours, theirs, tmp_path)
    found, expected = ours.preprocess(TEXTS), theirs.preprocess(TEXTS)
    for name in ("input_ids", "attention_mask"):
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.filterwarnings(
    "ignore:`max_length` is ignored:UserWarning"
)  # what transformers says to the reference
@pytest.mark.parametrize("of_texts", PROCESSING)
def test_processing_kwargs_of_a_call_go_over_the_modules(
    plain_folder: Path, of_texts: dict[str, Any]
) -> None:
    own = {"text": {"max_length": 5}}
    theirs = Reference(
        modules=[ReferenceTransformer(str(plain_folder), processing_kwargs=own), ReferencePooling(32)],
        device="cpu",
    )
    ours = SentenceTransformer(
        modules=[Transformer(str(plain_folder), processing_kwargs=own), Pooling(32)], device="cpu"
    )
    texts = [text for text in TEXTS if text]
    plain = ours.encode(texts)
    given = {"processing_kwargs": {"text": of_texts}}
    np.testing.assert_allclose(ours.encode(texts, **given), theirs.encode(texts, **given), atol=2e-6)
    np.testing.assert_allclose(
        ours.encode_query(texts, **given), theirs.encode_query(texts, **given), atol=2e-6
    )
    np.testing.assert_array_equal(ours.encode(texts), plain)


def test_the_side_of_the_padding_counts_in_preprocess_alone(plain_folder: Path) -> None:
    """`encode` pads nothing; in the reference the side moves the positions of a BERT's tokens."""
    theirs, ours = Reference(str(plain_folder), device="cpu"), SentenceTransformer(plain_folder, device="cpu")
    for side in ("left", "right"):
        given = {"processing_kwargs": {"text": {"padding_side": side}}}
        found, expected = ours.preprocess(TEXTS, **given), theirs.preprocess(TEXTS, **given)
        for name in ("input_ids", "attention_mask"):
            torch.testing.assert_close(found[name], expected[name])
        np.testing.assert_array_equal(ours.encode(TEXTS, **given), ours.encode(TEXTS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_length": 3}, "must be a dict of dicts"),
        ({"texts": {"max_length": 3}}, "has 'texts'; it takes common, text"),
        ({"text": {"max_lenght": 3}}, "`max_lenght=3` for texts, which is not known"),
        ({"text": {"truncation": "first"}}, "`truncation='first'`"),
        ({"text": {"padding_side": "middle"}}, "`padding_side='middle'`"),
        ({"chat_template": {"add_generation_prompt": True}}, "chat template"),
    ],
)
def test_processing_kwargs_that_cannot_be_honoured_are_refused(
    plain_folder: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Transformer(str(plain_folder), processing_kwargs=given)
    model = SentenceTransformer(plain_folder, device="cpu")
    with pytest.raises(ValueError, match=message):
        model.encode(TEXTS, processing_kwargs=given)


def test_processing_kwargs_are_for_a_transformer(plain_folder: Path) -> None:
    tokenizer = SentenceTransformer(plain_folder, device="cpu").tokenizer
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ValueError, match="for models that read texts with a Transformer"):
        model.encode(TEXTS, processing_kwargs={"text": {"max_length": 3}})


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert", "t5"])
@pytest.mark.parametrize("layer", [0, 1, 2, -2])
def test_an_inner_layer_is_taken_as_in_the_reference(tmp_path: Path, architecture: str, layer: int) -> None:
    plain = Path(small_model_folder(tmp_path / "plain", architecture, **of_architecture(architecture)))
    config = {"text": {**OF_TEXTS, "method_output_name": ["hidden_states", layer]}}
    theirs = saved_by_the_reference(
        plain, tmp_path / "six", modality_config=config, module_output_name="token_embeddings"
    )
    ours = SentenceTransformer(tmp_path / "six", device="cpu")
    assert_equal(ours, theirs, tmp_path)
    assert len(np.unique(np.round(ours.encode(TEXTS[:2]), 6))) > 2
    padded = ours(ours.preprocess(TEXTS))["sentence_embedding"].detach()
    np.testing.assert_allclose(padded, theirs.encode(TEXTS), atol=2e-6)


def of_architecture(name: str) -> dict[str, Any]:
    if name == "distilbert":
        return {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    if name == "t5":
        return {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return {}


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_the_poolers_output_is_taken_as_in_the_reference(tmp_path: Path, architecture: str) -> None:
    plain = Path(small_model_folder(tmp_path / "plain", architecture))
    config = {"text": {**OF_TEXTS, "method_output_name": "pooler_output"}}
    theirs = saved_by_the_reference(
        plain, tmp_path / "six", True, modality_config=config, module_output_name="sentence_embedding"
    )
    ours = SentenceTransformer(tmp_path / "six", device="cpu")
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == 32
    assert_equal(ours, theirs, tmp_path)
    assert ours.encode([]).size == 0


def test_a_pooler_without_weights_is_refused_where_it_is_taken(tmp_path: Path) -> None:
    from transformers import BertModel

    plain = Path(small_model_folder(tmp_path / "plain"))
    BertModel.from_pretrained(plain, add_pooling_layer=False).save_pretrained(plain)
    config = {"text": {**OF_TEXTS, "method_output_name": "pooler_output"}}
    with pytest.raises(ValueError, match=r"are missing or of another shape, e\.g\. pooler"):
        Transformer(str(plain), modality_config=config, module_output_name="sentence_embedding")


@pytest.mark.parametrize(
    ("method", "name", "feature", "message"),
    [
        ("forward", "last_hidden_state", "sentence_embedding", "cannot make 'sentence_embedding'"),
        ("forward", "pooler_output", "scores", "cannot make 'scores'"),
        ("get_text_features", "pooler_output", "sentence_embedding", "expected the method 'forward'"),
        ("forward", None, "token_embeddings", "expected the method 'forward'"),
    ],
)
def test_outputs_that_cannot_be_taken_are_refused_when_loading(
    plain_folder: Path, method: str, name: Any, feature: str, message: str
) -> None:
    config = {"text": {"method": method, "method_output_name": name}}
    with pytest.raises(ValueError, match=message):
        Transformer(str(plain_folder), modality_config=config, module_output_name=feature)


def test_an_output_of_another_shape_is_named(plain_folder: Path) -> None:
    config = {"text": {**OF_TEXTS, "method_output_name": "pooler_output"}}
    model = SentenceTransformer(
        modules=[Transformer(str(plain_folder), modality_config=config), Pooling(32)], device="cpu"
    )
    with pytest.raises(
        ValueError, match=r"'pooler_output' of a BertModel is \(9, 32\) and cannot be 'token_embeddings'"
    ):
        model.encode(TEXTS)


def test_a_head_is_not_here(plain_folder: Path) -> None:
    assert Transformer(str(plain_folder), transformer_task="feature-extraction").max_seq_length == 64
    with pytest.raises(ValueError, match="`transformer_task` must be 'feature-extraction'"):
        Transformer(str(plain_folder), transformer_task="fill-mask")


def test_unpad_inputs_false_pads_and_is_kept(plain_folder: Path, tmp_path: Path) -> None:
    theirs = saved_by_the_reference(plain_folder, tmp_path / "six", unpad_inputs=False)
    ours = SentenceTransformer(tmp_path / "six", device="cpu")
    seen: list[tuple[int, ...]] = []
    ours[0].auto_model.embeddings.register_forward_hook(
        lambda module, args, output: seen.append(output.shape)
    )
    padded = ours.encode(TEXTS)
    assert all(shape[0] > 1 for shape in seen)
    np.testing.assert_allclose(padded, theirs.encode(TEXTS), atol=2e-6)
    ours.save_pretrained(tmp_path / "again", create_model_card=False)
    assert SentenceTransformer(tmp_path / "again", device="cpu")[0].unpad_inputs is False
    packed = SentenceTransformer(plain_folder, device="cpu")
    expected = packed.encode(TEXTS)
    assert not packed[0].encoder.reason
    packed[0].unpad_inputs = False
    np.testing.assert_allclose(packed.encode(TEXTS), expected, atol=2e-6)
    assert packed[0].encoder.reason == "`unpad_inputs` is False"
    packed[0].unpad_inputs = None
    np.testing.assert_array_equal(packed.encode(TEXTS), expected)


def test_a_model_on_onnx_refuses_what_a_graph_does_not_give(plain_folder: Path) -> None:
    config = {"text": {**OF_TEXTS, "method_output_name": ["hidden_states", 1]}}
    with pytest.raises(ValueError, match=r"A graph gives the last layer only, but 'hidden_states\.1'"):
        Transformer(str(plain_folder), modality_config=config, backend="onnx")
    with pytest.raises(ValueError, match="`backend` must be 'torch', 'onnx' or 'openvino', but is 'onxx'"):
        Transformer(str(plain_folder), backend="onxx")


def test_weights_load_under_the_names_of_every_release(plain_folder: Path, tmp_path: Path) -> None:
    """`0.auto_model.*` before 5.4 and here, `0.model.*` since."""
    other = Path(small_model_folder(tmp_path / "other", seed=1))
    theirs, ours = Reference(str(other), device="cpu"), SentenceTransformer(other, device="cpu")
    assert {name.split(".")[1] for name in theirs.state_dict()} == {"model"}
    for state in (theirs.state_dict(), ours.state_dict()):
        model = SentenceTransformer(plain_folder, device="cpu")
        model.load_state_dict(state)
        np.testing.assert_array_equal(model.encode(TEXTS), ours.encode(TEXTS))
    # What is new there takes the new names alone.
    again = Reference(str(plain_folder), device="cpu")
    again.load_state_dict(
        {name.replace("0.auto_model.", "0.model."): value for name, value in ours.state_dict().items()}
    )
    np.testing.assert_array_equal(again.encode(TEXTS), theirs.encode(TEXTS))
