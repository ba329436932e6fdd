"""How a transformers model meets a batch: packed where that gives the very same numbers, padded elsewhere."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from likewise.engine import attention
from likewise.engine.mpnet import mpnet_forward
from likewise.engine.token_batch import TokenBatch

TRIAL_LENGTHS = (3, 5, 8)


class PackedEncoder:
    """Runs a transformers model on packed batches.

    The first batch decides the way: three short sequences go through the model packed and padded, and only if both
    agree is the packed way taken. A model loaded with an attention implementation of the user's choice stays padded.

    Args:
        model: A transformers encoder or decoder without a head.
        packed: False keeps to the padded way.

    Attributes:
        reason: Why batches are padded, for the user; empty while they are packed or nothing has been tried.
    """

    def __init__(self, model: Any, packed: bool = True) -> None:
        self.model = model
        self.reason = "" if packed else "another attention implementation was asked for"
        self._tried = not packed
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # within a PEFT wrapper
        parameters = inspect.signature(inner.forward).parameters
        self._parameters = frozenset(parameters)
        self._takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        attention.register()  # in the process that unpickles it

    def __call__(self, tokens: TokenBatch, output_hidden_states: bool = False) -> tuple[Tensor, ...]:
        """Token embeddings of a batch.

        Args:
            tokens: The batch.
            output_hidden_states: Whether to return every layer's output.

        Returns:
            The last layer's (T, D) in packed order; with `output_hidden_states` those of all layers, the input
            embeddings first.
        """
        if not tokens.num_tokens:  # a model needs one token at least
            one = TokenBatch(
                tokens.input_ids.new_ones(1), torch.ones(1, dtype=torch.long), torch.zeros(1).long()
            )
            return tuple(layer[:0] for layer in self(one, output_hidden_states))
        if self.packs():
            return self._packed(tokens, output_hidden_states)
        return self._padded(tokens, output_hidden_states)

    def packs(self) -> bool:
        """Whether batches go through packed; tries it on the first call."""
        if not self._tried:
            self._tried = True
            self.reason = self._try_packing()
        return not self.reason

    @property
    def position_offset(self) -> int:
        """The number of a sequence's first position: padding_idx + 1 for RoBERTa and its kin, else 0."""
        for module in self.model.modules():
            if hasattr(module, "create_position_ids_from_inputs_embeds") and hasattr(module, "padding_idx"):
                return int(module.padding_idx) + 1
        return 0

    def _try_packing(self) -> str:
        """Pack and pad three short sequences; why packing cannot be used, or an empty string."""
        model, own = self.model, self._own_forward
        if not own and not ("position_ids" in self._parameters and self._takes_any):
            return f"{type(model).__name__} takes no positions or passes no arguments on to its attention"
        if not own and not model._can_set_attn_implementation():
            return f"{type(model).__name__} has its own attention"
        tokens = self._trial_batch()
        usual = model.config._attn_implementation
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
                expected = self._padded(tokens)[0]
                if not own:
                    attention.register()
                    model.set_attn_implementation(attention.NAME)
                found = self._packed(tokens)[0]
        except Exception as error:
            model.set_attn_implementation(usual)
            return f"{type(model).__name__} cannot run packed ({error})"
        finally:
            model.train(was_training)
        exact = found.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
        tolerance = 1e-3 if exact else 0.05
        if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
            model.set_attn_implementation(usual)
            return f"{type(model).__name__} gives other numbers when packed"
        return ""

    def _trial_batch(self) -> TokenBatch:
        lengths = torch.tensor(TRIAL_LENGTHS)
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        ids = torch.randint(min(3, vocabulary - 1), vocabulary, (int(lengths.sum()),), generator=generator)
        return TokenBatch(ids, lengths, torch.arange(len(lengths))).to(self.model.device)

    @property
    def _own_forward(self) -> bool:
        return str(self.model.config.model_type) == "mpnet"

    def _packed(self, tokens: TokenBatch, output_hidden_states: bool = False) -> tuple[Tensor, ...]:
        if self._own_forward:
            return mpnet_forward(self.model, tokens, output_hidden_states)
        outputs = self.model(
            input_ids=tokens.input_ids.unsqueeze(0),
            attention_mask=None,
            position_ids=(tokens.positions + self.position_offset).unsqueeze(0),
            token_batch=tokens,
            **self._extras(
                tokens, None if tokens.token_type_ids is None else tokens.token_type_ids.unsqueeze(0)
            ),
            **self._hidden_states(output_hidden_states),
        )
        return tuple(layer.squeeze(0) for layer in _layers(outputs, output_hidden_states))

    def _padded(self, tokens: TokenBatch, output_hidden_states: bool = False) -> tuple[Tensor, ...]:
        filled = tokens.lengths[tokens.lengths > 0]  # a row of padding alone would attend to nothing
        tokens = replace(tokens, lengths=filled, place=torch.arange(len(filled)), prompt_lengths=None)
        mask = tokens.padded_mask()
        types = None if tokens.token_type_ids is None else tokens.pad(tokens.token_type_ids)
        padding = self.model.config.pad_token_id
        outputs = self.model(
            input_ids=tokens.pad(tokens.input_ids, 0 if padding is None else padding),
            attention_mask=mask,
            **self._extras(tokens, types),
            **self._hidden_states(output_hidden_states),
        )
        return tuple(tokens.unpad(layer, mask) for layer in _layers(outputs, output_hidden_states))

    def _extras(self, tokens: TokenBatch, token_type_ids: Tensor | None) -> dict[str, Any]:
        extras: dict[str, Any] = {"use_cache": False} if "use_cache" in self._parameters else {}
        if token_type_ids is not None and "token_type_ids" in self._parameters:
            extras["token_type_ids"] = token_type_ids
        return extras

    def _hidden_states(self, wanted: bool) -> dict[str, bool]:
        return {"output_hidden_states": True} if wanted else {}


def _layers(outputs: Any, output_hidden_states: bool) -> tuple[Tensor, ...]:
    return tuple(outputs.hidden_states) if output_hidden_states else (outputs[0],)
