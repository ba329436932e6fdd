"""GraphModel: a transformers model as a graph in a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from likewise.engine import TokenBatch
from likewise.engine.features import Padding

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
OUTPUTS = ("last_hidden_state", "token_embeddings")  # as exporters name what is looked for here


class GraphModel(nn.Module):
    """Token embeddings, or logits, by a graph in a file, on padded batches. OnnxModel and OpenVinoModel are what runs it.

    Args:
        path: The file.
        config: The transformers configuration of the model it comes from.
        inputs: The names of what it takes.
        output_name: The name of what it gives.
    """

    backend: ClassVar[str]
    """The name of the backend; also of the folder that its files are in."""
    file: ClassVar[str]
    """The name of the file, if none is asked for."""
    options: ClassVar[tuple[str, ...]]
    """What it takes in `model_kwargs` beside the file's name."""

    def __init__(self, path: Path, config: Any, inputs: Iterable[str], output_name: str = OUTPUTS[0]) -> None:
        super().__init__()
        self.output_name = output_name
        self.path = path
        self.config = config
        self.inputs = list(inputs)
        unknown = sorted(set(self.inputs) - set(INPUTS))
        if unknown:
            raise ValueError(
                f"The graph {path} takes {', '.join(unknown)}; only {', '.join(INPUTS)} are known here. "
                "Export it again, without a cache of keys and values."
            )

    arguments: tuple[Any, ...]
    """What else it was made with."""

    def __reduce__(self) -> Any:  # what runs a graph cannot be sent to another process; it is made anew there
        return type(self), (self.path, self.config, *self.arguments)

    @abstractmethod
    def run(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Token embeddings (N, L, D), or logits (N, labels), of padded features (N, L)."""

    @property
    def padding(self) -> Padding:
        """As the model was traced: by its configuration's pad token, on the right."""
        return Padding(self.config.pad_token_id or 0, has_types=True)

    @property
    def position_offset(self) -> int:
        """The number of a sequence's first position: padding_idx + 1 for RoBERTa and its kin, else 0."""
        if self.config.model_type == "mpnet":
            return 2  # whatever the padding is
        counts_from_padding = self.config.model_type in ("roberta", "xlm-roberta", "camembert")
        return int(self.config.pad_token_id) + 1 if counts_from_padding else 0

    def forward(
        self, tokens: TokenBatch, output_hidden_states: bool = False, padding: Padding | None = None
    ) -> tuple[Tensor, ...]:
        """The last layer's output, (T, D) in packed order; others a graph does not give. Its own `padding` is what counts."""
        if output_hidden_states:
            raise ValueError("A graph gives the last layer only. Load with `backend='torch'` for all layers.")
        if not tokens.num_tokens:
            return (torch.empty(0, self.config.hidden_size),)
        mask = tokens.padded_mask()
        found = torch.from_numpy(self.run(self.features(tokens))).to(mask.device)
        return (tokens.unpad(found, mask),)

    def features(self, tokens: TokenBatch) -> dict[str, np.ndarray]:
        """What the graph takes of a batch: (N, L) each, padded."""
        features = tokens.to_features(self.padding)
        features["position_ids"] = (features["attention_mask"].cumsum(1) - 1).clamp_min(0)
        return {name: features[name].cpu().numpy() for name in self.inputs}

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write config.json, and the graph under the backend's usual name."""
        self.config.save_pretrained(folder)
        target = Path(folder) / self.backend / self.file
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or not target.samefile(self.path):
            self.copy_files(self.path, target)

    @staticmethod
    @abstractmethod
    def copy_files(source: Path, target: Path) -> None:
        """Write the graph to another file, and whatever it keeps in files beside it."""
