"""MLMTransformer: texts to a masked language model's logits of each token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from likewise.engine import TokenBatch
from likewise.engine.encoder import PackedEncoder
from likewise.engine.features import Padding
from likewise.engine.modes import is_watched_inside
from likewise.engine.reduced_linear import ReducedLinear
from likewise.engine.trial import failure, one_trial, trial_batch
from likewise.engine.vocabulary import TokenLogits
from likewise.modules.base import Features, mask_of
from likewise.modules.graph_model import GraphModel
from likewise.modules.graphs import FirstOutput, GraphPart, load_graph_model
from likewise.modules.named_output import TOKENS
from likewise.modules.pretrained import read_pretrained, refuse_misfits
from likewise.modules.saved_arguments import output_of
from likewise.modules.transformer import Transformer

logger = logging.getLogger(__name__)

LOGITS = {"text": {"method": "forward", "method_output_name": "logits"}}


def _bert(model: Any, hidden: Tensor) -> Tensor:
    found: Tensor = model.cls.predictions.transform(hidden)
    return found


def _distilbert(model: Any, hidden: Tensor) -> Tensor:
    found: Tensor = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return found


def _roberta(model: Any, hidden: Tensor) -> Tensor:
    head = model.lm_head
    found: Tensor = head.layer_norm(nn.functional.gelu(head.dense(hidden)))
    return found


def _electra(model: Any, hidden: Tensor) -> Tensor:
    found: Tensor = model.generator_predictions(hidden)
    return found


def _albert(model: Any, hidden: Tensor) -> Tensor:
    head = model.predictions
    found: Tensor = head.LayerNorm(head.activation(head.dense(hidden)))
    return found


def _modernbert(model: Any, hidden: Tensor) -> Tensor:
    found: Tensor = model.head(hidden)
    return found


BEFORE_VOCABULARY: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "albert": _albert,
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "modernbert": _modernbert,
    "mpnet": _roberta,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
"""By transformers' name of the architecture, what comes between the encoder and the layer that gives the logits."""


def load_with_head(base: str, config: Any, for_model: Mapping[str, Any]) -> Any:
    """A transformers model with its masked language model head.

    Raises:
        ValueError: The weights do not fit the configuration.
    """
    from transformers import AutoModelForMaskedLM

    model, loading = read_pretrained(AutoModelForMaskedLM, base, config, for_model)
    missing = sorted(key for key in loading["missing_keys"] if "pooler" not in key)
    refuse_misfits(base, [key for key in missing if key.startswith(f"{model.base_model_prefix}.")], loading)
    if missing:
        logger.warning(
            "%s has no weights for %s of the masked language model's head: they start at random. Train the model before you "
            "trust it.",
            base,
            ", ".join(missing),
        )
    return model


GRAPH = GraphPart(load_with_head, FirstOutput, "logits", by_token=True)
"""Logits of the vocabulary."""


class MLMTransformer(Transformer):
    """A transformers model with its masked language model head; SpladePooling follows.

    Its logits of all tokens never exist: the encoder runs packed, and SpladePooling goes over the vocabulary a few tokens at a
    time. Architectures whose head is not known, or whose numbers differ in a trial on the first batch, run padded and whole, and so
    does a graph (`backend="onnx"` or `"openvino"`).

    Args:
        model_name_or_path: A folder, or a name on the Hub. A model without such a head gets a new one, over its own input
            embeddings.
        *args: As of Transformer.
        **kwargs: As of Transformer.

    Raises:
        ValueError: An argument, or the folder, does not fit.
    """

    task: ClassVar[str] = "fill-mask"
    saved_as = "sentence_transformers.sparse_encoder.models.MLMTransformer"

    def __init__(self, model_name_or_path: str, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("transformer_task", self.task)
        if kwargs.get("modality_config") not in (None, LOGITS):
            raise ValueError(
                f"An MLMTransformer gives the model's logits, but `modality_config` is {kwargs['modality_config']!r}. Drop it."
            )
        kwargs["modality_config"] = None  # a graph has one output, whatever that is
        super().__init__(model_name_or_path, *args, **kwargs)
        self._output = output_of(LOGITS)

    def _load_model(self, base: str, config: Any, for_model: Mapping[str, Any]) -> Any:
        if self.backend != "torch":
            return load_graph_model(self.backend, base, config, for_model, GRAPH)
        return load_with_head(base, config, for_model)

    @property
    def encoded(self) -> Any:
        """What the encoder runs: the model without its head."""
        model = self.auto_model
        return (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model

    def get_word_embedding_dimension(self) -> int:
        """V, the size of the vocabulary."""
        return int(self.auto_model.config.vocab_size)

    get_embedding_dimension = get_word_embedding_dimension

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `token_embeddings`, the tokens' logits: TokenLogits for packed features, (N, L, V) for padded ones."""
        tokens, encoder = features.get("tokens"), self.encoder
        if isinstance(encoder, GraphModel):
            layers = self._forward_padded(features, encoder, False) if tokens is None else encoder(tokens)
            features[TOKENS] = layers[-1]
            return features
        if tokens is None or not self.packs():
            return super().forward(features, **kwargs)
        features[TOKENS] = self._logits(tokens)
        return features

    def of_hidden_states(self, features: Features) -> Features:
        """Packed features with the tokens' logits in place of `token_embeddings`, which are what `encoded` gives.

        For whoever has run that already: the logits are those of `forward`, without a second pass. Only while it `packs`.
        """
        tokens, hidden = features.get("tokens"), features[TOKENS]
        if tokens is None:
            mask = mask_of(features)
            tokens = TokenBatch.from_padded(features["input_ids"], mask, features.get("token_type_ids"))
            hidden = tokens.unpad(hidden, mask)
        # Autocast may end with the encoder, and leave half precision to a head that is in full.
        return features | {"tokens": tokens, TOKENS: self._head(hidden.to(self.auto_model.dtype))}

    def packs(self) -> bool:
        """Whether batches go through packed now; tries it on the first call that nobody else's hooks watch."""
        model = self.auto_model
        if is_watched_inside(model):
            return False
        with one_trial:
            tried: tuple[Any, str] | None = self.__dict__.get("_tried")
            if tried is None or tried[0] is not model:
                reason = self._try_packing()
                tried = self.__dict__["_tried"] = (model, reason)
                if reason:
                    logger.warning(
                        "%s gets padded batches and makes the logits of all tokens, which takes longer and more memory: %s.",
                        type(model).__name__,
                        reason,
                    )
        return not tried[1]

    def _try_packing(self) -> str:
        """Pack and pad three short sequences; why packing cannot be used, or an empty string."""
        model, encoder = self.auto_model, self.encoder
        name = type(model).__name__
        assert isinstance(encoder, PackedEncoder)
        if model.config.model_type not in BEFORE_VOCABULARY:
            return f"it is not known what the head of {name} computes"
        if not encoder.packs():
            return encoder.reason

        def padded(tokens: TokenBatch) -> Tensor:
            features = tokens.to_features(Padding(model.config.pad_token_id or 0))
            ids, mask = features["input_ids"], features["attention_mask"]
            return tokens.unpad(model(input_ids=ids, attention_mask=mask).logits, mask)

        return failure(
            model, trial_batch(model), lambda tokens: self._logits(tokens).whole(), padded, "logits"
        )

    def _logits(self, tokens: TokenBatch) -> TokenLogits:
        encoder = self.encoder
        assert isinstance(encoder, PackedEncoder)
        return self._head(encoder(tokens)[-1])

    def _head(self, hidden: Tensor) -> TokenLogits:
        """(T, D), what the encoder gives -> the logits."""
        model = self.auto_model
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        hidden = BEFORE_VOCABULARY[model.config.model_type](model, hidden)
        layer = model.get_output_embeddings()
        # A ReducedLinear has its float weight too.
        if type(layer) is not nn.Linear and not isinstance(layer, ReducedLinear):
            raise TypeError(f"the logits come from a {type(layer).__name__}")
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.weight.dtype
        bias = None if layer.bias is None else layer.bias.to(dtype)
        return TokenLogits(hidden.to(dtype), layer.weight.to(dtype), bias)

    def get_config_dict(self) -> dict[str, Any]:
        """What sentence_bert_config.json holds, in the form of releases up to 5.3; the class says the rest."""
        config = super().get_config_dict()
        for key in ("transformer_task", "modality_config", "module_output_name"):
            config.pop(key, None)
        return config

    def __repr__(self) -> str:
        return f"MLMTransformer({self.get_config_dict() | {'architecture': type(self.auto_model).__name__}})"
