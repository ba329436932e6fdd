"""Transformer: texts to token embeddings, by a transformers model and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from likewise.checked import one_of
from likewise.engine import TokenBatch, TokenSequences
from likewise.engine.encoder import PackedEncoder
from likewise.engine.features import Padding
from likewise.engine.layers import use_fast_layers
from likewise.modules import pretrained
from likewise.modules.adapters import base_of_adapter, load_adapter
from likewise.modules.base import Features, mask_of, scatter, write_json
from likewise.modules.graph_model import GraphModel
from likewise.modules.graphs import load_graph_model
from likewise.modules.named_output import SENTENCE, TOKENS, add_output, check_output
from likewise.modules.processing import (
    Processing,
    ProcessingKwargs,
    check_processing_kwargs,
    kept_tokenization,
    merged,
)
from likewise.modules.query_expansion import ByTask, QueryExpansion, QueryExpansionConfig  # noqa: F401
from likewise.modules.saved_arguments import CONFIG_FILES, LAST_LAYER, output_of, read_config, refuse_others
from likewise.modules.text import Text, Tokenization

BACKENDS = ("torch", "onnx", "openvino")
TASK = "feature-extraction"
SAVED = (
    "max_seq_length", "processing_kwargs", "modality_config", "module_output_name", "unpad_inputs", "query_length",
    "document_length", "query_expansion",
)  # fmt: skip


def length_of(task: str) -> Any:
    """The property `<task>_length` of a module with a ByTask."""
    name = f"{task}_length"

    def put(self: Any, value: int | None) -> None:
        self.by_task = replace(self.by_task, **{name: value})

    told = f"Texts with the task {task!r} are cut at this many tokens; None for `max_seq_length`."
    return property(lambda self: getattr(self.by_task, name), put, doc=told)


class Transformer(pretrained.PretrainedModule):
    """A transformers encoder (or decoder) as the first module of a model.

    Args:
        model_name_or_path: A folder, or a name on the Hub.
        max_seq_length: Texts are cut at this many tokens; None for the smaller of what tokenizer and model allow.
        model_args: Keyword arguments for `AutoModel.from_pretrained` (`model_kwargs` is the same).
        tokenizer_args: Keyword arguments for `AutoTokenizer.from_pretrained` (also `tokenizer_kwargs` and
            `processor_kwargs`).
        config_args: Keyword arguments for `AutoConfig.from_pretrained` (also `config_kwargs`).
        cache_dir: Where downloads are kept.
        do_lower_case: Whether texts are put in lower case first.
        tokenizer_name_or_path: Where the tokenizer is, if not with the model.
        transformer_task: "feature-extraction", the only one: a model without a head.
        processing_kwargs: Keyword arguments of the tokenizer's call, e.g. `{"text": {"max_length": 128}}`: `max_length`,
            `truncation`, `add_special_tokens`, and `padding`, `padding_side` and `pad_to_multiple_of` for what `preprocess` returns
            (`encode` pads nothing). They are saved, and `encode(processing_kwargs=...)` goes over them.
        modality_config: What of the model's output is taken: `{"text": {"method": "forward", "method_output_name": name}}`,
            where the name is "last_hidden_state" (the default), `["hidden_states", k]` or another of the output's, e.g.
            "pooler_output".
        module_output_name: The feature that it becomes, "token_embeddings" or "sentence_embedding".
        unpad_inputs: False computes on padded batches; None and True pack wherever that gives the same numbers.
        query_length: Texts with the task "query" are cut at this many tokens; None for `max_seq_length`.
        document_length: Those with the task "document" likewise.
        query_expansion: How texts with the task "query" are filled up: `{"strategy": "fixed" or "min", "length": tokens,
            "attend": whether the query's own tokens see the added ones, "token": what is added}`. None for not at all.
        backend: What computes: "torch", "onnx" (a graph run by onnxruntime) or "openvino". The two take `model_args` of
            their own: `file_name`, `subfolder`, `export`, and `provider` or `ov_config`.
    """

    task: ClassVar[str] = TASK

    def __init__(
        self,
        model_name_or_path: str,
        max_seq_length: int | None = None,
        model_args: Mapping[str, Any] | None = None,
        tokenizer_args: Mapping[str, Any] | None = None,
        config_args: Mapping[str, Any] | None = None,
        cache_dir: str | None = None,
        do_lower_case: bool = False,
        tokenizer_name_or_path: str | None = None,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        transformer_task: str = TASK,
        processing_kwargs: ProcessingKwargs | None = None,
        modality_config: Mapping[str, Any] | None = None,
        module_output_name: str | None = None,
        unpad_inputs: bool | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        query_expansion: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        expansion = None if query_expansion is None else QueryExpansion.of(query_expansion)
        self.by_task = ByTask(query_length, document_length, expansion)
        one_of(backend, "backend", BACKENDS)
        if transformer_task != self.task:
            raise ValueError(
                f"`transformer_task` must be {self.task!r}, but is {transformer_task!r}. Drop it; a masked language model's head has "
                "`likewise.sparse_encoder.modules.MLMTransformer`."
            )
        check_processing_kwargs(processing_kwargs or {})
        self.processing_kwargs: ProcessingKwargs = processing_kwargs or {}
        self._output = output_of(modality_config)
        self.module_output_name = module_output_name or TOKENS
        check_output(backend, self._output, self._gives_layer, self.module_output_name)

        cache: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
        for_model = pretrained.joined(cache, model_args, model_kwargs)
        without_asking = {"trust_remote_code": False}  # as transformers would, on the terminal
        for_texts = (tokenizer_args, tokenizer_kwargs, processor_kwargs)
        for_tokenizer = pretrained.joined(without_asking, cache, *for_texts)
        for_config = pretrained.joined(cache, config_args, config_kwargs)
        base = base_of_adapter(model_name_or_path) or model_name_or_path
        config = pretrained.load_config(base, for_config, for_model.get("trust_remote_code", False))
        self.backend = backend
        self.auto_model = self._load_model(base, config, for_model)
        if base != model_name_or_path:
            load_adapter(self.auto_model, model_name_or_path)
        tokenizer = pretrained.load_tokenizer(tokenizer_name_or_path or model_name_or_path, for_tokenizer)
        self.register_load_state_dict_pre_hook(_take_newer_names)  # type: ignore[no-untyped-call]
        self._packed = "attn_implementation" not in for_model
        self._unpad_inputs = unpad_inputs
        use_fast_layers(self.auto_model)
        self.do_lower_case = do_lower_case
        self.tokenization = Tokenization(tokenizer, do_lower_case)
        if max_seq_length is None:
            longest = pretrained.longest_sequence(tokenizer, self.config, self.encoder.position_offset)
            max_seq_length = for_tokenizer.get("model_max_length", longest)
        self.max_seq_length = max_seq_length
        if expansion is not None:
            expansion.token_id(tokenizer)  # refuses one that the tokenizer does not have

    def _load_model(self, base: str, config: Any, for_model: Mapping[str, Any]) -> Any:
        if self.backend != "torch":
            return load_graph_model(self.backend, base, config, for_model)
        return pretrained.load_model(base, config, for_model, needs_pooler=not self._gives_layer)

    @property
    def encoded(self) -> Any:
        """What the encoder runs: `auto_model`, which has no head."""
        return self.auto_model

    def __setattr__(self, name: str, value: Any) -> None:
        # A property has no say here: torch registers a module by the name that it is set under.
        super().__setattr__("auto_model" if name == "model" else name, value)

    @property
    def encoder(self) -> PackedEncoder | GraphModel:
        """Runs `auto_model` on packed batches; made anew when `auto_model` has been replaced (by an adapter, say)."""
        if isinstance(self.auto_model, GraphModel):
            return self.auto_model
        known: PackedEncoder | None = self.__dict__.get("_encoder")
        if known is None or known.model is not self.encoded:
            known = PackedEncoder(self.encoded, self._packed and self.unpad_inputs is not False)
            if self.unpad_inputs is False:
                known.reason = "`unpad_inputs` is False"
            # Not by attribute: torch's registry holds the model already. Two threads may come here: both trials agree.
            self.__dict__["_encoder"] = known
        return known

    @property
    def unpad_inputs(self) -> bool | None:
        """Whether batches are packed: False for padded ones; None and True pack wherever that gives the same numbers."""
        return self._unpad_inputs

    @unpad_inputs.setter
    def unpad_inputs(self, value: bool | None) -> None:
        self._unpad_inputs = value
        self.__dict__.pop("_encoder", None)

    @property
    def modality_config(self) -> dict[str, dict[str, Any]]:
        """What of the model's output is taken, by kind of input."""
        name = self._output[0] if len(self._output) == 1 else list(self._output)
        return {"text": {"method": "forward", "method_output_name": name}}

    @property
    def _gives_layer(self) -> bool:
        """Whether what is taken is the output of a layer, which the encoder gives for packed batches too."""
        return self._output == LAST_LAYER or (self._output[0] == "hidden_states" and len(self._output) == 2)

    @property
    def forward_kwargs(self) -> frozenset[str]:  # type: ignore[override]
        """Keyword arguments of `encode` that change the embeddings: the task, where texts are treated by it."""
        return frozenset({"task"} if self.by_task != ByTask() else ())

    query_length = length_of("query")
    document_length = length_of("document")

    @property
    def query_expansion(self) -> dict[str, Any] | None:
        """How queries are filled up; set it to another dict, or to None for not at all."""
        return None if self.by_task.expansion is None else asdict(self.by_task.expansion)

    @query_expansion.setter
    def query_expansion(self, value: Mapping[str, Any] | None) -> None:
        expansion = None if value is None else QueryExpansion.of(value)
        if expansion is not None:
            expansion.token_id(self.tokenizer)
        self.by_task = replace(self.by_task, expansion=expansion)

    def get_word_embedding_dimension(self) -> int:
        """D, the size of a token embedding, or of what is taken in its place."""
        config = self.auto_model.config
        if self.module_output_name == SENTENCE and getattr(config, "projection_dim", None):
            return int(config.projection_dim)
        return int(getattr(config, "hidden_size", None) or config.get_text_config().hidden_size)

    get_embedding_dimension = get_word_embedding_dimension

    @property
    def processor(self) -> Any:
        """The tokenizer: a model of texts has no other processor."""
        return self.tokenizer

    @processor.setter
    def processor(self, processor: Any) -> None:
        self.tokenizer = processor

    def token_sequences(
        self,
        texts: Sequence[Text],
        prompt: str | None = None,
        processing_kwargs: ProcessingKwargs | None = None,
        task: str | None = None,
    ) -> TokenSequences:
        """Token ids of texts (strings, or pairs of strings), cut at the maximum length, or as `processing_kwargs` say."""
        return self.tokenization_for(task, processing_kwargs)(texts, prompt)

    def tokenization_for(
        self, task: str | None = None, processing_kwargs: ProcessingKwargs | None = None
    ) -> Tokenization:
        """What tokenises texts of a task."""
        processing = self._processing(task, processing_kwargs)
        if processing.is_usual:
            return self.tokenization
        known = self.__dict__.setdefault("_tokenizations", {})
        return kept_tokenization(known, processing, self.tokenization)

    def _processing(self, task: str | None, given: ProcessingKwargs | None) -> Processing:
        return Processing.of(self.by_task.processing(task, merged(self.processing_kwargs, given)))

    def tokenize(
        self,
        texts: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: ProcessingKwargs | None = None,
        task: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Padded features of texts: `input_ids`, `attention_mask` (N, L), and whatever else the model takes."""
        tokens = self.token_sequences(texts, prompt, processing_kwargs, task).pack()
        tokens = self.by_task.expand(tokens, task, self.tokenizer)
        processing = self._processing(task, processing_kwargs)
        padding = Padding.of(self.tokenizer)
        padding = replace(padding, side=processing.side or padding.side)
        features = tokens.to_features(padding)
        longest = features["input_ids"].shape[1]
        missing = processing.width(longest, self.max_seq_length) - longest
        if missing:
            sides = (missing, 0) if padding.side == "left" else (0, missing)
            for name in ("input_ids", "attention_mask", "token_type_ids", "query_expansion_positions"):
                value = padding.id if name == "input_ids" else 0
                if name in features:
                    features[name] = torch.nn.functional.pad(features[name], sides, value=value)
        return features

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `token_embeddings`: (T, D) for packed features, (N, L, D) for padded ones; or what else is to be taken.

        Where the model's configuration says `output_hidden_states`, `all_layer_embeddings` holds every layer's. Packed
        queries are filled up here, padded ones where they were tokenised.
        """
        if "tokens" in features:
            task = kwargs.get("task") or features.get("task")
            features["tokens"] = self.by_task.expand(features["tokens"], task, self.tokenizer)
        if not self._gives_layer:
            padding = Padding.of(self.tokenizer)
            return add_output(self.auto_model, features, self._output, self.module_output_name, padding)
        encoder, every = self.encoder, bool(self.auto_model.config.output_hidden_states)
        wanted = every or self._output != LAST_LAYER
        if "tokens" in features:
            layers = encoder(features["tokens"], wanted, Padding.of(self.tokenizer))
        else:
            layers = self._forward_padded(features, encoder, wanted)
        features[TOKENS] = layers[-1 if self._output == LAST_LAYER else self._output[1]]  # type: ignore[index]
        if every:
            features["all_layer_embeddings"] = layers
        return features

    def _forward_padded(
        self, features: Features, encoder: PackedEncoder | GraphModel, all_layers: bool
    ) -> tuple[Tensor, ...]:
        """Padded features in, (N, L, D) out; in between the padding is taken off where that changes nothing."""
        if isinstance(encoder, PackedEncoder) and encoder.takes_as_given(features):
            return encoder.as_given(features, all_layers)
        if "input_ids" not in features:
            raise ValueError(
                f"The features hold {', '.join(map(repr, features)) or 'nothing'}, but neither `input_ids` nor `inputs_embeds`. "
                "Take them from `model.tokenize(texts)`."
            )
        mask = mask_of(features)
        added = features.get("query_expansion_positions")
        mask = mask if added is None else mask | added
        tokens = TokenBatch.from_padded(
            features["input_ids"], mask, features.get("token_type_ids"), unseen=added
        )
        return tuple(scatter(layer, tokens, mask) for layer in encoder(tokens, all_layers))

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence_bert_config.json holds; what is the default is left out, for readers that do not know it."""
        config: dict[str, Any] = {"max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case}
        if self._output != LAST_LAYER:
            config |= {
                "transformer_task": TASK,
                "modality_config": self.modality_config,
                "module_output_name": self.module_output_name,
            }
        if self.processing_kwargs:
            config["processing_kwargs"] = self.processing_kwargs
        if self.unpad_inputs is not None:
            config["unpad_inputs"] = self.unpad_inputs
        return config | self.by_task.get_config_dict()

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write model, tokenizer and settings as transformers and the reference read them."""
        pretrained.save_whole(
            self.auto_model, self.tokenizer, self.max_seq_length, folder, safe_serialization
        )
        write_json(folder / CONFIG_FILES[0], self.get_config_dict())

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> Transformer:
        """Build from a folder, whichever release of the reference wrote it.

        Raises:
            ValueError: It takes something else than plain texts, or is to be loaded in a way that a folder may not decide.
        """
        saved, source, asked = read_config(folder, trust_remote_code)
        if backend != "torch":
            asked["model"] = {}  # it is for AutoModel; a graph takes nothing of it
        refuse_others(saved, folder, source, cls.task)
        kept: dict[str, Any] = {name: saved.get(name) for name in SAVED}
        return cls(
            str(folder),
            do_lower_case=bool(saved.get("do_lower_case", False)),
            model_args=pretrained.joined(asked["model"], model_kwargs),
            tokenizer_args=pretrained.joined(asked["tokenizer"], tokenizer_kwargs),
            config_args=pretrained.joined(asked["config"], config_kwargs),
            backend=backend,
            **kept,
        )

    def __repr__(self) -> str:
        return f"Transformer({self.get_config_dict() | {'architecture': type(self.auto_model).__name__}})"


def _take_newer_names(module: Any, weights: dict[str, Any], prefix: str, *args: Any) -> None:
    """Rename weights that the reference saved since 5.4, with `torch.save(model.state_dict())`: `model` for `auto_model`."""
    for name in [name for name in weights if name.startswith(f"{prefix}model.")]:
        weights[f"{prefix}auto_{name.removeprefix(prefix)}"] = weights.pop(name)
