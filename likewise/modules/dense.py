"""Dense: a linear layer and an activation on the sentence embedding."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from likewise.checked import positive
from likewise.modules.base import Features, Module, load_weights, size_in


class Dense(Module):
    """activation(W x + b), on one of the features.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        bias: Whether there is a b.
        activation_function: An activation; None for none, so that the layer is linear. Default tanh.
        init_weight: (out_features, in_features) to start from; None for torch's random start.
        init_bias: (out_features,) to start from; None for torch's random start.
        module_input_name: The feature that is read.
        module_output_name: The feature that is written; None for the one that is read.
        use_residual: Whether the input is added to the output, mapped by a second matrix where the sizes differ.

    Raises:
        TypeError: The activation is not a module.
    """

    config_keys = (
        "in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name", "use_residual",
    )  # fmt: skip

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation_function: nn.Module | None = nn.Tanh(),  # noqa: B008 - it has no state
        init_weight: Tensor | None = None,
        init_bias: Tensor | None = None,
        module_input_name: str = "sentence_embedding",
        module_output_name: str | None = None,
        use_residual: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(activation_function, nn.Module | None):
            raise TypeError(
                f"`activation_function` must be a torch module, e.g. torch.nn.ReLU(), but is {activation_function!r}."
            )
        self.in_features = positive(in_features, "in_features")
        self.out_features = positive(out_features, "out_features")
        self.bias = bias
        self.activation_function = nn.Identity() if activation_function is None else activation_function
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        if init_weight is not None:
            self.linear.weight = nn.Parameter(init_weight)
        if init_bias is not None and bias:
            self.linear.bias = nn.Parameter(init_bias)
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name
        self.use_residual = use_residual
        self.residual: nn.Module = nn.Identity()
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Map the named feature, (..., in_features) -> (..., out_features)."""
        values = features[self.module_input_name].to(self.linear.weight.dtype)
        if values.shape[-1] != self.in_features:
            raise ValueError(
                f"Dense takes {self.in_features} numbers, but `{self.module_input_name}` has {values.shape[-1]}. Make it with "
                f"`in_features={values.shape[-1]}`."
            )
        mapped = self.activation_function(self.linear(values))
        features[self.module_output_name] = mapped + self.residual(values) if self.use_residual else mapped
        return features

    get_sentence_embedding_dimension = get_embedding_dimension = size_in("out_features")

    def get_config_dict(self) -> dict[str, Any]:
        """The saved settings; names that are the default are left out, for readers that do not know them."""
        activation, config = type(self.activation_function), super().get_config_dict()
        config["activation_function"] = f"{activation.__module__}.{activation.__qualname__}"
        names = ("module_input_name", "module_output_name", "use_residual")
        if [getattr(self, name) for name in names] == ["sentence_embedding", "sentence_embedding", False]:
            return {key: value for key, value in config.items() if key not in names}
        return config

    @classmethod
    def from_folder(cls, folder: str | Path, trust_remote_code: bool = False, **kwargs: Any) -> Dense:
        """Build from a folder. An activation from outside of torch needs `trust_remote_code=True`."""
        config = cls.saved_settings(folder)
        if "activation_function" in config:
            config["activation_function"] = _activation(config["activation_function"], trust_remote_code)
        dense = cls(**config)
        load_weights(dense, folder)
        return dense

    def __repr__(self) -> str:
        return f"Dense({self.get_config_dict()})"


def _activation(name: Any, trusted: bool) -> nn.Module:
    """The activation that a saved name stands for: a module of torch, or of somebody who is trusted."""
    path, _, class_name = str(name).rpartition(".")
    if not trusted and path.split(".")[:2] != ["torch", "nn"]:
        raise ValueError(
            f"The activation {name!r} of a Dense module is not part of torch.nn. "
            "Pass `trust_remote_code=True` if you trust its author."
        )
    try:
        found = getattr(import_module(path), class_name)
        if not issubclass(found, nn.Module):
            raise TypeError("it is not a torch module")
        activation: nn.Module = found()
    except Exception as error:
        raise ValueError(
            f"The activation {name!r} of a Dense module cannot be made: {error}. Correct it in config.json."
        ) from error
    return activation
