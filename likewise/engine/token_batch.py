"""TokenBatch: what goes through an encoder, N sequences end to end, without padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from likewise.engine.features import FEATURES, Padding


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """N sequences of token ids laid end to end, shortest first; T tokens in all.

    There are two orders. In packed order the sequences lie by their lengths: those of equal length are neighbours, so that
    attention takes them as one dense block, and a chunk is a slice. In the caller's order they came, as rows of a data set or
    column by column. Tokens, and all that is computed of them, are in packed order; what belongs to a whole sequence, such as
    its embedding, is handed back in the caller's order: `batch.restore(x)`.

    Attributes:
        input_ids: (T,) int64.
        lengths: (N,) int64, on the CPU, ascending, in packed order. 0 is a text without a token.
        place: (N,) int64, on the CPU; the caller's sequence i lies at `place[i]` of the packed order.
        token_type_ids: (T,) int64, or None where every token is of type 0.
        prompt_lengths: (N,) int64, on the CPU, in packed order: leading tokens that pooling leaves out, or None.
        unseen: (T,) bool: tokens that see their sequence's others, and are seen by none; None where all are seen.
    """

    input_ids: Tensor
    lengths: Tensor
    place: Tensor
    token_type_ids: Tensor | None = None
    prompt_lengths: Tensor | None = None
    unseen: Tensor | None = None

    @classmethod
    def from_padded(
        cls,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        prompt_length: Tensor | int | None = None,
        unseen: Tensor | None = None,
    ) -> TokenBatch:
        """From (N, L) ids and a (N, L) mask, 1 for tokens and 0 for padding on either side; `unseen` tokens have 1 too."""
        mask = attention_mask.bool()
        lengths = mask.sum(dim=1).cpu()
        order = torch.argsort(lengths, stable=True)
        rows = order.to(input_ids.device)
        sorted_mask = mask[rows]
        prompt_lengths = None
        if prompt_length is not None:
            prompt_lengths = torch.as_tensor(prompt_length).cpu().reshape(-1).expand(len(order))[order]
        return cls(
            input_ids=input_ids[rows][sorted_mask],
            lengths=lengths[order],
            place=torch.argsort(order),  # `order` is from packed to caller's; its inverse the way back
            token_type_ids=None if token_type_ids is None else token_type_ids[rows][sorted_mask],
            prompt_lengths=prompt_lengths,
            unseen=None if unseen is None else unseen[rows][sorted_mask].bool(),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T, the tokens of all sequences."""
        return len(self.input_ids)

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self.input_ids.device

    @property
    def per_token(self) -> dict[str, Any]:
        """Those of the attributes that have an entry for each token, where there are any."""
        found = {"input_ids": self.input_ids, "token_type_ids": self.token_type_ids, "unseen": self.unseen}
        return {name: value for name, value in found.items() if value is not None}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """The same batch with its tokens on another device."""
        moved = {name: x.to(device, non_blocking=non_blocking) for name, x in self.per_token.items()}
        return replace(self, **moved)

    def restore(self, per_sequence: Tensor) -> Tensor:
        """(N, ...) in packed order -> (N, ...) in the caller's order."""
        return per_sequence.index_select(0, self.place.to(per_sequence.device))

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(length, how many sequences of that length), ascending; together they cover the T tokens in order."""
        return tuple(pair for pair in Counter(self.lengths.tolist()).items() if pair[0])

    @cached_property
    def starts(self) -> Tensor:
        """(N,) int64, on the CPU: where each sequence's tokens begin, in packed order."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def device_lengths(self) -> Tensor:
        """The lengths, on the tokens' device."""
        return self.lengths.to(self.device, non_blocking=True)

    @cached_property
    def cumulative_lengths(self) -> Tensor:
        """(N + 1,) int32, on the tokens' device: 0, then where each sequence ends."""
        ends = torch.nn.functional.pad(self.lengths.cumsum(0), (1, 0))
        return ends.to(torch.int32).to(self.device, non_blocking=True)

    @property
    def longest(self) -> int:
        """L, the length of the longest sequence."""
        return int(self.lengths[-1]) if len(self) else 0

    @cached_property
    def positions(self) -> Tensor:
        """(T,) int64: each token's place in its sequence, from 0."""
        positions = torch.arange(self.num_tokens)
        if len(self) > 1:  # of one text this is all, and two calls are a fiftieth of its time
            positions -= torch.repeat_interleave(self.starts, self.lengths, output_size=self.num_tokens)
        return positions.to(self.device, non_blocking=True)

    @cached_property
    def sequence_of_token(self) -> Tensor:
        """(T,) int64: the packed number of the sequence each token belongs to."""
        numbers = torch.arange(len(self))
        sequences = torch.repeat_interleave(numbers, self.lengths, output_size=self.num_tokens)
        return sequences.to(self.device, non_blocking=True)

    def expanded(
        self, length: int, token_id: int, seen: bool, side: Literal["left", "right"] = "right"
    ) -> TokenBatch:
        """The batch with every sequence filled up to `length` tokens by `token_id`; longer ones stay as they are.

        The sequence's own tokens see the added ones, which stand at `side`, if these are `seen`; the added ones see it either way.
        """
        lengths = self.lengths.clamp(min=length)  # ascending as before, so that the packed order stays
        added = (lengths - self.lengths).to(self.device)
        starts = (lengths.cumsum(0) - lengths).to(self.device)
        sequence = self.sequence_of_token
        target = self.positions + starts[sequence]
        if side == "left":
            target = target + added[sequence]
        is_added = torch.ones(int(lengths.sum()), dtype=torch.bool, device=self.device)
        is_added[target] = False
        ids = torch.full_like(is_added, token_id, dtype=torch.long)
        ids[target] = self.input_ids
        types = None
        if self.token_type_ids is not None:
            types = torch.zeros_like(ids)
            types[target] = self.token_type_ids
        unseen = None if seen or not bool(added.any()) else is_added
        return TokenBatch(ids, lengths, self.place, types, self.prompt_lengths, unseen)

    def chunks(self, max_tokens: int) -> list[TokenBatch]:
        """Split at sequence borders into batches of at most `max_tokens` tokens (or one longer sequence).

        The chunks' sequences, one chunk after the other, lie in this batch's packed order: concatenated results
        go through `restore`.
        """
        runs = chunked_lengths(self.lengths.tolist(), lambda: max_tokens)
        sizes = [run.stop - run.start for run in runs]
        if len(sizes) <= 1:
            return [replace(self, place=torch.arange(len(self)))]
        parts: dict[str, Any] = {"lengths": self.lengths.split(sizes), "place": map(torch.arange, sizes)}
        if self.prompt_lengths is not None:
            parts["prompt_lengths"] = self.prompt_lengths.split(sizes)
        token_sizes = [int(of_chunk.sum()) for of_chunk in parts["lengths"]]
        parts |= {name: value.split(token_sizes) for name, value in self.per_token.items()}
        return [
            TokenBatch(**dict(zip(parts, part, strict=True))) for part in zip(*parts.values(), strict=True)
        ]

    def to_features(self, padding: Padding, **packed: Any) -> dict[str, Any]:
        """This batch in padded form, which modules and losses that somebody else wrote expect.

        Args:
            padding: How their tokenizer pads.
            **packed: Other features in packed form, by their keys; they are padded too where they are by token.

        Returns:
            `input_ids` and `attention_mask` (N, L), `token_type_ids` (N, L) and `prompt_length` (N,) where there are any,
            and the other features. The mask is 1 for tokens that are seen; where it was said which tokens are scored, for these.
        """
        features = dict(packed)
        for key, value in packed.items():
            if key in FEATURES and "(T, D)" in str(FEATURES[key].packed):
                layers = value if isinstance(value, tuple | list) else (value,)
                padded = tuple(self.pad(layer, side=padding.side) for layer in layers)
                features[key] = padded if layers is value else padded[0]
        features["input_ids"] = self.pad(self.input_ids, padding.id, padding.side)
        features["attention_mask"] = self.padded_mask(padding.side)
        if self.unseen is not None:
            added = features["query_expansion_positions"] = self.pad(self.unseen, False, padding.side)
            features["attention_mask"] = features["attention_mask"].masked_fill(added, 0)
        if "scoring_mask" in features:
            features["attention_mask"] = self.pad(features.pop("scoring_mask"), False, padding.side)
        if self.token_type_ids is not None:
            features["token_type_ids"] = self.pad(self.token_type_ids, side=padding.side)
        elif padding.has_types:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        if self.prompt_lengths is not None:
            features["prompt_length"] = self.restore(self.prompt_lengths)
        return features

    def pad(self, per_token: Tensor, value: float = 0, side: Literal["left", "right"] = "right") -> Tensor:
        """(T, ...) in packed order -> (N, L, ...) in the caller's order, padded with `value`."""
        padded = per_token.new_full((len(self), self.longest, *per_token.shape[1:]), value)
        column = self.positions
        if side == "left":
            column = column + (self.longest - self.device_lengths)[self.sequence_of_token]
        padded = padded.index_put((self.sequence_of_token, column), per_token)
        return self.restore(padded)

    def padded_mask(self, side: Literal["left", "right"] = "right") -> Tensor:
        """(N, L) int64 in the caller's order: 1 for tokens, 0 for padding."""
        lengths = self.restore(self.device_lengths).unsqueeze(1)
        column = torch.arange(self.longest, device=self.device)
        return (column < lengths if side == "right" else column >= self.longest - lengths).long()

    def unpad(self, padded: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, L, ...) in the caller's order -> (T, ...) in packed order; the mask's ones are the tokens."""
        order = torch.argsort(self.place).to(padded.device)
        return padded[order][attention_mask[order].bool()]


def chunked_lengths(lengths: Sequence[int], max_tokens: Callable[[], int]) -> Iterator[slice]:
    """Cut a run of sequences with these lengths into slices of at most so many tokens, as it is by then (or one longer one)."""
    start = 0
    while start < len(lengths):
        stop, tokens = start + 1, lengths[start]
        while stop < len(lengths) and tokens + lengths[stop] <= max_tokens():
            tokens += lengths[stop]
            stop += 1
        yield slice(start, stop)
        start = stop
