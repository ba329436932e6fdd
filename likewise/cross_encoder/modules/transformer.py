"""Transformer: pairs of texts to scores, to a language model's logits, or to token embeddings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from torch import Tensor

from likewise.checked import one_of, positive_or_none
from likewise.cross_encoder.chat import ChatTemplate
from likewise.cross_encoder.given_pairs import Pair
from likewise.cross_encoder.graph_scorer import GraphScorer, part_of
from likewise.cross_encoder.heads import VOCABULARY_HEAD, known_head
from likewise.cross_encoder.load_head import load_with_head
from likewise.cross_encoder.pairs import PairTokenization
from likewise.cross_encoder.scorer import PackedScorer
from likewise.engine import TokenBatch, TokenSequences
from likewise.engine.encoder import PackedEncoder
from likewise.engine.features import Padding
from likewise.engine.layers import use_fast_layers
from likewise.modules.adapters import base_of_adapter, load_adapter
from likewise.modules.base import Features, InputModule, scatter, write_json
from likewise.modules.graph_model import GraphModel
from likewise.modules.graphs import load_graph_model
from likewise.modules.pretrained import joined, load_config, load_tokenizer, longest_sequence, save_whole
from likewise.modules.saved_arguments import CONFIG_FILES, read_config
from likewise.modules.transformer import BACKENDS

logger = logging.getLogger(__name__)

_making = Lock()
# By task, what the model gives by transformers' name, and what the features call it.
TASKS = {
    "sequence-classification": ("logits", "scores"),
    "text-generation": ("logits", "causal_logits"),
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
}


class Transformer(InputModule):
    """A transformers model as the first module of a CrossEncoder.

    Args:
        model_name_or_path: A folder, or a name on the Hub.
        transformer_task: "sequence-classification" for a model whose logits are the scores, "text-generation" for a
            language model (LogitScore follows), "feature-extraction" for token embeddings (Pooling and Dense follow).
        max_seq_length: Pairs are cut at this many tokens; None for the smaller of what tokenizer and model allow.
        model_kwargs: For transformers' `from_pretrained` of the model (`model_args` is the same).
        processor_kwargs: For `AutoTokenizer.from_pretrained` (`tokenizer_args` and `tokenizer_kwargs` are the same).
        config_kwargs: For `AutoConfig.from_pretrained` (`config_args` is the same).
        cache_dir: Where downloads are kept.
        backend: What computes: "torch", "onnx" (a graph run by onnxruntime) or "openvino".
        modality_config: Kinds of inputs, as a folder names them: with "message" pairs are shown as messages in the tokenizer's
            chat template, in the "format" that it says. None for the template if there is one that shows both texts; a language
            model's template has to.
        processing_kwargs: `{"chat_template": {...}}`, keyword arguments of `apply_chat_template`.

    Raises:
        ValueError: The task or the backend is not known, or the folder is damaged.
        RuntimeError: The weights have another number of labels.
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        transformer_task: str = "sequence-classification",
        max_seq_length: int | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        cache_dir: str | None = None,
        backend: str = "torch",
        model_args: Mapping[str, Any] | None = None,
        tokenizer_args: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_args: Mapping[str, Any] | None = None,
        modality_config: Mapping[str, Any] | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        one_of(transformer_task, "transformer_task", TASKS)
        one_of(backend, "backend", BACKENDS)
        cache: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
        for_model = joined(cache, model_args, model_kwargs)
        without_asking = {"trust_remote_code": False}  # as transformers would, on the terminal
        for_tokenizer = joined(without_asking, cache, tokenizer_args, tokenizer_kwargs, processor_kwargs)
        for_config = joined(cache, config_args, config_kwargs)
        base = base_of_adapter(model_name_or_path) or model_name_or_path
        config = load_config(base, for_config, for_model.get("trust_remote_code", False))
        if transformer_task == "sequence-classification" and "num_labels" not in for_config:
            architectures = getattr(config, "architectures", None) or [""]
            if not architectures[0].endswith("ForSequenceClassification"):
                config.num_labels = 1
        self.transformer_task = transformer_task
        self.backend = backend
        self.model: Any
        if backend == "torch":
            self.model = load_with_head(transformer_task, base, config, for_model)
        else:
            self.model = load_graph_model(backend, base, config, for_model, part_of(transformer_task))
        if base != model_name_or_path:
            load_adapter(self.model, model_name_or_path)
        self._unpad_inputs: bool | None = None
        self._packed = "attn_implementation" not in for_model
        use_fast_layers(self.model)
        tokenizer = load_tokenizer(model_name_or_path, for_tokenizer)
        self.tokenization = PairTokenization(tokenizer)
        self.tokenization.chat = self._chat_template(modality_config, processing_kwargs or {})
        self.tokenizer = tokenizer
        self.max_seq_length = self._longest_sequence() if max_seq_length is None else max_seq_length

    def __setattr__(self, name: str, value: Any) -> None:
        # A property has no say here: torch registers a module by the name that it is set under.
        super().__setattr__("model" if name == "auto_model" else name, value)

    def _chat_template(
        self, modality_config: Mapping[str, Any] | None, processing_kwargs: Mapping[str, Any]
    ) -> ChatTemplate | None:
        """How pairs are shown as messages; None where they are not.

        Raises:
            ValueError: There are arguments for something else than a chat template, or for one that is not used.
        """
        tokenizer, options = self.tokenizer, processing_kwargs.get("chat_template")
        kinds = None if modality_config is None else modality_config.get("message")
        chat: ChatTemplate | None = ChatTemplate.fitting(tokenizer, self.config.model_type, options)
        assert chat is not None
        if kinds is not None and kinds.get("format", "auto") != "auto":
            chat = ChatTemplate(kinds["format"], options)
        elif modality_config is None:
            is_causal = self.transformer_task == "text-generation"
            has_one = getattr(tokenizer, "chat_template", None) is not None
            chat = chat if has_one and (is_causal or not chat.failure(tokenizer)) else None
        elif kinds is None:
            chat = None
        unread = [
            key
            for key, value in processing_kwargs.items()
            if value and (key != "chat_template" or chat is None)
        ]
        if unread:
            raise ValueError(
                f"`processing_kwargs` has {', '.join(unread)} ({dict(processing_kwargs)!r}), which a CrossEncoder does not take"
                f"{' without a chat template' if unread == ['chat_template'] else ''}. Take them out; `max_seq_length` says where "
                "pairs are cut."
            )
        return chat

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of inputs: "text", and "message" where pairs are shown in a chat template."""
        return ("text",) if self.tokenization.chat is None else ("text", "message")

    @property
    def auto_model(self) -> Any:
        """The transformers model; the older name of `model`."""
        return self.model

    @property
    def runner(self) -> PackedScorer | PackedEncoder | GraphScorer | GraphModel:
        """Runs `model` on packed batches (a graph on padded ones); made anew when `model` has been replaced (by an adapter, say)."""
        if isinstance(self.model, GraphModel):
            causal = self.transformer_task == "text-generation"
            is_encoder = self.transformer_task == "feature-extraction"
            return self.model if is_encoder else GraphScorer(self.model, causal)
        with _making:  # several threads may come first
            known: PackedScorer | PackedEncoder | None = self.__dict__.get("_runner")
            if known is None or known.model is not self.model:
                known = self._new_runner()
                self.__dict__["_runner"] = known  # not by attribute: torch's registry holds the model already
        return known

    def _new_runner(self) -> PackedScorer | PackedEncoder:
        if self.transformer_task == "feature-extraction":
            return PackedEncoder(self.model, self._packed)
        causal = self.transformer_task == "text-generation"
        return PackedScorer(self.model, VOCABULARY_HEAD if causal else known_head(self.model), self._packed)

    def _longest_sequence(self) -> int | None:
        """The smaller of the tokenizer's and the model's limits; None where neither has one."""
        graph = isinstance(self.model, GraphModel)
        offset = self.model.position_offset if graph else PackedEncoder(self.model).position_offset
        return longest_sequence(self.tokenizer, self.model.config.get_text_config(), offset)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.tokenization.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        former = self.tokenization
        if self.transformer_task == "text-generation":
            tokenizer.padding_side = "left"  # whoever pads: the last position is that of a token
        self.tokenization = PairTokenization(tokenizer, former.max_length, former.truncation, former.chat)
        self.tokenization.do_lower_case = former.do_lower_case

    @property
    def processor(self) -> Any:
        """The tokenizer, by another name."""
        return self.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """Pairs are cut at this many tokens, the special ones counted in."""
        return self.tokenization.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.tokenization.max_length = positive_or_none(value, "max_length")
        if value is not None:
            self.tokenizer.model_max_length = value

    @property
    def config(self) -> Any:
        """The configuration of the transformers model."""
        return self.model.config

    def get_word_embedding_dimension(self) -> int:
        """D, the size of a token embedding."""
        return int(self.config.get_text_config().hidden_size)

    get_embedding_dimension = get_word_embedding_dimension

    def token_sequences(self, inputs: Sequence[Pair], prompt: str | None = None) -> TokenSequences:
        """Token ids of pairs, cut at the maximum length."""
        return self.tokenization(inputs, prompt)

    def tokenize(self, texts: Sequence[Any], prompt: str | None = None) -> dict[str, Tensor]:
        """Padded features of pairs: `input_ids`, `attention_mask` (N, L), and whatever else the model takes."""
        return self.token_sequences(texts, prompt).pack().to_features(Padding.of(self.tokenizer))

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `scores` (N, labels), `causal_logits` (N, 1, V) or `token_embeddings`, as the task has it."""
        runner = self.runner
        tokens = features.get("tokens")
        if tokens is None:
            tokens = TokenBatch.from_padded(
                features["input_ids"], features["attention_mask"], features.get("token_type_ids")
            )
        if isinstance(runner, PackedScorer | GraphScorer):
            features[TASKS[self.transformer_task][1]] = runner(tokens)
            return features
        hidden = runner(tokens)[-1]
        if "tokens" not in features:
            hidden = scatter(hidden, tokens, features["attention_mask"])
        features["token_embeddings"] = hidden
        return features

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence_bert_config.json holds."""
        method_output, feature = TASKS[self.transformer_task]
        kept: dict[str, Any] = {}
        if self.tokenization.do_lower_case:
            kept["do_lower_case"] = True
        if self._unpad_inputs is not None:
            kept["unpad_inputs"] = self._unpad_inputs
        way = {"method": "forward", "method_output_name": method_output}
        kinds: dict[str, Any] = {"text": way}
        chat = self.tokenization.chat
        if chat is not None:
            kinds["message"] = {**way, "format": chat.message_format}
            kept |= {"processing_kwargs": {"chat_template": chat.options}} if chat.options else {}
        return {
            **kept,
            "transformer_task": self.transformer_task,
            "modality_config": kinds,
            "module_output_name": feature,
        }

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write model, tokenizer and settings as transformers and the reference read them."""
        folder = Path(output_path)
        save_whole(self.model, self.tokenizer, self.max_seq_length, folder, safe_serialization)
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
        """Build from a folder that has the module's own settings.

        Raises:
            ValueError: It takes something else than plain texts, or is to be loaded in a way that a folder may not decide.
        """
        saved, source, asked = read_config(folder, trust_remote_code)
        if backend != "torch":
            asked["model"] = {}  # it is for AutoModel; a graph takes nothing of it
        kinds = saved.get("modality_config") or {"text": {}}
        unread = sorted(set(kinds) - {"text", "message"})
        if unread:
            raise ValueError(
                f"The model in {folder} was saved to take inputs of the kinds {', '.join(kinds)}. Only pairs of texts are "
                f"taken here, and no {' or '.join(unread)}."
            )
        task = saved.get("transformer_task", "feature-extraction")
        for kind in kinds.values():
            output = (kind or {}).get("method_output_name")
            if task in TASKS and output is not None and output not in (TASKS[task][0], [TASKS[task][0]]):
                raise ValueError(
                    f"{source} takes {output!r} of the model's output for texts, but a CrossEncoder takes {TASKS[task][0]!r} for "
                    f"{task!r}. Correct `method_output_name` there."
                )
        module = cls(
            str(folder),
            transformer_task=task,
            max_seq_length=saved.get("max_seq_length"),
            model_kwargs={**asked["model"], **(model_kwargs or {})},
            processor_kwargs={**asked["tokenizer"], **(tokenizer_kwargs or {})},
            config_kwargs={**asked["config"], **(config_kwargs or {})},
            backend=backend,
            modality_config=kinds,
            processing_kwargs=saved.get("processing_kwargs"),
        )
        module.tokenization.do_lower_case = bool(saved.get("do_lower_case"))
        module._unpad_inputs = saved.get("unpad_inputs")
        module._packed = module._packed and module._unpad_inputs is not False
        return module

    def __repr__(self) -> str:
        settings = {"max_seq_length": self.max_seq_length, "architecture": type(self.model).__name__}
        return f"Transformer({ {'transformer_task': self.transformer_task} | settings })"
