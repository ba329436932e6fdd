"""Merging models: one model whose weights are a mixture of those of several fine-tunes of the same one.

`linear` and `slerp` are written out here; the other methods are mergekit's.

Reference: Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482 (linear).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from likewise.checked import needed
from likewise.model.fingerprint import plain
from likewise.modules.adapters import has_adapters
from likewise.modules.base import Module

DTYPES = (None, torch.float16, torch.bfloat16, torch.float32, torch.float64)
DEFAULTS = {"weight": 1.0, "t": 0.5}
NEARLY_PARALLEL = 0.9995  # cosine beyond which spherical interpolation is no better than linear


@dataclass(frozen=True)
class Mixture:
    """What to do with the weights of N models: the arguments of `merge`, the base model by its number."""

    method: str
    parameters: Mapping[str, Any]
    base: int | None
    dtype: torch.dtype | None
    out_dtype: torch.dtype | None
    batch_options: Any


def merge(
    cls: type[Any],
    /,
    models: Sequence[Any],
    method: str = "linear",
    *,
    base_model: Any = None,
    parameters: Mapping[str, Any] | None = None,
    dtype: str | torch.dtype | None = torch.float32,
    out_dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    batch_options: Any = None,
    **load_kwargs: Any,
) -> Any:
    """One model whose weights are a mixture of those of several fine-tunes of the same model.

    Args:
        models: Models, folders or names; settings, prompts and tokenizer are those of the first.
        method: "linear", "slerp", or a method of mergekit (`pip install "likewise[merge]"`).
        base_model: The model that a method with a base starts from; for "slerp" the first one by default.
        parameters: Of the method: `weight` (one for all, a list, or by number; default 1) and `normalize` (default
            True) for "linear", `t` from 0 to 1 (default 0.5) for "slerp".
        dtype: What is computed in; None for the models' own.
        out_dtype: What the merged weights are cast to; None leaves them.
        device: Where it is computed, and where the result is.
        batch_options: mergekit's, which then does the work of "linear" and "slerp" too.
        **load_kwargs: For loading folders and names.

    Raises:
        ImportError: The method needs mergekit.
        TypeError: Something is no model of this family, or the method has no such parameter.
        ValueError: The models do not fit each other, or the parameters the method.
    """
    if isinstance(models, str | os.PathLike) or len(models) < 2:
        raise ValueError("`models` must be at least two models, folders or names. Pass a list of them.")
    given, base = _with_base(list(models), base_model, method)
    mixture = Mixture(
        method, dict(parameters or {}), base, _dtype("dtype", dtype), _dtype("out_dtype", out_dtype), batch_options
    )  # fmt: skip
    _check(mixture, len(given))
    loaded = [
        cls(model, device=device, **load_kwargs) if isinstance(model, str | os.PathLike) else model
        for model in given
    ]
    for number, model in enumerate(loaded):
        if not isinstance(model, cls):
            raise TypeError(
                f"Model {number} is a {type(model).__name__}, but should be a {cls.__name__}, or its folder or name."
            )
        _check_plain(model, number)
        _check_alike(loaded[0], model, number)
    with torch.no_grad():
        return _filled(loaded[0], _mixed(loaded, mixture, torch.device(device))).to(device).eval()


def _with_base(models: list[Any], base_model: Any, method: str) -> tuple[list[Any], int | None]:
    """The models, the base among them, and its number."""
    if base_model is None:
        return models, 0 if method == "slerp" else None
    if method == "linear":
        raise ValueError("`method='linear'` has no base: drop `base_model`, or list it among the models.")
    for number, model in enumerate(models):
        named = isinstance(model, str | os.PathLike) and isinstance(base_model, str | os.PathLike)
        if model is base_model or (named and str(model) == str(base_model)):
            return models, number
    return [*models, base_model], len(models)


def _dtype(name: str, value: str | torch.dtype | None) -> torch.dtype | None:
    found = getattr(torch, value, value) if isinstance(value, str) else value
    if found not in DTYPES:
        raise ValueError(f"`{name}` must be None, float16, bfloat16, float32 or float64, but is {value!r}.")
    return found  # type: ignore[return-value]


def _check(mixture: Mixture, number: int) -> None:
    """Refuse parameters that linear and slerp do not have; mergekit checks its own."""
    known = {"linear": {"weight", "normalize"}, "slerp": {"t"}}.get(mixture.method)
    if known is None:
        return
    if unknown := set(mixture.parameters) - known:
        raise TypeError(
            f"`method={mixture.method!r}` has no parameter {sorted(unknown)[0]!r}, only {', '.join(sorted(known))}."
        )
    if mixture.method == "slerp" and number != 2:
        raise ValueError(f"`method='slerp'` is between two models, but there are {number}. Take 'linear'.")
    if mixture.method == "linear":
        _weights(mixture.parameters, number)


def _check_alike(first: Any, model: Any, number: int) -> None:
    """Refuse models whose weights do not mean the same: they differ in modules, settings or vocabulary."""
    modules, expected = dict(model.named_modules()), dict(first.named_modules())
    if modules.keys() != expected.keys():
        raise ValueError(
            f"Model {number} has other modules than model 0, so that their weights cannot be merged."
        )
    for name, module in modules.items():
        other = expected[name]
        if _kind(module) is not _kind(other):
            raise ValueError(
                f"Module {name!r} of model {number} is a {type(module).__name__}, not as in model 0."
            )
        if name and _settings(module) != _settings(other):  # the model's own are those of its modules
            raise ValueError(f"The settings of module {name!r} of model {number} are not those of model 0.")
        tokenizer: Any = getattr(module, "tokenizer", None)
        known: Any = getattr(other, "tokenizer", None)
        if hasattr(tokenizer, "get_vocab") and (
            tokenizer.get_vocab() != known.get_vocab()
            or getattr(tokenizer, "special_tokens_map", None) != getattr(known, "special_tokens_map", None)
        ):
            raise ValueError(f"The vocabulary of model {number} is not that of model 0.")


def _check_plain(model: Any, number: int) -> None:
    """Refuse a model whose weights are not all there is to it."""
    for module in model.modules():
        if isinstance(module, Module) and getattr(module, "backend", "torch") != "torch":
            raise ValueError(f"Model {number} was loaded with another backend than torch. Load it without.")
        if isinstance(module, Module) and has_adapters(getattr(module, "auto_model", None)):
            raise ValueError(f"Model {number} has adapters. Call its `merge_adapters()` first.")
        if getattr(module, "is_quantized", False):
            raise ValueError(f"Model {number} is quantised. Load it without `quantization_config`.")


def _kind(module: nn.Module) -> type[nn.Module]:
    """The class of a module; linear layers are alike whatever they compute in."""
    return nn.Linear if isinstance(module, nn.Linear) else type(module)


def _settings(module: Any) -> Any:
    if isinstance(module, Module):
        return module.get_config_dict()
    config: Any = getattr(module, "config", None)
    is_own = hasattr(config, "to_dict") and not hasattr(config, "to_diff_dict")  # which transformers' have
    return [plain(config.to_dict() if is_own else config), module.extra_repr()]


def _mixed(models: Sequence[Any], mixture: Mixture, device: torch.device) -> dict[str, Tensor]:
    """The merged weights by name; of weights that are tied, the first name alone."""
    states = []
    for number, model in enumerate(models):
        own = model.state_dict(keep_vars=True)
        first_names: dict[int, str] = {}
        for name, tensor in own.items():
            first_names.setdefault(id(tensor), name)
        states.append({name: own[name].detach().to(device) for name in first_names.values()})
        shapes = {name: tensor.shape for name, tensor in states[number].items()}
        if shapes != {name: tensor.shape for name, tensor in states[0].items()}:
            raise ValueError(
                f"Model {number} has weights of other names or shapes than model 0, or ties others."
            )
    if mixture.method not in ("linear", "slerp") or mixture.batch_options is not None:
        return _by_mergekit(states, mixture)
    return {name: _one(name, [state[name] for state in states], mixture) for name in states[0]}


def _one(name: str, tensors: list[Tensor], mixture: Mixture) -> Tensor:
    if not tensors[0].is_floating_point():
        if not all(torch.equal(tensor, tensors[0]) for tensor in tensors):
            raise ValueError(f"{name!r} holds whole numbers that differ between the models.")
        return tensors[0]
    dtype = mixture.dtype or reduce(torch.promote_types, [tensor.dtype for tensor in tensors])
    exact = torch.promote_types(torch.float32, dtype)
    values = [tensor.to(dtype).to(exact) for tensor in tensors]
    if mixture.method == "linear":
        weights = _weights(mixture.parameters, len(values))
        parts = (weight * value for value, weight in zip(values, weights, strict=True))
        merged = sum(parts, start=torch.zeros_like(values[0]))
        merged = merged / sum(weights) if mixture.parameters.get("normalize", True) else merged
    else:
        start, end = values if mixture.base == 0 else values[::-1]
        merged = slerp(float(mixture.parameters.get("t", DEFAULTS["t"])), start, end)
    return merged.to(dtype).to(mixture.out_dtype or dtype)


def _weights(parameters: Mapping[str, Any], number: int) -> list[float]:
    """One weight for each model: 1 by default, one for all, a list, or by the model's number."""
    given = parameters.get("weight", DEFAULTS["weight"])
    if isinstance(given, Mapping):
        given = [given.get(place) for place in range(number)] if set(given) == set(range(number)) else ()
    weights = list(given) if isinstance(given, Sequence) else [given] * number
    if len(weights) != number:
        raise ValueError(f"`parameters['weight']` must have one weight for each of the {number} models.")
    if parameters.get("normalize", True) and not sum(weights):
        raise ValueError(
            "`parameters['weight']` must not add up to 0. Correct it, or set `normalize` to False."
        )
    return [float(weight) for weight in weights]


def slerp(t: float, start: Tensor, end: Tensor) -> Tensor:
    """On the arc between two tensors, taken as vectors: `start` for t = 0, `end` for t = 1; any shape, both alike.

    The angle is between their directions; lengths are mixed along with them. Nearly parallel ones are mixed linearly.

    Reference: Shoemake 1985, https://doi.org/10.1145/325165.325242.
    """
    first, second = start.flatten(), end.flatten()
    norms = [norm if (norm := vector.norm()) > 1e-8 else torch.ones_like(norm) for vector in (first, second)]
    cosine = ((first / norms[0]) * (second / norms[1])).sum().clamp(-1, 1)
    if cosine.abs() > NEARLY_PARALLEL:
        return (1 - t) * start + t * end
    angle = cosine.acos()
    return (((1 - t) * angle).sin() * start + (t * angle).sin() * end) / angle.sin()


def _by_mergekit(states: Sequence[dict[str, Tensor]], mixture: Mixture) -> dict[str, Tensor]:
    why = f"`method={mixture.method!r}` is mergekit's; without it there are 'linear' and 'slerp'"
    needed("mergekit", why, "merge")
    from mergekit import merge_methods

    method = merge_methods.get(mixture.method)
    known = {parameter.name for parameter in method.spec.parameters}
    defaults = {name: value for name, value in DEFAULTS.items() if name in known}
    merged: dict[str, Tensor] = merge_methods.merge_state_dicts(
        dict(enumerate(states)),
        method,
        base=mixture.base,
        parameters={**defaults, **mixture.parameters},
        dtype=mixture.dtype,
        out_dtype=mixture.out_dtype,
        batch_options=mixture.batch_options,
    )
    return merged


def _filled(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """A copy of a model with other weights; its model card begins anew."""
    replaced: dict[int, Any] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in replaced:
            value = weights[name].clone().requires_grad_(tensor.requires_grad)
            is_weight = isinstance(tensor, nn.Parameter)
            replaced[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if is_weight else value
    bare = copy.copy(model)
    bare._model_card_data = bare._model_card_text = bare._model_card_plot = None
    merged = copy.deepcopy(bare, replaced)
    merged.model_card_data.register_model(merged)
    return merged
