"""Transformer: texts to token embeddings, by a transformers model and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from likewise.engine import TokenBatch, TokenSequences
from likewise.engine.encoder import PackedEncoder
from likewise.engine.layers import use_fast_layers
from likewise.modules.adapters import base_of_adapter, load_adapter
from likewise.modules.base import Features, InputModule, read_settings, scatter, write_json
from likewise.modules.graph_model import GraphModel, load_graph_model
from likewise.modules.pretrained import load_model, load_tokenizer, save_model, tidy_tokenizer_config
from likewise.modules.text import Text, Tokenization

CONFIG_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


class Transformer(InputModule):
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
        backend: What computes: "torch", "onnx" (a graph run by onnxruntime) or "openvino". The two take `model_args` of
            their own: `file_name`, `subfolder`, `export`, and `provider` or `ov_config`.
    """

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
    ) -> None:
        super().__init__()
        from transformers import AutoConfig

        cache: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
        for_model = {**cache, **(model_args or {}), **(model_kwargs or {})}
        for_tokenizer = {
            **cache,
            **(tokenizer_args or {}),
            **(tokenizer_kwargs or {}),
            **(processor_kwargs or {}),
        }
        for_config = {**cache, **(config_args or {}), **(config_kwargs or {})}
        base = base_of_adapter(model_name_or_path) or model_name_or_path
        config = AutoConfig.from_pretrained(base, **for_config)
        self.backend = backend
        self.auto_model: Any
        if backend == "torch":
            self.auto_model = load_model(base, config, for_model)
        else:
            self.auto_model = load_graph_model(backend, base, config, for_model)
        if base != model_name_or_path:
            load_adapter(self.auto_model, model_name_or_path)
        tokenizer = load_tokenizer(tokenizer_name_or_path or model_name_or_path, for_tokenizer)
        self.register_load_state_dict_pre_hook(_take_newer_names)  # type: ignore[no-untyped-call]
        self._packed = "attn_implementation" not in for_model
        use_fast_layers(self.auto_model)
        self.do_lower_case = do_lower_case
        self.tokenization = Tokenization(tokenizer, do_lower_case)
        if max_seq_length is None:
            max_seq_length = for_tokenizer.get("model_max_length", self._longest_sequence())
        self.max_seq_length = max_seq_length

    @property
    def encoder(self) -> PackedEncoder | GraphModel:
        """Runs `auto_model` on packed batches; made anew when `auto_model` has been replaced (by an adapter, say)."""
        if isinstance(self.auto_model, GraphModel):
            return self.auto_model
        known: PackedEncoder | None = self.__dict__.get("_encoder")
        if known is None or known.model is not self.auto_model:
            known = PackedEncoder(self.auto_model, self._packed)
            self.__dict__["_encoder"] = known  # not by attribute: torch's registry holds the model already
        return known

    def _longest_sequence(self) -> int | None:
        """The smaller of the tokenizer's and the model's limits; None where neither has one."""
        limits = [self.tokenizer.model_max_length]
        positions = getattr(self.auto_model.config, "max_position_embeddings", None)
        if positions is not None and positions > 0:
            limits.append(positions - self.encoder.position_offset)
        limit = min(limits)
        return int(limit) if limit < 1_000_000_000 else None

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
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"`max_seq_length` must be a whole number of at least 1, but is {value!r}.")
        self.tokenization.max_length = value

    @property
    def config(self) -> Any:
        """The configuration of the transformers model."""
        return self.auto_model.config

    @property
    def model(self) -> Any:
        """The transformers model; the same as `auto_model`."""
        return self.auto_model

    def get_word_embedding_dimension(self) -> int:
        """D, the size of a token embedding."""
        config = self.auto_model.config
        return int(getattr(config, "hidden_size", None) or config.get_text_config().hidden_size)

    get_embedding_dimension = get_word_embedding_dimension

    def token_sequences(self, texts: Sequence[Text], prompt: str | None = None) -> TokenSequences:
        """Token ids of texts (strings, or pairs of strings), cut at the maximum length."""
        return self.tokenization(texts, prompt)

    def tokenize(self, texts: Sequence[Any], prompt: str | None = None) -> dict[str, Tensor]:
        """Padded features of texts: `input_ids`, `attention_mask` (N, L), and whatever else the model takes."""
        features = padded_features(self.token_sequences(texts, prompt).pack(), self.tokenizer.pad_token_id)
        return with_token_types(features, self.tokenizer)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `token_embeddings`: (T, D) for packed features, (N, L, D) for padded ones.

        Where the model's configuration says `output_hidden_states`, `all_layer_embeddings` holds every layer's.
        """
        if "tokens" in features:
            layers = self.encoder(features["tokens"], bool(self.auto_model.config.output_hidden_states))
        else:
            layers = self._forward_padded(features)
        features["token_embeddings"] = layers[-1]
        if self.auto_model.config.output_hidden_states:
            features["all_layer_embeddings"] = layers
        return features

    def _forward_padded(self, features: Features) -> tuple[Tensor, ...]:
        """Padded features in, (N, L, D) out; in between the padding is taken off."""
        ids, mask = features["input_ids"], features["attention_mask"]
        tokens = TokenBatch.from_padded(
            ids, mask, features.get("token_type_ids"), features.get("prompt_length")
        )
        layers = self.encoder(tokens, bool(self.auto_model.config.output_hidden_states))
        return tuple(scatter(layer, tokens, mask) for layer in layers)

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence_bert_config.json holds."""
        return {"max_seq_length": self.max_seq_length, "do_lower_case": self.do_lower_case}

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write model, tokenizer and settings as transformers and the reference read them."""
        folder = Path(output_path)
        save_model(self.auto_model, folder, safe_serialization)
        self.tokenizer.save_pretrained(folder)
        tidy_tokenizer_config(folder / "tokenizer_config.json", self.max_seq_length)
        write_json(folder / CONFIG_FILES[0], self.get_config_dict())

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        **kwargs: Any,
    ) -> Transformer:
        """Build from a folder, whichever release of the reference wrote it.

        Raises:
            ValueError: It takes something else than plain texts.
        """
        saved = read_config(folder)
        kinds = saved.get("modality_config") or {"text": {}}
        if "text" not in kinds or "message" in kinds:
            raise ValueError(
                f"The model in {folder} was saved to take inputs of the kinds {', '.join(kinds)}. Only texts are taken here "
                "(and images by a CLIP): neither messages in a chat template, nor audio or video."
            )
        return cls(
            str(folder),
            max_seq_length=saved.get("max_seq_length"),
            do_lower_case=bool(saved.get("do_lower_case", False)),
            model_args={**_saved_args(saved, "model"), **(model_kwargs or {})},
            tokenizer_args={**_saved_args(saved, "tokenizer"), **(tokenizer_kwargs or {})},
            config_args={**_saved_args(saved, "config"), **(config_kwargs or {})},
            backend=backend,
        )

    def __repr__(self) -> str:
        return f"Transformer({self.get_config_dict() | {'architecture': type(self.auto_model).__name__}})"


def _take_newer_names(module: Any, weights: dict[str, Any], prefix: str, *args: Any) -> None:
    """Rename weights that the reference saved since 5.4, with `torch.save(model.state_dict())`: `model` for `auto_model`."""
    for name in [name for name in weights if name.startswith(f"{prefix}model.")]:
        weights[f"{prefix}auto_{name.removeprefix(prefix)}"] = weights.pop(name)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The settings of a Transformer, from the first of the seven file names that exists."""
    for name in CONFIG_FILES:
        if (Path(folder) / name).exists():
            return read_settings(folder, name)
    return {}


def _saved_args(saved: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Keyword arguments that a folder asks for; never the permission to run its code."""
    args: dict[str, Any] = dict(saved.get(f"{kind}_args") or saved.get(f"{kind}_kwargs") or {})
    if kind == "tokenizer":
        args |= saved.get("processor_kwargs") or {}
    args.pop("trust_remote_code", None)
    return args


def with_token_types(features: dict[str, Tensor], tokenizer: Any) -> dict[str, Tensor]:
    """Padded features with `token_type_ids`, if the tokenizer gives such; they are left out of packed ones that are all 0."""
    if "token_type_ids" in getattr(tokenizer, "model_input_names", ()) and "input_ids" in features:
        features.setdefault("token_type_ids", features["input_ids"].new_zeros(features["input_ids"].shape))
    return features


def padded_features(tokens: TokenBatch, pad_id: int | None) -> dict[str, Tensor]:
    """A packed batch in padded form: `input_ids`, `attention_mask` (N, L), and whatever else it has."""
    features = {"input_ids": tokens.pad(tokens.input_ids, 0 if pad_id is None else pad_id)}
    features["attention_mask"] = tokens.padded_mask()
    if tokens.token_type_ids is not None:
        features["token_type_ids"] = tokens.pad(tokens.token_type_ids)
    if tokens.prompt_lengths is not None:
        features["prompt_length"] = tokens.restore(tokens.prompt_lengths)
    return features
