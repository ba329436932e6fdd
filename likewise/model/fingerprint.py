"""One key for what a model would say: whatever keeps embeddings or tokens is named by it.

It covers the weights by their bytes, the modules and their settings, the tokenizers and their limits, and the prompts by
their text; not the device, nor what only training uses. Two models with equal fingerprints give equal embeddings.

Nothing of it is remembered from one call to the next. Torch counts the changes of a tensor, but a change through `.data` or
through an array that shares its memory goes by uncounted, and a key that is wrong once is worth nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from xxhash import xxh3_128

from likewise.engine.layers import FastLayerNorm, fast_linear
from likewise.engine.modes import is_foreign
from likewise.modules.base import Module
from likewise.modules.classes import OWN_PACKAGES
from likewise.modules.graph_model import GraphModel

# The model's own settings by which it resolves what `encode` is asked for.
SETTINGS = ("prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name")
# No settings: they change nothing, or are looked at elsewhere.
_IGNORED = frozenset({*SETTINGS, "training", "trust_remote_code", "path", "in_one_pass"})
# Of what a module saves: the tokenizer's part, and what changes how a batch is computed, but not what comes out.
_SAVED_ELSEWHERE = ("max_seq_length", "do_lower_case", "unpad_inputs")
# peft's layers keep in these which adapters count.
_PRIVATE = ("_active_adapter", "_disable_adapters")


def fingerprint(model: nn.Module) -> str:
    """32 hexadecimal digits: equal for models that embed equally, and for no others."""
    settings = {name: plain(getattr(model, name, None)) for name in SETTINGS}
    return digest(embedding_parts(model), settings)


def embedding_parts(model: nn.Module) -> dict[str, str]:
    """What decides the embedding of a text with a given prompt, each part by its digest: so one can tell which differs."""
    return {"weights": _weights(model), "modules": _modules(model), "tokenizer": tokenizers_digest(model)}


def quick_key(model: nn.Module) -> tuple[Any, ...]:
    """As the fingerprint, in microseconds rather than the time it takes to read all weights.

    It goes by torch's counters of changes, and takes tokenizers to be the same objects as before: for what is kept within one
    evaluation, not on a disk.
    """
    settings = {name: plain(getattr(model, name, None)) for name in SETTINGS}
    versions = [(value.data_ptr(), _version(value)) for value in (*model.parameters(), *model.buffers())]
    held: list[Any] = [getattr(module, "tokenization", None) for module in model.modules()]
    states = [tokenization.state for tokenization in held if hasattr(tokenization, "state")]
    return _modules(model), json.dumps(settings), tuple(versions), tuple(states)


def tokenizers_digest(model: nn.Module) -> str:
    """What decides the token ids of a text with a given prompt and route."""
    found = {}
    for name, module in model.named_modules():
        held = {key: _tokenizer(value) for key, value in vars(module).items() if _is_tokenizer(value)}
        if held:
            limits = getattr(module, "max_seq_length", None), str(getattr(module, "by_task", ""))
            found[name] = [_class(module), held, limits]
    return digest(_class(model), found)


def digest(*parts: Any) -> str:
    """32 hexadecimal digits for values: numbers, texts, lists and dicts of them."""
    return xxh3_128(json.dumps(plain(parts)).encode()).hexdigest()


def _weights(model: nn.Module) -> str:
    found = xxh3_128()
    for name, value in model.state_dict().items():
        shape = f" {value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        found.update(f"{name}{shape}".encode())
        found.update(_bytes(value))
    for name, module in model.named_modules():
        if isinstance(module, GraphModel):  # its weights are in files: the graph, and what lies beside it
            for path in sorted(module.path.parent.glob(f"{module.path.stem}*")):
                found.update(f"{name} {path.name}".encode())
                found.update(path.read_bytes())
    return found.hexdigest()


def _bytes(value: Any) -> Any:
    """The bytes of a part of a state dict; of what is no common tensor (quantised, packed), those of its file."""
    if type(value) in (Tensor, nn.Parameter) and not value.is_quantized and value.layout == torch.strided:
        return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    file = BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _modules(model: nn.Module) -> str:
    """The modules by name: their classes and settings, and functions that are called before, after or in place of theirs."""
    return digest({name: _described(module) for name, module in model.named_modules()})


def _described(module: nn.Module) -> list[Any]:
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    hooks = [hook for hook in hooks if is_foreign(hook)]  # transformers' own come and go
    settings = {
        name: plain(value)
        for name, value in vars(module).items()
        if (not name.startswith("_") or name in _PRIVATE)
        and name not in _IGNORED
        and getattr(value, "func", None) is not fast_linear
        and not _is_tokenizer(value)
    }
    if type(module).__module__.startswith("transformers."):
        # Those of a transformers module follow from its configuration; what else it holds changes as it is used.
        settings = {name: value for name, value in settings.items() if name == "config"}
    if isinstance(module, Module):  # what it saves, wherever it keeps it
        saved = module.get_config_dict().items()
        settings["saved"] = plain({name: value for name, value in saved if name not in _SAVED_ELSEWHERE})
    # A faster form computes the same.
    kind = nn.LayerNorm if isinstance(module, FastLayerNorm) else module
    return [_class(kind), module.extra_repr(), settings, [plain(hook) for hook in hooks]]


def _is_tokenizer(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("token_settings", "to_str", "get_vocab", "image_mean"))


def _tokenizer(value: Any) -> Any:
    """A tokenizer, or what prepares images, as plain values."""
    if hasattr(value, "token_settings"):
        inner = getattr(value, "tokenizer", None)
        return [_class(value), plain(value.token_settings), None if inner is None else _tokenizer(inner)]
    if hasattr(value, "to_str"):  # of the tokenizers library
        state = json.loads(value.to_str())
        # How it cuts and pads is set anew before each use, and so tells only what it was used for last.
        return {key: part for key, part in state.items() if key not in ("truncation", "padding")}
    if not hasattr(value, "get_vocab"):
        return [_class(value), plain(value.to_dict()) if hasattr(value, "to_dict") else repr(value)]
    names = ("truncation_side", "model_input_names", "special_tokens_map", "do_lower_case")
    backend = getattr(value, "backend_tokenizer", None)
    vocabulary = plain(value.get_vocab()) if backend is None else _tokenizer(backend)
    return [_class(value), [plain(getattr(value, name, None)) for name in names], vocabulary]


def plain(value: Any) -> Any:
    """A value as what JSON knows: numbers, texts and lists of them; of an object that is none of these, its class.

    A module that is no part of the model, such as an activation, counts by its class, its settings and its weights.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum | torch.dtype | Path | bytes):
        return str(value)
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), xxh3_128(_bytes(value)).hexdigest()]
    if isinstance(value, Mapping):
        pairs = sorted(([str(key), plain(part)] for key, part in value.items()), key=lambda pair: pair[0])
        return [pair for pair in pairs if pair[1] != []]  # an empty list and none say the same
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    if hasattr(value, "to_diff_dict"):  # a configuration of transformers; names and versions decide nothing
        ignored = ("transformers_version", "dtype", "architectures")
        settings = value.to_dict()
        return plain({k: v for k, v in settings.items() if not k.startswith("_") and k not in ignored})
    if isinstance(value, nn.Module):
        inner = {name: [_class(module), module.extra_repr()] for name, module in value.named_modules()}
        return [plain(inner), _weights(value)]
    return _class(value)


def _class(value: Any) -> str:
    """The name of a function or a class, or of an object's class.

    This library's own go without their module, which is another one under the alias.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    is_own = str(named.__module__).partition(".")[0] in OWN_PACKAGES
    return str(named.__qualname__) if is_own else f"{named.__module__}.{named.__qualname__}"


def _version(value: Tensor) -> int | str:
    """Torch's counter of a tensor's changes; of one made in inference mode, which has none, its bytes."""
    return xxh3_128(_bytes(value)).hexdigest() if value.is_inference() else value._version
