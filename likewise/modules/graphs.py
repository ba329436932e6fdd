"""Graphs of models: found in a folder, or exported from the weights and compared with them."""

from __future__ import annotations

import copy
import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.checked import needed
from likewise.engine import TokenSequences
from likewise.modules.graph_model import INPUTS, OUTPUTS, GraphModel
from likewise.modules.onnx_model import OnnxModel, refuse_weights_elsewhere
from likewise.modules.openvino_model import OpenVinoModel
from likewise.modules.pretrained import load_model

logger = logging.getLogger(__name__)

OPSET = 18
LONGEST_CHECK = 300  # tokens: longer than the windows of local attention


@dataclass(frozen=True)
class GraphPart:
    """What of a transformers model becomes a graph.

    Attributes:
        load: A name or folder, its configuration and keyword arguments -> the model.
        wrap: The model -> a module that takes ids, mask and types by their places, and has one output.
        output: What that is called in the graph.
        by_token: Whether it has an axis of tokens behind that of sequences.
    """

    load: Callable[[str, Any, Mapping[str, Any]], nn.Module]
    wrap: Callable[[nn.Module], nn.Module]
    output: str
    by_token: bool

    def refuse_other(self, graph: GraphModel) -> None:
        """Refuse a graph that says that it gives scores in place of token embeddings, or the other way about."""
        others = OUTPUTS if self.output not in OUTPUTS else ("logits",)
        if graph.output_name in others:
            raise ValueError(
                f"The graph {graph.path} gives {graph.output_name!r}, but {self.output!r} is needed: it belongs to a model of another "
                'family. Pass `model_kwargs={"export": True}` to export one from the weights.'
            )


class FirstOutput(nn.Module):
    """A transformers model with positional arguments and the first of its outputs: the last layer, or logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        return output


LAST_LAYER = GraphPart(load_model, FirstOutput, OUTPUTS[0], by_token=True)
"""Token embeddings."""


GRAPHS: dict[str, type[GraphModel]] = {kind.backend: kind for kind in (OnnxModel, OpenVinoModel)}
"""What runs graphs, by the backend's name."""


def load_graph_model(
    backend: str,
    name_or_path: str,
    config: Any,
    model_kwargs: Mapping[str, Any],
    part: GraphPart = LAST_LAYER,
) -> GraphModel:
    """The graph in a model's folder. Where there is none it is exported from the weights, to a temporary folder.

    Args:
        backend: onnx or openvino.
        name_or_path: The model's folder, or its name on the Hub.
        config: Its configuration.
        model_kwargs: `file_name` and `subfolder` of the graph (it is also looked for in the backend's folder there),
            `export` (True exports anyway, False never), and what runs it takes: `provider`, `provider_options` and
            `session_options` of onnxruntime, `ov_config` and `device` of OpenVINO.
        part: What of the model is wanted.
    """
    kind = GRAPHS[backend]
    allowed = ("file_name", "subfolder", "export", *kind.options)
    unknown = set(model_kwargs) - {*allowed, "trust_remote_code", "cache_dir"}
    if unknown:
        raise ValueError(
            f"`model_kwargs` has {', '.join(sorted(unknown))}, which the backend {backend!r} does not take. "
            f"It takes {', '.join(allowed)}."
        )
    options = {name: model_kwargs[name] for name in kind.options if name in model_kwargs}
    folder = Path(name_or_path)
    found = find_graph(kind, folder, model_kwargs)
    if found is not None and not model_kwargs.get("export"):
        if found.suffix == ".onnx":
            refuse_weights_elsewhere(found)
        graph = kind(found, config, **options)
        part.refuse_other(graph)
        return graph
    temporary = tempfile.mkdtemp(prefix="likewise-")
    trust = {name: model_kwargs[name] for name in ("trust_remote_code", "cache_dir") if name in model_kwargs}
    plain = {**trust, "attn_implementation": "eager", "dtype": torch.float32}
    try:
        model = part.load(name_or_path, copy.deepcopy(config), plain).eval()
        config.architectures = [type(model).__name__]  # by which a head is known again
        onnx_file = Path(temporary, "model.onnx")
        export(model, onnx_file, kind.backend, part)
        target = onnx_file.with_name(kind.file)
        if target != onnx_file:
            kind.copy_files(onnx_file, target)
        graph = kind(target, config, **options)
        check_export(graph, model, part)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    weakref.finalize(graph, shutil.rmtree, temporary, ignore_errors=True)
    logger.warning(
        "%s has no graph for the backend %r: one was exported. Save the model to keep it.",
        name_or_path,
        backend,
    )
    return graph


def find_graph(kind: type[GraphModel], folder: Path, model_kwargs: Mapping[str, Any]) -> Path | None:
    """The graph's file, in the folder or in the backend's folder there; None where it is to be exported.

    There must be one that is asked for by name, or where exporting is ruled out.
    """
    places = graph_places(kind, model_kwargs)
    found = next((folder / place for place in places if (folder / place).is_file()), None)
    asked = "file_name" in model_kwargs or model_kwargs.get("export", True) is False
    if found is None and asked and not model_kwargs.get("export"):
        pattern = "*" + Path(kind.file).suffix
        there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob(pattern))
        raise FileNotFoundError(
            f"{folder} has neither {' nor '.join(places)}. It has {', '.join(there) or f'no {pattern} at all'}: name one by "
            '`model_kwargs={"file_name": ...}`, or leave it out to export one.'
        )
    return found


def graph_places(kind: type[GraphModel], model_kwargs: Mapping[str, Any]) -> list[str]:
    """Where in a model's folder its graph may be, in the order in which they are looked at."""
    name, subfolder = model_kwargs.get("file_name", kind.file), model_kwargs.get("subfolder") or ""
    return [(Path(subfolder) / part / name).as_posix() for part in ("", kind.backend)]


def export(model: nn.Module, target: Path, extra: str = "onnx", part: GraphPart = LAST_LAYER) -> None:
    """Write the ONNX graph of a transformers model in float32.

    It is traced: graphs by torch's newer exporter take twenty times as long, and onnxruntime finds no attention to
    fuse in them.
    """
    needed("onnx", "Exporting a graph needs onnx", extra)
    config: Any = model.config
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]) % config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    typed = (getattr(config, "type_vocab_size", 0) or 0) > 1
    arguments = (ids, mask, torch.zeros_like(mask)) if typed else (ids, mask)
    names = INPUTS[: len(arguments)]
    axes = {name: {0: "batch", 1: "length"} for name in names}
    axes[part.output] = {0: "batch", 1: "length"} if part.by_token else {0: "batch"}
    with warnings.catch_warnings():
        # The exporter's own, and of what tracing makes constant: see check_export.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            part.wrap(model).eval(),
            arguments,
            target,
            input_names=list(names),
            output_names=[part.output],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def check_export(graph: GraphModel, model: nn.Module, part: GraphPart = LAST_LAYER) -> None:
    """Refuse a graph that differs from its model, on a batch of another shape than the one that was traced."""
    positions = getattr(graph.config, "max_position_embeddings", None) or LONGEST_CHECK
    lengths = [min(positions - graph.position_offset, length) for length in (LONGEST_CHECK, 7, 1)]
    generator = torch.Generator().manual_seed(0)
    batch = TokenSequences.from_lists(
        [torch.randint(graph.config.vocab_size, (n,), generator=generator).tolist() for n in lengths]
    ).pack()
    padded = batch.to_features(graph.padding)
    mask = padded["attention_mask"]
    with torch.inference_mode():
        expected = part.wrap(model)(padded["input_ids"], mask)
        found = torch.from_numpy(graph.run(graph.features(batch)))
        if part.by_token:
            expected, found = batch.unpad(expected, mask), batch.unpad(found, mask)
        difference = (found - expected).abs().max()
    if difference > 1e-3 * expected.abs().max():
        raise ValueError(
            f"The graph that was exported from a {type(model).__name__} computes something else: it differs by "
            f"{difference:.1g}. This architecture cannot be exported; load it with `backend='torch'`."
        )
