"""ONNX and OpenVINO backends of CrossEncoders give torch's scores; graphs are saved, found, optimised and quantised."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import pairs_of_texts, reranker_folder
from small import small_model_folder
from test_chat_templates import FLAT, chat_folder

from likewise import (
    CrossEncoder,
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from likewise.cross_encoder.modules import Dense, LogitScore, Pooling, Transformer

PAIRS = pairs_of_texts(20)
RAW: dict[str, Any] = {"activation_fn": torch.nn.Identity()}
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino", "nncf")}
FILES = {"onnx": ["model.onnx"], "openvino": ["openvino_model.bin", "openvino_model.xml"]}
BACKENDS = ("onnx", "openvino")


def needs(backend: str) -> None:
    """Skip the test where a package of the backend is not installed."""
    for package in PACKAGES[backend]:
        pytest.importorskip(package)


def load(folder: str | Path, backend: str = "torch", **model_kwargs: Any) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu", backend=backend, model_kwargs=model_kwargs)


def check_graph(folder: str | Path, backend: str, saved: Path) -> CrossEncoder:
    """A graph gives torch's scores, is saved with its model, and gives them again."""
    needs(backend)
    plain, model = load(folder), load(folder, backend)
    expected = plain.predict(PAIRS, **RAW)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(model.predict(PAIRS, **RAW), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(model.predict(PAIRS), plain.predict(PAIRS), atol=1e-5)
    assert model.num_labels == plain.num_labels
    assert model.max_seq_length == plain.max_seq_length
    assert model.backend == backend
    model.save(saved)
    assert not list(saved.glob("*.safetensors"))
    assert sorted(path.name for path in (saved / backend).iterdir()) == FILES[backend]
    again = load(saved, backend, export=False)
    np.testing.assert_array_equal(again.predict(PAIRS, **RAW), model.predict(PAIRS, **RAW))
    assert again.num_labels == plain.num_labels
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return reranker_folder(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def exported(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, saved with its ONNX graph."""
    needs("onnx")
    saved = tmp_path_factory.mktemp("saved")
    load(folder, "onnx").save(saved)
    return saved


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_gives_the_models_scores(backend: str, folder: str, tmp_path: Path) -> None:
    check_graph(folder, backend, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),  # OpenVINO reads the ONNX graph
    [
        *(
            (name, "onnx")
            for name in ("roberta", "distilbert", "electra", "mpnet", "modernbert-mean", "qwen3")
        ),
        ("modernbert-mean", "openvino"),
        ("qwen3", "openvino"),
    ],
)
def test_so_do_graphs_of_other_architectures(name: str, backend: str, tmp_path: Path) -> None:
    check_graph(reranker_folder(tmp_path / "plain", name), backend, tmp_path / "saved")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_may_give_several_labels(backend: str, tmp_path: Path) -> None:
    check_graph(reranker_folder(tmp_path / "plain", num_labels=3), backend, tmp_path / "saved")


def test_a_new_head_is_exported_with_its_encoder(tmp_path: Path) -> None:
    needs("onnx")
    folder = reranker_folder(tmp_path / "plain", task="")
    model = CrossEncoder(folder, num_labels=3, device="cpu", backend="onnx")
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", "onnx", export=False)
    assert again.num_labels == 3
    np.testing.assert_array_equal(again.predict(PAIRS), model.predict(PAIRS))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_language_model_gives_its_last_logits(backend: str, tmp_path: Path) -> None:
    model = check_graph(chat_folder(tmp_path / "plain", FLAT), backend, tmp_path / "saved")
    assert isinstance(model[1], LogitScore)


def test_a_language_models_graph_of_every_token_is_read_at_the_last(tmp_path: Path) -> None:
    """As other exporters write it."""
    needs("onnx")
    from likewise.cross_encoder.load_head import load_with_head
    from likewise.modules.graphs import FirstOutput, GraphPart, export
    from likewise.modules.pretrained import load_config

    folder = chat_folder(tmp_path, FLAT)
    eager = {"attn_implementation": "eager"}
    whole = load_with_head("text-generation", folder, load_config(folder, {}, False), eager).eval()
    part = GraphPart(lambda *load: whole, FirstOutput, "logits", by_token=True)
    (tmp_path / "onnx").mkdir()
    export(whole, tmp_path / "onnx" / "model.onnx", "onnx", part)
    model = load(folder, "onnx", export=False)
    np.testing.assert_allclose(
        model.predict(PAIRS, **RAW), load(folder).predict(PAIRS, **RAW), atol=1e-5, rtol=1e-5
    )


def test_an_encoder_before_pooling_and_dense_may_be_a_graph(tmp_path: Path) -> None:
    needs("onnx")
    first = Transformer(small_model_folder(tmp_path / "plain"), transformer_task="feature-extraction")
    dense = Dense(32, 1, activation_function=None, module_output_name="scores")
    CrossEncoder(modules=[first, Pooling(32, "mean"), dense], device="cpu").save(tmp_path / "saved")
    model = load(tmp_path / "saved", "onnx")
    np.testing.assert_allclose(model.predict(PAIRS), load(tmp_path / "saved").predict(PAIRS), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "tolerance"), [("O1", 1e-5), ("O2", 1e-5), ("O3", 1e-3), ("O4", 1e-2)])
def test_an_optimised_graph_computes_the_same(
    level: str, tolerance: float, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "model")
    model = load(exported, "onnx")
    export_optimized_onnx_model(model, level, str(tmp_path / "model"))
    optimised = load(tmp_path / "model", "onnx", file_name=f"onnx/model_{level}.onnx")
    np.testing.assert_allclose(optimised.predict(PAIRS), model.predict(PAIRS), atol=tolerance)


@pytest.mark.slow
def test_quantised_graphs_are_close(exported: Path, folder: str, tmp_path: Path) -> None:
    needs("openvino")
    expected = load(exported, "onnx").predict(PAIRS, **RAW)
    shutil.copytree(exported, tmp_path / "model")
    export_dynamic_quantized_onnx_model(load(exported, "onnx"), "avx2", str(tmp_path / "model"))
    found = load(tmp_path / "model", "onnx", file_name="model_quint8_avx2.onnx").predict(PAIRS, **RAW)
    assert np.abs(found - expected).max() > 1e-6
    assert np.corrcoef(found, expected)[0, 1] > 0.98
    model = load(folder, "openvino")
    model.save(tmp_path / "openvino")
    # Without it products of 8 bits overflow where the processor has no VNNI, and 0.85 is what is left.
    room = {"overflow_fix": "enable"}
    export_static_quantized_openvino_model(model, room, str(tmp_path / "openvino"), texts=PAIRS)
    found = load(tmp_path / "openvino", "openvino", file_name="openvino_model_qint8_quantized.xml").predict(
        PAIRS, **RAW
    )
    assert np.abs(found - expected).max() > 1e-6
    assert np.corrcoef(found, expected)[0, 1] > 0.98


def test_scores_in_files_know_the_graph(exported: Path, tmp_path: Path) -> None:
    model = load(exported, "onnx")
    found = model.predict(PAIRS, out=tmp_path / "scores.npy")
    np.testing.assert_array_equal(model.predict(PAIRS, out=tmp_path / "scores.npy"), found)
    with pytest.raises(ValueError, match="other weights"):
        load(reranker_folder(tmp_path / "other", seed=1), "onnx").predict(PAIRS, out=tmp_path / "scores.npy")


def test_a_graph_of_the_other_family_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gives 'logits', but 'last_hidden_state' is needed"):
        SentenceTransformer(exported, device="cpu", backend="onnx")
    dense = SentenceTransformer(small_model_folder(tmp_path / "dense"), device="cpu", backend="onnx")
    dense.save(str(tmp_path / "saved"))
    with pytest.raises(
        ValueError, match=r"gives 'last_hidden_state', but 'logits' is needed: .*model_kwargs"
    ):
        load(tmp_path / "saved", "onnx")


def test_a_graph_of_other_labels_is_refused(exported: Path) -> None:
    model = CrossEncoder(exported, num_labels=3, device="cpu", backend="onnx")
    with pytest.raises(ValueError, match=r"gives \(2, 1\) for 2 pairs, but expected were logits \(2, 3\)"):
        model.predict(PAIRS[:2])


def test_what_exporting_needs_is_named(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'must be loaded with `CrossEncoder\(name, backend="onnx"\)`'):
        export_optimized_onnx_model(load(folder), "O1", str(tmp_path))
    with pytest.raises(
        ValueError, match="`backend` must be 'torch', 'onnx' or 'openvino', but is 'tensorrt'"
    ):
        load(folder, "tensorrt")
