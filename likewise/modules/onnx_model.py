"""OnnxModel: a graph that onnxruntime runs; its optimised and its quantised forms."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from likewise.checked import needed
from likewise.hub import leads_out
from likewise.modules.graph_model import OUTPUTS, GraphModel


class OnnxModel(GraphModel):
    """Token embeddings, or logits, by an ONNX graph.

    Args:
        path: The .onnx file.
        config: The transformers configuration of the model it comes from.
        provider: onnxruntime's execution provider; None for the first it has.
        provider_options: Of that provider.
        session_options: onnxruntime's `SessionOptions`, e.g. for the number of threads.
    """

    backend = "onnx"
    file = "model.onnx"
    options = ("provider", "provider_options", "session_options")

    def __init__(
        self,
        path: Path,
        config: Any,
        provider: str | None = None,
        provider_options: Mapping[str, Any] | None = None,
        session_options: Any = None,
    ) -> None:
        onnxruntime = needed("onnxruntime", "The ONNX backend needs onnxruntime", "onnx")
        available = onnxruntime.get_available_providers()
        if provider is not None and provider not in available:
            raise ValueError(
                f"`provider` {provider!r} is not at hand: this onnxruntime has {', '.join(available)}."
            )
        try:
            providers = [provider or available[0]]
            options = None if provider_options is None else [dict(provider_options)]
            session = onnxruntime.InferenceSession(str(path), session_options, providers, options)
        except Exception as error:  # onnxruntime's errors have no common class
            raise ValueError(
                f"{path} cannot be read ({error}). It may be cut short: export it again."
            ) from error
        outputs = [entry.name for entry in session.get_outputs()]
        output = next((name for name in OUTPUTS if name in outputs), outputs[0])
        super().__init__(path, config, [entry.name for entry in session.get_inputs()], output)
        self.session = session
        self.arguments = provider, provider_options, session_options

    def run(self, features: dict[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = self.session.run([self.output_name], features)[0]
        return found

    @staticmethod
    def copy_files(source: Path, target: Path) -> None:
        """Write the graph to another file; weights over two gigabytes are in one file beside it, `<name>_data`."""
        import onnx

        weights = target.with_name(target.name + "_data")
        weights.unlink(missing_ok=True)
        if has_weights_beside(source):
            target.unlink(missing_ok=True)
            onnx.save_model(onnx.load(source), target, save_as_external_data=True, location=weights.name)
        else:
            shutil.copy(source, target)


def optimize_graph(model: OnnxModel, target: Path, config: Any) -> None:
    """Write a graph again as onnxruntime optimises it, with fused attention, norms and activations.

    `config` is as `likewise.backend.OptimizationConfig`, or optimum's class of this name.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    if hasattr(config, "create_fusion_options"):  # optimum's
        fusions = config.create_fusion_options("bert")
    else:
        fusions = FusionOptions("bert")
        fusions.enable_embed_layer_norm = False
        fusions.enable_gelu_approximation = config.enable_gelu_approximation
    text_config = model.config.get_text_config()
    optimizer = optimize_model(
        str(model.path),
        "bert",
        num_heads=text_config.num_attention_heads,
        hidden_size=text_config.hidden_size,
        opt_level=config.optimization_level,
        optimization_options=fusions,
        use_gpu=config.optimize_for_gpu,
        only_onnxruntime=not config.enable_transformers_specific_optimizations,
    )
    if config.fp16:
        optimizer.convert_float_to_float16(keep_io_types=True)
    large = has_weights_beside(model.path)
    optimizer.save_model_to_file(str(target), use_external_data_format=large)


def quantize_graph(model: OnnxModel, target: Path, config: Any) -> None:
    """Write a graph again with its matrices in 8 bits; what they are multiplied with is quantised as it comes.

    `config` is as `likewise.backend.QuantizationConfig`, or optimum's class of this name.
    """
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(
        str(model.path),
        str(target),
        op_types_to_quantize=config.operators_to_quantize or None,
        per_channel=config.per_channel,
        reduce_range=config.reduce_range,
        weight_type=config.weights_dtype,
        nodes_to_quantize=config.nodes_to_quantize or None,
        nodes_to_exclude=config.nodes_to_exclude or None,
        use_external_data_format=has_weights_beside(model.path),
        extra_options={
            "WeightSymmetric": config.weights_symmetric,
            "ActivationSymmetric": config.activations_symmetric,
        },
    )


def has_weights_beside(path: Path) -> bool:
    """Whether a graph keeps weights in other files, as it must over two gigabytes."""
    return any(True for _ in _files_beside(path))


def refuse_weights_elsewhere(path: Path) -> None:
    """Refuse a graph that names files outside of its folder for its weights."""
    for name in _files_beside(path):
        if leads_out(name):
            raise ValueError(
                f"The graph {path} names the weights {name!r}, outside of its folder. Such a path is not followed: export it "
                "again."
            )


def _files_beside(path: Path) -> Iterator[str]:
    """The files that the tensors of a graph are in, wherever in it they stand."""
    onnx = needed("onnx", "The ONNX backend needs onnx", "onnx")
    from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

    def within(message: Message) -> Iterator[str]:
        if isinstance(message, onnx.TensorProto):
            yield from (entry.value for entry in message.external_data if entry.key == "location")
            return
        for field, value in message.ListFields():
            if field.message_type is not None:
                for part in [value] if isinstance(value, Message) else value:
                    yield from within(part)

    try:
        graph = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} cannot be read ({error}). It may be cut short: export it again.") from error
    yield from within(graph)
