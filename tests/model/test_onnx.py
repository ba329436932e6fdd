"""The ONNX backend gives torch's embeddings; its graph is saved, loaded again and quantised."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from small import sentences, small_model_folder

from likewise import SentenceTransformer
from likewise.backend import export_dynamic_quantized_onnx_model
from likewise.similarity import pairwise_cos_sim

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TEXTS = [*sentences(12), ""]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_graph_is_exported_saved_loaded_and_quantised(tmp_path: Path) -> None:
    folder = small_model_folder(tmp_path / "plain")
    expected = SentenceTransformer(folder, device="cpu").encode(TEXTS)
    model = SentenceTransformer(folder, device="cpu", backend="onnx")
    assert model.max_seq_length == 64
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-6)
    pairs = [("a cat", "sees the dog")]
    np.testing.assert_allclose(
        model.encode(pairs), SentenceTransformer(folder, device="cpu").encode(pairs), atol=2e-6
    )
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "onnx" / "model.onnx").exists()
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    again = SentenceTransformer(tmp_path / "saved", device="cpu", backend="onnx")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-6)
    copied = pickle.loads(pickle.dumps(again[0].auto_model))
    assert copied.path == again[0].auto_model.path

    export_dynamic_quantized_onnx_model(again, "avx2", str(tmp_path / "saved"))
    options = {"file_name": "model_qint8_avx2.onnx"}
    int8 = SentenceTransformer(tmp_path / "saved", device="cpu", backend="onnx", model_kwargs=options)
    found = int8.encode(TEXTS)
    assert np.abs(found - expected).max() > 1e-6
    assert pairwise_cos_sim(found, expected).min() > 0.98

    (tmp_path / "saved" / "onnx" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.onnx cannot be read"):
        SentenceTransformer(tmp_path / "saved", device="cpu", backend="onnx")
    with pytest.raises(ValueError, match="must be one of arm64"):
        export_dynamic_quantized_onnx_model(int8, "sse", str(tmp_path))


def test_what_the_onnx_backend_cannot_do_is_named(tmp_path: Path) -> None:
    folder = small_model_folder(tmp_path)
    with pytest.raises(ValueError, match="`backend` must be 'torch' or 'onnx', but is 'tensorrt'"):
        SentenceTransformer(folder, backend="tensorrt")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"no other\.onnx in"):
        SentenceTransformer(folder, backend="onnx", model_kwargs={"file_name": "other.onnx"})
    with pytest.raises(ValueError, match="`model_kwargs` has torch_dtype"):
        SentenceTransformer(folder, backend="onnx", model_kwargs={"torch_dtype": "auto"})
    with pytest.raises(ValueError, match="not an ONNX one"):
        export_dynamic_quantized_onnx_model(SentenceTransformer(folder, device="cpu"), "avx2", folder)
