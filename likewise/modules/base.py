"""Module: what the parts of a model have in common: features in, features out, saved to a folder, loaded from it.

Features travel as a dict in one of two forms. Packed: `tokens` (a TokenBatch) and `token_embeddings` (T, D). Padded:
`input_ids` and `attention_mask` (N, L) and `token_embeddings` (N, L, D), as modules written for the reference expect
them. Either way `sentence_embedding` is (N, D), in the caller's order. Own modules take both forms.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.packing import TokenBatch

Features = dict[str, Any]


class Module(nn.Module, ABC):
    """A step of a SentenceTransformer.

    A subclass names its settings in `config_keys` (attributes of the same name) and writes `forward`.
    """

    config_keys: ClassVar[tuple[str, ...]] = ()
    config_file_name: ClassVar[str] = "config.json"
    save_in_root: ClassVar[bool] = False
    """Whether the module's files stand in the model's root folder when it comes first."""

    @abstractmethod
    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add to the features, or replace some."""

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that `save` writes and the constructor takes."""
        return {key: getattr(self, key) for key in self.config_keys}

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write the settings and the weights (if there are any) to a folder."""
        write_json(Path(output_path) / self.config_file_name, self.get_config_dict())
        if any(True for _ in self.state_dict()):
            save_weights(self, output_path, safe_serialization)

    @classmethod
    def load(cls, folder: str | Path, **kwargs: Any) -> Module:
        """Build the module from a folder that `save` wrote."""
        module = cls(**read_settings(folder, cls.config_file_name))
        if any(True for _ in module.state_dict()):
            load_weights(module, folder)
        return module


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: The file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}). Restore the file or save the model again."
        ) from error


def read_settings(folder: str | Path, file_name: str) -> dict[str, Any]:
    """Read a JSON object from a file in a folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON, or holds something else.
    """
    path = Path(folder) / file_name
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path} should hold a JSON object, but holds {type(settings).__name__}. Restore it or save the model again."
        )
    return settings


def save_weights(module: nn.Module, folder: str | Path, safe_serialization: bool = True) -> None:
    """Write a module's weights as model.safetensors, or as pytorch_model.bin."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in module.state_dict().items()}
    if safe_serialization:
        from safetensors.torch import save_file

        save_file(weights, Path(folder) / "model.safetensors")
    else:
        torch.save(weights, Path(folder) / "pytorch_model.bin")


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """The weights in a folder, from model.safetensors or else pytorch_model.bin (read without running code).

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The file is damaged.
    """
    safe, pickled = Path(folder) / "model.safetensors", Path(folder) / "pytorch_model.bin"
    path = safe if safe.exists() else pickled
    if not path.exists():
        raise FileNotFoundError(
            f"There are no weights in {folder}: expected model.safetensors or pytorch_model.bin."
        )
    try:
        if path is safe:
            from safetensors.torch import load_file

            return load_file(safe)
        weights: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
        return weights
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({error}). It may be cut short: copy or download it again."
        ) from error


def load_weights(module: nn.Module, folder: str | Path) -> None:
    """Fill a module with the weights in a folder.

    Raises:
        ValueError: The weights do not fit the module.
    """
    try:
        module.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise ValueError(f"The weights in {folder} do not fit {type(module).__name__}: {error}") from error


def to_packed(features: Features) -> tuple[TokenBatch, Tensor]:
    """The features' tokens and their embeddings (T, D), whichever form the features are in."""
    token_embeddings: Tensor = features["token_embeddings"]
    if "tokens" in features:
        return features["tokens"], token_embeddings
    mask = features.get("attention_mask")
    if mask is None or mask.shape != token_embeddings.shape[:2]:
        mask = torch.ones(token_embeddings.shape[:2], dtype=torch.long, device=token_embeddings.device)
    tokens = TokenBatch.from_padded(mask, mask, prompt_length=features.get("prompt_length"))
    return tokens, tokens.unpad(token_embeddings, mask)


def put_token_embeddings(features: Features, tokens: TokenBatch, values: Tensor) -> Features:
    """Put (T, D) token embeddings back, in the form that the features are in; beside `to_packed`."""
    if "tokens" not in features:
        mask = features.get("attention_mask")
        width = features["token_embeddings"].shape[:2]
        if mask is None or mask.shape != width:
            mask = torch.ones(width, dtype=torch.long, device=values.device)
        values = scatter(values, tokens, mask)
    features["token_embeddings"] = values
    return features


def scatter(values: Tensor, tokens: TokenBatch, mask: Tensor) -> Tensor:
    """(T, D) in packed order -> (N, L, D) in the caller's order, each at its token's 1 in the mask (N, L), else zeros."""
    rows = torch.argsort(tokens.place).to(mask.device)
    row, column = mask[rows].nonzero(as_tuple=True)  # of each token, in packed order
    return values.new_zeros(*mask.shape, values.shape[-1]).index_put((rows[row], column), values)


def takes_tokens(module: nn.Module) -> bool:
    """Whether a first module takes packed token ids; one that somebody else wrote, or that takes images, does not."""
    return isinstance(module, Module) and callable(getattr(module, "token_sequences", None))


def run_module(
    module: nn.Module, features: Features, kwargs: Mapping[str, Any], declared: Collection[str] = ()
) -> Features:
    """Call a module with the form of features it knows, and with the keyword arguments that it takes.

    Args:
        module: The module.
        features: What it gets.
        kwargs: Keyword arguments for any module.
        declared: Names among them that this one is known to take; those in its `forward_kwargs` come on top.
    """
    taken = {*declared, *getattr(module, "forward_kwargs", ())}
    found: Features = module(
        features if isinstance(module, Module) else to_padded(features),
        **{name: value for name, value in kwargs.items() if name in taken},
    )
    return found


def to_padded(features: Features) -> Features:
    """The same features in padded form, for a module that knows no other."""
    if "tokens" not in features:
        return features
    padded = dict(features)
    tokens: TokenBatch = padded.pop("tokens")
    padded["input_ids"] = tokens.pad(tokens.input_ids)
    padded["attention_mask"] = tokens.padded_mask()
    if tokens.token_type_ids is not None:
        padded["token_type_ids"] = tokens.pad(tokens.token_type_ids)
    if tokens.prompt_lengths is not None:
        padded["prompt_length"] = tokens.restore(tokens.prompt_lengths)
    if "token_embeddings" in padded:
        padded["token_embeddings"] = tokens.pad(padded["token_embeddings"])
    if "all_layer_embeddings" in padded:
        padded["all_layer_embeddings"] = tuple(tokens.pad(layer) for layer in padded["all_layer_embeddings"])
    return padded
