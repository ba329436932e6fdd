"""Files of transformers models and tokenizers: weights read with care, written with what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from likewise.modules.adapters import base_of_adapter, has_adapters, save_adapter
from likewise.modules.base import write_json

HUB_ARGUMENTS = ("cache_dir", "token", "revision", "local_files_only", "subfolder")


def load_model(
    name_or_path: str, config: Any, model_args: Mapping[str, Any], needs_pooler: bool = False
) -> nn.Module:
    """The encoder of this configuration, without a head.

    Args:
        name_or_path: Its folder, or its name on the Hub.
        config: Its configuration.
        model_args: For `from_pretrained`.
        needs_pooler: Whether weights of a pooler must be there too.

    Raises:
        ValueError: The weights are damaged, or not those of this configuration.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, MT5EncoderModel, T5EncoderModel
    from transformers.utils.peft_utils import find_adapter_config_file

    encoders_only: dict[str, Any] = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}
    model_class = encoders_only.get(config.model_type, AutoModel)
    where = {key: model_args[key] for key in HUB_ARGUMENTS if key in model_args}
    adapter = find_adapter_config_file(name_or_path, **where)
    if adapter is not None:  # transformers puts it on without a look at it
        base_of_adapter(Path(adapter).parent)
    try:
        model, loading = model_class.from_pretrained(
            name_or_path, config=config, output_loading_info=True, **model_args
        )
    except (SafetensorError, RuntimeError, EOFError) as error:
        damaged = _damaged_file(Path(name_or_path))
        if damaged is not None:
            raise ValueError(
                f"{damaged} cannot be read ({error}). It may be cut short: copy or download it again."
            ) from error
        raise ValueError(
            f"The weights in {name_or_path} cannot be read ({error}). They may be cut short, or belong to another "
            "config.json: copy or download the folder again."
        ) from error
    # transformers only warns, and goes on with random numbers. A pooler is seldom used, so it may be missing.
    missing = sorted(key for key in loading["missing_keys"] if needs_pooler or "pooler" not in key)
    if missing or loading["mismatched_keys"]:
        wrong = missing or sorted(str(key) for key in loading["mismatched_keys"])
        raise ValueError(
            f"The weights in {name_or_path} do not fit its config.json: {len(wrong)} are missing or of another shape, "
            f"e.g. {wrong[0]}. Copy or download the folder again."
        )
    loaded: nn.Module = model
    return loaded


def _damaged_file(folder: Path) -> Path | None:
    """The first safetensors file in a folder that is cut short or none at all."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError):
            return path
    return None


def load_tokenizer(name_or_path: str, tokenizer_args: Mapping[str, Any]) -> Any:
    """The tokenizer in a folder, or of a name on the Hub.

    Raises:
        ValueError: Its files are missing or damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name_or_path, **tokenizer_args)
    except Exception as error:  # transformers and tokenizers raise what they happen to stumble over
        raise ValueError(
            f"The tokenizer in {name_or_path} cannot be read ({error}). Its files may be missing, cut short, or need a "
            "package such as sentencepiece: copy or download the folder again."
        ) from error


def save_model(model: Any, folder: Path, safe_serialization: bool) -> None:
    """Write a transformers model with its configuration, or its adapters alone where it has some."""
    if has_adapters(model):
        save_adapter(model, folder)
        return
    model.save_pretrained(folder)
    if not safe_serialization:
        for written in folder.glob("model*.safetensors*"):
            written.unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")


def tidy_tokenizer_config(path: Path, max_seq_length: int | None) -> None:
    """Drop what only described how this process loaded the tokenizer; note the maximum length."""
    if not path.exists():
        return
    config = json.loads(path.read_text(encoding="utf8"))
    for key in ("is_local", "local_files_only"):
        config.pop(key, None)
    if max_seq_length is not None:
        config["model_max_length"] = max_seq_length
    write_json(path, config)
