"""Merging models: beside mergekit where it is installed, by hand elsewhere, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from sentence_transformers import CrossEncoder as ReferenceReranker
from sentence_transformers import MultiVectorEncoder as ReferenceTokens
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers import SparseEncoder as ReferenceSparse
from small import sentences, small_model_folder

from likewise import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder, models

needs_mergekit = pytest.mark.skipif(find_spec("mergekit") is None, reason="needs mergekit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three fine-tunes of one model, or what passes for them: the first one's weights with noise on them."""
    root = tmp_path_factory.mktemp("merging")
    plain = small_model_folder(root / "plain")
    found = []
    for number in range(3):
        torch.manual_seed(1)
        modules = [models.Transformer(plain), models.Pooling(32), models.Dense(32, 8)]
        model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": f"query {number}: "})
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        model.save(root / str(number))
        found.append(str(root / str(number)))
    return found


def weights(model: Any) -> list[torch.Tensor]:
    """In the order of the modules, which is the same in both libraries."""
    return [
        tensor for _, tensor in sorted(model.state_dict().items(), key=lambda item: item[0].split(".", 2)[-1])
    ]


def check_same_weights(ours: Any, theirs: Any) -> None:
    for own, expected in zip(weights(ours), weights(theirs), strict=True):
        assert own.dtype == expected.dtype
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-6)


def test_linear_is_the_weighted_mean(folders: list[str]) -> None:
    given = [SentenceTransformer(folder, device="cpu") for folder in folders]
    before = [[tensor.clone() for tensor in weights(model)] for model in given]
    merged = SentenceTransformer.merge(given, parameters={"weight": [1, 2, 5]})
    for place, found in enumerate(weights(merged)):
        expected = (before[0][place] + 2 * before[1][place] + 5 * before[2][place]) / 8
        torch.testing.assert_close(found, expected.to(found.dtype), atol=1e-6, rtol=1e-5)
    for model, kept in zip(given, before, strict=True):  # what is merged stays as it was
        assert all(torch.equal(now, then) for now, then in zip(weights(model), kept, strict=True))
        assert not {id(p) for p in model.parameters()} & {id(p) for p in merged.parameters()}
    assert not merged.training
    assert merged.prompts["query"] == "query 0: "


def test_slerp_keeps_to_the_arc(folders: list[str]) -> None:
    from likewise.model.merging import slerp

    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    third = slerp(1 / 3, start, end)
    torch.testing.assert_close(third, 2 * torch.tensor([3**0.5 / 2, 0.5]))
    torch.testing.assert_close(slerp(0.25, start, start * 3), start * 1.5)  # parallel: linear
    torch.testing.assert_close(slerp(0.25, start * 0, end), end * np.sin(np.pi / 8))
    for t, folder in ((0.0, folders[0]), (1.0, folders[1])):
        merged = SentenceTransformer.merge(folders[:2], "slerp", parameters={"t": t})
        check_same_weights(merged, SentenceTransformer(folder, device="cpu"))


def test_a_merged_model_is_saved_and_comes_back(folders: list[str], tmp_path: Path) -> None:
    merged = SentenceTransformer.merge(folders)
    texts = sentences(8)
    expected = merged.encode(texts)
    assert np.abs(expected - SentenceTransformer(folders[0], device="cpu").encode(texts)).max() > 1e-3
    merged.save(tmp_path)
    for load in (SentenceTransformer, Reference):
        np.testing.assert_allclose(load(str(tmp_path), device="cpu").encode(texts), expected, atol=1e-6)


def test_a_model_merged_with_itself_is_itself(folders: list[str]) -> None:
    model = SentenceTransformer(folders[0], device="cpu")
    check_same_weights(SentenceTransformer.merge([model, model]), model)
    check_same_weights(SentenceTransformer.merge([model, model], "slerp"), model)


@needs_mergekit
@pytest.mark.parametrize(
    ("method", "number", "options"),
    [
        ("linear", 3, {}),
        ("linear", 3, {"parameters": {"weight": [0.6, 0.3, 0.2]}}),
        ("linear", 2, {"parameters": {"weight": {0: 0.6, 1: 0.9}, "normalize": False}}),
        ("linear", 2, {"dtype": "float16"}),
        ("linear", 2, {"dtype": None, "out_dtype": torch.bfloat16}),
        ("slerp", 2, {}),
        ("slerp", 2, {"parameters": {"t": 0.3}}),
        ("slerp", 2, {"parameters": {"t": 0.3}, "base_model": 1}),
        ("slerp", 2, {"dtype": torch.float64, "out_dtype": "float32"}),
        ("ties", 3, {"base_model": 0, "parameters": {"density": 0.5}}),
        ("task_arithmetic", 2, {"base_model": 2}),
    ],
)
def test_weights_are_those_of_the_reference(
    folders: list[str], method: str, number: int, options: dict[str, Any]
) -> None:
    if "base_model" in options:
        options = {**options, "base_model": folders[options["base_model"]]}
    ours = SentenceTransformer.merge(folders[:number], method, **options)
    check_same_weights(ours, Reference.merge(folders[:number], method, **options))


@needs_mergekit
@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_batches_of_mergekits_give_the_same_weights(folders: list[str], method: str) -> None:
    from mergekit.merge_methods import BatchOptions

    plain = SentenceTransformer.merge(folders[:2], method)
    check_same_weights(
        SentenceTransformer.merge(folders[:2], method, batch_options=BatchOptions(max_groups=1)), plain
    )


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_rerankers_are_merged_as_the_references_are(tmp_path: Path, method: str) -> None:
    plain = small_model_folder(tmp_path / "plain")
    for number in range(2):
        torch.manual_seed(number)  # of the head
        CrossEncoder(plain, num_labels=1, device="cpu").save_pretrained(tmp_path / str(number))
    folders = [str(tmp_path / "0"), str(tmp_path / "1")]
    pairs = list(zip(sentences(8), sentences(8, seed=1), strict=True))
    ours, theirs = (library.merge(folders, method) for library in (CrossEncoder, ReferenceReranker))
    assert type(ours) is CrossEncoder
    np.testing.assert_allclose(ours.predict(pairs), theirs.predict(pairs), atol=1e-6)
    assert np.abs(ours.predict(pairs) - CrossEncoder(folders[0], device="cpu").predict(pairs)).max() > 1e-4
    with pytest.raises(TypeError, match="should be a CrossEncoder"):
        CrossEncoder.merge([ours, SentenceTransformer(plain, device="cpu")])


@pytest.mark.parametrize("method", ["linear", "slerp"])
@pytest.mark.parametrize(
    ("family", "theirs", "head"),
    [(SparseEncoder, ReferenceSparse, "ForMaskedLM"), (MultiVectorEncoder, ReferenceTokens, "")],
)
def test_models_of_the_other_families_are_merged_as_the_references_are(
    tmp_path: Path, method: str, family: Any, theirs: Any, head: str
) -> None:
    folders = [str(tmp_path / name) for name in "ab"]
    for number, folder in enumerate(folders):
        plain = small_model_folder(tmp_path / f"plain {number}", seed=number, head=head)
        family(plain, device="cpu").save_pretrained(folder)
    models = [library.merge(folders, method) for library in (family, theirs)]
    own, expected, first = (
        [text.to_dense() for text in model.encode(sentences(5))]
        for model in (*models, family(folders[0], device="cpu"))
    )
    for found, wanted, other in zip(own, expected, first, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(found, other, atol=1e-3)


def test_a_buffer_that_is_trained_stays_so(folders: list[str]) -> None:
    model = SentenceTransformer(folders[0], device="cpu")
    model.register_buffer("running", torch.ones(2, requires_grad=True))
    model.register_buffer("alias", model.running)
    merged = SentenceTransformer.merge([model, model])
    assert merged.running.requires_grad
    assert merged.running is merged.alias
    assert merged.running is not model.running


def test_without_mergekit_its_methods_are_refused(
    folders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mergekit", None)
    with pytest.raises(ImportError, match=r"there are 'linear' and 'slerp'.*likewise\[merge\]"):
        SentenceTransformer.merge(folders, "ties", base_model=folders[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"models": f[:1]}, "at least two models"),
        (lambda f: {"models": f[0]}, "at least two models"),
        (lambda f: {"models": [f[0], 3]}, "Model 1 is a int"),
        (lambda f: {"models": f, "method": "slerp"}, "between two models, but there are 3"),
        (lambda f: {"models": f, "base_model": f[0]}, "has no base"),
        (lambda f: {"models": f, "parameters": {"weights": 1}}, "has no parameter 'weights', only normalize, weight"),
        (lambda f: {"models": f, "parameters": {"weight": [1, 2]}}, "one weight for each of the 3 models"),
        (lambda f: {"models": f, "parameters": {"weight": {0: 1, 7: 2, 2: 1}}}, "one weight for each of the 3"),
        (lambda f: {"models": f, "parameters": {"weight": [1, -1, 0]}}, "must not add up to 0"),
        (lambda f: {"models": f, "dtype": "int8"}, "`dtype` must be None, float16"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    folders: list[str], change: Callable[[list[str]], dict[str, Any]], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        SentenceTransformer.merge(**change(folders))


def test_models_that_do_not_fit_are_refused(folders: list[str], tmp_path: Path) -> None:
    first = SentenceTransformer(folders[0], device="cpu")

    def other(*modules: Any) -> SentenceTransformer:
        return SentenceTransformer(modules=list(modules), device="cpu")

    wide = small_model_folder(tmp_path / "wide", intermediate_size=64)
    for model, message in (
        (other(*list(first)[:2]), "other modules"),
        (other(first[0], models.Pooling(32, "cls"), first[2]), "settings of module '1'"),
        (other(first[0], first[1], models.Normalize()), "other modules"),
        (other(models.Transformer(wide), first[1], first[2]), "settings of module '0.*' of model 1"),
    ):
        with pytest.raises(ValueError, match=message):
            SentenceTransformer.merge([first, model])
    adapted, again = (SentenceTransformer(folders[0], device="cpu") for _ in range(2))
    adapted.add_adapter(LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="Model 1 has adapters"):
        SentenceTransformer.merge([first, adapted])
    again.tokenizer.add_tokens(["kumquat"])
    with pytest.raises(ValueError, match="vocabulary of model 1"):
        SentenceTransformer.merge([first, again])
