"""DenoisingAutoEncoderLoss (TSDAE): a decoder should restore a text from the embedding of a damaged copy. No labels needed.

    loss = mean over tokens of -log P(token | tokens before it, embedding of the damaged text)

Reference: Wang, Reimers and Gurevych 2021, https://arxiv.org/abs/2104.06979, equation 1.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from likewise.engine import ColumnBatch, TokenBatch
from likewise.engine.embed import Batch, Embed
from likewise.input_example import InputExample
from likewise.losses.base import Columns, Loss, widened
from likewise.modules.pretrained import load_config, load_tokenizer, read_pretrained
from likewise.types import Encoder

logger = logging.getLogger(__name__)


class DenoisingAutoEncoderLoss(Loss):
    """Damaged texts and the originals, which a decoder restores from nothing but the damaged text's embedding.

    Adapts a model to a domain where there are only texts. CLS pooling suits it best. Prefer labels, or pairs found by
    mining, wherever there are any.

    Args:
        model: The model to train; its first module is a Transformer.
        decoder_name_or_path: The decoder, a causal language model; only with `tie_encoder_decoder=False`.
        tie_encoder_decoder: Whether the decoder is the encoder's own architecture and shares its weights, but for the
            cross attention and the head. Half the memory, and better embeddings.

    Raises:
        ValueError: There is no decoder to take, or its hidden size is not the model's.
    """

    takes = (Columns(("damaged", "original")),)
    config_keys = ("decoder_name_or_path", "need_retokenization")
    cites = "wang-2021-TSDAE"

    def __init__(
        self, model: Encoder, decoder_name_or_path: str | None = None, tie_encoder_decoder: bool = True
    ) -> None:
        super().__init__(model)
        from transformers import AutoModelForCausalLM

        encoder = model.transformers_model
        path = self._decoder_path(encoder, decoder_name_or_path, tie_encoder_decoder)
        config = load_config(path, {})
        config.is_decoder = config.add_cross_attention = True
        if config.hidden_size != encoder.config.hidden_size:
            raise ValueError(
                f"The decoder {path} has hidden size {config.hidden_size}, but the model {encoder.config.hidden_size}. "
                "Take a decoder of the model's size."
            )
        decoder, _ = read_pretrained(AutoModelForCausalLM, path, config, {})
        # A tied decoder is of one dtype with the encoder, whatever it was loaded in.
        self.decoder: Any = decoder.to(model.device, encoder.dtype if tie_encoder_decoder else None)
        self.tokenizer_decoder = load_tokenizer(path, {"trust_remote_code": False})
        if self.tokenizer_decoder.pad_token is None:
            self.tokenizer_decoder.pad_token = self.tokenizer_decoder.eos_token
        self.need_retokenization = not isinstance(model.tokenizer, type(self.tokenizer_decoder))
        if tie_encoder_decoder:
            self.decoder.resize_token_embeddings(encoder.get_input_embeddings().num_embeddings)
            _share_weights(encoder, self.decoder)

    @staticmethod
    def _decoder_path(encoder: Any, decoder: str | None, tie: bool) -> str:
        if encoder is None:
            raise ValueError("DenoisingAutoEncoderLoss needs a model whose first module is a Transformer.")
        if not tie and decoder is None:
            raise ValueError("`tie_encoder_decoder=False` needs a decoder. Pass `decoder_name_or_path`.")
        if tie and decoder is not None:
            logger.warning("`decoder_name_or_path` has no effect with `tie_encoder_decoder=True`.")
        path = encoder.config._name_or_path if tie else decoder
        if not path:
            raise ValueError(
                "The encoder was not loaded from anywhere, so that no decoder can be made after it. Save the model and "
                "load it from its folder, or pass `decoder_name_or_path` and `tie_encoder_decoder=False`."
            )
        return str(path)

    @property
    def decoder_name_or_path(self) -> str:
        """Where the decoder came from."""
        return str(self.decoder.config._name_or_path)

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """The embeddings of the damaged texts alone."""
        return embed(self.model, batch, [0])

    def context(self, batch: Batch, embed: Embed) -> dict[str, Any]:
        """`original`: (B, L) the decoder's tokens of the originals, padded on the right."""
        if isinstance(batch, ColumnBatch):
            tokens = batch.column(1)
        else:
            tokens = TokenBatch.from_padded(batch[1]["input_ids"], batch[1]["attention_mask"])
        if not self.need_retokenization:
            return {"original": tokens.pad(tokens.input_ids, self.tokenizer_decoder.pad_token_id)}
        padded = tokens.pad(tokens.input_ids, self.model.tokenizer.pad_token_id)
        return {"original": self.retokenize({"input_ids": padded})["input_ids"]}

    def retokenize(self, sentence_features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The texts of the model's token ids, in the decoder's tokens."""
        ids = sentence_features["input_ids"]
        texts = self.model.tokenizer.batch_decode(ids, skip_special_tokens=True)
        encoded = self.tokenizer_decoder(texts, padding=True, truncation=True, return_tensors="pt")
        return {name: tensor.to(ids.device) for name, tensor in encoded.items()}

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, original: Tensor | None = None
    ) -> Tensor:
        """One (B, D) batch and the originals' tokens (B, L) -> scalar, in nats per token; log(vocabulary) by chance."""
        if original is None:
            raise ValueError(
                "DenoisingAutoEncoderLoss needs the `original` tokens. Call the loss with a batch."
            )
        hidden = widened(embeddings[0], self.decoder.config.hidden_size)[:, None]  # (B, 1, D)
        logits = self.decoder(
            input_ids=original[:, :-1],
            encoder_hidden_states=hidden.to(self.decoder.dtype),
            encoder_attention_mask=torch.ones_like(original[:, :1]),
            use_cache=False,
        ).logits
        wanted = original[:, 1:].flatten()
        padding = self.tokenizer_decoder.pad_token_id
        return cross_entropy(logits.flatten(0, 1).float(), wanted, ignore_index=padding)


def _share_weights(encoder: nn.Module, decoder: Any) -> None:
    """Put the encoder's parameters in the place of those that have the same name in the decoder."""
    theirs = dict(encoder.named_parameters())
    body = getattr(decoder, decoder.base_model_prefix)
    shared = {
        id(own): theirs[name]
        for name, own in body.named_parameters()
        if name in theirs and theirs[name].shape == own.shape
    }
    if not shared:
        logger.warning("The decoder shares no weights with the encoder: their architectures differ.")
    for module in decoder.modules():  # the whole decoder: its head may be tied to its embeddings
        for name, own in list(module.named_parameters(recurse=False)):
            if id(own) in shared:
                setattr(module, name, shared[id(own)])


class DenoisingAutoEncoderDataset(Dataset[InputExample]):
    """Damaged texts and their originals, damaged anew each time they are read.

    Args:
        sentences: The originals.
        noise_fn: Damages a text. Default: `delete`.
    """

    def __init__(self, sentences: Sequence[str], noise_fn: Callable[[str], str] | None = None) -> None:
        self.sentences = sentences
        self.noise_fn = self.delete if noise_fn is None else noise_fn

    def __getitem__(self, index: int) -> InputExample:
        text = self.sentences[index]
        return InputExample(texts=[self.noise_fn(text), text])

    def __len__(self) -> int:
        return len(self.sentences)

    @staticmethod
    def delete(text: str, del_ratio: float = 0.6) -> str:
        """The text without a random share of its words and punctuation marks; at least one is left.

        Args:
            text: The text.
            del_ratio: Probability that a word goes, in [0, 1]. The paper found 0.6 best.
        """
        words: list[str] = re.findall(r"\s*(?:\w+|[^\w\s])", text)
        if not words:
            return text
        kept = [word for word in words if random.random() > del_ratio] or [random.choice(words)]
        return "".join(kept).strip()
