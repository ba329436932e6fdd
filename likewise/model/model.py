"""Model: what every family of models is: a sequence of modules, from a folder or the Hub and back."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.checked import having, one_of
from likewise.engine import TokenBatch, TokenSequences
from likewise.model import fingerprint, hub, merging, placement, pool, reduced_weights, storage
from likewise.model.shared_batches import SharedBatches
from likewise.modules import Router, Transformer, adapters, base
from likewise.modules.base import Features, Module, is_own, padded_inputs, run_module, takes_tokens
from likewise.modules.device import best_device
from likewise.modules.processing import ProcessingKwargs
from likewise.modules.text import Text, Tokenization
from likewise.modules.transformer import BACKENDS

if TYPE_CHECKING:
    from transformers import BatchEncoding
    from typing_extensions import Self

logger = logging.getLogger(__name__)


class Model(nn.Sequential):
    """A sequence of modules that turns inputs into something by which they can be compared, ranked or classified.

    A family of models (SentenceTransformer, CrossEncoder) is a subclass: it says what its inputs are, and what it does with
    what the modules give.

    Args:
        stored: The modules and settings, from a folder or made from modules.
        prompts: Named texts to put in front of the inputs, beside the saved ones.
        default_prompt_name: The prompt that is used when none is asked for; a key of the prompts.
        trust_remote_code: Whether code that came with the model may run.
        model_card_data: What the model card says; None for what is known by itself.

    Raises:
        ValueError: There is no prompt of that name.
    """

    model_type: ClassVar[str]
    """The class that stands for the family, in messages and folders; losses and evaluators say which they are for."""
    model_card_data_class: ClassVar[Any]
    """What the model card says is an object of this class."""
    default_huggingface_organization: ClassVar[str | None] = None
    """Where on the Hub a bare name is looked for first."""
    over_inputs: ClassVar[str] = "encode"
    """The method that runs the model over a list of inputs, which evaluators call."""
    default_prompts: ClassVar[Mapping[str, str]] = {}
    """The prompts that every model of the family has."""
    type_names: ClassVar[Mapping[type, str]] = {}
    """The names by which the family's folders list classes that others list otherwise."""
    readable_since: ClassVar[str] = storage.FORMAT_VERSION
    """The oldest release of the reference that reads the family's folders."""

    def __init__(
        self,
        stored: storage.StoredModel,
        prompts: Mapping[str, str] | None,
        default_prompt_name: str | None,
        trust_remote_code: bool,
        model_card_data: Any,
    ) -> None:
        super().__init__(OrderedDict(stored.modules))
        settings = stored.settings
        self.module_kwargs = stored.module_kwargs
        prompts = prompts or {}
        if not isinstance(prompts, Mapping) or not all(
            isinstance(text, str | None) for text in prompts.values()
        ):
            raise TypeError(
                f"`prompts` must be a dict of texts by name, e.g. {{'query': 'query: '}}, but is {prompts!r}."
            )
        named = {**self.default_prompts, **(settings.get("prompts") or {}), **prompts}
        self.prompts: dict[str, str] = {name: text or "" for name, text in named.items()}
        self.default_prompt_name: str | None = default_prompt_name or settings.get("default_prompt_name")
        if self.default_prompt_name is not None:
            self._prompt_named(self.default_prompt_name)
        self.trust_remote_code = trust_remote_code
        self.shared_batches = SharedBatches()
        self._reported_truncation = False
        self._model_card_text, self._model_card_plot = stored.card, stored.card_plot
        self._model_card_data = model_card_data

    @classmethod
    def _stored(
        cls,
        name_or_path: str | os.PathLike[str] | None,
        modules: Sequence[nn.Module] | Mapping[str, nn.Module] | None,
        on_hub: tuple[str | None, str | None, bool, bool | str | None],
        trust_remote_code: bool,
        model_kwargs: Mapping[str, Any] | None,
        tokenizer_kwargs: Mapping[str, Any] | None,
        config_kwargs: Mapping[str, Any] | None,
        backend: str,
    ) -> tuple[storage.StoredModel, Path | None]:
        """What a constructor was asked for, and the folder that it is in; a model made of modules has none.

        Arguments are those of the constructor, `on_hub` its `cache_folder`, `revision`, `local_files_only` and `token`.
        """
        one_of(backend, "backend", BACKENDS)
        if name_or_path is None:
            return storage.StoredModel.of(modules), None
        organisation = cls.default_huggingface_organization
        folder = storage.find_folder(name_or_path, *on_hub, backend, model_kwargs, organisation)
        options = model_kwargs, tokenizer_kwargs, config_kwargs
        return cls.stored_in(folder, trust_remote_code, *options, backend), folder

    def _settle(
        self,
        folder: Path | None,
        revision: str | None,
        device: str | torch.device | None,
        model_kwargs: Mapping[str, Any] | None,
    ) -> None:
        """The constructor's last step: the card learns where the model is from, and the model goes to its device."""
        if folder is not None:
            self.model_card_data.set_base_model(str(folder), revision=revision)
        self.model_card_data.register_model(self)
        if (model_kwargs or {}).get("device_map"):
            self._place_behind_map(device)
        else:
            self.to(device or best_device())
        for module in self:
            if isinstance(module, Module):
                module.on_model_ready(self)

    # What a family writes

    stored_in: ClassVar[Callable[..., storage.StoredModel]]
    """What a folder holds, by its path and whether its code is trusted."""

    _create_model_card: ClassVar[Callable[..., None]]
    """Writes README.md to a folder, with the model's name and names of the training data."""

    # Modules and settings

    @property
    def model_card_data(self) -> Any:
        """What the model card says about this model."""
        if self._model_card_data is None:
            self._model_card_data = self.model_card_data_class()
        return self._model_card_data

    @model_card_data.setter
    def model_card_data(self, value: Any) -> None:
        self._model_card_data = value

    def weights_in(self, folder: str | os.PathLike[str]) -> dict[str, Tensor]:
        """The weights of a model of this family that was saved to a folder, on the CPU, by their names here."""
        modules = self.stored_in(Path(folder), self.trust_remote_code).modules
        return nn.Sequential(OrderedDict(modules)).state_dict()

    @classmethod
    def load(cls, input_path: str | os.PathLike[str]) -> Self:
        """The older way to call the constructor."""
        return cls(input_path)  # type: ignore[arg-type, call-arg]

    def _first_module(self) -> Any:
        return self[0]

    def _last_module(self) -> Any:
        return self[-1]

    @property
    def takes_tokens(self) -> bool:
        """Whether the first module takes packed token ids; one that somebody else wrote does not, nor does such a model."""
        first = self[0].takes_tokens if isinstance(self[0], Router) else takes_tokens(self[0])
        return bool(first) and is_own(self, "forward", "tokenize", "preprocess")

    def padded_inputs(
        self, texts: Sequence[Any], prompt: str | None, task: str | None, **options: Any
    ) -> Mapping[str, Tensor]:
        """The features that `preprocess` or, where somebody has overridden that, `tokenize` gives."""
        if base.reads_by_task(self[0]):
            options["task"] = task
        return padded_inputs(self, texts, prompt, **options)

    @property
    def device(self) -> torch.device:
        """Where the model is; of one that is spread over devices, where it takes its inputs."""
        parameter = next(self.parameters(), None)
        here = torch.device("cpu") if parameter is None else parameter.device
        return placement.spread_over(self.transformers_model) or here

    @property
    def _target_device(self) -> torch.device:  # the older name, which other packages still use
        return self.device

    @_target_device.setter
    def _target_device(self, device: str | torch.device) -> None:
        self.to(device)

    def to(self, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Move the model to a device, or convert it to a type, as torch's method of this name does.

        Raises:
            RuntimeError: It is spread over devices.
        """
        placement.refuse_spread(self, "be moved or converted")
        return super().to(*args, **kwargs)

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of the weights; None where there are none."""
        parameter = next(self.parameters(), None)
        return None if parameter is None else parameter.dtype

    def _place_behind_map(self, device: str | torch.device | None) -> None:
        """Where `device_map` said where the transformers model goes, put the modules behind it beside it."""
        if device is not None:
            logger.warning("`device=%r` is ignored: `device_map` says where the model goes.", str(device))
        for module in list(self)[1:]:
            module.to(self.device)

    def clear_placement_cache(self) -> None:
        """Put the modules behind the first beside it again, after hooks of accelerate, or modules, were added."""
        self._place_behind_map(None)

    def _unify_dtype(self) -> None:
        """Modules behind the first take its dtype: a half-precision encoder has no use for a float32 head."""
        parameter = next(self[0].parameters(), None)
        if parameter is not None:
            for module in list(self)[1:]:
                module.to(parameter.dtype)

    @property
    def tokenizer(self) -> Any:
        """The first module's tokenizer."""
        return self._first_module().tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._first_module().tokenizer = value

    @property
    def processor(self) -> Any:
        """The first module's processor, for images and texts; its tokenizer where it has no other."""
        return getattr(self[0], "processor", None) or self.tokenizer

    @property
    def modalities(self) -> list[str]:
        """The kinds of inputs: "text", and "image" where the first module takes images."""
        return list(getattr(self[0], "modalities", ("text",)))

    def supports(self, modality: str) -> bool:
        """Whether the model takes inputs of this kind."""
        return modality in self.modalities

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens."""
        limit: int | None = self._first_module().max_seq_length
        return limit

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._first_module().max_seq_length = value

    def get_max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens; None where the first module has no limit."""
        return getattr(self[0], "max_seq_length", None)

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        return str(getattr(self[0], "backend", "torch"))

    def get_backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        return self.backend

    @property
    def transformers_model(self) -> Any:
        """The transformers model; of a Router the first that there is; None where the first module has none."""
        found = (getattr(module, "auto_model", None) for module in self[0].modules())
        return next((model for model in found if model is not None), None)

    @property
    def config(self) -> Any:
        """The configuration of the transformers model, or None where there is none; then setting it does nothing."""
        return getattr(self.transformers_model, "config", None)

    @config.setter
    def config(self, value: Any) -> None:
        if self.transformers_model is not None:
            self.transformers_model.config = value

    def fingerprint(self) -> str:
        """A key for what this model would say: its weights, modules, tokenizer, limits, prompts and other settings.

        Two models with one fingerprint embed every text equally. It takes about as long as to read the weights once.
        """
        return fingerprint.fingerprint(self)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them.

        Args:
            activation_checkpointing_kwargs: For `torch.utils.checkpoint.checkpoint`.
            **options: As transformers' method of this name takes them, e.g. `every_n_layers`.
        """
        for module in self.modules():
            model: Any = getattr(module, "auto_model", None) if isinstance(module, Module) else None
            if model is not None:
                if hasattr(model, "activation_checkpointing_enable"):
                    model.activation_checkpointing_enable(activation_checkpointing_kwargs, **options)
                else:  # before transformers 5.24
                    model.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    # Forward

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether these inputs of `encode` are one, whose embedding it returns, rather than a list of them."""
        return isinstance(inputs, str | Mapping) or not hasattr(inputs, "__iter__")

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **kwargs: Any
    ) -> BatchEncoding:
        """Padded features of texts, as `forward` takes them.

        Args:
            inputs: Texts, or what else the first module takes.
            prompt: Put in front of each.
            task: What they are for; a Router cuts them for its route.
            **kwargs: For the first module's method of this name: `processing_kwargs`, `modality` of a Router.
        """
        from transformers import BatchEncoding

        first = self._first_module()
        if base.reads_by_task(first):
            kwargs["task"] = task
        features = BatchEncoding(padded_inputs(first, inputs, prompt, **kwargs))
        self._report_truncation(getattr(first, "tokenization", None))
        return features

    def tokenize(self, texts: Sequence[Any], *args: Any, **kwargs: Any) -> BatchEncoding:
        """The older name of `preprocess`."""
        return self.preprocess(texts, *args, **kwargs)

    def token_sequences(
        self,
        texts: Sequence[Text],
        prompt: str | None = None,
        task: str | None = None,
        processing_kwargs: ProcessingKwargs | None = None,
    ) -> TokenSequences:
        """Token ids of texts, cut at the maximum length.

        Args:
            texts: Strings, or pairs of strings.
            prompt: Put in front of every text.
            task: The route that a Router takes.
            processing_kwargs: As `encode` takes them.

        Raises:
            ValueError: `processing_kwargs` are given to a module that takes none.
        """
        first = self._first_module()
        if isinstance(first, Router):
            first = first.first_module(task)
        options: dict[str, Any] = {"processing_kwargs": processing_kwargs} if processing_kwargs else {}
        if options and not isinstance(first, Transformer):
            raise ValueError(
                "`processing_kwargs` are for models that read texts with a Transformer, but this one's first module is "
                f"{type(first).__name__}. Drop them."
            )
        if base.reads_by_task(first):
            options["task"] = task
        sequences: TokenSequences = first.token_sequences(texts, prompt, **options)
        self._report_truncation(getattr(first, "tokenization", None))
        return sequences

    def _report_truncation(self, tokenization: Tokenization | None) -> None:
        if tokenization is not None and tokenization.num_truncated and not self._reported_truncation:
            self._reported_truncation = True
            logger.warning(
                "%d of the first %d texts are longer than %d tokens and were cut there. Raise `model.max_seq_length` "
                "or split the texts if their ends matter.",
                tokenization.num_truncated,
                tokenization.num_texts,
                tokenization.max_length,
            )

    def forward(self, features: Features, **kwargs: Any) -> Features:  # type: ignore[override]
        """Run the modules.

        Args:
            features: Packed, `{"tokens": TokenBatch}`, or padded, as `tokenize` returns them.
            **kwargs: Passed on to the modules that declare them.

        Returns:
            The features, with `sentence_embedding` (N, D) among them.
        """
        if not isinstance(features, Mapping):
            raise TypeError(
                f"A model takes features, but got {type(features).__name__}. Texts go to `{self.over_inputs}`."
            )
        for name, module in self.named_children():
            features = run_module(module, features, kwargs, self.module_kwargs.get(name, ()), self[0])
        return features

    def layer_embeddings(self, features: Features) -> Tensor:
        """What the model would give if its Transformer ended at each of its layers, layer 0 being the input embeddings.

        Args:
            features: As for `forward`, of N texts. The Transformer runs once, only the modules behind it for every layer.

        Returns:
            (N, layers, D), the last layer last.
        """
        first, *others = self.children()
        if not hasattr(first, "encoder"):
            raise ValueError(f"A {type(first).__name__} has no layers. Let a Transformer come first.")
        tokens = features.get("tokens")
        if tokens is None:
            known = ("input_ids", "attention_mask", "token_type_ids", "prompt_length")
            tokens = TokenBatch.from_padded(**{key: features[key] for key in known if key in features})
        embeddings = []
        for layer in first.encoder(tokens, output_hidden_states=True):  # type: ignore[operator]
            state: dict[str, Any] = {"tokens": tokens, "token_embeddings": layer}
            for module in others:
                state = run_module(module, state, {}, reader=first)
            embeddings.append(state["sentence_embedding"])
        return torch.stack(embeddings, dim=1)

    def get_model_kwargs(self) -> list[str]:
        """The keyword arguments that this model's modules take from `encode`."""
        names = {name for kwargs in self.module_kwargs.values() for name in kwargs}
        for module in self:
            names.update(getattr(module, "forward_kwargs", ()))
        return sorted(names)

    def _check_known(self, kwargs: Mapping[str, Any]) -> None:
        unknown = set(kwargs) - set(self.get_model_kwargs()) - {"task", "processing_kwargs"}
        if unknown:
            allowed = ", ".join(self.get_model_kwargs()) or "none"
            raise ValueError(
                f"{self.over_inputs}() got {', '.join(sorted(unknown))}, which no module of this model takes (they take: {allowed})."
            )

    def _resolve_prompt(self, prompt: str | None, prompt_name: str | None) -> str | None:
        if prompt is not None:
            if prompt_name is not None:
                logger.warning("Both `prompt` and `prompt_name` were given; `prompt_name` is ignored.")
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        return None if name is None else self._prompt_named(name)

    def _prompt_named(self, name: str) -> str:
        if name not in self.prompts:
            raise ValueError(
                f"There is no prompt named {name!r}. This model has: {', '.join(self.prompts) or 'none'}. "
                f"Choose one of these, or add it: `prompts={{{name!r}: ...}}`."
            )
        return self.prompts[name]

    # Adapters, told of in likewise.modules.adapters

    def load_adapter(
        self, peft_model_id: str | os.PathLike[str], adapter_name: str = "default", is_trainable: bool = False
    ) -> None:
        """Load an adapter from a folder or the Hub, and use it."""
        adapters.load_adapter(self, storage.find_folder(peft_model_id), adapter_name, is_trainable)

    has_peft_compatible_model = adapters.has_peft_compatible_model
    check_peft_compatible_model = adapters.check_peft_compatible_model
    add_adapter = adapters.add_adapter
    set_adapter = adapters.set_adapter
    disable_adapters = adapters.disable_adapters
    enable_adapters = adapters.enable_adapters
    active_adapters = adapters.active_adapters
    active_adapter = adapters.active_adapter
    get_adapter_state_dict = adapters.get_adapter_state_dict
    delete_adapter = adapters.delete_adapter
    merge_adapters = adapters.merge_adapters

    use_bfloat16_weights = reduced_weights.use_bfloat16_weights
    use_int8_weights = reduced_weights.use_int8_weights

    def _compared(self, texts: Sequence[Any]) -> Tensor:
        """The rows (N, D) that weights in fewer bits may turn a little: the embeddings of N texts."""
        rows: Tensor = getattr(self, self.over_inputs)(texts, convert_to_tensor=True, show_progress_bar=False)
        return rows

    start_multi_process_pool = pool.start_multi_process_pool
    stop_multi_process_pool = staticmethod(pool.stop_multi_process_pool)

    merge = classmethod(merging.merge)
    """`likewise.model.merging.merge`, of this class."""

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Run an evaluator on this model; csv files go to `output_path`."""
        having(evaluator, "__call__", "evaluator", "an evaluator; of several, a SequentialEvaluator")
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    def save(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model to a folder, from which this library and the reference load it.

        Args:
            path: The folder; made if it does not exist.
            model_name: The model's name in the card.
            create_model_card: Whether to write README.md.
            train_datasets: Names of the training data, for the card.
            safe_serialization: Whether weights are written as safetensors (else as pytorch_model.bin).
        """
        self._write(Path(path), self._settings(), safe_serialization)
        if create_model_card:
            self._create_model_card(path, model_name, train_datasets)

    def _settings(self) -> dict[str, Any]:
        """What config_sentence_transformers.json says, beside the versions."""
        return {
            "model_type": self.model_type,
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
        }

    def _write(self, folder: Path, settings: Mapping[str, Any], safe_serialization: bool) -> None:
        storage.save(self, settings, folder, safe_serialization)

    def save_pretrained(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """`save`, and its arguments, under the name that transformers has for it."""
        self.save(path, *args, **kwargs)

    push_to_hub = hub.push
    """`likewise.model.hub.push`, of this model."""

    save_to_hub = hub.save_to_hub
    """`likewise.model.hub.save_to_hub`, of this model."""
