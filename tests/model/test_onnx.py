"""ONNX and OpenVINO backends give torch's embeddings; graphs are saved, found, optimised, quantised and uploaded."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import sentences, small_model_folder

from likewise import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
    export_static_quantized_openvino_model,
)
from likewise.backend import OptimizationConfig, QuantizationConfig
from likewise.modules import graphs
from likewise.similarity import pairwise_cos_sim

TEXTS = [*sentences(12), ""]
MODERN = {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "mpnet": {},
    "distilbert": {},
    "modernbert": MODERN | {"num_hidden_layers": 4, "eos_token_id": 3, "bos_token_id": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8, "eos_token_id": 3, "bos_token_id": 2},
}
TOLERANCES = {"onnx": 1e-5, "openvino": 1e-4}
OPTIMISED_TOLERANCES = {"O1": 1e-5, "O2": 1e-5, "O3": 1e-3, "O4": 1e-2}


def needs(backend: str) -> None:
    """Skip the test where a package of the backend is not installed."""
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino", "nncf")}[backend]:
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plain BERT."""
    return small_model_folder(tmp_path_factory.mktemp("plain") / "bert")


@pytest.fixture(scope="module")
def exported(folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, saved with its ONNX graph."""
    needs("onnx")
    saved = tmp_path_factory.mktemp("saved") / "bert"
    load(folder, "onnx").save(saved)
    return saved


def load(folder: str | Path, backend: str = "torch", **model_kwargs: Any) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=model_kwargs)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_graph_gives_the_models_embeddings(architecture: str, backend: str, tmp_path: Path) -> None:
    needs(backend)
    folder = small_model_folder(tmp_path / "plain", architecture, **ARCHITECTURES[architecture])
    expected = load(folder).encode(TEXTS)
    model = load(folder, backend)
    assert model.max_seq_length == load(folder).max_seq_length
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=TOLERANCES[backend])
    model.save(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.safetensors"))
    files = {"onnx": ["model.onnx"], "openvino": ["openvino_model.bin", "openvino_model.xml"]}
    assert sorted(path.name for path in (tmp_path / "saved" / backend).iterdir()) == files[backend]
    again = load(tmp_path / "saved", backend, export=False)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_pairs_types_and_token_embeddings(folder: str, backend: str) -> None:
    needs(backend)
    plain, model = load(folder), load(folder, backend)
    pairs = [("a cat", "sees the dog"), ("snow", "")]
    np.testing.assert_allclose(model.encode(pairs), plain.encode(pairs), atol=TOLERANCES[backend])
    expected = plain.encode(TEXTS, output_value="token_embeddings")
    for found, wanted in zip(model.encode(TEXTS, output_value="token_embeddings"), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=TOLERANCES[backend], rtol=0)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_goes_to_other_processes_by_its_file(folder: str, backend: str) -> None:
    needs(backend)
    model = load(folder, backend)
    copied = pickle.loads(pickle.dumps(model[0].auto_model))
    assert copied.path == model[0].auto_model.path
    batch = model[0].token_sequences(TEXTS[:3]).pack()
    assert torch.equal(copied(batch)[0], model[0].auto_model(batch)[0])


def test_the_folder_of_an_export_goes_with_the_model(folder: str) -> None:
    needs("onnx")
    model = load(folder, "onnx")
    path = model[0].auto_model.path
    assert path.is_file()
    del model
    assert not path.parent.exists()


def test_a_graph_is_found_by_name_and_folder(exported: Path, tmp_path: Path) -> None:
    expected = load(exported, "onnx").encode(TEXTS)
    shutil.copytree(exported, tmp_path / "model")
    place = tmp_path / "model" / "onnx"
    (place / "model.onnx").rename(place / "model_mine.onnx")
    for name in ("model_mine.onnx", "onnx/model_mine.onnx"):
        np.testing.assert_array_equal(
            load(tmp_path / "model", "onnx", file_name=name).encode(TEXTS), expected
        )
    (tmp_path / "model" / "deep").mkdir()
    place.rename(tmp_path / "model" / "deep" / "onnx")
    options = {"subfolder": "deep", "file_name": "model_mine.onnx"}
    np.testing.assert_array_equal(load(tmp_path / "model", "onnx", **options).encode(TEXTS), expected)
    with pytest.raises(FileNotFoundError, match=r"It has deep/onnx/model_mine\.onnx: name one"):
        load(tmp_path / "model", "onnx", file_name="model_O3.onnx")
    with pytest.raises(FileNotFoundError, match=r"neither model\.onnx nor onnx/model\.onnx"):
        load(tmp_path / "model", "onnx", export=False)


@pytest.mark.slow
@pytest.mark.parametrize("level", OPTIMISED_TOLERANCES)
def test_an_optimised_graph_computes_the_same(level: str, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "model")
    model = load(exported, "onnx")
    export_optimized_onnx_model(model, level, str(tmp_path / "model"))
    optimised = load(tmp_path / "model", "onnx", file_name=f"onnx/model_{level}.onnx")
    np.testing.assert_allclose(optimised.encode(TEXTS), model.encode(TEXTS), atol=OPTIMISED_TOLERANCES[level])
    kinds = kinds_of_nodes(tmp_path / "model" / "onnx" / f"model_{level}.onnx")
    assert ("Attention" in kinds) == (level != "O1")
    halves = (tmp_path / "model" / "onnx" / f"model_{level}.onnx").stat().st_size
    whole = (exported / "onnx" / "model.onnx").stat().st_size
    assert (halves < 0.6 * whole) == (level == "O4")


def kinds_of_nodes(path: Path) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["arm64", "avx2", "avx512", "avx512_vnni"])
def test_a_quantised_graph_is_close(processor: str, exported: Path, tmp_path: Path) -> None:
    model = load(exported, "onnx")
    expected = model.encode(TEXTS)
    shutil.copytree(exported, tmp_path / "model")
    export_dynamic_quantized_onnx_model(model, processor, str(tmp_path / "model"))
    name = f"model_{'quint8' if processor == 'avx2' else 'qint8'}_{processor}.onnx"
    found = load(tmp_path / "model", "onnx", file_name=name).encode(TEXTS)
    assert np.abs(found - expected).max() > 1e-6
    assert pairwise_cos_sim(found, expected).min() > 0.98


def test_configurations_of_ones_own_are_taken(exported: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    model = load(exported, "onnx")
    export_optimized_onnx_model(model, OptimizationConfig(2), str(tmp_path))
    config = QuantizationConfig(QuantType.QInt8, per_channel=False, operators_to_quantize=["Gather"])
    export_dynamic_quantized_onnx_model(model, config, str(tmp_path))
    export_dynamic_quantized_onnx_model(model, config, str(tmp_path), file_suffix="mine")
    names = ["model_mine.onnx", "model_optimized.onnx", "model_qint8_quantized.onnx"]
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == names
    assert "MatMulInteger" not in kinds_of_nodes(tmp_path / "onnx" / "model_mine.onnx")


@pytest.mark.slow
def test_openvino_is_quantised_on_texts_or_a_data_set(folder: str, tmp_path: Path) -> None:
    needs("openvino")
    model = load(folder, "openvino")
    model.save(tmp_path / "model")
    expected = model.encode(TEXTS)
    target = str(tmp_path / "model")
    export_static_quantized_openvino_model(model, None, target, texts=TEXTS)
    rows = [json.dumps({"text": text}) for text in TEXTS]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(rows), encoding="utf8")
    described = (str(tmp_path / "data"), "default", "train", "text")
    settings = {"num_samples": 8, "sym": True, "smooth_quant_alpha": 0.5}
    export_static_quantized_openvino_model(model, settings, target, *described, file_suffix="mine")
    for suffix in ("qint8_quantized", "mine"):
        name = f"openvino_model_{suffix}.xml"
        assert (tmp_path / "model" / "openvino" / name).with_suffix(".bin").stat().st_size > 0
        found = load(target, "openvino", file_name=name).encode(TEXTS)
        assert np.abs(found - expected).max() > 1e-6
        assert pairwise_cos_sim(found, expected).min() > 0.98
    with pytest.raises(ValueError, match="or none of them"):
        export_static_quantized_openvino_model(model, None, target, dataset_name="glue")
    with pytest.raises(ValueError, match=r"no column 'words'; it has text\. Choose one"):
        export_static_quantized_openvino_model(model, None, target, *described[:3], "words")
    with pytest.raises(ValueError, match="has bits, which is unknown"):
        export_static_quantized_openvino_model(model, {"bits": 4}, target, texts=TEXTS)


def test_settings_of_openvino(folder: str, tmp_path: Path) -> None:
    needs("openvino")
    load(folder, "openvino").save(tmp_path / "model")
    (tmp_path / "settings.json").write_text('{"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}')
    model = load(tmp_path / "model", "openvino", ov_config=str(tmp_path / "settings.json"))
    assert model[0].auto_model.compiled.get_property("NUM_STREAMS") == 1
    assert model.encode("a cat").shape == (32,)
    with pytest.raises(ValueError, match=r"there is no file nowhere\.json"):
        load(tmp_path / "model", "openvino", ov_config="nowhere.json")
    (tmp_path / "model" / "openvino" / "openvino_model.bin").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"openvino_model\.xml cannot be read or compiled"):
        load(tmp_path / "model", "openvino")


def test_weights_beside_a_graph_go_with_it(exported: Path, tmp_path: Path) -> None:
    import onnx

    shutil.copytree(exported, tmp_path / "model")
    path = tmp_path / "model" / "onnx" / "model.onnx"
    graph = onnx.load(path)
    path.unlink()
    onnx.save_model(graph, path, save_as_external_data=True, location="weights", size_threshold=0)
    model = load(tmp_path / "model", "onnx")
    expected = load(exported, "onnx").encode(TEXTS)
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    for _ in range(2):  # also over what is there already
        model.save(tmp_path / "saved")
        names = sorted(file.name for file in (tmp_path / "saved" / "onnx").iterdir())
        assert names == ["model.onnx", "model.onnx_data"]
        np.testing.assert_array_equal(load(tmp_path / "saved", "onnx").encode(TEXTS), expected)
    export_optimized_onnx_model(model, "O1", str(tmp_path / "saved"))
    export_dynamic_quantized_onnx_model(model, "arm64", str(tmp_path / "saved"))
    for name in ("model_O1.onnx", "model_qint8_arm64.onnx"):
        found = load(tmp_path / "saved", "onnx", file_name=name).encode(TEXTS)
        assert pairwise_cos_sim(found, expected).min() > 0.98


def test_an_export_that_computes_something_else_is_refused(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnx")
    from transformers import BertModel

    forward = BertModel.forward

    def frozen(self: BertModel, input_ids: Any, **kwargs: Any) -> Any:
        output = forward(self, input_ids, **kwargs)
        return (output[0] * float(int(input_ids.shape[1])),)  # which a trace takes for a constant

    monkeypatch.setattr(BertModel, "forward", frozen)
    with pytest.raises(ValueError, match="from a BertModel computes something else: it differs by"):
        load(folder, "onnx")


def test_what_graphs_cannot_do_is_named(folder: str, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="`backend` must be 'torch', 'onnx' or 'openvino', but is 'tensorrt'"
    ):
        load(folder, "tensorrt")
    with pytest.raises(FileNotFoundError, match=r"neither other\.onnx nor onnx/other\.onnx"):
        load(folder, "onnx", file_name="other.onnx")
    with pytest.raises(ValueError, match="`model_kwargs` has torch_dtype, which the backend 'onnx'"):
        load(folder, "onnx", torch_dtype="auto")
    with pytest.raises(
        ValueError, match=r"'CUDAExecutionProvider' is not at hand: this onnxruntime has .*CPU"
    ):
        load(exported, "onnx", provider="CUDAExecutionProvider")
    plain, model = load(folder), load(exported, "onnx")
    for export in (export_dynamic_quantized_onnx_model, export_optimized_onnx_model):
        with pytest.raises(ValueError, match='loaded with `SentenceTransformer\\(name, backend="onnx"'):
            export(plain, "avx2", folder)
    with pytest.raises(ValueError, match='backend="openvino"'):
        export_static_quantized_openvino_model(model, None, folder, texts=TEXTS)
    with pytest.raises(ValueError, match="must be 'arm64', "):
        export_dynamic_quantized_onnx_model(model, "sse", folder)
    with pytest.raises(ValueError, match="must be 'O1', "):
        export_optimized_onnx_model(model, "O5", folder)
    with pytest.raises(ValueError, match="`create_pr` is for uploads"):
        export_optimized_onnx_model(model, "O1", folder, create_pr=True)
    shutil.copytree(exported, tmp_path / "cut")
    (tmp_path / "cut" / "onnx" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.onnx cannot be read"):
        load(tmp_path / "cut", "onnx")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_what_lacks_for_exporting_is_named_by_the_backends_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=rf'pip install "likewise\[{backend}\]"'):
        graphs.export(torch.nn.Linear(1, 1), tmp_path / "model.onnx", backend)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("location", ["../other.bin", "/tmp/other.bin", "..\\other.bin", "a/../../other.bin"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_graph_that_names_weights_outside_of_its_folder_is_refused(
    tmp_path: Path, backend: str, location: str, inside: bool
) -> None:
    """Whether they are the graph's own, or those of a graph within one of its nodes."""
    import onnx
    from onnx import TensorProto, helper

    folder = Path(small_model_folder(tmp_path / "model"))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    node = helper.make_node("Constant", [], ["w"], value=tensor)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = (
        helper.make_graph([node], "g", [], [y]) if inside else helper.make_graph([], "g", [], [y], [tensor])
    )
    onnx.save(helper.make_model(graph), folder / "model.onnx")
    with pytest.raises(ValueError, match=r"names the weights .* outside of its folder"):
        SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs={"file_name": "model.onnx"})
