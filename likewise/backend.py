"""ONNX and OpenVINO files of a model, optimised or quantised, under the names that the reference gave their exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from likewise.checked import one_of

if TYPE_CHECKING:
    from likewise.model.model import Model
    from likewise.modules.graph_model import GraphModel

    Graph = TypeVar("Graph", bound=GraphModel)

__all__ = [
    "OptimizationConfig",
    "QuantizationConfig",
    "export_dynamic_quantized_onnx_model",
    "export_optimized_onnx_model",
    "export_static_quantized_openvino_model",
]

INSTRUCTIONS = ("arm64", "avx2", "avx512", "avx512_vnni")
CALIBRATION = ("nyu-mll/glue", "sst2", "train", "sentence")
"""The data set that ranges are found with if none is given: name, configuration, split and column."""


@dataclass(frozen=True)
class OptimizationConfig:
    """What onnxruntime does to a graph. Optimum's class of this name does as well.

    Attributes:
        optimization_level: 0 for nothing, 1 for what suits all hardware, 2 also for what suits the kind that is at hand, 99 for all.
        enable_transformers_specific_optimizations: Whether attention, norms and activations are fused.
        enable_gelu_approximation: Whether GELU is computed by tanh.
        optimize_for_gpu: Whether it will run on a GPU.
        fp16: Whether weights and what is computed are float16.
    """

    optimization_level: int = 1
    enable_transformers_specific_optimizations: bool = True
    enable_gelu_approximation: bool = False
    optimize_for_gpu: bool = False
    fp16: bool = False


LEVELS = {
    "O1": OptimizationConfig(1, enable_transformers_specific_optimizations=False),
    "O2": OptimizationConfig(2),
    "O3": OptimizationConfig(2, enable_gelu_approximation=True),
    "O4": OptimizationConfig(2, enable_gelu_approximation=True, optimize_for_gpu=True, fp16=True),
}


@dataclass(frozen=True)
class QuantizationConfig:
    """How onnxruntime's dynamic quantisation writes a graph. Optimum's class of this name does as well.

    Attributes:
        weights_dtype: onnxruntime's `QuantType.QInt8` or `QUInt8`.
        per_channel: Whether each row of a matrix has a scale of its own.
        reduce_range: Whether weights take 7 of the 8 bits.
        weights_symmetric: Whether 0 stands for a weight of 0.
        activations_symmetric: The same of what they are multiplied with.
        operators_to_quantize: Kinds of nodes; None for all that can be.
        nodes_to_quantize: Names of nodes; None for all.
        nodes_to_exclude: Names of nodes that stay as they are.
    """

    weights_dtype: Any
    per_channel: bool = True
    reduce_range: bool = False
    weights_symmetric: bool = True
    activations_symmetric: bool = False
    operators_to_quantize: Sequence[str] | None = None
    nodes_to_quantize: Sequence[str] | None = None
    nodes_to_exclude: Sequence[str] | None = None


@dataclass(frozen=True)
class OpenVinoQuantization:
    """How nncf quantises a graph; what `export_static_quantized_openvino_model` takes as a dictionary."""

    num_samples: int | None = None
    sym: bool = False
    fast_bias_correction: bool = True
    overflow_fix: str = "disable"
    smooth_quant_alpha: float | None = None


def export_optimized_onnx_model(
    model: Model,
    optimization_config: OptimizationConfig | str,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write an optimised form of a model's ONNX graph, as `onnx/model_<level>.onnx`.

    Args:
        model: A model loaded with `backend="onnx"`.
        optimization_config: O1 (general optimisations), O2 (fused layers too), O3 (GELU by tanh too), O4 (float16 too, for
            GPUs), or an OptimizationConfig.
        model_name_or_path: The folder to write to, or the repository on the Hub.
        push_to_hub: Whether to upload it.
        create_pr: Whether to upload it as a pull request.
        file_suffix: Takes the place of the level in the file's name; "optimized" for an OptimizationConfig.

    Raises:
        ImportError: A package of the extra `onnx` is not installed.
        ValueError: The model is not an ONNX one, or there is no such level.
    """
    from likewise.modules.onnx_model import OnnxModel, optimize_graph

    graph = _graph_of(model, OnnxModel)
    config: Any = optimization_config
    if isinstance(optimization_config, str):
        one_of(optimization_config, LEVELS, "optimization_config")
        config = LEVELS[optimization_config]
        file_suffix = file_suffix or optimization_config
    elif not hasattr(optimization_config, "optimization_level"):
        raise ValueError(
            f"`optimization_config` must be one of {', '.join(LEVELS)}, or an OptimizationConfig, but is {optimization_config!r}."
        )
    file = GraphFile(model, f"model_{file_suffix or 'optimized'}.onnx", config)
    file.deliver(partial(optimize_graph, graph, config=config), model_name_or_path, push_to_hub, create_pr)


def export_dynamic_quantized_onnx_model(
    model: Model,
    quantization_config: QuantizationConfig | str,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write an 8-bit form of a model's ONNX graph, as `onnx/model_qint8_<processor>.onnx` (`quint8` for avx2).

    Args:
        model: A model loaded with `backend="onnx"`.
        quantization_config: The processor it is for (arm64, avx2, avx512 or avx512_vnni), or a QuantizationConfig.
        model_name_or_path: The folder to write to, or the repository on the Hub.
        push_to_hub: Whether to upload it.
        create_pr: Whether to upload it as a pull request.
        file_suffix: Takes the place of `qint8_<processor>` in the file's name; `qint8_quantized` for a QuantizationConfig.

    Raises:
        ImportError: A package of the extra `onnx` is not installed.
        ValueError: The model is not an ONNX one, the processor is unknown, or the configuration asks for static quantisation.
    """
    from likewise.modules.onnx_model import OnnxModel, quantize_graph

    graph = _graph_of(model, OnnxModel)
    config: Any = quantization_config
    if isinstance(quantization_config, str):
        from onnxruntime.quantization import QuantType

        # AVX2's instruction for unsigned times signed numbers saturates; two unsigned ones go by a wider one.
        kinds = {name: QuantType.QUInt8 if name == "avx2" else QuantType.QInt8 for name in INSTRUCTIONS}
        one_of(quantization_config, kinds, "quantization_config")
        config = QuantizationConfig(kinds[quantization_config])
        file_suffix = file_suffix or f"{config.weights_dtype.name.lower()}_{quantization_config}"
    elif not hasattr(quantization_config, "weights_dtype") or getattr(config, "is_static", False):
        raise ValueError(
            f"`quantization_config` must be one of {', '.join(INSTRUCTIONS)}, or a QuantizationConfig that is not static, but "
            f"is {quantization_config!r}."
        )
    suffix = file_suffix or f"{config.weights_dtype.name.lower()}_quantized"
    file = GraphFile(model, f"model_{suffix}.onnx", config)
    file.deliver(partial(quantize_graph, graph, config=config), model_name_or_path, push_to_hub, create_pr)


def export_static_quantized_openvino_model(
    model: Model,
    quantization_config: Mapping[str, Any] | Any | None,
    model_name_or_path: str,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str | None = None,
    column_name: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str = "qint8_quantized",
    *,
    texts: Sequence[Any] | None = None,
) -> None:
    """Write an 8-bit form of a model's OpenVINO graph, as `openvino/openvino_model_qint8_quantized.xml` with its `.bin`.

    The ranges of what is computed on the way are found on some texts: the user's own (`texts`), those of a data set, or
    sentences of SST-2 from the Hub.

    Args:
        model: A model loaded with `backend="openvino"`.
        quantization_config: A dictionary with any of `num_samples` (300, the number of texts), `sym` (False; whether zero
            stands for zero), `fast_bias_correction` (True), `overflow_fix` ("disable", "enable" or "first_layer_only"; processors
            without VNNI need "enable", or products overflow) and `smooth_quant_alpha` (0 to 1; None for nncf's own); an object with attributes of these names, as optimum's
            OVQuantizationConfig; None for all as said.
        model_name_or_path: The folder to write to, or the repository on the Hub.
        dataset_name: A data set, as `datasets.load_dataset` takes it; then the next three are needed too.
        dataset_config_name: Its configuration.
        dataset_split: Its split.
        column_name: Its column of texts.
        push_to_hub: Whether to upload it.
        create_pr: Whether to upload it as a pull request.
        file_suffix: The end of the file's name.
        texts: Texts to use in place of a data set; for a CrossEncoder pairs of them.

    Raises:
        ImportError: A package of the extra `openvino` is not installed.
        ValueError: The model is not an OpenVINO one, a setting is unknown, or the data set is named in part.
    """
    from likewise.modules.openvino_model import OpenVinoModel, quantize_openvino

    graph = _graph_of(model, OpenVinoModel)
    config = _openvino_quantization(quantization_config)
    described = (dataset_name, dataset_config_name, dataset_split, column_name)
    if any(part is not None for part in described) and (texts is not None or None in described):
        raise ValueError(
            "Pass all of `dataset_name`, `dataset_config_name`, `dataset_split` and `column_name`, or none of them; with `texts` none."
        )
    count = config.num_samples or 300
    if texts is None:
        name, configuration, split, column = CALIBRATION if dataset_name is None else described
        texts = _sample(str(name), configuration, split, str(column), count)
    if not texts:
        raise ValueError("There are no texts to find ranges with.")
    module: Any = model[0]
    batches = [graph.features(module.token_sequences([text]).pack()) for text in texts[:count]]

    def write(target: Path) -> None:
        import nncf

        advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix(config.overflow_fix))
        if config.smooth_quant_alpha is not None:
            advanced.smooth_quant_alphas.matmul = config.smooth_quant_alpha
        preset = nncf.QuantizationPreset.PERFORMANCE if config.sym else nncf.QuantizationPreset.MIXED
        options = {"fast_bias_correction": config.fast_bias_correction, "advanced_parameters": advanced}
        quantize_openvino(graph, target, batches, preset=preset, **options)

    file = GraphFile(model, f"openvino_model_{file_suffix}.xml", config)
    file.deliver(write, model_name_or_path, push_to_hub, create_pr)


def _graph_of(model: Model, kind: type[Graph]) -> Graph:
    """The model's graph; refuses one that was loaded with another backend."""
    graph = model.transformers_model
    if not isinstance(graph, kind):
        raise ValueError(
            f'The model must be loaded with `{model.model_type}(name, backend="{kind.backend}")`.'
        )
    return graph


def _openvino_quantization(config: Any) -> OpenVinoQuantization:
    """The settings of a dictionary, or of an object that has some; refuses unknown ones, and other than 8 bits."""
    names = [field.name for field in fields(OpenVinoQuantization)]
    if config is None:
        return OpenVinoQuantization()
    if not isinstance(config, Mapping):
        if getattr(config, "bits", 8) != 8:
            raise ValueError(f"`quantization_config` must be one of 8 bits, but is of {config.bits}.")
        config = {name: getattr(config, name) for name in names if hasattr(config, name)}
    unknown = sorted(set(config) - set(names))
    if unknown:
        raise ValueError(
            f"`quantization_config` has {', '.join(unknown)}, which is unknown. It takes {', '.join(names)}."
        )
    return OpenVinoQuantization(**config)


def _sample(name: str, configuration: str | None, split: str | None, column: str, count: int) -> list[Any]:
    """Some texts of a data set."""
    from datasets import load_dataset

    rows = load_dataset(name, configuration, split=split)
    if column not in rows.column_names:
        raise ValueError(
            f"{name} has no column {column!r}; it has {', '.join(rows.column_names)}. Choose one by `column_name`."
        )
    rows = rows.select_columns([column]).shuffle(seed=0)
    return list(rows.select(range(min(count, len(rows))))[column])


@dataclass(frozen=True)
class GraphFile:
    """A file of a model's graph in another form."""

    model: Model
    name: str
    config: Any  # by which it is made, for the description of a pull request

    def deliver(self, write: Callable[[Path], None], to: str, push_to_hub: bool, create_pr: bool) -> None:
        """Write it to a temporary folder; from there into the model's folder, or to the Hub."""
        if create_pr and not push_to_hub:
            raise ValueError("`create_pr` is for uploads. Pass `push_to_hub=True`, or drop it.")
        graph: GraphModel = self.model.transformers_model
        with TemporaryDirectory() as temporary:
            written = Path(temporary) / self.name
            write(written)
            folder = Path(temporary if push_to_hub else to) / graph.backend
            folder.mkdir(parents=True, exist_ok=True)
            graph.copy_files(written, folder / self.name)
            if push_to_hub:
                from huggingface_hub import HfApi

                from likewise.model.hub import upload

                options: dict[str, Any] = {"path_in_repo": graph.backend}
                if create_pr:
                    options |= {"create_pr": True, "commit_description": self._description(to)}
                upload(HfApi(), to, folder, f"Add {graph.backend}/{self.name}", **options)

    def _description(self, repo_id: str) -> str:
        """What a pull request says: what the file is, and how to try it."""
        backend, family = self.model.transformers_model.backend, self.model.model_type
        use = 'encode("It is raining.").shape'
        if self.model.over_inputs == "predict":
            use = 'predict(("Is it raining?", "Wet weather today."))'
        return f"""This adds `{backend}/{self.name}`, written by Likewise with

    {self.config}

To try it before it is merged, with this request's number in `revision`:

```python
from likewise import {family}

model = {family}(
    "{repo_id}", revision="refs/pr/1", backend="{backend}", model_kwargs={{"file_name": "{self.name}"}}
)
print(model.{use})
```
"""
