"""OnnxModel: a transformers encoder as an ONNX graph, run by onnxruntime; export and int8 weights."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.packing import TokenBatch

FOLDER = "onnx"
FILE = "model.onnx"
OPSET = 18


class OnnxModel(nn.Module):
    """Token embeddings by an ONNX graph, on padded batches.

    Args:
        path: The .onnx file.
        config: The transformers configuration of the model it comes from.
        provider: onnxruntime's execution provider; None for the first it has.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: The file is damaged.
    """

    def __init__(self, path: Path, config: Any, provider: str | None = None) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                'The ONNX backend needs onnxruntime. Install it: pip install "likewise[onnx]".'
            ) from error
        providers = [provider] if provider else onnxruntime.get_available_providers()
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=providers)
        except Exception as error:  # onnxruntime's errors have no common class
            raise ValueError(
                f"{path} cannot be read ({error}). It may be cut short: export it again."
            ) from error
        self.path = path
        self.config = config
        self.provider = provider
        self.inputs = [entry.name for entry in self.session.get_inputs()]

    def __reduce__(self) -> Any:  # a session cannot be sent to another process; it is made anew there
        return OnnxModel, (self.path, self.config, self.provider)

    @property
    def position_offset(self) -> int:
        """The number of a sequence's first position: padding_idx + 1 for RoBERTa and its kin, else 0."""
        counts_from_padding = self.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
        return int(self.config.pad_token_id) + 1 if counts_from_padding else 0

    def forward(self, tokens: TokenBatch, output_hidden_states: bool = False) -> tuple[Tensor, ...]:
        """The last layer's output, (T, D) in packed order.

        Raises:
            ValueError: All layers are asked for, which the graph does not give.
        """
        if output_hidden_states:
            raise ValueError(
                "An ONNX graph gives the last layer only. Load with `backend='torch'` for all layers."
            )
        mask = tokens.padded_mask()
        padding = self.config.pad_token_id or 0
        types = tokens.token_type_ids
        features = {
            "input_ids": tokens.pad(tokens.input_ids, padding),
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(mask) if types is None else tokens.pad(types),
        }
        if not tokens.num_tokens:
            return (torch.empty(0, self.config.hidden_size),)
        found = self.session.run(None, {name: features[name].cpu().numpy() for name in self.inputs})[0]
        return (tokens.unpad(torch.from_numpy(found).to(mask.device), mask),)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write config.json, and the graph as onnx/model.onnx."""
        self.config.save_pretrained(folder)
        (Path(folder) / FOLDER).mkdir(exist_ok=True)
        target = Path(folder) / FOLDER / FILE
        if not target.exists() or not target.samefile(self.path):
            shutil.copy(self.path, target)


def load_onnx_model(folder: str, config: Any, options: Mapping[str, Any]) -> OnnxModel:
    """The graph in a folder; one that is not there yet is exported from the weights.

    Args:
        folder: The model's folder.
        config: Its configuration.
        options: `file_name` (under the folder or its onnx folder), `provider`, `export` (True exports anyway).

    Raises:
        FileNotFoundError: The file that is asked for does not exist.
        ValueError: An option is unknown.
    """
    unknown = set(options) - {"file_name", "provider", "export", "trust_remote_code"}
    if unknown:
        raise ValueError(
            f"`model_kwargs` has {', '.join(sorted(unknown))}, which the ONNX backend does not take. "
            "It takes file_name, provider and export."
        )
    name = options.get("file_name", FILE)
    places = [Path(folder) / name, Path(folder) / FOLDER / name]
    found = next((place for place in places if place.is_file()), None)
    if "file_name" in options and found is None:
        raise FileNotFoundError(f"There is no {name} in {folder} or its folder {FOLDER}.")
    if found is None or options.get("export"):
        found = export(folder, config, Path(tempfile.mkdtemp(prefix="likewise-onnx-")) / FILE)
    return OnnxModel(found, config, options.get("provider"))


def export(folder: str, config: Any, target: Path) -> Path:
    """Write the graph of the transformers model in a folder to a file.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    from transformers import AutoModel

    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('Exporting needs onnxscript. Install it: pip install "likewise[onnx]".') from error
    model = AutoModel.from_pretrained(folder, config=config, attn_implementation="eager").eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]) % config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    graph = _LastLayer(model).eval()
    typed = getattr(config, "type_vocab_size", 0) > 1
    arguments = (ids, mask, torch.zeros_like(mask)) if typed else (ids, mask)
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            graph,
            arguments,
            target,
            input_names=["input_ids", "attention_mask", "token_type_ids"][: len(arguments)],
            output_names=["last_hidden_state"],
            dynamic_shapes=tuple(axes for _ in arguments),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return target


class _LastLayer(nn.Module):
    """A transformers model with positional arguments and one output."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        return output


def quantize_weights(source: Path, target: Path) -> None:
    """Write a graph again, with its matrices in int8 and their inputs quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.parent.mkdir(parents=True, exist_ok=True)
    quantize_dynamic(
        str(source), str(target), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
    )
