"""ONNX files of a model, under the name that the reference gave their export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.model import SentenceTransformer

__all__ = ["export_dynamic_quantized_onnx_model"]

INSTRUCTIONS = ("arm64", "avx2", "avx512", "avx512_vnni")


def export_dynamic_quantized_onnx_model(
    model: SentenceTransformer,
    quantization_config: str,
    model_name_or_path: str,
    file_suffix: str | None = None,
) -> None:
    """Write an int8 form of a model's ONNX graph to a folder, as `onnx/model_qint8_<processor>.onnx`.

    Args:
        model: A model loaded with `backend="onnx"`.
        quantization_config: The processor it is for: arm64, avx2, avx512 or avx512_vnni. It names the file; the weights,
            a scale for each channel and 7 bits each, suit them all.
        model_name_or_path: The folder.
        file_suffix: Takes the place of `qint8_<processor>` in the file's name.

    Raises:
        ValueError: The model is not an ONNX one, or the processor is unknown.
    """
    from likewise.modules.onnx_model import FOLDER, OnnxModel, quantize_weights

    graph = model.transformers_model
    if not isinstance(graph, OnnxModel):
        raise ValueError(
            'The model is not an ONNX one. Load it with `SentenceTransformer(name, backend="onnx")`.'
        )
    if quantization_config not in INSTRUCTIONS:
        raise ValueError(
            f"`quantization_config` must be one of {', '.join(INSTRUCTIONS)}, but is {quantization_config!r}."
        )
    suffix = file_suffix or f"qint8_{quantization_config}"
    quantize_weights(graph.path, Path(model_name_or_path) / FOLDER / f"model_{suffix}.onnx")
