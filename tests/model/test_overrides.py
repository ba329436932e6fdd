"""What people write on top: methods for reading inputs of every signature, settings of the model, arguments that contradict."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences

from likewise import SentenceTransformer
from likewise.models import Module, Normalize, Pooling, StaticEmbedding, Transformer

TEXTS = [text.upper() for text in sentences(5)]


class TakesAll(SentenceTransformer):
    def preprocess(self, inputs: Any, **kwargs: Any) -> Any:
        return super().preprocess([text.lower() for text in inputs], **kwargs)


class TakesInputs(SentenceTransformer):
    def preprocess(self, inputs: Any) -> Any:  # type: ignore[override]
        return super().preprocess([text.lower() for text in inputs])


class TakesPrompt(SentenceTransformer):
    def preprocess(self, inputs: Any, prompt: Any = None) -> Any:  # type: ignore[override]
        return super().preprocess([text.lower() for text in inputs], prompt)


class Tokenizes(SentenceTransformer):
    def tokenize(self, texts: Any) -> Any:  # type: ignore[override]
        return super().tokenize([text.lower() for text in texts])


@pytest.mark.parametrize("kind", [TakesAll, TakesInputs, TakesPrompt, Tokenizes])
@pytest.mark.parametrize("prompt", [None, "the old "])
def test_a_models_own_way_of_reading_is_called_as_it_takes_its_arguments(
    plain_folder: Path, kind: type[SentenceTransformer], prompt: str | None
) -> None:
    expected = SentenceTransformer(plain_folder, device="cpu").encode(TEXTS, prompt=prompt)
    found = kind(str(plain_folder), device="cpu").encode(TEXTS, prompt=prompt)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def own_transformer(preprocess: Callable[..., Any]) -> type[Transformer]:
    return type("Own", (Transformer,), {"preprocess": preprocess})


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda self, inputs, **kwargs: Transformer.preprocess(self, inputs, **kwargs),
        lambda self, inputs, prompt=None, **kwargs: Transformer.preprocess(self, inputs, prompt, **kwargs),
        lambda self, inputs: Transformer.preprocess(self, inputs),
    ],
)
def test_a_modules_own_way_of_reading_is_called_as_it_takes_its_arguments(
    plain_folder: Path, preprocess: Callable[..., Any]
) -> None:
    expected = SentenceTransformer(plain_folder, device="cpu").encode(TEXTS, prompt="the old ")
    own = own_transformer(preprocess)(str(plain_folder))
    found = SentenceTransformer(modules=[own, Pooling(32)], device="cpu").encode(TEXTS, prompt="the old ")
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_processing_kwargs_reach_an_own_way_of_reading_or_are_refused(plain_folder: Path) -> None:
    given = {"processing_kwargs": {"text": {"max_length": 4}}}
    expected = SentenceTransformer(plain_folder, device="cpu").encode(TEXTS, **given)
    np.testing.assert_allclose(
        TakesAll(str(plain_folder), device="cpu").encode(TEXTS, **given), expected, atol=2e-6
    )
    with pytest.raises(ValueError, match="TakesInputs takes none"):
        TakesInputs(str(plain_folder), device="cpu").encode(TEXTS, **given)


def test_the_configuration_is_that_of_the_transformers_model(plain_folder: Path) -> None:
    model = SentenceTransformer(plain_folder, device="cpu")
    assert model.config is model[0].auto_model.config
    assert model.config.hidden_size == 32
    changed = type(model.config)(hidden_size=32, num_attention_heads=4)
    model.config = changed
    assert model[0].auto_model.config is changed
    without = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer, embedding_dim=8)], device="cpu")
    assert without.config is None
    without.config = changed
    assert without.config is None


def test_arguments_that_contradict_each_other(plain_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = SentenceTransformer(str(plain_folder), modules=[Normalize()], device="cpu")
    assert "is loaded and `modules` are ignored" in caplog.text
    assert [type(module) for module in model] == [Transformer, Pooling]
    with pytest.raises(ValueError, match="`use_auth_token` is its older name"):
        SentenceTransformer(str(plain_folder), token="a", use_auth_token="b")
    with pytest.raises(ValueError, match="Pass `model_name_or_path`, or `modules`"):
        SentenceTransformer()
    assert SentenceTransformer(modules=[Normalize()], device="cpu").dtype is None
    assert model.dtype == torch.float32


def test_the_names_that_scripts_look_for(plain_folder: Path) -> None:
    model = SentenceTransformer(plain_folder, device="cpu")
    assert SentenceTransformer.SUPPORTED_SIMILARITY_FN_NAMES == ("cosine", "dot", "euclidean", "manhattan")
    singles: list[Any] = ["a cat", {"text": "a cat"}, 3]
    lists: list[Any] = [["a cat"], ("a", "cat"), np.array(["a cat"]), []]
    assert [model.is_singular_input(value) for value in singles + lists] == [True] * 3 + [False] * 4
    assert model[0].processor is model.tokenizer is model.processor

    class PairsAreOne(SentenceTransformer):
        def is_singular_input(self, inputs: Any) -> bool:
            return isinstance(inputs, tuple)

    assert PairsAreOne(str(plain_folder), device="cpu").encode(("a cat", "a dog")).shape == (32,)


def test_modules_are_told_when_the_model_is_whole(plain_folder: Path) -> None:
    class Told(Module):
        model: Any = None

        def forward(self, features: Any, **kwargs: Any) -> Any:
            return features

        def on_model_ready(self, model: Any) -> None:
            assert model.max_seq_length == 64
            self.told = model.prompts

    told = Told()
    model = SentenceTransformer(
        modules=[Transformer(str(plain_folder)), Pooling(32), told], prompts={"own": "x"}, device="cpu"
    )
    assert told.told is model.prompts
