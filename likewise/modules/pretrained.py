"""Files of transformers models and tokenizers: weights read with care, written with what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from likewise.checked import positive_or_none
from likewise.hub import leads_out
from likewise.modules.adapters import base_of_adapter, has_adapters, save_adapter
from likewise.modules.base import InputModule, read_settings, write_json
from likewise.modules.saved_arguments import check_config
from likewise.modules.text import Tokenization

NO_LIMIT = 1_000_000_000  # tokens: transformers writes a number far beyond it where a tokenizer has no limit
HUB_ARGUMENTS = ("cache_dir", "token", "revision", "local_files_only", "subfolder")


class PretrainedModule(InputModule):
    """A first module with a transformers model, `auto_model`, and a tokenizer in its `tokenization`."""

    auto_model: Any
    tokenization: Tokenization
    do_lower_case = False

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.tokenization.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.tokenization = Tokenization(tokenizer, self.do_lower_case, self.max_seq_length)

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens, the special ones counted in."""
        return self.tokenization.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.tokenization.max_length = positive_or_none(value, "max_seq_length")

    @property
    def config(self) -> Any:
        """The configuration of the transformers model."""
        return self.auto_model.config

    @property
    def model(self) -> Any:
        """The transformers model; the same as `auto_model`."""
        return self.auto_model


def joined(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments from several places, of which the later ones win."""
    return {name: value for part in given for name, value in (part or {}).items()}


def load_model(
    name_or_path: str, config: Any, model_args: Mapping[str, Any], needs_pooler: bool = False
) -> nn.Module:
    """The encoder of this configuration, without a head, from a folder or the Hub; its weights must be there, and fit.

    Args:
        name_or_path: Its folder, or its name on the Hub.
        config: Its configuration.
        model_args: For `from_pretrained`.
        needs_pooler: Whether weights of a pooler must be there too.
    """
    from transformers import AutoModel, MT5EncoderModel, T5EncoderModel

    encoders_only: dict[str, Any] = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}
    auto = encoders_only.get(config.model_type, AutoModel)
    model, loading = read_pretrained(auto, name_or_path, config, model_args)
    # transformers only warns, and goes on with random numbers. A pooler is seldom used, so it may be missing.
    missing = sorted(key for key in loading["missing_keys"] if needs_pooler or "pooler" not in key)
    refuse_misfits(name_or_path, missing, loading)
    return cast(nn.Module, model)


def refuse_misfits(name_or_path: str, missing: list[str], loading: Mapping[str, Any]) -> None:
    """Refuse weights of which some are missing that must be there, or are of another shape."""
    wrong = missing or sorted(str(key) for key in loading["mismatched_keys"])
    if wrong:
        raise ValueError(
            f"The weights in {name_or_path} do not fit its config.json: {len(wrong)} are missing or of another shape, "
            f"e.g. {wrong[0]}. Copy or download the folder again."
        )


def load_config(name_or_path: str, config_args: Mapping[str, Any], trusted: bool = False) -> Any:
    """The configuration in a folder, or of a name on the Hub; without a question on the terminal.

    One that asks for code is refused, unless the code that comes with the model is trusted, and so are weights outside of its folder.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name_or_path, **{"trust_remote_code": False, **config_args})
    check_config(config, name_or_path, config_args, trusted)
    return config


def read_pretrained(
    auto: Any, name_or_path: str, config: Any, model_args: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """A transformers model of this configuration, by the class `auto`, and which of its weights were missing.

    Weights that are damaged or lie outside of the folder are refused, and an adapter that would import code.
    """
    from safetensors import SafetensorError
    from transformers.utils.peft_utils import find_adapter_config_file

    where = {key: model_args[key] for key in HUB_ARGUMENTS if key in model_args}
    adapter = find_adapter_config_file(name_or_path, **where)
    if adapter is not None:  # transformers puts it on without a look at it
        base_of_adapter(Path(adapter).parent)
    folder = Path(name_or_path, model_args.get("subfolder") or "")
    for index in sorted(folder.glob("*.index*.json")):
        if ".safetensors." in index.name or ".bin." in index.name:
            _check_shards(index)
    try:
        options = {"trust_remote_code": False, **model_args}
        model, loading = auto.from_pretrained(
            name_or_path, config=config, output_loading_info=True, **options
        )
    except (SafetensorError, RuntimeError, EOFError) as error:
        damaged = _damaged_file(folder)
        if damaged is not None:
            raise ValueError(
                f"{damaged} cannot be read ({error}). It may be cut short: copy or download it again."
            ) from error
        raise ValueError(
            f"The weights in {name_or_path} cannot be read ({error}). They may be cut short, or belong to another "
            "config.json: copy or download the folder again."
        ) from error
    return model, loading


def _check_shards(index: Path) -> None:
    """Refuse a list of files with weights that is damaged or leads out of its folder."""
    shards = read_settings(index.parent, index.name).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{index} should name the file of each weight. Copy or download the folder again.")
    for name in sorted(set(shards.values())):
        if leads_out(name):
            raise ValueError(
                f"{index} names the weights {name!r}, outside of its folder. Such a path is not followed: move the file into "
                "the folder and correct the path."
            )


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
    """The tokenizer in a folder, or of a name on the Hub."""
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


def save_whole(
    model: Any, tokenizer: Any, max_seq_length: int | None, folder: Path, safe_serialization: bool
) -> None:
    """Write a model and its tokenizer, with its limit, to a folder, as transformers reads them."""
    save_model(model, folder, safe_serialization)
    tokenizer.save_pretrained(folder)
    tidy_tokenizer_config(folder / "tokenizer_config.json", max_seq_length)


def longest_sequence(tokenizer: Any, config: Any, position_offset: int) -> int | None:
    """The smaller of the tokenizer's and the model's limits, in tokens; None where neither has one."""
    limits = [tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        limits.append(positions - position_offset)
    limit = min(limits)
    return int(limit) if limit < NO_LIMIT else None


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
