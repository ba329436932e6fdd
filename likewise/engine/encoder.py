"""How a transformers model meets a batch: packed where that gives the very same numbers, padded elsewhere."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from likewise.engine import attention
from likewise.engine.bare_model import BareModel
from likewise.engine.features import Padding
from likewise.engine.last_layer import last_layer, make_reading, unwrapped
from likewise.engine.modes import is_watched_inside
from likewise.engine.mpnet import mpnet_forward
from likewise.engine.token_batch import TokenBatch
from likewise.engine.trial import agree, failure, one_trial, plainly, trial_batch

logger = logging.getLogger(__name__)


class PackedEncoder:
    """Runs a transformers model on packed batches.

    The first batch decides the way: three short sequences go through the model packed and padded, and only if both
    agree is the packed way taken. A model loaded with an attention implementation of the user's choice stays padded, and
    so does one while somebody else's hooks are registered inside it: they are written for rows of (N, L, D).

    Args:
        model: A transformers encoder or decoder without a head.
        packed: False keeps to the padded way.

    Attributes:
        reason: Why batches are padded, for the user, whom the log tells once; empty while they are packed or nothing has
            been tried.
    """

    def __init__(self, model: Any, packed: bool = True) -> None:
        self.model = model
        self.reason = "" if packed else "another attention implementation was asked for"
        self._packed_wanted = packed
        self._tried = not packed
        self._said: set[str] = set()
        parameters = inspect.signature(unwrapped(model).forward).parameters
        self._parameters = frozenset(parameters)
        self._takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def __getstate__(self) -> dict[str, Any]:
        # `_bare` knows the modules of this very model.
        return {name: value for name, value in vars(self).items() if name != "_bare"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        attention.register()  # in the process that unpickles it

    def __call__(
        self, tokens: TokenBatch, output_hidden_states: bool = False, padding: Padding | None = None
    ) -> tuple[Tensor, ...]:
        """Token embeddings of a batch, no sequence of which may be longer than the model has positions for.

        Args:
            tokens: The batch.
            output_hidden_states: Whether to return every layer's output, the input embeddings first.
            padding: How the tokenizer pads, for whoever watches the model; None for zeros or the model's own pad token.

        Returns:
            The last layer's (T, D) in packed order, or those of all layers.
        """
        if not tokens.num_tokens:  # a model needs one token at least
            one = TokenBatch(tokens.input_ids.new_ones(1), torch.ones(1).long(), torch.zeros(1).long())
            return tuple(layer[:0] for layer in self(one, output_hidden_states))
        self._check_length(tokens)
        bare = None if output_hidden_states else self._bare_model()
        if bare is not None:
            return (bare(tokens),)
        watched = self.is_watched()
        if not watched and self._can_pack():
            return self._packed(tokens, output_hidden_states)
        return self._padded(tokens, output_hidden_states, padding if watched else None)

    def read(self, tokens: TokenBatch, rows: Tensor) -> Tensor:
        """The last layer's output (N, D) for one token of each sequence; known architectures compute it for no others.

        `rows` (N,) is the number of each sequence's token, in packed order, on the tokens' device.
        """
        if tokens.num_tokens and tokens.lengths[0] and self.packs() and self._can_read():
            self._check_length(tokens)
            bare = self._bare_model()
            return self._packed(tokens, rows=rows)[0] if bare is None else bare(tokens, rows)
        return self(tokens)[0].index_select(0, rows)

    def packs(self) -> bool:
        """Whether batches go through packed now; tries it on the first call."""
        return not self.is_watched() and self._can_pack()

    def is_watched(self) -> bool:
        """Whether somebody else's hooks are registered inside the model, which are written for padded rows."""
        watched = is_watched_inside(self.model)
        if watched:
            self._say(logging.INFO, "somebody else's hooks are registered inside it")
        return watched

    def _can_pack(self) -> bool:
        if not self._tried:
            with one_trial:
                if not self._tried:  # another thread may have done it
                    self.reason = self._try_packing()
                    self._tried = True  # only now: until then other threads wait
        if self.reason:
            self._say(logging.WARNING if self._packed_wanted else logging.INFO, self.reason)
        return not self.reason

    def _bare_model(self) -> BareModel | None:
        """The model without its modules, where that gives the same numbers and no gradient is wanted; else None."""
        device = self.model.device.type  # "meta" where accelerate keeps the weights on the disk
        cannot = device == "meta" or torch.is_autocast_enabled(device) or torch.compiler.is_compiling()
        if cannot or torch.is_grad_enabled() or self.reason or not self._tried:
            return None
        bare = self._bare
        if bare is None or not bare.holds():
            return None
        if not bare.tried:  # only now: while somebody's hooks are inside, a trial would call them
            tokens = trial_batch(self.model)
            with one_trial, plainly(self.model):
                bare.tried = agree(bare(tokens), self._packed(tokens)[0], bare.is_exact)
            if not bare.tried:
                self._bare = None
                return None
        return bare

    @cached_property
    def _bare(self) -> BareModel | None:
        """What may compute without modules, where the architecture is known."""
        return BareModel.of(self.model, self.position_offset)

    def _can_read(self) -> bool:
        with nullcontext() if "_reader" in vars(self) else one_trial:  # what was tried needs no turn
            reader = self._reader
        # Whoever takes layers off, or puts others in, has another last one.
        return reader is not None and reader is last_layer(self.model)

    @cached_property
    def _reader(self) -> Any:
        """The last layer, where it gives the same numbers for one token of each sequence as for all; else None."""
        layer = last_layer(self.model) if self._own_forward else make_reading(self.model)
        if layer is None:
            return None
        tokens = trial_batch(self.model)
        first = tokens.starts.to(tokens.device)
        try:
            with plainly(self.model):
                expected = self._packed(tokens)[0]
                same = all(
                    agree(self._packed(tokens, rows=rows)[0], expected.index_select(0, rows))
                    for rows in (first, first + 1, first + tokens.device_lengths - 1)
                )
        except Exception as error:
            logger.info("%s computes its whole last layer (%s).", type(self.model).__name__, error)
            return None
        return layer if same else None

    def _say(self, level: int, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            logger.log(
                level, "%s gets padded batches, which take longer: %s.", type(self.model).__name__, reason
            )

    def takes_as_given(self, features: Mapping[str, Any]) -> bool:
        """Whether padded features go to the model as they are: it is watched, or they hold more than tokens and a mask."""
        more = (features.keys() & self._parameters) - {"input_ids", "attention_mask", "token_type_ids"}
        return any(features[key] is not None for key in more) or self.is_watched()

    def as_given(self, features: Mapping[str, Any], output_hidden_states: bool = False) -> tuple[Tensor, ...]:
        """Token embeddings (N, L, D) of padded features, every one of which that the model knows is handed to it.

        The last layer's; with `output_hidden_states` those of all layers, the input embeddings first.
        """
        taken = self._parameters | {"input_ids", "attention_mask"}  # a wrapper may name neither
        given = {key: value for key, value in features.items() if key in taken}
        if "use_cache" in self._parameters:
            given.setdefault("use_cache", False)
        return _layers(self.model(**given, **_asking(output_hidden_states)), output_hidden_states)

    @cached_property
    def position_offset(self) -> int:
        """The number of a sequence's first position: padding_idx + 1 for RoBERTa and its kin, else 0."""
        counting = "create_position_ids_from_inputs_embeds"
        modules = (m for m in self.model.modules() if hasattr(m, counting) and hasattr(m, "padding_idx"))
        return next((int(module.padding_idx) + 1 for module in modules), 0)

    @cached_property
    def _num_positions(self) -> float:
        """How long a sequence may be for the table of positions; without one, as long as one likes."""
        tables = [
            module.num_embeddings
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe"))
        ]
        return min(tables, default=math.inf) - self.position_offset

    def _check_length(self, tokens: TokenBatch) -> None:
        if tokens.longest > self._num_positions:
            raise ValueError(
                f"A text has {tokens.longest} tokens, but {type(self.model).__name__} has positions for "
                f"{self._num_positions}. Set the model's maximum length to {self._num_positions} or less."
            )

    def _try_packing(self) -> str:
        """Pack and pad three short sequences; why packing cannot be used, or an empty string."""
        model, has_own_forward = self.model, self._own_forward
        if not has_own_forward and not ("position_ids" in self._parameters and self._takes_any):
            return f"{type(model).__name__} takes no positions or passes no arguments on to its attention"
        if not has_own_forward and not model._can_set_attn_implementation():
            return f"{type(model).__name__} has its own attention"
        usual = model.config._attn_implementation

        def packed(tokens: TokenBatch) -> Tensor:
            if not has_own_forward:
                attention.register()
                model.set_attn_implementation(attention.NAME)
            return self._packed(tokens)[0]

        reason = failure(model, trial_batch(model), packed, lambda tokens: self._padded(tokens)[0])
        if reason:
            model.set_attn_implementation(usual)
        return reason

    @property
    def _own_forward(self) -> bool:
        return str(self.model.config.model_type) == "mpnet"

    def _packed(
        self, tokens: TokenBatch, output_hidden_states: bool = False, rows: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        if self._own_forward:
            return mpnet_forward(self.model, tokens, output_hidden_states, rows)
        extras: dict[str, Any] = {} if rows is None else {"read_rows": rows}
        if "use_cache" in self._parameters:
            extras["use_cache"] = False
        if tokens.token_type_ids is not None and "token_type_ids" in self._parameters:
            extras["token_type_ids"] = tokens.token_type_ids.unsqueeze(0)
        outputs = self.model(
            input_ids=tokens.input_ids.unsqueeze(0),
            attention_mask=None,
            position_ids=(tokens.positions + self.position_offset).unsqueeze(0),
            token_batch=tokens,
            **extras,
            **_asking(output_hidden_states),
        )
        return tuple(layer.squeeze(0) for layer in _layers(outputs, output_hidden_states))

    def _padded(
        self, tokens: TokenBatch, output_hidden_states: bool = False, padding: Padding | None = None
    ) -> tuple[Tensor, ...]:
        num_empty = int((tokens.lengths == 0).sum())  # they come first; such a row would attend to nothing
        place = tokens.place[tokens.place >= num_empty] - num_empty
        tokens = replace(tokens, lengths=tokens.lengths[num_empty:], place=place, prompt_lengths=None)
        # Positions of RoBERTa and its kin are counted by the pad token of the configuration, whatever the tokenizer says.
        features = tokens.to_features(padding or Padding(self.model.config.pad_token_id or 0))
        layers = self.as_given(features, output_hidden_states)
        mask = features["attention_mask"].bool()
        mask = mask | features["query_expansion_positions"] if tokens.unseen is not None else mask
        return tuple(tokens.unpad(layer, mask) for layer in layers)


def _asking(output_hidden_states: bool) -> dict[str, bool]:
    return {"output_hidden_states": True} if output_hidden_states else {}


def _layers(outputs: Any, output_hidden_states: bool) -> tuple[Tensor, ...]:
    return tuple(outputs.hidden_states) if output_hidden_states else (outputs[0],)
