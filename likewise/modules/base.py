"""Module: what the parts of a model have in common: features in, features out, saved to a folder, loaded from it.

Features travel as a dict in one of two forms, packed or padded; `likewise/engine/features.py` lists the keys. Own modules
take both forms; a `forward` that somebody else wrote, or put a hook on, is handed the padded one.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from likewise import hub
from likewise.engine import TokenBatch
from likewise.engine.features import Padding
from likewise.engine.modes import is_watched
from likewise.engine.vocabulary import TokenLogits
from likewise.modules.text import prepared

if TYPE_CHECKING:
    from typing_extensions import Self

Features = dict[str, Any]
MODULES: dict[str, type[Module]] = {}
"""The library's own modules by name, for saved folders; each puts itself here."""
HUB_OPTIONS = ("token", "cache_folder", "revision", "local_files_only")


class Module(nn.Module, ABC):
    """A step of a SentenceTransformer.

    A subclass names its settings in `config_keys` (attributes of the same name, which its constructor takes) and writes
    `forward`. Its settings and weights are saved and loaded; one that keeps other files too overrides `save` and `load`, for
    which `save_config`, `save_torch_weights`, `load_config`, `load_torch_weights`, `load_file_path` and `load_dir_path` are
    there. What they load from is a folder, or the name of a model on the Hub.
    """

    config_keys: ClassVar[Sequence[str]] = ()
    config_file_name: ClassVar[str] = "config.json"
    save_in_root: ClassVar[bool] = False
    """Whether the module's files stand in the model's root folder when it comes first."""
    saved_as: ClassVar[str] = ""
    """The class path that saved folders name, where it is not that of the dense modules."""
    forward_kwargs: ClassVar[Collection[str]] = frozenset()
    """Keyword arguments of `encode` that `forward` takes."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith(f"{__package__}.") or "saved_as" in vars(cls):
            MODULES[cls.__name__] = cls

    @abstractmethod
    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add to the features, or replace some."""

    def on_model_ready(self, model: Any) -> None:
        """Called once the model that the module belongs to is whole: a place to look at its tokenizer, say."""

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that `save` writes and the constructor takes."""
        return {key: getattr(self, key) for key in self.config_keys}

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write the settings and the weights (if there are any) to a folder."""
        self.write_folder(Path(output_path), safe_serialization)

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """What `save` does, for modules of this library that keep other files too."""
        self.save_config(folder)
        if self.state_dict():
            self.save_torch_weights(folder, safe_serialization)

    def save_config(self, output_path: str | Path, filename: str | None = None) -> None:
        """Write the settings to a folder, by default to `config_file_name`."""
        write_json(Path(output_path) / (filename or self.config_file_name), self.get_config_dict())

    def save_torch_weights(self, output_path: str | Path, safe_serialization: bool = True) -> None:
        """Write the weights to a folder, as model.safetensors or else pytorch_model.bin."""
        save_weights(self, output_path, safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str | Path, subfolder: str = "", **kwargs: Any) -> Self:
        """Build the module from what `save` wrote.

        Args:
            model_name_or_path: The model's folder, or its name on the Hub.
            subfolder: The module's folder in it.
            **kwargs: `token`, `cache_folder`, `revision` and `local_files_only`, for the Hub; others are for `from_folder`.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is damaged, or the weights do not fit.
        """
        where = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        folder: str | Path | None = Path(model_name_or_path, subfolder)
        if not Path(model_name_or_path).is_dir():
            folder = cls.load_dir_path(model_name_or_path, subfolder, **where)
        if folder is None:
            raise FileNotFoundError(
                f"There is no folder {Path(model_name_or_path, subfolder)}, nor such a model on the Hub."
            )
        return cls.from_folder(folder, **kwargs)

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> Self:
        """Build the module from its own folder."""
        is_bare = not cls.config_keys and not (Path(folder) / cls.config_file_name).exists()
        module = cls(**({} if is_bare else cls.saved_settings(folder)))
        if module.state_dict():
            load_weights(module, folder)
        return module

    @classmethod
    def saved_settings(cls, folder: str | Path) -> dict[str, Any]:
        """The settings in the module's own folder, by a subclass's own `load_config` where it has one."""
        if is_own(cls, "load_config"):
            return read_settings(folder, cls.config_file_name)
        return cls.load_config(str(folder))

    @classmethod
    def load_config(
        cls,
        model_name_or_path: str | Path,
        subfolder: str = "",
        config_filename: str | None = None,
        **where: Any,
    ) -> dict[str, Any]:
        """The settings that `save_config` wrote; none where there is no such file. Arguments as of `load`."""
        path = cls.load_file_path(
            model_name_or_path, config_filename or cls.config_file_name, subfolder, **where
        )
        return {} if path is None else read_settings(Path(path).parent, Path(path).name)

    @classmethod
    def load_torch_weights(
        cls,
        model_name_or_path: str | Path,
        subfolder: str = "",
        *,
        model: nn.Module | None = None,
        **where: Any,
    ) -> Any:
        """The weights that `save_torch_weights` wrote, by name; or `model` with these weights. Arguments as of `load`.

        Raises:
            FileNotFoundError: There are no weights.
            ValueError: They are damaged, or do not fit the model.
        """
        files = ("model.safetensors", "pytorch_model.bin")
        found = (cls.load_file_path(model_name_or_path, file, subfolder, **where) for file in files)
        path = next((path for path in found if path is not None), None)
        folder = Path(model_name_or_path, subfolder) if path is None else Path(path).parent
        if model is None:
            return read_weights(folder)
        load_weights(model, folder)
        return model

    load_file_path = staticmethod(hub.load_file_path)
    load_dir_path = staticmethod(hub.load_dir_path)


class InputModule(Module):
    """A module that comes first: it turns inputs into features. A subclass writes `tokenize` or `preprocess`."""

    save_in_root = True

    def tokenize(self, texts: Sequence[Any], *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Padded features of texts, as `forward` takes them."""
        if type(self).preprocess is InputModule.preprocess:
            raise self._reads_nothing()
        return self.preprocess(texts, *args, **kwargs)

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Padded features of inputs, with a prompt in front of each; the newer name of `tokenize`."""
        if type(self).tokenize is InputModule.tokenize:
            raise self._reads_nothing()
        if is_own(self, "tokenize"):
            return self.tokenize(inputs, prompt, **kwargs)
        return self.tokenize(prepared(inputs, prompt) if prompt else inputs, **kwargs)

    def _reads_nothing(self) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} must have a method `tokenize` or `preprocess`.")

    def save_tokenizer(self, output_path: str | Path, **kwargs: Any) -> None:
        """Write the tokenizer to a folder, if there is one."""
        tokenizer: Any = getattr(self, "tokenizer", None)
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(output_path, **kwargs)
        elif tokenizer is not None:
            tokenizer.save(str(Path(output_path) / "tokenizer.json"), **kwargs)


def size_in(attribute: str) -> Callable[[Any], int]:
    """A method that returns one of the module's attributes, which is the size of what it gives."""

    def size(self: Any) -> int:
        """The size of an embedding that comes out."""
        return int(getattr(self, attribute))

    return size


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")


def read_json(path: Path) -> Any:
    """Read JSON; a ValueError names the file that is none."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}). Restore the file or save the model again."
        ) from error


def read_settings(folder: str | Path, file_name: str) -> dict[str, Any]:
    """Read a JSON object from a file in a folder; a ValueError names the file that holds something else."""
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
    """The weights in a folder, from model.safetensors or else pytorch_model.bin (read without running code)."""
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
    """Fill a module with the weights in a folder, which must fit it."""
    try:
        module.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise ValueError(f"The weights in {folder} do not fit {type(module).__name__}: {error}") from error


def to_packed(features: Features) -> tuple[TokenBatch, Tensor]:
    """The features' tokens and their embeddings (T, D), whichever form the features are in."""
    token_embeddings: Tensor = made_whole(features["token_embeddings"])
    if "tokens" in features:
        return features["tokens"], token_embeddings
    if "cu_seq_lens_q" in features:
        raise ValueError(
            "These features hold several texts in one row, told apart by `cu_seq_lens_q`, which is not read here. "
            "Give each text a row of its own, padded, with an `attention_mask`."
        )
    mask = _mask_of_embeddings(features)
    tokens = TokenBatch.from_padded(mask, mask, prompt_length=features.get("prompt_length"))
    return tokens, tokens.unpad(token_embeddings, mask)


def _mask_of_embeddings(features: Features) -> Tensor:
    """The mask of padded token embeddings, (N, L) int64; all ones where there is none of their shape."""
    mask: Tensor | None = features.get("attention_mask")
    embeddings: Tensor = features["token_embeddings"]
    fits = mask is not None and mask.shape == embeddings.shape[:2]
    return mask if mask is not None and fits else embeddings.new_ones(embeddings.shape[:2], dtype=torch.long)


def made_whole(value: Any) -> Any:
    """The logits of tokens as a tensor, where they were left to whoever needs them; anything else as it is."""
    return value.whole() if isinstance(value, TokenLogits) else value


def mask_of(features: Features) -> Tensor:
    """The mask of padded features (N, L), int64; all ones where there is none."""
    mask = features.get("attention_mask")
    return torch.ones_like(features["input_ids"]) if mask is None else cast(Tensor, mask)


def put_token_embeddings(features: Features, tokens: TokenBatch, values: Tensor) -> Features:
    """Put (T, D) token embeddings back, in the form that the features are in; beside `to_packed`."""
    if "tokens" not in features:
        values = scatter(values, tokens, _mask_of_embeddings(features))
    features["token_embeddings"] = values
    return features


def scatter(values: Tensor, tokens: TokenBatch, mask: Tensor) -> Tensor:
    """(T, D) in packed order -> (N, L, D) in the caller's order, each at its token's 1 in the mask (N, L), else zeros."""
    rows = torch.argsort(tokens.place).to(mask.device)
    row, column = mask[rows].nonzero(as_tuple=True)  # of each token, in packed order
    return values.new_zeros(*mask.shape, values.shape[-1]).index_put((rows[row], column), values)


def is_own(module: nn.Module | type, *methods: str) -> bool:
    """Whether these methods of a module or class were written here: not overridden, replaced or written by somebody else."""
    kind = module if isinstance(module, type) else type(module)
    for name in methods:
        method = getattr(kind, name, None)
        is_hooked = hasattr(module, "_hf_hook")  # accelerate's hooks call the class's method
        if name in vars(module) and not is_hooked:
            method = vars(module)[name]
        written = getattr(getattr(method, "__func__", method), "__globals__", {})
        if not str(written.get("__name__")).startswith("likewise."):
            return False
    return True


def takes_tokens(module: nn.Module) -> bool:
    """Whether a first module takes packed token ids; one that somebody else wrote or hooked, or that takes images, does not."""
    is_input = isinstance(module, InputModule) and hasattr(module, "token_sequences")
    return is_input and is_own(module, "forward", "tokenize", "preprocess") and not is_watched(module)


def reads_by_task(module: Any) -> bool:
    """Whether a first module treats texts by what they are for."""
    return "task" in getattr(module, "forward_kwargs", ())


def padded_inputs(
    reader: Any, inputs: Sequence[Any], prompt: str | None, **options: Any
) -> dict[str, Tensor]:
    """What a first module, or a model, makes of inputs, whichever release of the reference it was written for.

    Args:
        reader: It has a method `preprocess`, which may take `prompt`, or `tokenize`, which does not.
        inputs: The inputs.
        prompt: Goes to a method that takes it by name; else it is put in front of the texts.
        **options: Further arguments, for a method that takes them. `processing_kwargs` must be taken.
    """
    if not hasattr(reader, "preprocess") and not hasattr(reader, "tokenize"):
        raise TypeError(
            f"The first module, {type(reader).__name__}, has no method `tokenize` or `preprocess` that takes texts. Begin with one "
            "that has, e.g. a Transformer."
        )
    is_older = not hasattr(reader, "preprocess") or (
        is_own(reader, "preprocess") and not is_own(reader, "tokenize")
    )
    method = reader.tokenize if is_older else reader.preprocess
    given = accepted(method, options if is_older else {**options, "prompt": prompt})
    if "processing_kwargs" in set(options) - set(given):
        raise ValueError(
            f"`processing_kwargs` are for models that read texts with a Transformer, but {type(reader).__name__} takes none. "
            "Drop them."
        )
    if prompt and "prompt" not in given:
        inputs = prepared(inputs, prompt)
    features: dict[str, Tensor] = method(inputs, **given)
    return features


def accepted(method: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the keyword arguments that a function takes."""
    parameters = inspect.signature(method).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in options.items() if takes_any or name in parameters}


def run_module(
    module: nn.Module,
    features: Features,
    kwargs: Mapping[str, Any],
    declared: Collection[str] = (),
    reader: Any = None,
) -> Features:
    """Call a module with the form of features it knows, and with the keyword arguments that it takes.

    Args:
        module: The module.
        features: What it gets.
        kwargs: Keyword arguments for any module.
        declared: Names among them that this one is known to take; those in its `forward_kwargs` come on top.
        reader: The first module, whose tokenizer says how features are padded.

    Raises:
        TypeError: The module returns something else than features.
    """
    taken = {*declared, *getattr(module, "forward_kwargs", ())}
    if "tokens" in features and (not is_own(module, "forward") or is_watched(module)):
        features = to_padded(features, padding_of(reader, kwargs.get("task") or features.get("task")))
    found: Features = module(features, **{name: kwargs[name] for name in kwargs.keys() & taken})
    if not isinstance(found, Mapping):
        raise TypeError(
            f"The module {type(module).__name__} returned {type(found).__name__}, but a module returns the features that it was "
            "given, with its own among them. End its `forward` with `return features`."
        )
    return found


def to_padded(features: Features, padding: Padding) -> Features:
    """The same features in padded form, for a module that knows no other."""
    if "tokens" not in features:
        return features
    others = {key: made_whole(value) for key, value in features.items() if key != "tokens"}
    return cast(TokenBatch, features["tokens"]).to_features(padding, **others)


def padding_of(reader: Any, task: str | None = None) -> Padding:
    """How a first module pads the texts of a task: as its tokenizer does, or that of a Router's route."""
    first = reader.first_module(task) if hasattr(reader, "first_module") else reader
    return Padding.of(getattr(first, "tokenizer", None))
