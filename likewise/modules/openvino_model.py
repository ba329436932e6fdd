"""OpenVinoModel: a graph that OpenVINO runs; its quantised form."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.checked import needed
from likewise.modules.graph_model import OUTPUTS, GraphModel

PRECISION = "INFERENCE_PRECISION_HINT"


class OpenVinoModel(GraphModel):
    """Token embeddings, or logits, by an OpenVINO graph.

    Args:
        path: The .xml file; its weights are beside it, in a .bin file of the same name.
        config: The transformers configuration of the model it comes from.
        ov_config: Settings of OpenVINO, or a JSON file of them. It computes in float32 unless they say otherwise by
            INFERENCE_PRECISION_HINT.
        device: OpenVINO's name of where it computes.
    """

    backend = "openvino"
    file = "openvino_model.xml"
    options = ("ov_config", "device")

    def __init__(
        self,
        path: Path,
        config: Any,
        ov_config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        device: str = "CPU",
    ) -> None:
        openvino = import_openvino()
        settings = {PRECISION: "f32"} | _settings(ov_config)
        try:
            compiled = openvino.Core().compile_model(str(path), device, settings)
        except RuntimeError as error:
            raise ValueError(
                f"{path} cannot be read or compiled ({error}). It may be cut short, or `ov_config` not fit: export it again."
            ) from error
        names = [entry.names for entry in compiled.outputs]
        self.output = next((i for name in OUTPUTS for i, known in enumerate(names) if name in known), 0)
        known = sorted(names[self.output], key=lambda name: (name not in (*OUTPUTS, "logits"), name))
        super().__init__(path, config, [entry.any_name for entry in compiled.inputs], next(iter(known), ""))
        self.compiled = compiled
        self.arguments = ov_config, device

    def run(self, features: dict[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = self.compiled(features)[self.output]
        return found

    @staticmethod
    def copy_files(source: Path, target: Path) -> None:
        """Write a graph to another file, with its weights beside it; an ONNX graph is converted."""
        if source.suffix == target.suffix:
            shutil.copy(source, target)
            shutil.copy(source.with_suffix(".bin"), target.with_suffix(".bin"))
        else:
            openvino = import_openvino()
            openvino.save_model(openvino.convert_model(str(source)), target, compress_to_fp16=False)


def quantize_openvino(
    model: OpenVinoModel, target: Path, batches: Sequence[dict[str, np.ndarray]], **options: Any
) -> None:
    """Write a graph again with weights and activations in 8 bits.

    Args:
        model: The graph.
        target: The .xml file to write.
        batches: Features to find the ranges of activations with.
        **options: Of `nncf.quantize`.
    """
    openvino, nncf = import_openvino(), needed("nncf", "Quantising needs nncf", "openvino")
    graph = openvino.Core().read_model(str(model.path))
    quantized = nncf.quantize(
        graph, nncf.Dataset(batches), subset_size=len(batches), model_type=nncf.ModelType.TRANSFORMER, **options,
    )  # fmt: skip
    openvino.save_model(quantized, target, compress_to_fp16=False)


def import_openvino() -> Any:
    """The module, imported when first needed."""
    return needed("openvino", "The OpenVINO backend needs openvino", "openvino")


def _settings(ov_config: Mapping[str, Any] | str | os.PathLike[str] | None) -> dict[str, Any]:
    if ov_config is None or isinstance(ov_config, Mapping):
        return dict(ov_config or {})
    if not Path(ov_config).is_file():
        raise ValueError(
            f"`ov_config` must be settings or a JSON file of them, but there is no file {os.fspath(ov_config)}."
        )
    settings: dict[str, Any] = json.loads(Path(ov_config).read_text(encoding="utf8"))
    return settings
