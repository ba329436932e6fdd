"""TSDAE: the decoder restores the original from the embedding, sharing the encoder's weights."""

from __future__ import annotations

import logging
import math
import random
import warnings
from typing import Any

import pytest
import torch
from losses_common import assert_same_gradients, batch_of, gradients, texts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sentence_transformers.sentence_transformer.losses as reference
    from sentence_transformers import SentenceTransformer as ReferenceModel

from likewise.engine.embed import Embed
from likewise.losses import DenoisingAutoEncoderLoss
from likewise.losses.denoising_auto_encoder import DenoisingAutoEncoderDataset


@pytest.mark.parametrize("tied", [True, False])
def test_value_and_gradients_equal_the_references(tied: bool, model: Any, folder: str) -> None:
    arguments = {} if tied else {"decoder_name_or_path": folder, "tie_encoder_decoder": False}
    data = texts(6, 2)
    loss = DenoisingAutoEncoderLoss(model, **arguments)  # type: ignore[arg-type]
    theirs = ReferenceModel(folder, device="cpu").eval()
    their_loss = reference.DenoisingAutoEncoderLoss(theirs, **arguments)
    # The cross attention and the head are new, and random.
    loss.decoder.load_state_dict(their_loss.decoder.state_dict())
    found = loss(batch_of(model, data))
    expected = their_loss([theirs.preprocess(column) for column in data], None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.item() == pytest.approx(math.log(len(model.tokenizer)), rel=0.1)  # type: ignore[union-attr]
    wanted = gradients(expected, theirs[0].auto_model)
    assert_same_gradients(gradients(found, model[0].auto_model), wanted)
    assert loss.get_config_dict() == their_loss.get_config_dict()
    assert loss.citation == their_loss.citation


def test_a_tied_decoder_shares_the_encoders_weights_as_they_are_head_included(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # no longer what is on disk
    before = {name: p.clone() for name, p in model.named_parameters()}
    loss = DenoisingAutoEncoderLoss(model)
    encoder = dict(model[0].auto_model.named_parameters())
    body = dict(loss.decoder.bert.named_parameters())
    assert all(body[name] is encoder[name] for name in body if "crossattention" not in name)
    assert loss.decoder.get_output_embeddings().weight is encoder["embeddings.word_embeddings.weight"]
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    own = {name for name, p in loss.named_parameters() if not name.startswith("model.")}
    assert own
    assert all("crossattention" in name or "cls" in name for name in own)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_has_a_decoder_in_the_same(dtype: torch.dtype, model: Any) -> None:
    loss = DenoisingAutoEncoderLoss(model.to(dtype))
    assert {parameter.dtype for parameter in loss.parameters()} == {dtype}
    found = loss(batch_of(model, texts(4, 2)))
    assert found.dtype == torch.float32  # type: ignore[union-attr]
    assert all(gradient.isfinite().all() for gradient in gradients(found, loss).values())


def test_padded_columns_give_the_same_as_packed_ones(model: Any) -> None:
    data = texts(5, 2)
    loss = DenoisingAutoEncoderLoss(model)
    padded = [model.tokenize(column) | {"extra": torch.ones(5)} for column in data]
    torch.testing.assert_close(loss(padded), loss(batch_of(model, data)))


def test_a_decoder_of_another_kind_gets_the_originals_in_its_own_tokens(
    model: Any, folder: str, tmp_path: Any
) -> None:
    from small import small_tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=80, eos_token_id=4, bos_token_id=4
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    backend = small_tokenizer()._tokenizer
    GPT2TokenizerFast(tokenizer_object=backend, eos_token="[SEP]", pad_token=None).save_pretrained(tmp_path)
    loss = DenoisingAutoEncoderLoss(model, str(tmp_path), tie_encoder_decoder=False)
    assert loss.need_retokenization
    assert loss.tokenizer_decoder.pad_token == "[SEP]"
    data = [["a cat", "the dog"], ["a cat", "the old dog sees a bird"]]
    original = loss.context(batch_of(model, data), Embed())["original"]
    wanted = loss.tokenizer_decoder(data[1], padding=True, return_tensors="pt")["input_ids"]
    assert torch.equal(original, wanted)
    found = gradients(loss(batch_of(model, texts(4, 2))), loss)
    assert any(name.startswith("model.") and gradient.abs().max() > 0 for name, gradient in found.items())


def test_what_gives_no_decoder_is_refused(
    model: Any, folder: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from small import small_model_folder

    with pytest.raises(ValueError, match="Pass `decoder_name_or_path`"):
        DenoisingAutoEncoderLoss(model, tie_encoder_decoder=False)
    small = small_model_folder(tmp_path, hidden_size=16)
    with pytest.raises(ValueError, match="has hidden size 16, but the model 32"):
        DenoisingAutoEncoderLoss(model, small, tie_encoder_decoder=False)
    with caplog.at_level(logging.WARNING, "likewise"):
        loss = DenoisingAutoEncoderLoss(model, small)
    assert "`decoder_name_or_path` has no effect" in caplog.text
    with pytest.raises(ValueError, match="needs the `original` tokens"):
        loss.compute([torch.ones(2, 32)])
    model[0].auto_model.config._name_or_path = ""
    with pytest.raises(ValueError, match="Save the model and load it from its folder"):
        DenoisingAutoEncoderLoss(model)


def test_the_data_set_damages_texts_anew_each_time_and_keeps_the_originals() -> None:
    text = "One, two; three: four five six (seven) eight nine ten."
    data = DenoisingAutoEncoderDataset([text, "", "word"])
    random.seed(1)
    damaged = [data[0].texts[0] for _ in range(20)]
    assert len(data) == 3
    assert len(set(damaged)) > 10
    assert {data[0].texts[1]} == {text}
    kept = sum(len(one.split()) for one in damaged) / 20 / len(text.split())
    assert 0.2 < kept < 0.7
    assert data[1].texts == ["", ""]
    assert data[2].texts == ["word", "word"]  # at least one word is left
    assert DenoisingAutoEncoderDataset.delete(text, 0.0) == text
    assert DenoisingAutoEncoderDataset([text], noise_fn=str.upper)[0].texts == [text.upper(), text]
