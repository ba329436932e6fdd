"""`encode` of SparseEncoders and what is done with what it gives, against the reference on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model_folder
from sparse_common import apart, small_csr, small_splade

from likewise import export_dynamic_quantized_onnx_model
from likewise.modules import Transformer
from likewise.sparse_encoder import SparseEncoder
from likewise.sparse_encoder.modules import SpladePooling

reference = pytest.importorskip("sentence_transformers")
TEXTS = sentences(15, seed=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sparse")
    small_splade(path, prompts={"query": "a cat ", "passage": "the dog "}).save(str(path / "splade"))
    small_csr(path).save(str(path / "csr"))
    return path


@pytest.fixture(params=["splade", "csr"])
def pair(folder: Path, request: Any) -> tuple[SparseEncoder, Any]:
    path = str(folder / request.param)
    return SparseEncoder(path, device="cpu"), reference.SparseEncoder(path, device="cpu")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"convert_to_sparse_tensor": False},
        {"max_active_dims": 3},
        {"prompt": "rain "},
        {"batch_size": 2, "save_to_cpu": True},
    ],
)
def test_encode_gives_the_tensors_of_the_reference(pair: Any, arguments: dict[str, Any]) -> None:
    found, expected = (model.encode(TEXTS, **arguments) for model in pair)
    assert found.is_sparse == expected.is_sparse
    assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)
    assert apart(found, expected) < 2e-5


def test_tasks_take_their_prompts(pair: Any) -> None:
    for name in ("encode_query", "encode_document"):
        found, expected = (getattr(model, name)(TEXTS) for model in pair)
        assert apart(found, expected) < 2e-5


def test_lists_and_single_texts_and_none_at_all_have_the_references_shapes(pair: Any) -> None:
    for sparse in (True, False):
        ours, theirs = (
            [
                *model.encode(TEXTS[:3], convert_to_tensor=False, convert_to_sparse_tensor=sparse),
                model.encode(TEXTS[0], convert_to_sparse_tensor=sparse),
                model.encode([], convert_to_sparse_tensor=sparse),
            ]
            for model in pair
        )
        for found, expected in zip(ours, theirs, strict=True):
            assert (found.shape, found.is_sparse) == (expected.shape, expected.is_sparse)
            assert not expected.numel() or apart(found, expected) < 2e-5


def test_a_text_without_words_and_one_that_is_too_long(pair: Any) -> None:
    texts = ["", "cat " * 100]
    assert apart(*(model.encode(texts) for model in pair)) < 2e-5


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_those_of_the_reference_for_sparse_and_dense(pair: Any, name: str) -> None:
    for sparse in (True, False):
        ours, theirs = (model.encode(TEXTS, convert_to_sparse_tensor=sparse) for model in pair)
        for model in pair:
            model.similarity_fn_name = name
        for method in ("similarity", "similarity_pairwise"):
            found = getattr(pair[0], method)(
                ours[:5] if not sparse else ours, ours[:5] if not sparse else ours
            )
            dense = theirs.to_dense()
            other = dense[:5] if not sparse else dense
            expected = getattr(pair[1], method)(other, other)
            assert not found.is_sparse
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-2 if name == "euclidean" else 1e-3)


def test_decode_names_the_tokens_heaviest_first(pair: Any) -> None:
    embeddings = pair[1].encode(TEXTS[:4])
    for given in (embeddings, embeddings.to_dense(), embeddings[0], embeddings[0].to_dense()):
        for top_k in (None, 5):
            try:
                expected = pair[1].decode(given, top_k=top_k)
            except Exception:
                pytest.skip("the reference has no words for latents")
            found = pair[0].decode(given, top_k=top_k)
            rows = zip(*((x if isinstance(x[0], list) else [x]) for x in (found, expected)), strict=True)
            for ours, theirs in rows:
                assert [w for _, w in ours] == pytest.approx([w for _, w in theirs])
                assert dict(ours) == pytest.approx(dict(theirs))


@pytest.mark.filterwarnings("ignore:Sparse")  # of the reference's way to count and to multiply
def test_sparsity_and_intersection_are_those_of_the_reference(pair: Any) -> None:
    embeddings = pair[1].encode(TEXTS)
    for given in (embeddings, embeddings.to_dense(), embeddings[0], torch.empty(0)):
        assert pair[0].sparsity(given) == pytest.approx(pair[1].sparsity(given), abs=1e-6)
    for other in (embeddings[1], embeddings):
        found, expected = (model.intersection(embeddings[0], other) for model in pair)
        assert apart(found, expected) < 1e-6


def test_two_processes_encode_as_one(folder: Path) -> None:
    model = SparseEncoder(str(folder / "splade"), device="cpu")
    expected = model.encode(TEXTS, max_active_dims=9)
    with model.start_multi_process_pool(["cpu", "cpu"]) as pool:
        found = model.encode(TEXTS, pool=pool, chunk_size=4, max_active_dims=9)
    assert apart(found, expected) < 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(TEXTS, convert_to_numpy=True), "encode\\(\\) got convert_to_numpy"),
        (lambda m: m.encode(TEXTS, normalize_embeddings=True), "normalize_embeddings"),
        (lambda m: m.encode(TEXTS, truncate_dim=3), "truncate_dim"),
        (lambda m: m.encode(TEXTS, max_active_dims=0), "`max_active_dims` must be .* but is 0"),
        (lambda m: m.encode(TEXTS, batch_size=0), "`batch_size` must be a whole number of at least 1"),
        (lambda m: m.decode(m.encode(TEXTS), top_k=0), "`top_k` must be a whole number of at least 1"),
        (lambda m: m.intersection(torch.ones(2), torch.ones(3)), "takes \\(V,\\)"),
        (lambda m: setattr(m, "similarity_fn_name", "maxsim"), "no similarity function 'maxsim'"),
        (lambda m: SparseEncoder(modules=list(m), max_active_dims=-1), "`max_active_dims` must be"),
        (lambda m: SparseEncoder(), "Pass `model_name_or_path`"),
        (lambda m: SparseEncoder(modules=list(m), backend="jax"), "`backend` must be .* but is 'jax'"),
    ],
)
def test_bad_arguments_are_refused_in_words(folder: Path, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(SparseEncoder(str(folder / "splade"), device="cpu"))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_of_logits_gives_the_models_embeddings(folder: Path, tmp_path: Path, backend: str) -> None:
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}[backend]:
        pytest.importorskip(package)
    plain = SparseEncoder(str(folder / "splade"), device="cpu")
    model = SparseEncoder(str(folder / "splade"), device="cpu", backend=backend)
    assert model.backend == backend
    assert apart(model.encode_query(TEXTS), plain.encode_query(TEXTS)) < 1e-4
    padded = [one(dict(one.tokenize(TEXTS)))["sentence_embedding"] for one in (model, plain)]
    assert apart(*padded) < 1e-4
    model.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert not list((tmp_path / "saved").glob("*.safetensors"))
    loaded = {"backend": backend, "model_kwargs": {"export": False}, "device": "cpu"}
    again = SparseEncoder(str(tmp_path / "saved"), **loaded)
    assert apart(again.encode(TEXTS), model.encode(TEXTS)) == 0
    if backend == "onnx":
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(tmp_path / "saved"))
        assert (tmp_path / "saved" / "onnx" / "model_qint8_avx512_vnni.onnx").is_file()
    with pytest.raises(ValueError, match=r"gives 'logits', but 'last_hidden_state' is needed"):
        Transformer(str(tmp_path / "saved"), backend=backend, model_args={"export": False})


def test_what_is_no_text_and_no_tensor_is_refused_by_its_type(folder: Path) -> None:
    model = SparseEncoder(str(folder / "splade"), device="cpu")
    with pytest.raises(TypeError, match="Text 1 is 3"):
        model.encode(["a cat", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="must be a tensor, but is list"):
        model.sparsity([1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a tensor, as `encode` gives, but is ndarray"):
        model.decode(np.ones(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_gives_embeddings_of_its_precision(
    folder: Path, dtype: torch.dtype
) -> None:
    made = {"device": "cpu", "model_kwargs": {"dtype": dtype}}
    ours, theirs = (kind(str(folder / "splade"), **made) for kind in (SparseEncoder, reference.SparseEncoder))
    for options in ({}, {"convert_to_sparse_tensor": False}):
        found, expected = (model.encode(TEXTS, **options) for model in (ours, theirs))
        assert (
            (found.dtype, found.is_sparse) == (expected.dtype, expected.is_sparse) == (dtype, found.is_sparse)
        )
        assert apart(found.float(), expected.float()) < 0.1 * float(expected.to_dense().max())
    embeddings = ours.encode(TEXTS)
    assert ours.similarity(embeddings, embeddings).dtype == torch.float32
    assert ours.encode(TEXTS, max_active_dims=3).dtype == dtype
    assert ours.decode(embeddings[0], top_k=1)


def test_a_damaged_setting_is_named_with_its_file(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(folder / "splade", tmp_path / "copy")
    path = tmp_path / "copy" / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_active_dims": "many"}))
    with pytest.raises(
        ValueError, match=r"`max_active_dims` in .*config_sentence_transformers\.json should be"
    ):
        SparseEncoder(str(tmp_path / "copy"))


def test_the_card_says_what_the_model_is(folder: Path) -> None:
    text = (folder / "splade" / "README.md").read_text()
    assert "SPLADE Sparse Encoder" in text
    assert "- sparse-encoder" in text
    assert "- splade" in text
    assert "model.encode_query(queries)" in text
    assert "pipeline_tag: feature-extraction" in text
    text = (folder / "csr" / "README.md").read_text()
    assert "CSR Sparse Encoder" in text
    assert "at most 8 active ones" in text


def test_splade_pooling_behind_a_plain_transformer_is_refused(tmp_path: Path) -> None:
    folder = small_model_folder(tmp_path / "plain")
    with pytest.raises(
        ValueError, match=r"a Transformer gives token embeddings\. Put `likewise.*MLMTransformer"
    ):
        SparseEncoder(modules=[Transformer(folder), SpladePooling("max")], device="cpu")
    with pytest.raises(ValueError, match=r"is 'fill-mask'\. Drop it; a masked language model's head has"):
        Transformer(folder, transformer_task="fill-mask")
